"""Programs over a `VolatileMemory`: what its pins, peeks, reads and reports say is what the patch's model says."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from conformance.memory import MEMORY, SLOTS, MemoryProgram
from conformance.running import TIERS, ProgramMachine, explore

pytestmark = pytest.mark.alone  # what a neighbour has reclaimed would excuse a difference
PAGES = 8
PROCESS = st.integers(0, SLOTS - 1)
PAGE_NUMBER = st.integers(0, PAGES - 1)
LENGTH = st.integers(1, PAGES)
VALUE = st.integers(1, 199)
SOME = st.lists(PAGE_NUMBER, min_size=1, unique=True).map(lambda pages: tuple(sorted(pages)))


class MemoryMachine(ProgramMachine):
    @initialize(pages=st.integers(2, PAGES), short=st.sampled_from([0, 0, 100]), filled=st.booleans())
    def begin(self, pages: int, short: int, filled: bool) -> None:
        self.program = MemoryProgram(self.nursery, self.tier, self.tally, pages, short)
        if filled:
            for page in range(pages):
                self.do(0, "write", page, 1, 100 + page)

    @rule(
        process=PROCESS,
        write=st.booleans(),
        on_purge=st.sampled_from(["raise", "zero", "rebuild"]),
        value=VALUE,
    )
    def pin(self, process: int, write: bool, on_purge: str, value: int) -> None:
        self.do(process, "pin", write, on_purge, value)

    @rule(process=PROCESS)
    def unpin(self, process: int) -> None:
        self.do(process, "unpin")

    @rule(process=PROCESS, page=PAGE_NUMBER, value=VALUE)
    def store(self, process: int, page: int, value: int) -> None:
        self.do(process, "store", page, value)

    @rule(process=PROCESS, page=PAGE_NUMBER, length=LENGTH)
    def peek(self, process: int, page: int, length: int) -> None:
        self.do(process, "peek", page, length)

    @rule(process=PROCESS, page=PAGE_NUMBER, length=LENGTH)
    def read(self, process: int, page: int, length: int) -> None:
        self.do(process, "read", page, length)

    @rule(process=PROCESS, page=PAGE_NUMBER, length=LENGTH, value=VALUE)
    def write(self, process: int, page: int, length: int, value: int) -> None:
        self.do(process, "write", page, length, value)

    @rule(process=PROCESS, pages=SOME)
    def pageout(self, process: int, pages: tuple[int, ...]) -> None:
        self.do(process, "pageout", pages)

    @rule(process=PROCESS)
    def purge(self, process: int) -> None:
        self.do(process, "purge")

    @rule(process=PROCESS)
    def purged(self, process: int) -> None:
        self.do(process, "purged")

    @rule(process=PROCESS)
    def fork(self, process: int) -> None:
        self.do(process, "fork")

    @rule(process=PROCESS)
    def exit(self, process: int) -> None:
        self.do(process, "exit")


@pytest.mark.parametrize(
    "tier", [TIERS[0], *(pytest.param(tier, marks=pytest.mark.slow) for tier in TIERS[1:])]
)
def test_programs_agree(tier: str) -> None:
    tally = explore(MemoryMachine, MEMORY, tier, 150)
    assert tally.met[tier, "purged"] > 5
    # Of which kind is Hypothesis's choice, even with the same seed: it draws from the constants of what is imported.
    # test_memory_programs() meets each.
    assert sum(tally.met[tier, f"{what}: purged"] for what in ("pin", "peek", "read")) > 2


@pytest.mark.stress
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("tier", TIERS)
def test_thousands_of_programs_agree(tier: str) -> None:
    tally = explore(MemoryMachine, MEMORY, tier, 2500, derandomize=False)
    print(tally.table())
    assert len(tally.different[tier]) >= 2000
