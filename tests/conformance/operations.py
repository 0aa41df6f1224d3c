"""The operations of raw programs, as data that prints as it is written.

`process` is a slot of the program, 0 for the one it begins with; `start`, `length` and `page` are in pages.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operation:
    """What one process does."""

    process: int

    def __repr__(self) -> str:
        arguments = ", ".join(repr(getattr(self, name)) for name in self.__dataclass_fields__)
        return f"{type(self).__name__}({arguments})"


@dataclass(frozen=True, slots=True, repr=False)
class Mmap(Operation):
    """mmap(MAP_FIXED): what was there goes."""

    start: int
    length: int


@dataclass(frozen=True, slots=True, repr=False)
class Munmap(Operation):
    """munmap."""

    start: int
    length: int


@dataclass(frozen=True, slots=True, repr=False)
class Mark(Operation):
    """mvolatile(..., MVOLATILE_VOLATILE)."""

    start: int
    length: int


@dataclass(frozen=True, slots=True, repr=False)
class Unmark(Operation):
    """mvolatile(..., MVOLATILE_NONVOLATILE)."""

    start: int
    length: int


@dataclass(frozen=True, slots=True, repr=False)
class MarkMany(Operation):
    """A call for each page: many ranges."""

    pages: tuple[int, ...]


@dataclass(frozen=True, slots=True, repr=False)
class UnmarkMany(Operation):
    """A call for each page."""

    pages: tuple[int, ...]


@dataclass(frozen=True, slots=True, repr=False)
class BadCall(Operation):
    """mvolatile() with arguments that it must refuse; `start` and `length` in bytes."""

    start: int
    length: int
    mode: int
    flags: int


@dataclass(frozen=True, slots=True, repr=False)
class Write(Operation):
    """A system call fills a page."""

    page: int
    value: int


@dataclass(frozen=True, slots=True, repr=False)
class Read(Operation):
    """A system call reads a page; if that goes, so does a load."""

    page: int


@dataclass(frozen=True, slots=True, repr=False)
class ReadAll(Operation):
    """The same for every page."""


@dataclass(frozen=True, slots=True, repr=False)
class Touch(Operation):
    """A forked child loads from the page, or stores `value`, and ends."""

    page: int
    value: int | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Purge(Operation):
    """Reclaim meets these pages."""

    pages: tuple[int, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Fork(Operation):
    """Into a free slot, if there is one."""


@dataclass(frozen=True, slots=True, repr=False)
class Exit(Operation):
    """The process ends, if it is not the first and has no children."""
