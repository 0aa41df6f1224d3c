"""Bytes as programs: every string is one. The first byte says which library's side and which tier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from conformance import operations as raw
from conformance.differences import Tally
from conformance.memory import MEMORY, MemoryProgram
from conformance.processes import Nursery
from conformance.raw import RAW, RawProgram
from conformance.raw_commands import PAGES
from support.libc import PAGE

__all__ = ["TARGETS", "run", "target_of"]

TARGETS = (
    ("raw", "userfaultfd"),
    ("memory", "userfaultfd"),
    ("raw", "faultcount"),
    ("memory", "faultcount"),
)
COMMANDS = {"raw": RAW, "memory": MEMORY}


class _Bytes:
    """Read from the front; once it is used up, zeros."""

    def __init__(self, data: bytes) -> None:
        self._rest = iter(data)
        self.left = len(data)

    def take(self, limit: int = 256) -> int:
        self.left -= 1
        return next(self._rest, 0) % limit

    def pages(self, limit: int) -> tuple[int, ...]:
        bits = self.take() | self.take() << 8
        return tuple(page for page in range(limit) if bits >> page & 1) or (0,)


_BAD = (
    (1, 0, 1, 0),
    (0, PAGE - 1, 1, 0),
    (0, 100, 1, 0),
    (0, 0, 7, 0),
    (0, 0, -1, 0),
    (0, 0, 0, 8),
    (PAGE + 8, 0, 0, 0),
)


def _bad(b: _Bytes, process: int) -> raw.Operation:
    start, length, mode, flags = _BAD[b.take(len(_BAD))]
    return raw.BadCall(process, start + b.take(PAGES) * PAGE, length + b.take(4) * PAGE, mode, flags)


def _span(b: _Bytes) -> tuple[int, int]:
    start = b.take(PAGES)
    return start, b.take(PAGES - start + 1)


def _short_span(b: _Bytes) -> tuple[int, int]:
    start = b.take(PAGES)
    return start, 1 + b.take(min(2, PAGES - start))


_RAW: tuple[Callable[[_Bytes, int], raw.Operation], ...] = (
    lambda b, p: raw.Mark(p, *_span(b)),
    lambda b, p: raw.Unmark(p, *_span(b)),
    lambda b, p: raw.Write(p, b.take(PAGES), 1 + b.take(199)),
    lambda b, p: raw.Purge(p, b.pages(PAGES)),
    lambda b, p: raw.Purge(p, tuple(range(PAGES))),
    lambda b, p: raw.Read(p, b.take(PAGES)),
    lambda b, p: raw.Touch(p, b.take(PAGES), b.take(200) or None),
    lambda b, p: raw.MarkMany(p, b.pages(PAGES)),
    lambda b, p: raw.UnmarkMany(p, b.pages(PAGES)),
    lambda b, p: raw.Mmap(p, *_short_span(b)),
    lambda b, p: raw.Munmap(p, *_short_span(b)),
    _bad,
    lambda b, p: raw.Fork(p),
    lambda b, p: raw.Exit(p),
)
_ON_PURGE = ("raise", "zero", "rebuild")
_MEMORY: tuple[Callable[[_Bytes], tuple[Any, ...]], ...] = (
    lambda b: ("pin", bool(b.take(2)), _ON_PURGE[b.take(3)], 1 + b.take(199)),
    lambda b: ("unpin",),
    lambda b: ("unpin",),
    lambda b: ("store", b.take(), 1 + b.take(199)),
    lambda b: ("peek", b.take(), 1 + b.take()),
    lambda b: ("read", b.take(), 1 + b.take()),
    lambda b: ("write", b.take(), 1 + b.take(), 1 + b.take(199)),
    lambda b: ("pageout", b.pages(16)),
    lambda b: ("purge",),
    lambda b: ("purged",),
    lambda b: ("close",),
    lambda b: ("fork",),
    lambda b: ("exit",),
)
_SIZES = (2, 3, 5, 8)
"""In pages; the model's machine has few. (What the core does with larger ranges: tests/native/protocol.c.)"""


def target_of(data: bytes) -> tuple[str, str]:
    """``("raw" or "memory", tier)``."""
    return TARGETS[data[0] % len(TARGETS)] if data else TARGETS[0]


def _raw_program(b: _Bytes) -> Iterator[raw.Operation]:
    head, filled = b.take(), b.take(PAGES + 1)
    length = 3 + head % (PAGES - 2)
    yield raw.Mmap(0, 0, length)
    yield from (raw.Write(0, page, 100 + page) for page in range(min(filled, length)))
    while b.left > 0:
        head = b.take()
        yield _RAW[head % len(_RAW)](b, head // len(_RAW) % 3)


def run(data: bytes, nursery: Nursery, tally: Tally) -> None:
    """Run one program to its end on both sides; `Divergence` if they differ."""
    kind, tier = target_of(data)
    b = _Bytes(data[1:])
    if kind == "raw":
        program = RawProgram(nursery, tier, tally)
        try:
            for operation in _raw_program(b):
                program.do(operation)
            program.finish()
        finally:
            program.end()
        return
    memory = MemoryProgram(nursery, tier, tally, _SIZES[b.take(len(_SIZES))], (0, 0, 100)[b.take(3)])
    try:
        while b.left > 0:
            head = b.take()
            memory.do(head // len(_MEMORY) % 3, *_MEMORY[head % len(_MEMORY)](b))
        memory.finish()
    finally:
        memory.end()
