"""Making once; and a maker, the keeper or the room that is gone. By `process_vm_readv` and by messages."""

from __future__ import annotations

import pickle
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from mvolatile import SharedCache, VolatilityWarning
from support.keepers import in_child, keeper_pid, kill_keeper, until

Cache = SharedCache[Any, Any]
Make = Callable[..., Cache]
pytestmark = pytest.mark.usefixtures("way")


def test_one_makes_for_all_threads(cache: Cache, make: Make) -> None:
    other = make()
    made: list[int] = []
    began, go = threading.Event(), threading.Event()

    def factory() -> int:
        made.append(1)
        began.set()
        go.wait(100)
        return 42

    got: list[int] = []
    threads = [
        threading.Thread(target=lambda one=one: got.append(one.get_or_set("k", factory)))
        for one in (cache, other) * 3
    ]
    for thread in threads:
        thread.start()
    began.wait(100)
    until(lambda: cache.keeper_info()["making"] == 1)
    time.sleep(0.01)
    go.set()
    for thread in threads:
        thread.join()
    assert got == [42] * 6
    assert made == [1]
    assert cache.keeper_info()["making"] == 0


def test_a_maker_that_fails_has_an_heir(cache: Cache, make: Make) -> None:
    other = make()
    began, go = threading.Event(), threading.Event()

    def fail() -> int:
        began.set()
        go.wait(100)
        raise LookupError("no")

    caught: list[BaseException] = []

    def first() -> None:
        try:
            cache.get_or_set("k", fail)
        except LookupError as error:
            caught.append(error)

    one = threading.Thread(target=first)
    one.start()
    began.wait(100)
    got: list[int] = []
    two = threading.Thread(target=lambda: got.append(other.get_or_set("k", lambda: 2)))
    two.start()
    go.set()
    one.join()
    two.join()
    assert (len(caught), got, cache["k"]) == (1, [2], 2)


def test_who_asks_after_another_process_deleted_does_not_get_what_was_begun_before(
    cache: Cache, make: Make
) -> None:
    """52. Two clients are as two processes: neither knows whom the other has wait."""
    other, began, go = make(), threading.Event(), threading.Event()

    def factory() -> Any:
        began.set()
        go.wait(100)
        return b"old"

    maker = threading.Thread(target=cache.get_or_set, args=("k", factory))
    maker.start()
    assert began.wait(100)
    other.delete_many(["k"])
    got: list[Any] = []
    late = threading.Thread(target=lambda: got.append(cache.get_or_set("k", lambda: b"new")))
    late.start()
    call = cache._access.calls["k"]
    until(lambda: bool(call.waiters))
    go.set()
    maker.join(100)
    late.join(100)
    assert got == [b"new"]
    assert other["k"] == b"new"


@pytest.mark.parametrize("change", ["set", "delete", "clear"])
def test_what_is_changed_meanwhile_is_not_stored(cache: Cache, make: Make, change: str) -> None:
    """31."""
    other = make()

    def factory() -> int:
        if change == "set":
            other["k"] = 5
        elif change == "delete":
            other.delete_many(["k"])
        else:
            other.clear()
        return 1

    assert cache.get_or_set("k", factory) == 1
    assert cache.get("k") == (5 if change == "set" else None)


def test_conditions_and_what_cannot_be_stored(cache: Cache) -> None:
    assert cache.get_or_set("k", lambda: None, condition=lambda value: value is not None) is None
    assert "k" not in cache
    function = lambda: 0  # noqa: E731
    with pytest.warns(VolatilityWarning, match="cannot be stored"):
        assert cache.get_or_set("k", lambda: function) is function
    assert cache.get_or_set("k", lambda: 1, ttl=0) == 1
    assert "k" not in cache
    assert cache.keeper_info()["making"] == 0


def test_makers_that_use_the_cache(cache: Cache, make: Make) -> None:
    """30: each needs the other's value."""
    other = make()
    meet = threading.Barrier(2)

    def one() -> int:
        meet.wait(100)
        return 1 + cache.get_or_set("b", lambda: 10)

    def two() -> int:
        meet.wait(100)
        return 2 + other.get_or_set("a", lambda: 20)

    got: list[int] = []
    threads = [
        threading.Thread(target=lambda: got.append(cache.get_or_set("a", one))),
        threading.Thread(target=lambda: got.append(other.get_or_set("b", two))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert len(got) == 2
    assert cache.get_or_set("x", lambda: cache.get_or_set("x", lambda: 3) + 1) == 4


def test_a_circle_of_makers_of_which_some_share_a_process(cache: Cache, make: Make) -> None:
    """39: 1 waits for 2, which are of one process, so that the keeper was not told; 2 for 3, and 3 for 1."""
    other = make()
    meet = threading.Barrier(3)

    def maker(by: Cache, needs: int) -> Callable[[], int]:
        def factory() -> int:
            meet.wait(100)
            return 10 + by.get_or_set(needs, lambda: 1)

        return factory

    got: list[int] = []
    asked = [(cache, 1, 2), (cache, 2, 3), (other, 3, 1)]
    threads = [
        threading.Thread(
            target=lambda by=by, key=key, needs=needs: got.append(by.get_or_set(key, maker(by, needs)))
        )
        for by, key, needs in asked
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert sorted(got) == [11, 21, 31]


def test_the_keepers_death_is_a_miss(cache: Cache, make: Make) -> None:
    other = make()
    cache["a"] = b"old"
    assert other["a"] == b"old"
    for round_ in range(3):
        pid = kill_keeper(cache)
        assert other.get("a") is None
        assert "a" not in other
        assert len(other) == 0
        assert list(other) == []
        assert not other.touch("a")
        assert other.pop("a", 1) == 1
        cache["a"] = b"new%d" % round_
        assert other["a"] == b"new%d" % round_
        assert keeper_pid("test") != pid


def test_what_is_made_after_the_keepers_death_is_stored(cache: Cache, make: Make) -> None:
    """As many connections as are kept lead to the dead one, and each of them took one of the looks."""
    together = threading.Barrier(8)
    threads = [
        threading.Thread(target=cache.get_or_set, args=(i, lambda: together.wait(60))) for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kill_keeper(cache)
    assert cache.get_or_set("a", lambda: b"made") == b"made"
    assert make().get("a") == b"made"


def test_a_maker_whose_keeper_dies(cache: Cache, make: Make) -> None:
    """What was made is returned, and not stored: who knows what was deleted meanwhile."""
    make()

    def factory() -> int:
        kill_keeper(cache)
        return 1

    assert cache.get_or_set("k", factory) == 1
    assert cache.get("k") is None
    assert cache.get_or_set("k", lambda: 2) == 2
    assert cache["k"] == 2


def test_who_waits_for_a_lease_when_the_keeper_dies(cache: Cache, make: Make) -> None:
    other = make()
    began, go = threading.Event(), threading.Event()

    def factory() -> int:
        began.set()
        go.wait(100)
        return 1

    got: list[int] = []
    one = threading.Thread(target=lambda: got.append(cache.get_or_set("k", factory)))
    one.start()
    began.wait(100)
    two = threading.Thread(target=lambda: got.append(other.get_or_set("k", lambda: 2)))
    two.start()
    kill_keeper(cache)
    two.join(100)
    assert got == [2]
    go.set()
    one.join(100)
    assert got == [2, 1]
    assert cache["k"] == 2


def test_no_keeper_to_be_had(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MVOLATILE_PYTHON", "/bin/false")
    cache = make()
    with pytest.warns(VolatilityWarning, match="no keeper"):
        cache["a"] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache["a"] = 1
        assert cache.get("a") is None
        assert cache.get_or_set("a", lambda: 2) == 2
        assert cache.add("b", 1)
        assert not cache.delete_many(["a"])
        assert cache.cache_info().currsize == 0
        cache.clear()
    monkeypatch.delenv("MVOLATILE_PYTHON")
    cache._access.connections._refused_until = 0
    cache["a"] = 1
    assert cache["a"] == 1


def test_descriptors_are_used_up(cache: Cache) -> None:
    """Reads are misses, what is made is returned, and a store that cannot be told raises."""
    import os
    import resource

    cache["a"] = b"old"

    def child() -> None:
        other = pickle.loads(pickle.dumps(cache))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        kept = [os.dup(0)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (kept[0] + 1, hard))
        with suppress(OSError):
            while True:
                kept.append(os.dup(0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert other.get("a") is None
            assert other.get_or_set("b", lambda: 5) == 5
            with pytest.raises(OSError, match="Too many open files"):
                other["a"] = b"new"
            with pytest.raises(OSError, match="Too many open files"):
                other.delete_many(["a"])
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        other["a"] = b"new"
        assert other["a"] == b"new"

    in_child(child)
    assert cache["a"] == b"new"
