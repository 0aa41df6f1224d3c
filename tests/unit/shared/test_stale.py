"""`stale` and `stale_if_error` between processes: what expired is given while one maker of the host makes it anew, and
never in place of what its key has.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mvolatile import SharedCache, volatile_cache
from support.keepers import in_child, kill_keeper, until

Make = Callable[..., SharedCache[Any, Any]]
LONG = 1000
pytestmark = pytest.mark.usefixtures("way")


def expired(cache: SharedCache[Any, Any], key: str, value: Any, **options: Any) -> None:
    """Have it be so."""
    cache.set(key, value, ttl=0.001, **options)
    until(lambda: key not in cache)


def refreshed() -> None:
    """Until no refresh is under way."""
    for thread in threading.enumerate():
        if thread.name == "mvolatile-refresh":
            thread.join(100)
            assert not thread.is_alive()


@pytest.mark.parametrize("value", [b"old", "old", bytes(100_000), {"a": [1]}])
def test_it_is_given_at_once_and_one_of_the_host_makes_the_next(make: Make, value: Any) -> None:
    cache, other = make(stale=LONG), make(stale=timedelta(seconds=LONG))
    made: list[int] = []
    began, go = threading.Event(), threading.Event()

    def factory() -> bytes:
        made.append(threading.get_ident())
        began.set()
        go.wait(100)
        return b"new"

    expired(cache, "k", value)
    assert cache.get_or_set("k", factory) == value
    assert began.wait(100)
    for _ in range(3):
        assert cache.get_or_set("k", factory) == other.get_or_set("k", factory) == value
    assert cache.get("k") is None, "to all else it has expired"
    assert list(cache) == []
    assert cache.ttl("k") is None
    go.set()
    refreshed()
    assert len(made) == 1
    assert threading.get_ident() not in made
    assert cache["k"] == other.get_or_set("k", factory) == b"new"


def test_another_process_has_it(make: Make) -> None:
    cache = make(stale=LONG)
    expired(cache, "k", b"old")

    def there() -> None:
        assert cache.get_or_set("k", lambda: b"new") == b"old"
        refreshed()
        assert cache["k"] == b"new"

    in_child(there)
    assert cache["k"] == b"new"


@pytest.mark.parametrize("how", ["pop", "delete", "set", "add", "clear", "ttl", "tag"])
def test_it_is_not_given_in_place_of_what_its_key_has(make: Make, how: str) -> None:
    """53. Whatever another client does to it, though there is nothing there for that one."""
    cache, other = make(stale=LONG, stale_if_error=LONG), make()
    expired(cache, "k", b"old", tag="t")
    if how == "pop":
        assert other.pop("k", None) is None
    elif how == "delete":
        assert other.delete_many(["k"]) == 0
    elif how == "set":
        other["k"] = b"set"
    elif how == "add":
        assert other.add("k", b"set")
    elif how == "clear":
        other.clear()
    elif how == "ttl":
        other.set("k", b"over", ttl=0)
    else:
        assert other.delete_tag("t") == 0
    assert cache.get_or_set("k", lambda: b"new") == (b"set" if how in ("set", "add") else b"new")


def test_a_deletion_elsewhere_while_it_is_made_anew(make: Make) -> None:
    cache, other = make(stale=LONG), make()
    began, go = threading.Event(), threading.Event()

    def factory() -> bytes:
        began.set()
        go.wait(100)
        return b"of what was there before"

    expired(cache, "k", b"old")
    assert cache.get_or_set("k", factory) == b"old"
    assert began.wait(100)
    other.delete_many(["k"])
    go.set()
    refreshed()
    assert "k" not in cache
    assert cache.get_or_set("k", lambda: b"new") == b"new"


def test_what_is_older_is_made_by_the_caller(make: Make) -> None:
    cache, other = make(stale=0.001), make(stale=LONG)
    expired(cache, "k", b"old")
    time.sleep(0.002)
    assert other.get_or_set("l", lambda: b"l") == b"l"
    me: list[int] = []
    assert cache.get_or_set("k", lambda: me.append(threading.get_ident()) or b"new") == b"new"
    assert me == [threading.get_ident()]


def test_where_making_it_fails(make: Make) -> None:
    cache, other = make(stale_if_error=LONG), make()

    def fail() -> bytes:
        raise LookupError("no source")

    expired(cache, "k", b"old")
    assert cache.get_or_set("k", fail) == b"old"
    assert asyncio.run(cache.aget_or_set("k", fail)) == b"old"
    with pytest.raises(LookupError):
        other.get_or_set("k", fail)
    with pytest.raises(LookupError):
        cache.get_or_set("another", fail)
    other.delete_many(["k"])
    with pytest.raises(LookupError):
        cache.get_or_set("k", fail)


def test_in_a_loop(make: Make) -> None:
    cache = make(stale=LONG)
    expired(cache, "k", b"old")

    async def main() -> None:
        gate = asyncio.Event()

        async def factory() -> bytes:
            await gate.wait()
            return b"new"

        assert [await cache.aget_or_set("k", factory) for _ in range(3)] == [b"old"] * 3
        gate.set()
        while cache.get("k") is None:
            await asyncio.sleep(0.001)

    asyncio.run(main())
    assert cache["k"] == b"new"


def test_a_keeper_that_died_has_no_old_values(make: Make) -> None:
    cache = make(stale=LONG, stale_if_error=LONG)
    expired(cache, "k", b"old")
    kill_keeper(cache)
    assert cache.get_or_set("k", lambda: b"new") == b"new"
    expired(cache, "k", b"newer")
    assert cache.get_or_set("k", lambda: b"newest") == b"newer", "the next keeper was told as well"
    refreshed()


def test_it_is_swept_where_nobody_asks_for_it(make: Make) -> None:
    cache = make()
    cache.set("k", b"old", ttl=0.001)
    until(lambda: len(cache) == 0)
    other = make(stale=LONG)
    expired(other, "l", b"old")
    swept = other.cache_info().expired
    until(lambda: other.get_or_set("l", lambda: b"new") == b"new")
    assert other.cache_info().expired == swept


def test_the_decorator(make: Make) -> None:
    answer, made = [b"old"], []

    @volatile_cache(
        shared="test", name="page", ttl=lambda value: 0.001 if value == b"old" else LONG, stale=LONG
    )
    def page(number: int) -> bytes:
        made.append(number)
        return answer[0]

    assert page(1) == b"old"
    until(lambda: page.cache_key(1) not in page.cache)
    answer[0] = b"new"
    assert page(1) == b"old"
    refreshed()
    assert page(1) == b"new"
    assert made == [1, 1]
    page.cache.close()


def test_a_maker_in_the_middle_of_another_has_it_made_beside(make: Make) -> None:
    """The refresh works for nobody: the leases of who asked are not its own, and close no circle."""
    cache = make(stale=LONG)
    expired(cache, "inner", b"old")
    made: list[str] = []

    def outer() -> bytes:
        value = cache.get_or_set("inner", lambda: made.append("inner") or b"new")
        refreshed()
        return bytes(value)

    assert cache.get_or_set("outer", outer) == b"old"
    assert made == ["inner"]
    assert cache["inner"] == b"new"


def test_it_goes_with_the_cache_to_other_processes(make: Make) -> None:
    import pickle

    cache = make(stale=LONG, stale_if_error=timedelta(seconds=LONG))
    expired(cache, "k", b"old")
    with pickle.loads(pickle.dumps(cache)) as other:
        assert other.get_or_set("k", lambda: b"new") == b"old"
        refreshed()
