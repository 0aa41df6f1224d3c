"""Programs over `mvolatile()`: the patch's model and the real kernel agree on everything a program can see."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from conformance.differences import Tally
from conformance.operations import (
    BadCall,
    Exit,
    Fork,
    Mark,
    MarkMany,
    Mmap,
    Munmap,
    Operation,
    Purge,
    Read,
    Touch,
    Unmark,
    UnmarkMany,
    Write,
)
from conformance.processes import Nursery
from conformance.raw import SLOTS, RawProgram
from conformance.raw_commands import PAGES
from support.libc import PAGE

PROCESS = st.integers(0, SLOTS - 1)
PAGE_NUMBER = st.integers(0, PAGES - 1)
VALUE = st.integers(1, 199)
RANGE = st.integers(0, PAGES - 1).flatmap(
    lambda start: st.tuples(st.just(start), st.integers(1, PAGES - start))
)
SOME = st.lists(PAGE_NUMBER, min_size=1, unique=True).map(lambda pages: tuple(sorted(pages)))
ODD = st.sampled_from([1, 100, PAGE - 1, PAGE + 8])
BAD = st.one_of(
    st.builds(lambda odd: (odd, PAGE, 1, 0), ODD),
    st.builds(lambda odd: (0, odd, 1, 0), ODD),
    st.builds(lambda r, mode: (r[0] * PAGE, r[1] * PAGE, mode, 0), RANGE, st.sampled_from([-1, 2, 7])),
    st.builds(lambda r, flags: (r[0] * PAGE, r[1] * PAGE, 0, flags), RANGE, st.sampled_from([-1, 1, 8])),
)


class RawMachine(RuleBasedStateMachine):
    nursery: Nursery
    tier: str
    tally: Tally

    def __init__(self) -> None:
        super().__init__()
        self.program = RawProgram(self.nursery, self.tier, self.tally)
        self.broken = False

    def do(self, operation: Operation) -> None:
        try:
            self.program.settle_remapped(operation)
            self.program.do(operation)
        except BaseException:
            self.broken = True
            raise

    @initialize(length=st.integers(3, PAGES), filled=st.integers(0, PAGES), marked=st.booleans())
    def begin(self, length: int, filled: int, marked: bool) -> None:
        self.do(Mmap(0, 0, length))
        for page in range(min(filled, length)):
            self.do(Write(0, page, 100 + page))
        if marked:
            self.do(Mark(0, 0, length))

    @rule(process=PROCESS, where=RANGE)
    def mmap(self, process: int, where: tuple[int, int]) -> None:
        self.do(Mmap(process, *where))

    @rule(process=PROCESS, where=RANGE)
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

    def teardown(self) -> None:
        try:
            if not self.broken:
                self.program.finish()
        finally:
            self.program.end()


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    with Nursery("conformance.raw_commands:RawCommands") as nursery:
        yield nursery


def explore(nursery: Nursery, tier: str, programs: int) -> Tally:
    tally = Tally()
    machine = type("Machine", (RawMachine,), {"nursery": nursery, "tier": tier, "tally": tally})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=programs,
            stateful_step_count=25,
            derandomize=True,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            phases=[Phase.generate] if os.environ.get("FAST") else list(Phase),
            suppress_health_check=list(HealthCheck),
        ),
    )
    return tally


@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
def test_programs_agree(nursery: Nursery, tier: str) -> None:
    tally = explore(nursery, tier, int(os.environ.get("PROGRAMS", "150")))
    print(tally.table())
