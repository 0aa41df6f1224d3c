"""The shortest programs of divergences that were found, and programs that must diverge if anything is compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.differences import DIFFERENCES, Divergence, Tally
from conformance.memory import MEMORY, agree_on_memory
from conformance.operations import (
    Exit,
    Fork,
    Mark,
    Mmap,
    Munmap,
    Operation,
    Purge,
    Read,
    ReadAll,
    Touch,
    Unmark,
    Write,
)
from conformance.processes import Died
from conformance.raw import RAW, RawProgram, agree
from conformance.running import TIERS, Nursery

pytestmark = pytest.mark.alone  # what a neighbour has reclaimed would excuse a difference

RAW_PROGRAMS: dict[str, tuple[Operation, ...]] = {
    "a child reads zeros where nothing was ever written": (Mmap(0, 0, 3), Mark(0, 0, 3), Fork(0), ReadAll(1)),
    "memory mapped anew and marked again reads zeros": (
        Mmap(0, 0, 3),
        Mark(0, 0, 1),
        Mmap(0, 0, 1),
        Mark(0, 0, 1),
        ReadAll(0),
    ),
    "a grandchild keeps its descriptors": (Mmap(0, 0, 3), Fork(0), Fork(1), ReadAll(2)),
    "a call on nothing changes nothing": (Mmap(0, 0, 3), Write(0, 1, 7), Mark(0, 0, 0), Purge(0, (0, 1, 2))),
    "an inherited loss is told to both": (
        Mmap(0, 0, 4),
        Write(0, 1, 7),
        Mark(0, 0, 4),
        Purge(0, (1,)),
        Fork(0),
        Touch(1, 1),
        Unmark(1, 0, 4),
        Touch(0, 1),
        Unmark(0, 0, 4),
    ),
    "a page shared after a fork goes when the child has ended": (
        Mmap(0, 0, 2),
        Write(0, 0, 7),
        Fork(0),
        Mark(0, 0, 2),
        Purge(0, (0,)),
        Read(1, 0),
        Exit(1),
        Mark(0, 0, 2),
        Purge(0, (0,)),
        Unmark(0, 0, 2),
    ),
    "a child of a program that unmapped a part": (
        Mmap(0, 0, 3),
        Mark(0, 0, 2),
        Munmap(0, 0, 1),
        Fork(0),
        ReadAll(1),
    ),
    "a child of a program that mapped anew": (
        Mmap(0, 0, 3),
        Write(0, 0, 100),
        Mark(0, 0, 1),
        Mmap(0, 0, 1),
        Fork(0),
        ReadAll(1),
    ),
}


@pytest.fixture
def raw() -> Iterator[Nursery]:
    with Nursery(RAW) as nursery:
        yield nursery


@pytest.fixture
def memory() -> Iterator[Nursery]:
    with Nursery(MEMORY) as nursery:
        yield nursery


@pytest.mark.parametrize("name", RAW_PROGRAMS)
@pytest.mark.parametrize("tier", TIERS)
def test_raw_programs(raw: Nursery, tier: str, name: str) -> None:
    assert agree(raw, tier, *RAW_PROGRAMS[name]).programs[tier] == 1


@pytest.mark.parametrize("tier", TIERS)
def test_a_read_beside_a_known_loss_holds_its_pages(memory: Nursery, tier: str) -> None:
    """Found by the fuzzer: page 3 is the child's alone after the read, so it can be purged there."""
    steps = [
        (0, "write", 2, 3, 36),
        (0, "pageout", (2,)),
        (0, "purged"),
        (0, "fork"),
        (1, "read", 3, 2),
        (1, "pageout", (3,)),
    ]
    agree_on_memory(memory, tier, 5, 100, *steps)


@pytest.mark.parametrize("tier", TIERS)
def test_memory_programs(memory: Nursery, tier: str) -> None:
    tally = agree_on_memory(
        memory,
        tier,
        3,
        100,
        (0, "write", 0, 3, 7),
        (0, "pageout", (1, 2)),
        (0, "peek", 0, 1),
        (0, "pin", False, "raise", 0),
        (0, "fork"),
        (1, "pin", True, "rebuild", 9),
        (1, "store", 0, 5),
        (0, "read", 1, 1),
        (0, "peek", 1, 2),
        (1, "unpin"),
        (0, "purge"),
    )
    for what in ("pin", "peek", "read"):
        assert tally.met[tier, f"{what}: purged"] == 1
    assert tally.met[tier, "purged"] >= 2


@pytest.mark.parametrize("tier", TIERS)
def test_a_dirty_page_that_is_shared_when_it_is_marked_stays(raw: Nursery, tier: str) -> None:
    """Too rare for the state machine: reclaim met the page dirty, then it was shared, marked, and shared no more."""
    tally = agree(
        raw,
        tier,
        Mmap(0, 0, 1),
        Write(0, 0, 7),
        Mark(0, 0, 1),
        Write(0, 0, 8),
        Purge(0, (0,)),
        Fork(0),
        Mark(0, 0, 1),
        Exit(1),
        Purge(0, (0,)),
        Mark(0, 0, 1),
        Purge(0, (0,)),
    )
    assert tally.differences[tier, "marked while shared"] == 1
    assert tally.differences[tier, "written since the mark"] == 1
    assert tally.met[tier, "purged"] == 1


def test_another_variant_of_the_patch_diverges(raw: Nursery) -> None:
    """v13 does part of a range that runs into a hole; the library does all or nothing."""
    program = RawProgram(raw, "userfaultfd", Tally(), variant="posted")
    try:
        program.do(Mmap(0, 0, 2))
        with pytest.raises(Divergence, match=r"(?s)Mark\(0, 1, 3\),\n"):
            program.do(Mark(0, 1, 3))
    finally:
        program.end()


def test_a_loss_the_library_was_not_told_of_diverges(raw: Nursery) -> None:
    program = RawProgram(raw, "userfaultfd", Tally())
    try:
        for operation in (Mmap(0, 0, 2), Write(0, 1, 7), Mark(0, 0, 2)):
            program.do(operation)
        assert program.machine.purge(0, 1)
        with pytest.raises(Divergence, match="purged=1, the kernel 0"):
            program.do(Unmark(0, 0, 2))
    finally:
        program.end()


def test_a_process_that_dies_is_noticed(raw: Nursery) -> None:
    number = raw.begin("userfaultfd")
    raw.call((number,), "fork", 1)
    with pytest.raises(Died, match="died with -11"):
        raw.call((number, 1), "load", 0)
    assert raw.end(number) == 0


def test_every_allowed_difference_is_published() -> None:
    text = Path(__file__).parents[2].joinpath("docs/conformance.md").read_text()
    for difference in DIFFERENCES:
        assert f"| {difference.name} |" in text
