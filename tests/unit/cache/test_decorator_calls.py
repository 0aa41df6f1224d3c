"""One call of a decorated function: its key, forgetting it, not storing it, and how long it lives."""

from __future__ import annotations

import asyncio
import datetime
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mvolatile import VolatileCache, volatile_cache

calls: list[Any] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


class Repo:
    @volatile_cache
    def get(self, uid: int, *, full: bool = False) -> list[Any]:
        calls.append((uid, full))
        return [uid, full]

    @volatile_cache(typed=True)
    def __private(self, uid: float = 0) -> float:
        calls.append(uid)
        return uid

    def private(self, uid: float) -> float:
        return self.__private(uid)

    def forget_private(self, uid: float) -> bool:
        return Repo.__private.cache_delete(self, uid)

    @classmethod
    @volatile_cache
    def kind(cls, n: int) -> str:
        calls.append(n)
        return cls.__name__

    @staticmethod
    @volatile_cache
    def still(n: int) -> int:
        calls.append(n)
        return n


class SubRepo(Repo): ...


def function(*args: Any, **kwargs: Any) -> str:
    calls.append(args)
    return repr((args, kwargs))


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1,), {}),
        (("1",), {}),
        ((1.0,), {}),
        ((1, 2), {}),
        ((1,), {"y": 2}),
        ((), {"x": 1, "y": 2}),
    ],
)
def test_a_call_is_forgotten_by_its_arguments(typed: bool, args: Any, kwargs: Any) -> None:
    cached = volatile_cache(typed=typed)(function)
    assert not cached.cache_delete(*args, **kwargs)
    cached(*args, **kwargs)
    cached("another")
    assert cached.cache_key(*args, **kwargs) in cached.cache
    assert cached.cache_delete(*args, **kwargs)
    assert not cached.cache_delete(*args, **kwargs)
    cached(*args, **kwargs)
    assert cached("another") == "(('another',), {})"
    assert len(calls) == 3


def test_a_value_is_replaced_by_its_key() -> None:
    cached = volatile_cache(function)
    cached.cache[cached.cache_key(1, x=2)] = "other"
    assert cached(1, x=2) == "other"
    assert cached.cache.pop(cached.cache_key(1, x=2)) == "other"
    assert cached(1, x=2) == "((1,), {'x': 2})"


def test_a_key_of_ones_own_forgets_too() -> None:
    cached = volatile_cache(key=lambda options: options["id"])(lambda options: options["id"])
    cached({"id": 1, "x": 1})
    assert cached.cache_key({"id": 1}) == 1
    assert cached.cache_delete({"id": 1, "x": 2})


def test_a_call_of_a_method_is_forgotten_with_its_object() -> None:
    one, other = Repo(), SubRepo()
    for repo in (one, other):
        repo.get(5)
        repo.get(5, full=True)
    assert Repo.get.cache_delete(one, 5)
    assert one.get.cache_delete(one, 5, full=True), "a bound method has its function's attributes"
    assert one.get(5) == other.get(5) == [5, False]
    assert len(calls) == 5
    assert Repo.get.cache_delete(other, 5)
    one.private(1)
    one.private(1.0)
    assert one.forget_private(1.0)
    assert not one.forget_private(1.0)
    assert Repo.kind(1) == "Repo"
    assert SubRepo.kind(1) == "SubRepo"
    assert Repo.kind.cache_delete(Repo, 1)
    assert SubRepo.kind.cache_delete(SubRepo, 1)
    assert not SubRepo.kind.cache_delete(SubRepo, 1)
    Repo.still(1)
    assert Repo.still.cache_delete(1)
    assert Repo().still.cache_delete(1) is False


@pytest.mark.parametrize(
    "forget",
    [
        lambda repo: repo.get.cache_delete(5),
        lambda repo: repo.get.cache_delete(5, 6),
        lambda repo: Repo.get.cache_delete(repo),  # type: ignore[call-arg]
        lambda repo: Repo.get.cache_delete(repo, 5, ful=True),  # type: ignore[call-arg]
        lambda repo: repo._Repo__private.cache_delete(5),
        lambda repo: repo._Repo__private.cache_key(),
        lambda repo: Repo.kind.cache_delete(5),  # type: ignore[call-arg, arg-type]
        lambda repo: Repo.still.cache_delete(5, 6),  # type: ignore[call-arg]
    ],
)
def test_forgetting_what_is_no_call_is_told(forget: Callable[[Repo], Any]) -> None:
    """Else somebody thinks that a value is forgotten which is not."""
    repo = Repo()
    repo.get(5)
    with pytest.raises(TypeError, match=r"Repo\."):
        forget(repo)


def test_unhashable_arguments_are_told() -> None:
    cached = volatile_cache(function)
    for call in (cached, cached.cache_delete):
        with pytest.raises(TypeError, match="unhashable type: 'list'"):
            call([])


def test_a_wrapper_may_take_other_arguments_than_it_passes_on() -> None:
    import functools

    def with_connection(wrapped: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(wrapped)
        def wrapper(*args: Any) -> Any:
            return wrapped("connection", *args)

        return wrapper

    @volatile_cache
    @with_connection
    def query(connection: str, n: int) -> int:
        return n

    assert query(1) == 1
    assert query.cache_delete(1)


def test_coroutine_functions_forget_too() -> None:
    @volatile_cache
    async def fetch(n: int) -> int:
        calls.append(n)
        return n

    asyncio.run(fetch(1))
    assert fetch.cache_delete(1)
    asyncio.run(fetch(1))
    assert calls == [1, 1]


def test_who_asks_after_a_call_was_forgotten_gets_no_older_answer() -> None:
    """T1 reads a row; it is updated, and its call forgotten; T2 asks, and must not wait for T1's answer."""
    row = ["old"]
    began, go_on = threading.Event(), threading.Event()

    @volatile_cache
    def read(n: int) -> str:
        found = row[0]
        if found == "old":
            began.set()
            go_on.wait()
        return found

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(read, 1)
        began.wait()
        row[0] = "new"
        assert not read.cache_delete(1), "it was not there yet"
        assert read(1) == "new"
        go_on.set()
        assert first.result() == "old"
    assert read(1) == "new"


def each_way(condition: Any = None, ttl: Any = None, timer: Any = None) -> dict[str, Callable[[Any], Any]]:
    """Ways to have `make(key)` cached on such terms."""

    def ways(make: Callable[[Any], Any]) -> dict[str, Callable[[Any], Any]]:
        async def amake(key: Any) -> Any:
            return make(key)

        terms = {"timer": timer} if timer else {}
        cache: VolatileCache[Any, Any] = VolatileCache(**terms)
        one, two = (volatile_cache(condition=condition, ttl=ttl, **terms)(each) for each in (make, amake))
        return {
            "a function": one,
            "a coroutine function": lambda key: asyncio.run(two(key)),
            "get_or_set": lambda key: cache.get_or_set(key, lambda: make(key), condition=condition, ttl=ttl),
            "aget_or_set": lambda key: asyncio.run(
                cache.aget_or_set(("a", key), lambda: amake(key), condition=condition, ttl=ttl)
            ),
        }

    return ways  # type: ignore[return-value]


WAYS = ["a function", "a coroutine function", "get_or_set", "aget_or_set"]


@pytest.mark.parametrize("way", WAYS)
def test_results_that_are_not_to_be_stored(way: str) -> None:
    def find(key: str) -> str | None:
        calls.append(key)
        return None if len(calls) < 3 else "ready"

    ask = each_way(condition=lambda value: value is not None)(find)[way]  # type: ignore[operator]
    assert [ask("k") for _ in range(5)] == [None, None, "ready", "ready", "ready"]
    assert len(calls) == 3


def test_a_condition_that_raises_stores_nothing() -> None:
    cached = volatile_cache(condition=lambda value: value["ok"])(lambda value: {"value": value})
    with pytest.raises(KeyError, match="ok"):
        cached(1)
    assert not cached.cache
    with pytest.raises(TypeError, match="condition must be a function of the value"):
        volatile_cache(condition=True)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="condition must be a function of the value"):
        VolatileCache().get_or_set("k", lambda: 1, condition=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        (5, 5),
        (2.5, 2.5),
        (datetime.timedelta(seconds=7), 7),
        (lambda token: token["expires_in"], 9),
        (lambda token: datetime.timedelta(seconds=token["expires_in"]), 9),
        (lambda token: None, 1e9),
        (lambda token: float("inf"), 1e9),
        (lambda token: 0, 0),
        (lambda token: -5, 0),
        (lambda token: datetime.timedelta(seconds=-5), 0),
    ],
)
def test_how_long_a_result_lives(way: str, ttl: Any, seconds: float) -> None:
    now = [1000.0]

    def token(key: str) -> dict[str, int]:
        calls.append(key)
        return {"expires_in": 9}

    ask = each_way(ttl=ttl, timer=lambda: now[0])(token)[way]  # type: ignore[operator]
    for moment in (0, seconds * 0.9):
        now[0] = 1000 + moment
        assert ask("k") == {"expires_in": 9}
    assert len(calls) == (1 if seconds else 2)
    now[0] = 1000 + seconds * 1.1
    ask("k")
    assert len(calls) == {0: 3, 1e9: 1}.get(seconds, 2)


def test_a_ttl_of_the_value_in_set_and_of_the_cache() -> None:
    now = [0.0]
    cache: VolatileCache[str, str] = VolatileCache(ttl=len, timer=lambda: now[0])
    cache["k"] = "12345"
    cache.set("other", "12345", ttl=lambda value: len(value) * 2)
    cache.set("as the cache says", "12345", ttl=lambda value: None)
    now[0] = 6
    assert list(cache) == ["other"]


@pytest.mark.parametrize(
    ("ttl", "error"),
    [("5", TypeError), ([], TypeError), (-1, ValueError), (float("nan"), ValueError)],
)
def test_a_ttl_that_is_none(ttl: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="ttl must"):
        volatile_cache(ttl=ttl)(function)
    with pytest.raises(error, match="ttl must"):
        VolatileCache().get_or_set("k", lambda: 1, ttl=ttl)
    if ttl != -1:
        with pytest.raises(error, match=r"and .* answered"):
            volatile_cache(ttl=lambda value: ttl)(function)(1)


def test_the_decorators_timer() -> None:
    now = [0.0]
    cached = volatile_cache(ttl=60, timer=lambda: now[0])(function)
    cached(1)
    now[0] = 59
    cached(1)
    assert len(calls) == 1
    now[0] = 61
    cached(1)
    assert len(calls) == 2
    with pytest.raises(TypeError, match="timer must be callable"):
        volatile_cache(timer=5)(function)  # type: ignore[call-overload]
