"""Programs over `mvolatile()`: the patch's model and the real kernel agree on everything a program can see."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from conformance.operations import (
    BadCall,
    Exit,
    Fork,
    Mark,
    MarkMany,
    Mmap,
    Munmap,
    Purge,
    Read,
    Touch,
    Unmark,
    UnmarkMany,
    Write,
)
from conformance.raw import RAW, SLOTS, RawProgram
from conformance.raw_commands import PAGES
from conformance.running import TIERS, ProgramMachine, explore
from support.libc import PAGE

pytestmark = pytest.mark.alone  # what a neighbour has reclaimed would excuse a difference
PROCESS = st.integers(0, SLOTS - 1)
PAGE_NUMBER = st.integers(0, PAGES - 1)
VALUE = st.integers(1, 199)
RANGE = st.integers(0, PAGES - 1).flatmap(
    lambda start: st.tuples(st.just(start), st.integers(1, PAGES - start))
)
SHORT = RANGE.map(lambda where: (where[0], min(where[1], 2)))
SOME = st.lists(PAGE_NUMBER, min_size=1, unique=True).map(lambda pages: tuple(sorted(pages)))
ODD = st.sampled_from([1, 100, PAGE - 1, PAGE + 8])
BAD = st.one_of(
    st.builds(lambda odd: (odd, PAGE, 1, 0), ODD),
    st.builds(lambda odd: (0, odd, 1, 0), ODD),
    st.builds(lambda r, mode: (r[0] * PAGE, r[1] * PAGE, mode, 0), RANGE, st.sampled_from([-1, 2, 7])),
    st.builds(lambda r, flags: (r[0] * PAGE, r[1] * PAGE, 0, flags), RANGE, st.sampled_from([-1, 1, 8])),
)


class RawMachine(ProgramMachine):
    def __init__(self) -> None:
        super().__init__()
        self.program = RawProgram(self.nursery, self.tier, self.tally)

    @initialize(length=st.integers(3, PAGES), filled=st.integers(0, PAGES), marked=st.booleans())
    def begin(self, length: int, filled: int, marked: bool) -> None:
        self.do(Mmap(0, 0, length))
        for page in range(min(filled, length)):
            self.do(Write(0, page, 100 + page))
        if marked:
            self.do(Mark(0, 0, length))

    @rule(process=PROCESS, where=SHORT)
    def mmap(self, process: int, where: tuple[int, int]) -> None:
        self.do(Mmap(process, *where))

    @rule(process=PROCESS, where=SHORT)
    def munmap(self, process: int, where: tuple[int, int]) -> None:
        self.do(Munmap(process, *where))

    @rule(process=PROCESS, where=RANGE)
    def mark(self, process: int, where: tuple[int, int]) -> None:
        self.do(Mark(process, *where))

    @rule(process=PROCESS, where=RANGE)
    def unmark(self, process: int, where: tuple[int, int]) -> None:
        self.do(Unmark(process, *where))

    @rule(process=PROCESS, pages=SOME)
    def mark_many(self, process: int, pages: tuple[int, ...]) -> None:
        self.do(MarkMany(process, pages))

    @rule(process=PROCESS, pages=SOME)
    def unmark_many(self, process: int, pages: tuple[int, ...]) -> None:
        self.do(UnmarkMany(process, pages))

    @rule(process=PROCESS, bad=BAD)
    def bad_call(self, process: int, bad: tuple[int, int, int, int]) -> None:
        self.do(BadCall(process, *bad))

    @rule(process=PROCESS, start=PAGE_NUMBER)
    def empty_call(self, process: int, start: int) -> None:
        self.do(Mark(process, start, 0))

    @rule(process=PROCESS, page=PAGE_NUMBER, value=VALUE)
    def write(self, process: int, page: int, value: int) -> None:
        self.do(Write(process, page, value))

    @rule(process=PROCESS, page=PAGE_NUMBER)
    def read(self, process: int, page: int) -> None:
        self.do(Read(process, page))

    @rule(process=PROCESS, page=PAGE_NUMBER, value=st.none() | VALUE)
    def touch(self, process: int, page: int, value: int | None) -> None:
        self.do(Touch(process, page, value))

    @rule(process=PROCESS, pages=SOME)
    def purge(self, process: int, pages: tuple[int, ...]) -> None:
        self.do(Purge(process, pages))

    @rule(process=PROCESS)
    def purge_all(self, process: int) -> None:
        self.do(Purge(process, tuple(range(PAGES))))

    @rule(process=PROCESS)
    def fork(self, process: int) -> None:
        self.do(Fork(process))

    @rule(process=PROCESS)
    def exit(self, process: int) -> None:
        self.do(Exit(process))


@pytest.mark.parametrize(
    "tier", [TIERS[0], *(pytest.param(tier, marks=pytest.mark.slow) for tier in TIERS[1:])]
)
def test_programs_agree(tier: str) -> None:
    tally = explore(RawMachine, RAW, tier, 150)
    assert tally.met[tier, "purge reported"] > 5
    assert tally.met[tier, "purged"] > 5
    assert tally.met[tier, "read"] > 100


@pytest.mark.stress
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("tier", TIERS)
def test_thousands_of_programs_agree(tier: str) -> None:
    tally = explore(RawMachine, RAW, tier, 3600, derandomize=False)
    print(tally.table())
    assert len(tally.different[tier]) >= 3000
