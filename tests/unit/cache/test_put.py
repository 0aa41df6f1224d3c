"""A plain store in one call of C: what it does is what the long way does, whatever comes in its middle."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from mvolatile import VolatileCache, testing
from mvolatile.cache import pressure
from mvolatile.cache.engine import engine_of
from mvolatile.cache.store import NOBODY
from support.c_fork import held_elsewhere, in_c_child

from .helpers import ActingKey, by_either_fork, in_child, is_valid, seal, told

VALUE = b"v" * 100


@pytest.fixture(autouse=True)
def _nobody_tells_of_pressure(monkeypatch: pytest.MonkeyPatch) -> None:
    """That would be another change, at any moment."""
    monkeypatch.setattr(pressure, "listen", lambda cache: True)


def armed(**options: Any) -> VolatileCache[Any, Any]:
    """A cache that listens, with an open segment."""
    cache: VolatileCache[Any, Any] = VolatileCache(**options)
    cache["first"] = cache["second"] = VALUE
    return cache


def is_plain(cache: VolatileCache[Any, Any], key: Any = "plain", value: Any = VALUE) -> bool:
    """Whether it is stored in one call."""
    return engine_of(cache).lookup.put(key, value)


@pytest.mark.parametrize("value", [b"x", VALUE, "a text", "ümlaut", "\ud800", b"y" * 16_000])
@pytest.mark.parametrize("key", [1, -(1 << 70), "k", b"k", (1, "two"), 2.5, None])
def test_it_is_stored_and_comes_back(key: Any, value: Any) -> None:
    cache = armed()
    for _ in range(2):
        assert is_plain(cache, key, value)
        assert cache[key] == value
        assert is_valid(cache)
    seal(cache)
    assert cache[key] == value
    assert len(cache) == 3


@pytest.mark.parametrize("value", [b"", "", bytearray(9), 5, None, [1], b"z" * 16_384, "ü" * 10_000])
def test_the_long_way_for_all_else(value: Any) -> None:
    cache = armed()
    assert not is_plain(cache, "k", value)
    assert "k" not in engine_of(cache).index
    cache["k"] = value
    assert cache["k"] == value


@pytest.mark.parametrize(
    "options",
    [{"ttl": 60}, {"on_evict": lambda key, why: None}, {"on_lost": lambda keys: None}],
    ids=["ttl", "on_evict", "on_lost"],
)
def test_never_where_more_is_to_be_done(options: dict[str, Any]) -> None:
    cache = armed(**options)
    assert not is_plain(cache)
    cache["k"] = VALUE
    assert cache["k"] == VALUE


def test_bytes_that_are_not_the_values_own_type() -> None:
    class Own(bytes):
        def __eq__(self, other: object) -> bool:
            return type(other) is Own

        __hash__ = bytes.__hash__

    cache = armed()
    assert not is_plain(cache, "k", Own(b"x"))


def test_bounds_and_segments_end_it() -> None:
    cache = armed(max_bytes=20_000)
    for key in range(2000):
        is_plain(cache, key)
        cache[key] = VALUE
        assert engine_of(cache).store.nbytes <= 20_000
    unbounded = armed()
    for key in range(20_000):
        unbounded[key] = b"%d" % key * 20
    assert all(unbounded[key] == b"%d" % key * 20 for key in range(20_000))
    assert is_valid(cache)
    assert is_valid(unbounded)


@pytest.mark.parametrize(
    "change",
    [
        seal,
        lambda cache: cache.resize(100),
        lambda cache: cache.set("k", [1], ttl=60),
        lambda cache: cache.pop("first"),
        VolatileCache.clear,
        VolatileCache.close,
    ],
    ids=["sealed", "resized", "a ttl", "popped", "cleared", "closed"],
)
def test_every_other_change_ends_it(change: Callable[[Any], object]) -> None:
    cache = armed()
    assert is_plain(cache)
    change(cache)
    assert not is_plain(cache)


def test_what_is_cleared_keeps_no_keys() -> None:
    cache = armed()
    key = ActingKey()
    there = weakref.ref(key)
    assert is_plain(cache, key)
    del key
    cache.clear()
    gc.collect()
    assert there() is None


def test_a_large_value_that_was_there_goes() -> None:
    cache = armed()
    cache["k"] = b"l" * 100_000
    cache["other"] = VALUE
    cache["k"] = VALUE
    assert cache["k"] == VALUE
    assert engine_of(cache).store.nbytes == 4 * 100
    assert is_valid(cache)


def test_what_is_overwritten_is_dead_and_compacted() -> None:
    cache = armed()
    for round_ in range(60):
        for key in range(300):
            cache[key] = b"%03d" % round_ * 100
    assert all(cache[key] == b"059" * 100 for key in range(300))
    engine_of(cache).change(engine_of(cache).reclaimer.finish)
    assert engine_of(cache).store.nbytes < 5 * 300 * 300
    assert is_valid(cache)


def test_a_value_made_meanwhile_is_out_of_date() -> None:
    cache = armed()

    def make() -> bytes:
        cache["k"] = b"set meanwhile"
        return b"made"

    assert cache.get_or_set("k", make) == b"made"
    assert cache["k"] == b"set meanwhile"


def test_a_key_that_stores_in_the_middle() -> None:
    """It is put off until the store is over, and not lost; what is read meanwhile is there."""
    cache, key = armed(), ActingKey()
    cache["plain"] = VALUE
    seen: list[Any] = []

    def act() -> None:
        seen.append(cache.get("first"))
        cache["inner"] = b"inner"
        del cache["second"]

    key.act = act
    cache["another"] = VALUE
    assert is_plain(cache, key, b"outer")
    key.act = int
    assert seen
    assert set(seen) == {VALUE}
    assert cache["inner"] == b"inner"
    assert "second" not in cache
    assert cache[key] == b"outer"
    assert is_valid(cache)


def test_a_finalizer_that_stores_in_the_middle() -> None:
    cache = armed()
    for number in range(30_000):  # the index grows, and the collector comes
        circle: list[Any] = [number]
        circle.append(circle)
        testing_object = Finalized(cache, number)
        circle.append(testing_object)
        del testing_object, circle
        cache[number] = b"%d" % number
    gc.collect()
    assert all(cache[number] == b"%d" % number for number in range(30_000))
    assert cache["finalized"]
    assert is_valid(cache)


class Finalized:
    def __init__(self, cache: VolatileCache[Any, Any], number: int) -> None:
        self.cache, self.number = cache, number

    def __del__(self) -> None:
        self.cache["finalized"] = b"%d" % self.number


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
@pytest.mark.parametrize("when", [1, 2, 3])
def test_an_interrupt_in_a_key(error: type[BaseException], when: int) -> None:
    """At whichever comparison it comes: the key has its old value or none, and all others theirs."""
    cache, key, compared = armed(), ActingKey(), []
    cache["plain"] = VALUE
    cache["another"] = VALUE

    def act() -> None:
        compared.append(1)
        if len(compared) == when:
            raise error

    key.act = act
    with suppress(error):
        cache[key] = b"outer"
    key.act = int
    for name in ("first", "second", "plain", "another"):
        assert cache[name] == VALUE
    assert cache.get(key) in (None, b"outer")
    cache["next"] = b"next"
    assert cache["next"] == b"next"
    assert is_valid(cache)


def test_a_slot_that_was_not_published_is_nobodys() -> None:
    cache = armed()
    (segment,) = engine_of(cache).store.regions.values()
    segment.keys.append("begun")  # an interrupt came before the slot was taken, or after it was
    cache["a"] = b"a"
    assert cache["a"] == b"a"
    segment.table.append(b"zz")  # type: ignore[union-attr]
    cache["b"] = b"b"
    assert (cache["a"], cache["b"]) == (b"a", b"b")
    assert NOBODY in segment.keys
    assert "begun" not in cache


class Weighed(tuple[Any, ...]):
    """A key that acts while it is asked for its size, which is before the lock is taken."""

    act: Callable[[], object] = int

    def __sizeof__(self) -> int:
        act, self.act = self.act, int
        act()
        return 40


def test_a_change_that_ends_in_between_and_leaves_nothing_armed() -> None:
    """Another thread's, say: there is a lock to be had then, and nothing that was told of."""
    cache = armed()
    key = Weighed(("key",))
    key.act = cache.clear
    cache[key] = b"value"
    assert dict(cache) == {key: b"value"}
    assert is_valid(cache)


def test_threads_that_store_at_once() -> None:
    cache = armed()

    def store(thread: int) -> None:
        for number in range(4000):
            cache[thread, number % 500] = b"%d,%d" % (thread, number)
            if number % 97 == 0:
                cache[thread, "list"] = [number]
                cache.get((1 - thread, number % 500))

    threads = [threading.Thread(target=store, args=(thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for thread_ in range(3):
        for number in range(500):
            assert cache[thread_, number] == b"%d,%d" % (thread_, 3500 + number)
    assert is_valid(cache)


@by_either_fork
@pytest.mark.parametrize("inherit", [True, False])
def test_after_a_fork(fork: Callable[[Callable[[], None]], None], inherit: bool) -> None:
    cache = armed(inherit=inherit)
    assert is_plain(cache)

    def child() -> None:
        assert not is_plain(cache, "k"), "whose is the lock?"
        assert cache.get("plain") == (VALUE if inherit else None)
        for number in range(2000):
            cache[number] = b"%d" % number
        assert all(cache[number] == b"%d" % number for number in range(2000))
        assert is_valid(cache)

    fork(child)
    assert is_plain(cache)
    assert cache["plain"] == VALUE


@pytest.mark.parametrize("inherit", [True, False])
def test_a_fork_in_its_middle(inherit: bool) -> None:
    """By a key that is compared: the child disarms, and goes on with what it was told before."""

    def program() -> None:
        cache = armed(inherit=inherit)
        assert is_plain(cache)
        key = ActingKey()
        children: list[int] = []
        key.act = lambda: children or children.append(os.fork())
        is_plain(cache, key)
        key.act = int
        assert cache.get(key) in (VALUE, None)
        assert cache.get("plain") == (VALUE if inherit or children[0] else None)
        for number in range(200):
            cache[number] = b"%d" % number
        assert all(cache[number] == b"%d" % number for number in range(200))
        assert is_valid(cache)
        if children[0]:
            assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0

    in_child(program)  # whose own child ends as it does


@pytest.mark.own_process
def test_the_lock_that_another_has() -> None:
    """The long way waits for it; a child in which its owner is not does not."""
    cache = armed()
    with held_elsewhere(engine_of(cache).change.lock):
        assert not is_plain(cache)
        in_c_child(lambda: cache.__setitem__("k", VALUE))
    assert is_plain(cache)


def test_told_again_once_somebody_wants_to_be() -> None:
    gone: list[Any] = []
    cache = armed(on_evict=lambda key, why: gone.append((key, why)))
    cache["first"] = b"another"
    told(cache)
    assert gone == [("first", "replaced")]


def test_errors_are_those_of_the_long_way() -> None:
    cache = armed()
    with pytest.raises(TypeError, match="unhashable"):
        cache[[]] = VALUE
    assert is_valid(cache)
    cache.close()
    with pytest.raises(ValueError, match="nothing can be stored"):
        cache["k"] = VALUE


def test_what_was_lost_is_replaced() -> None:
    cache = armed()
    cache["k"] = VALUE
    seal(cache)
    for region in list(engine_of(cache).store.regions.values()):
        testing.purge(region.memory)
    cache["k"] = b"again"
    assert cache["k"] == b"again"


def test_what_was_made_is_stored_in_one_call_too() -> None:
    """Unless its key was set, deleted or cleared meanwhile."""
    cache = armed()
    lookup, plain = engine_of(cache).lookup, []

    class Call:
        stale = False

    assert lookup.put("k", b"made", Call())
    assert cache["k"] == b"made"
    Call.stale = True
    assert not lookup.put("k", b"late", Call())
    assert cache["k"] == b"made"

    def make() -> bytes:
        plain.append(is_plain(cache))
        return b"made"

    assert cache.get_or_set("new", make) == b"made"
    assert plain == [False], "a making is under way, which what is set may have to make stale"
    assert cache["new"] == b"made"
    assert is_plain(cache)
