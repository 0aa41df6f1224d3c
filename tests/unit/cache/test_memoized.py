"""What `volatile_cache` makes seems a function wherever one looks, and makes the same keys as Python does."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import pickle
import subprocess
import sys
import threading
import weakref
from typing import Any

import pytest

from mvolatile import volatile_cache
from mvolatile._core import Memoized


@volatile_cache
def doubled(x: int, *, times: int = 2) -> int:
    """Doubles."""
    return x * times


class Thing:
    @volatile_cache
    def named(self, n: int, *, suffix: str = "") -> str:
        return f"{id(self)}:{n}{suffix}"

    @volatile_cache
    def among(self: Any) -> str:
        return repr(self)


def test_it_seems_a_function() -> None:
    assert str(inspect.signature(doubled)) == "(x: 'int', *, times: 'int' = 2) -> 'int'"
    assert inspect.isroutine(doubled)
    assert inspect.getdoc(doubled) == "Doubles."
    assert repr(doubled).startswith("<cached function doubled at 0x")
    assert doubled.__module__ == __name__
    assert inspect.ismethod(Thing().named)
    assert weakref.ref(doubled)() is doubled
    assert type(doubled).__call__(doubled, 4, times=3) == 12
    assert doubled(*(4,), **{"times": 3}) == 12
    doubled.label = "mine"
    assert functools.wraps(doubled)(lambda x: x).label == "mine"
    del doubled.label


@pytest.mark.parametrize("same", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
@pytest.mark.parametrize("it", [doubled, Thing.named])
def test_a_copy_is_the_same(same: Any, it: Any) -> None:
    hits = it.cache_info().hits
    assert same(it) is it
    assert it.cache_info().hits == hits


def test_a_bound_method_is_pickled() -> None:
    thing = pickle.loads(pickle.dumps(Thing().named))
    assert isinstance(thing.__self__, Thing)
    assert thing.__func__ is Thing.named


def test_keys_are_those_that_python_makes() -> None:
    thing, named = Thing(), Thing.named
    named.cache_clear()
    for args, kwargs in (((1,), {}), ((1,), {"suffix": "!"}), ((), {"n": 1}), ((), {"suffix": "!", "n": 2})):
        value = thing.named(*args, **kwargs)
        assert named.cache[named.cache_key(thing, *args, **kwargs)] == value
    assert named.cache_info()[:2] == (4, 4)


def test_each_object_has_its_own_values_however_many_there_are() -> None:
    things = [Thing() for _ in range(100)]
    Thing.named.cache_clear()
    first = [thing.named(1) for thing in things]
    assert len(set(first)) == 100
    assert [thing.named(1) for thing in reversed(things)] == first[::-1]
    assert Thing.named.cache_info()[:2] == (100, 100)


def test_an_object_in_the_place_of_one_that_is_gone_is_another() -> None:
    """The kept reference is dead, and the address the same."""
    for _ in range(1000):
        thing = Thing()
        assert thing.named(1) == f"{id(thing)}:1"
        del thing
    assert Thing.among(None) == "None", "what a dead reference answers"
    assert Thing.among(5) == Thing.among(5) == "5"


def test_what_is_dropped_is_collected() -> None:
    def make() -> weakref.ref[Any]:
        @volatile_cache
        def factorial(n: int) -> int:
            return n * factorial(n - 1) if n else 1

        assert factorial(20) == 2432902008176640000
        return weakref.ref(factorial)

    gone = make()
    gc.collect()
    assert gone() is None


def test_what_a_lookup_fails_by_is_raised() -> None:
    class Key:
        def __hash__(self) -> int:
            raise LookupError("no hash")

    with pytest.raises(LookupError, match="no hash"):
        doubled(Key())  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="not whole yet"):
        Memoized()(1)
    whole: Any = doubled
    with pytest.raises(RuntimeError, match="already"):
        whole.begin(doubled.cache, print, None, False, None, None)


def test_a_miss_is_as_deep_as_a_function() -> None:
    @volatile_cache
    def depth(n: int) -> int:
        return 1 + depth(n - 1) if n else 0

    assert depth(sys.getrecursionlimit() // 8) == sys.getrecursionlimit() // 8


def test_threads_that_call_methods_of_many_objects() -> None:
    things = [Thing() for _ in range(32)]
    wrong: list[Thing] = []

    def call() -> None:
        wrong.extend(thing for _ in range(50) for thing in things if thing.named(3) != f"{id(thing)}:3")

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


RECURSIVE = """
import sys, cloudpickle, mvolatile as mv
@mv.volatile_cache
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
assert fib(30) == 832040
sys.stdout.buffer.write(cloudpickle.dumps((fib, fib, sys.modules["__main__"].fib)))
"""


def test_one_that_calls_itself_goes_by_value() -> None:
    pytest.importorskip("cloudpickle")
    sent = subprocess.run([sys.executable, "-c", RECURSIVE], check=True, capture_output=True).stdout
    code = (
        "import sys, pickle; a, b, c = pickle.loads(sys.stdin.buffer.read()); "
        "print(a is b is c, a(30), a.cache_info()[:2], pickle.loads(pickle.dumps(len)) is len)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True)
    assert (done.stdout, done.stderr) == (b"True 832040 (28, 31) True\n", b"")
