"""`@volatile_cache` is `functools.lru_cache` in spirit and signature."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import pickle
import sys
import weakref
from typing import Any, cast

import pytest

from mvolatile import VolatilityWarning, volatile_cache

from .helpers import purge


@pytest.mark.parametrize(
    "decorate", [volatile_cache, volatile_cache(), volatile_cache(None), volatile_cache(maxsize=100)]
)
def test_all_ways_to_decorate(decorate: Any) -> None:
    calls: list[int] = []

    @decorate
    def square(x: int) -> int:
        """Squares."""
        calls.append(x)
        return x * x

    assert [square(3), square(3), square(4)] == [9, 9, 16]
    assert calls == [3, 4]
    assert square.cache_info()[:2] == (1, 2)
    assert square.__name__ == "square"
    assert square.__doc__ == "Squares."
    assert square.__wrapped__(5) == 25
    square.cache_clear()
    assert square.cache_info()[:4] == (0, 0, square.cache_parameters()["maxsize"], 0)


@pytest.mark.parametrize(
    "calls",
    [
        [((1,), {}), ((1.0,), {}), ((True,), {})],
        [((1, 2), {}), (((1, 2),), {})],
        [((1,), {"y": 2}), ((1, 2), {}), ((), {"x": 1, "y": 2}), ((), {"y": 2, "x": 1})],
        [(("1",), {}), ((1,), {})],
        [((), {})] * 2,
    ],
)
@pytest.mark.parametrize("typed", [False, True])
def test_keys_as_lru_cache_makes_them(calls: list[Any], typed: bool) -> None:
    def function(*args: Any, **kwargs: Any) -> str:
        return repr((args, kwargs))

    ours = volatile_cache(typed=typed)(function)
    theirs = functools.lru_cache(None, typed)(function)
    for args, kwargs in calls:
        assert ours(*args, **kwargs) == theirs(*args, **kwargs)
    assert ours.cache_info()[:2] == theirs.cache_info()[:2]
    assert ours.cache_info().currsize == theirs.cache_info().currsize


def test_a_key_of_ones_own() -> None:
    @volatile_cache(key=lambda options: options["id"])
    def load(options: dict[str, int]) -> int:
        return options["id"] * 10

    assert load({"id": 1, "x": 1}) == load({"id": 1, "x": 2}) == 10
    assert load.cache_info()[:2] == (1, 1)


def test_a_purge_is_a_call_made_again() -> None:
    @volatile_cache
    def text(n: int) -> str:
        return "x" * n

    text(1000)
    if not purge(text.cache):
        pytest.skip("nothing is purged in this tier")
    assert text(1000) == "x" * 1000
    assert text.cache_info().purged == 1
    assert text.cache_info().misses == 2


class Reader:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    @volatile_cache
    def times(self, n: int) -> int:
        return n * self.factor

    @staticmethod
    @volatile_cache
    def still(n: int) -> int:
        return n

    @classmethod
    @volatile_cache
    def made(cls, n: int) -> str:
        return f"{cls.__name__}{n}"


def test_methods_do_not_keep_their_object() -> None:
    Reader.times.cache_clear()
    two, three = Reader(2), Reader(3)
    assert [two.times(5), three.times(5), two.times(5)] == [10, 15, 10]
    assert Reader.times.cache_info()[:2] == (1, 2)
    assert Reader.still(4) == 4
    assert Reader.made(1) == "Reader1"
    gone = weakref.ref(two)
    del two
    gc.collect()
    assert gone() is None
    for n in range(20):
        three.times(n)
    assert Reader.times.cache_info().currsize == 20, "the entry of the object that is gone was swept out"


class Shape:
    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shape) and self.n == other.n

    def __hash__(self) -> int:
        return self.n

    @volatile_cache(typed=True)
    def kind(self) -> str:
        return type(self).__name__

    @volatile_cache
    def untyped(self) -> str:
        return type(self).__name__


class Round(Shape):
    pass


def test_typed_tells_equal_objects_of_two_classes_apart() -> None:
    shape, ball = Shape(1), Round(1)
    assert [shape.kind(), ball.kind(), shape.kind()] == ["Shape", "Round", "Shape"]
    assert [shape.untyped(), ball.untyped()] == ["Shape", "Shape"], "as lru_cache"


class Slotted:
    __slots__ = ("n",)

    @volatile_cache
    def get(self) -> int:
        return 1


def test_a_method_of_an_object_without_weak_references() -> None:
    assert Slotted().get() == 1


class Document:
    """Has every kind of thing to decorate."""

    def __init__(self, n: int) -> None:
        self.n = n

    @volatile_cache
    def page(self, number: int, scale: int = 1) -> int:
        """A page."""
        return self.n + number * scale

    @volatile_cache
    async def slow(self) -> int:
        return self.n

    @property
    @volatile_cache
    def title(self) -> str:
        return f"title {self.n}"

    @classmethod
    @volatile_cache
    def kind(cls) -> str:
        return cls.__name__

    @volatile_cache(typed=True)
    def options(self, *args: Any, **kwargs: Any) -> str:
        return repr((args, kwargs))


def test_a_bound_method_is_one() -> None:
    document = Document(7)
    page = document.page
    assert page(1) == page(number=1) == 8
    page.cache_clear()
    page(2)
    assert page.cache_info() == Document.page.cache_info()
    assert page.cache_info()[:2] == (0, 1)
    assert page.cache_parameters()["typed"] is False
    assert page.__wrapped__(document, 3) == 10
    assert page.__self__ is document
    assert page.__func__ is Document.page
    assert (page.__name__, page.__qualname__, page.__doc__) == ("page", "Document.page", "A page.")  # type: ignore[attr-defined]
    assert str(inspect.signature(page)) == "(number: 'int', scale: 'int' = 1) -> 'int'"
    assert inspect.ismethod(page)
    assert page == document.page != Document(7).page
    assert hash(page) == hash(document.page)
    assert weakref.WeakMethod(page)() == page
    assert pickle.loads(pickle.dumps(Document.page)) is Document.page
    assert inspect.iscoroutinefunction(document.slow)
    assert asyncio.run(document.slow()) == 7
    assert functools.partialmethod(Document.page, 5).__get__(document)() == 12


@pytest.mark.parametrize(
    "use",
    [
        lambda document: document.page(1),
        lambda document: Document.page(document, 1),
        lambda document: document.page(number=1),
        lambda document: document.options(1, x=2),
        lambda document: document.title,
        lambda document: asyncio.run(document.slow()),
    ],
)
def test_no_way_to_call_a_method_keeps_its_object(use: Any) -> None:
    document = Document(1)
    use(document)
    gone = weakref.ref(document)
    del document
    gc.collect()
    assert gone() is None


def test_ways_to_call_a_method_share_their_values() -> None:
    Document.page.cache_clear()
    document = Document(1)
    assert document.page(1) == Document.page(document, 1) == 2
    assert Document.page.cache_info()[:2] == (1, 1)
    letter: Any = type("Letter", (Document,), {})
    assert (Document.kind(), document.kind(), letter.kind()) == ("Document", "Document", "Letter")


def test_any_name_may_be_a_keyword() -> None:
    @volatile_cache
    def names(**kwargs: int) -> list[str]:
        return list(kwargs)

    for name in ("self", "instance", "cls", "args", "kwargs", "key", "function", "cache"):
        assert names(**{name: 1}) == [name]
        assert Document(1).options(**{name: 1} if name != "self" else {}).startswith("((), {")


def test_keys_of_methods() -> None:
    document = Document(1)
    assert document.options(1) == "((1,), {})"
    assert document.options(1.0) == "((1.0,), {})"
    assert document.options(1, x=1) == "((1,), {'x': 1})"
    assert document.options(1, x=1.0) == "((1,), {'x': 1.0})"
    assert document.options(1, "x", 1) == "((1, 'x', 1), {})"
    assert document.options() == "((), {})"


def test_recursion_is_deep() -> None:
    """A miss takes three frames a level, and no call of a C function that counts as one more."""

    @volatile_cache
    def depth(n: int) -> int:
        return depth(n - 1) + 1 if n else 0

    class Tree:
        @volatile_cache
        def depth(self, n: int) -> int:
            return self.depth(n - 1) + 1 if n else 0

    room = sys.getrecursionlimit() - len(inspect.stack())
    levels = room // 3 - 12  # storing the first takes some more
    assert depth(levels) == Tree().depth(levels) == levels


def test_coroutine_functions() -> None:
    calls: list[int] = []

    @volatile_cache
    async def fetch(n: int) -> int:
        calls.append(n)
        await asyncio.sleep(0)
        return n * 2

    async def main() -> list[int]:
        return list(await asyncio.gather(fetch(1), fetch(1), fetch(2)))

    assert inspect.iscoroutinefunction(fetch)
    assert asyncio.run(main()) == [2, 2, 4]
    assert calls == [1, 2]


def test_errors() -> None:
    attempts: list[int] = []

    @volatile_cache
    def fails(n: int) -> int:
        attempts.append(n)
        raise LookupError(n)

    for _ in range(2):
        with pytest.raises(LookupError):
            fails(1)
    assert attempts == [1, 1]
    with pytest.raises(TypeError, match="unhashable"):
        fails([])  # type: ignore[arg-type]

    @volatile_cache
    def unpicklable() -> Any:
        return lambda: 1

    with pytest.warns(VolatilityWarning, match="cannot be cached"):
        assert unpicklable()() == 1
    with pytest.raises(TypeError, match="generator function"):

        @volatile_cache
        def generates() -> Any:
            yield 1

    for call in (Generates(), functools.partial(Generates.__call__, cast(Any, None))):
        with pytest.raises(TypeError, match="generator function"):
            volatile_cache(call)
    for wrapper in (classmethod, staticmethod, property):
        for decorate in (volatile_cache, volatile_cache()):
            with pytest.raises(TypeError, match=f"stands below @{wrapper.__name__}"):
                decorate(wrapper(len))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="maxsize must be an integer"):
        volatile_cache("100")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not a function to decorate"):
        volatile_cache()(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="key must be a function"):
        volatile_cache(key=5)  # type: ignore[call-overload]
    with pytest.raises((AttributeError, pickle.PicklingError), match="local object"):
        pickle.dumps(volatile_cache(functools.partial(int, base=2)))


class Generates:
    def __call__(self) -> Any:
        yield 1


class Fetches:
    async def __call__(self, n: int) -> int:
        return n * 2


class Made:
    def __init__(self, n: int) -> None:
        self.n = n


def test_other_things_that_are_called() -> None:
    fetch = volatile_cache(Fetches())
    assert inspect.iscoroutinefunction(fetch)
    assert [asyncio.run(fetch(2)), asyncio.run(fetch(2))] == [4, 4]
    partial = volatile_cache(functools.partial(cast(Any, fetch.__wrapped__).__call__, 3))
    assert asyncio.run(partial()) == 6
    made = volatile_cache(Made)
    assert made(1).n == made(1).n == 1
    assert made.cache_info() == (1, 1, None, 1)
    assert [volatile_cache(call)(-5) for call in (abs, int, functools.partial(max, 3))] == [5, -5, 3]


def test_parameters_and_copies() -> None:
    assert module_level.cache_parameters() == {"maxsize": 7, "typed": True, "ttl": 60, "max_bytes": 1 << 20}
    assert copy.copy(module_level) is module_level
    assert copy.deepcopy(module_level) is module_level
    assert pickle.dumps(module_level)


@volatile_cache(7, typed=True, ttl=60, max_bytes=1 << 20)
def module_level(n: int) -> int:
    return n
