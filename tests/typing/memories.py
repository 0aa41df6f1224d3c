"""Memories, and what is raised of them. As `decorated`."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import assert_type

from mvolatile import MemoryStatus, NotWhole, Overwritten, Purged, VolatileMemory, features, status


def reading(memory: VolatileMemory) -> None:
    assert_type(memory.read(), bytes)
    assert_type(memory.read(5, None), bytes)
    with memory.pin(on_purge="zero") as view:
        assert_type(view, memoryview)
    memory.read("5")  # type: ignore[arg-type]
    memory.pin(on_purge="ignore")  # type: ignore[arg-type]
    memory.pin(on_lost="zero")  # type: ignore[call-arg]


def looking(memory: VolatileMemory) -> bytes:
    with memory.peek() as view:  # it hides no exception, so this returns
        return bytes(view)


def losing(memory: VolatileMemory) -> None:
    try:
        memory.read()
    except Purged as lost:
        assert_type(lost.extents, tuple[tuple[int, int], ...])
    except Overwritten as mixed:
        print(mixed.extents)  # type: ignore[attr-defined]
    except NotWhole as either:
        assert_type(either.generation, int)


def telling() -> None:
    assert_type(status().memories, tuple[MemoryStatus, ...])
    assert_type(features().mechanisms["pagemap"], int | None)
    features().tier = "unsupported"  # type: ignore[misc]
    features().mechanisms["pagemap"] = 0  # type: ignore[index]
