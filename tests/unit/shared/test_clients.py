"""What clients say of the use of records, as their keeper hears it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from mvolatile import SharedCache
from mvolatile._core import HINTS_HEADER, Hints
from mvolatile.shared.clients import MOST_LEFT, Clients
from mvolatile.shared.index import Index

Make = Callable[..., SharedCache[Any, Any]]


@pytest.fixture
def index() -> Iterator[Index]:
    made = Index("test")
    yield made
    made.close()


class Client:
    """Of whom only hints are asked."""

    def __init__(self, capacity: int) -> None:
        self.file = os.memfd_create("hints")
        os.ftruncate(self.file, HINTS_HEADER + capacity)
        self.hints: Hints | None = Hints(self.file, capacity)
        self.hints_of, self.pidfd = 0, -1

    def says(self, slot: int, uses: int) -> None:
        os.pwrite(self.file, bytes([uses]), HINTS_HEADER + slot)


def test_uses_are_the_sum_of_all(index: Index) -> None:
    clients, some = Clients(), [Client(index.slots.capacity) for _ in range(3)]
    for i, client in enumerate(some):
        clients[i] = cast(Any, client)
    some[0].says(5, 3)
    some[2].says(5, 4)
    assert [clients.uses(slot, 0) for slot in (4, 5, 6)] == [0, 7, 0]
    clients.heard(5, index)
    assert clients.uses(5, 0) == 8
    some[1].says(5, 255)
    assert clients.uses(5, 0) == 255
    clients.forget_uses(5, 0)
    assert clients.uses(5, 0) == 0
    some[1].says(5, 1)
    assert clients.uses(5, 1) == 0, "what was said of another table is not of this one"
    clients.forget_hints(cast(Any, some[1]))
    assert clients.uses(5, 0) == 1, "who is gone said it"
    clients.forget_uses(5, 0)
    assert clients.uses(5, 0) == 0
    for client in some:
        os.close(client.file)


def test_of_few_who_are_gone_it_stays(index: Index) -> None:
    clients = Clients()
    for _ in range(MOST_LEFT + 3):
        one = Client(index.slots.capacity)
        one.says(7, 2)
        clients[0] = cast(Any, one)
        clients.forget_hints(clients.pop(0))
        os.close(one.file)
    assert clients.uses(7, 0) == 2 * MOST_LEFT
    assert clients.uses(7, 1) == 0, "the table has moved"


def test_no_such_slot() -> None:
    client = Client(16)
    assert client.hints is not None
    for wrong in (16, 1 << 60):
        with pytest.raises(IndexError, match="no such slot"):
            Hints.uses((client.hints,), wrong)
        with pytest.raises(IndexError, match="no such slot"):
            Hints.forget((client.hints,), wrong)
        with pytest.raises(IndexError, match="no such slot"):
            client.hints.use(wrong)
    with pytest.raises(TypeError, match="not Hints"):
        Hints.uses((cast(Any, 5),), 0)
    os.close(client.file)


@pytest.mark.parametrize("how", ["by itself", "by message"])
def test_what_is_read_stays(make: Make, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Under a bound, beside four times as much that nobody reads again."""
    if how == "by message":
        monkeypatch.setenv("MVOLATILE_SHARED_READ", "message")
    cache = make(max_bytes=1 << 20)
    for i in range(50):
        cache["often", i] = bytes(1000)
    for i in range(4000):
        cache["once", i] = bytes(1000)
        cache.get(("often", i % 50))
    assert sum(("often", i) in cache for i in range(50)) >= 40
