"""How a difference is judged: a program into which reclaim came by itself says nothing, any other does."""

from __future__ import annotations

import pytest
from hypothesis.stateful import rule

from conformance import running
from conformance.differences import Divergence
from conformance.raw import RAW
from conformance.running import ProgramMachine, explore


class Program:
    def do(self) -> None:
        raise Divergence("they differ")

    def finish(self) -> None:
        pass

    def end(self) -> None:
        pass


class Differs(ProgramMachine):
    def __init__(self) -> None:
        super().__init__()
        self.program = Program()

    @rule()
    def step(self) -> None:
        self.do()


@pytest.fixture
def no_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "has_swap", lambda: False)
    monkeypatch.setattr(running, "SETTLE", 0)


def test_a_difference_is_raised(no_swap: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "stolen", lambda: 5)
    with pytest.raises(Divergence, match="they differ"):
        explore(Differs, RAW, "userfaultfd", 3)


def test_after_a_reclaim_that_nobody_asked_for_it_is_thrown_away(
    no_swap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = iter(range(10**6))
    monkeypatch.setattr(running, "stolen", lambda: next(count))
    said = "of 3 programs met swap or reclaim that nobody asked for"
    with pytest.raises(pytest.skip.Exception, match=said):
        explore(Differs, RAW, "userfaultfd", 3)
    with pytest.raises(pytest.fail.Exception, match=said):
        explore(Differs, RAW, "userfaultfd", 3, derandomize=False)


def test_with_a_swap_device_the_ordinary_form_skips_and_the_long_form_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "has_swap", lambda: True)
    monkeypatch.setattr(running, "PATIENCE", 0.0)
    with pytest.raises(pytest.skip.Exception, match="a swap device is on"):
        explore(Differs, RAW, "userfaultfd", 3)
    with pytest.raises(pytest.fail.Exception, match="met swap"):
        explore(Differs, RAW, "userfaultfd", 3, derandomize=False)
