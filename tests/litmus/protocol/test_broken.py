"""Every deliberate fault of the protocol is found by the search, and its schedule can be replayed."""

from __future__ import annotations

import pytest

from litmus.protocol.caught import CAUGHT, Caught
from litmus.protocol.races import RACES
from mvolatile.explore import explore, replay
from mvolatile.model.stock.machine import switches

BY_NAME = {race.name: race for race in RACES}


@pytest.mark.parametrize("caught", CAUGHT, ids=lambda caught: caught.switch)
def test_the_search_finds_it(caught: Caught) -> None:
    result = explore(BY_NAME[caught.race].broken(caught.switch).system())
    assert result.violation is not None
    print(result.violation)


@pytest.mark.parametrize("caught", CAUGHT, ids=lambda caught: caught.switch)
def test_its_schedule_replays(caught: Caught) -> None:
    run = replay(BY_NAME[caught.race].broken(caught.switch).system(), caught.schedule)
    assert run.finding is not None
    assert run.finding.startswith(f"{caught.violates}: ")
    for step in run.trace:
        print(f"{step.actor:16} {step.label}")
    print(run.finding)


def test_no_fault_goes_untested() -> None:
    assert sorted(caught.switch for caught in CAUGHT) == sorted(switches())
