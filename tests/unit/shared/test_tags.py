"""Tags between processes: whoever deletes one reaches what any process has stored, and what any is making."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from mvolatile import SharedCache
from support.keepers import in_child, kill_keeper, until

Make = Callable[..., SharedCache[Any, Any]]


def test_of_all_processes(cache: SharedCache[Any, Any]) -> None:
    cache["plain"] = b"v"
    cache.set("k", b"v", tag=("author", 3))

    def there() -> None:
        cache.set("child", bytes(100_000), tag=("author", 3))
        assert cache.get_or_set("made", lambda: b"v", tag=("author", 3.0)) == b"v"
        cache.set("other", b"v", tag=("author", 4))

    in_child(there)
    assert len(cache) == 5
    assert cache.delete_tag(("author", 3)) == 3
    assert sorted(cache) == ["other", "plain"]
    in_child(lambda: cache.delete_tag(("author", 4)))
    assert list(cache) == ["plain"]


def test_what_another_process_makes_with_it_is_not_stored(make: Make) -> None:
    """54. Two clients are as two processes."""
    cache, other = make(), make()
    began, go = threading.Event(), threading.Event()

    def factory() -> bytes:
        began.set()
        go.wait(100)
        return b"old"

    got: list[Any] = []
    maker = threading.Thread(target=cache.get_or_set, args=("k", factory), kwargs={"tag": "t"})
    maker.start()
    assert began.wait(100)
    waits = threading.Thread(target=lambda: got.append(other.get_or_set("k", lambda: b"new")))
    waits.start()
    until(lambda: other.keeper_info()["waiting"] == 1)
    assert other.delete_tag("u") == 0
    assert not got
    assert other.delete_tag("t") == 0
    waits.join(100)
    assert got == [b"new"], "who waited makes it anew"
    go.set()
    maker.join(100)
    assert cache["k"] == b"new"


def test_an_heir_makes_it_with_a_tag_of_its_own(make: Make) -> None:
    cache, other = make(), make()
    began, go, heir, on = (threading.Event() for _ in range(4))

    def fail() -> bytes:
        began.set()
        go.wait(100)
        raise LookupError

    def inherit() -> bytes:
        heir.set()
        on.wait(100)
        return b"old"

    def first() -> None:
        with pytest.raises(LookupError):
            cache.get_or_set("k", fail, tag="t")

    threads = [
        threading.Thread(target=first),
        threading.Thread(target=other.get_or_set, args=("k", inherit), kwargs={"tag": "u"}),
    ]
    threads[0].start()
    assert began.wait(100)
    threads[1].start()
    until(lambda: cache.keeper_info()["waiting"] == 1)
    go.set()
    assert heir.wait(100)
    cache.delete_tag("u")
    on.set()
    for thread in threads:
        thread.join(100)
    assert "k" not in cache


def test_a_keeper_that_died_has_no_tags(cache: SharedCache[Any, Any]) -> None:
    cache.set("k", b"v", tag="t")
    kill_keeper(cache)
    assert cache.delete_tag("t") == 0
    cache["k"] = b"v"
    assert cache.delete_tag("t") == 0
    assert cache["k"] == b"v"


def test_without_a_keeper(make: Make) -> None:
    cache = make()
    assert cache.delete_tag("t") == 0
    assert cache.keeper_info() == {}, "none is started for that"
    cache.close()
    assert cache.delete_tag("t") == 0


def test_keys_that_left_are_not_kept_in_mind(make: Make) -> None:
    cache = make(max_bytes=100_000)
    for n in range(4000):
        cache.set(n, bytes(500), tag=n % 7)
    there = len(cache)
    assert there < 300
    assert cache.keeper_info()["tagged"] < 3000
    assert sum(cache.delete_tag(tag) for tag in range(7)) == there
    assert cache.keeper_info()["tagged"] == 0
