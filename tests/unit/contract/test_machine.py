"""Hypothesis drives one memory against an oracle of a few lines: its bytes, and which of them are lost."""

from __future__ import annotations

from contextlib import suppress

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mvolatile import Purged, VolatileMemory, _core, testing
from mvolatile.errors import Extents
from support.memories import HUGE, PAGE

pages_of_it = st.sets(st.integers(0, 15), max_size=6)
values = st.integers(1, 255)


class Oracle:
    """What the memory must hold. `data`: pages that hold bytes, and so can be purged."""

    def __init__(self, nbytes: int) -> None:
        self.bytes = bytearray(nbytes)
        self.lost = bytearray(nbytes)  # 1 where a byte is lost
        self.data: set[int] = set()

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        self.bytes[offset:end] = data
        self.lost[offset:end] = bytes(len(data))
        if data:
            self.data |= set(range(offset // PAGE, (end - 1) // PAGE + 1))

    def purge(self, pages: set[int]) -> None:
        for page in pages & self.data:
            part = slice(page * PAGE, min((page + 1) * PAGE, len(self.bytes)))
            self.bytes[part] = bytes(part.stop - part.start)
            self.lost[part] = b"\x01" * (part.stop - part.start)
        self.data -= pages

    def forgive(self) -> None:
        self.lost = bytearray(len(self.lost))

    @property
    def extents(self) -> Extents:
        found, at = [], 0
        while (start := self.lost.find(1, at)) >= 0:
            at = self.lost.find(0, start)
            at = len(self.lost) if at < 0 else at
            found.append((start, at - start))
        return tuple(found)


class Memory(RuleBasedStateMachine):
    """The rules. A pin that is open (`held`) keeps purges out."""

    sizes: st.SearchStrategy[int] = st.integers(1, 12 * PAGE)

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[object, memoryview]] = []
        self.purges = _core.tier() != "unsupported"
        self.exact = _core.tier() == "userfaultfd"

    @initialize(data=st.data())
    def open(self, data: st.DataObject) -> None:
        self.memory = VolatileMemory(data.draw(self.sizes), huge=False)
        self.oracle = Oracle(self.memory.nbytes)
        self.generation = 0
        # A lost page may become a real page of zeros when it is held: it can be purged then, and count as lost.
        self.repaired: set[int] = set()

    def teardown(self) -> None:
        for pin, _ in self.held:
            pin.__exit__(None, None, None)  # type: ignore[attr-defined]
        if hasattr(self, "memory"):
            assert _core.pins(self.memory) == 0
            self.memory.close()

    def _window(self, start: int, n: int) -> tuple[int, int]:
        start %= self.memory.nbytes
        return start, min(n, self.memory.nbytes - start)

    def _take(self, pages: set[int]) -> None:
        """Purge for certain, and learn nothing from it."""
        last = -(-self.memory.nbytes // PAGE)
        wanted = {page for page in pages if page < last}
        for page in wanted:
            part = [(page * PAGE, min(PAGE, self.memory.nbytes - page * PAGE))]
            gone = testing.purge(self.memory, part)
            for _ in range(20):
                if gone or page not in self.oracle.data:
                    break
                gone = testing.purge(self.memory, part)
            if gone and page in self.repaired:
                self.oracle.data.add(page)
            assert gone == (PAGE if page in self.oracle.data else 0)
        self.repaired |= wanted & self.oracle.data
        self.oracle.purge(wanted)

    # ---- copies

    @rule(start=st.integers(0, 2**30), n=st.integers(0, 3 * PAGE), value=values)
    def write(self, start: int, n: int, value: int) -> None:
        start, n = self._window(start, n)
        assert self.memory.write(bytes([value]) * n, start) == n
        self.oracle.write(start, bytes([value]) * n)

    @rule(value=values)
    def write_all(self, value: int) -> None:
        self.memory.write(bytes([value]) * self.memory.nbytes)
        self.oracle.write(0, bytes([value]) * self.memory.nbytes)

    @rule(start=st.integers(0, 2**30), n=st.integers(0, 3 * PAGE), into=st.booleans())
    def read(self, start: int, n: int, into: bool) -> None:
        start, n = self._window(start, n)
        buffer = bytearray(n)
        try:
            found = (
                bytes(buffer)
                if into and self.memory.readinto(buffer, start) < 0
                else self.memory.read(start, n)
            )
        except Purged:
            assert any(self.oracle.lost[start : start + n])
        else:
            assert not any(self.oracle.lost[start : start + n])
            assert found == self.oracle.bytes[start : start + n]
            assert not into or buffer == found

    @rule()
    def export(self) -> None:
        extents: Extents = ()
        try:
            assert bytes(self.memory) == self.oracle.bytes
        except Purged as lost:
            extents = lost.extents
        assert extents == self.oracle.extents

    # ---- losses

    @precondition(lambda self: self.purges and not self.held)
    @rule(pages=pages_of_it)
    def purge(self, pages: set[int]) -> None:
        self._take(pages)

    @precondition(lambda self: self.held)
    @rule(pages=pages_of_it)
    def purge_of_pinned(self, pages: set[int]) -> None:
        with pytest.raises(BufferError):
            self.memory.purge()

    @rule()
    def ask(self) -> None:
        assert self.memory.purged() == self.oracle.extents

    # ---- pins

    @rule(write=st.booleans(), value=values, page=st.integers(0, 15))
    def pin(self, write: bool, value: int, page: int) -> None:
        pin = self.memory.pin(write=write)
        extents: Extents = ()
        try:
            view = pin.__enter__()
        except Purged as lost:
            extents = lost.extents
        assert extents == self.oracle.extents
        if extents:
            return
        assert bytes(view) == self.oracle.bytes
        at = page * PAGE
        if write and at < self.memory.nbytes:
            view[at : at + 1] = bytes([value])
            self.oracle.write(at, bytes([value]))
        if len(self.held) < 3 and value % 2:
            self.held.append((pin, view))
        else:
            pin.__exit__(None, None, None)

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 2))
    def unpin(self, number: int) -> None:
        pin, view = self.held.pop(number % len(self.held))
        assert bytes(view) == self.oracle.bytes
        pin.__exit__(None, None, None)  # type: ignore[attr-defined]

    @rule()
    def accept_zeros(self) -> None:
        with self.memory.pin(on_purge="zero") as view:
            assert bytes(view) == self.oracle.bytes
        self.oracle.forgive()

    @rule(value=values, fails=st.booleans())
    def rebuild(self, value: int, fails: bool) -> None:
        lost = self.oracle.extents

        def rebuilder(view: memoryview, extents: Extents) -> None:
            assert extents == lost != ()
            assert bytes(view) == self.oracle.bytes
            if fails:
                raise KeyError
            for offset, length in extents:
                view[offset : offset + length] = bytes([value]) * length
                self.oracle.write(offset, bytes([value]) * length)

        try:
            with self.memory.pin(on_purge=rebuilder) as view:
                assert bytes(view) == self.oracle.bytes
                assert self.oracle.extents == ()
        except KeyError:
            assert fails
            assert lost

    # ---- peeks

    @rule(start=st.integers(0, 2**30), n=st.integers(0, 3 * PAGE))
    def peek(self, start: int, n: int) -> None:
        start, n = self._window(start, n)
        try:
            with self.memory.peek(start, n) as view:
                found = bytes(view)
        except Purged:
            assert any(self.oracle.lost[start : start + n])
        else:
            assert not any(self.oracle.lost[start : start + n])
            assert found == self.oracle.bytes[start : start + n]

    @precondition(lambda self: self.exact and not self.held)
    @rule(pages=pages_of_it)
    def lose_while_peeking(self, pages: set[int]) -> None:
        before = bytes(self.oracle.bytes)
        with suppress(Purged), self.memory.peek() as view:
            assert bytes(view) == before or any(self.oracle.lost)
            self._take(pages)
            after = bytes(view)
            if any(self.oracle.lost):
                view[self.memory.nbytes]  # must come out as Purged, not as IndexError
            assert after == before

    # ---- always

    @invariant()
    def sound(self) -> None:
        if not hasattr(self, "memory"):
            return
        assert _core.is_valid(self.memory)
        assert _core.pins(self.memory) == len(self.held)
        assert self.generation <= self.memory.generation <= self.generation + 2
        self.generation = self.memory.generation


class LargeMemory(Memory):
    """The same in a mapping of its own."""

    sizes = st.integers(HUGE, HUGE + 3 * PAGE)


@pytest.mark.parametrize(("machine", "examples"), [(Memory, 30), (LargeMemory, 6)])
def test_against_an_oracle(machine: type[Memory], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
