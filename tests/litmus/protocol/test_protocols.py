"""The library's protocols over a stock kernel: every interleaving, and no property violated.

Exhaustive for two threads and a reclaimer of each page, over two pages; three threads where the race needs them. The
bounds are the programs (a few lines each), two pages, and how often a page may be purged (once to three times).
"""

from __future__ import annotations

import pytest

from litmus.protocol.expected import OUTCOMES
from litmus.protocol.lab import Litmus, outcomes
from litmus.protocol.races import RACES
from mvolatile.explore import check_merging, check_reduction, explore

ORDINARY = [race for race in RACES if not race.stress]
STRESS = [race for race in RACES if race.stress]


@pytest.mark.parametrize("race", ORDINARY, ids=lambda race: race.name)
def test_no_interleaving_violates_a_property(race: Litmus) -> None:
    system = race.system()
    result = explore(system)
    assert result.holds, str(result.violation)
    assert result.bound == "none"
    assert outcomes(system, result) == OUTCOMES[race.name]


@pytest.mark.stress
@pytest.mark.parametrize("race", STRESS, ids=lambda race: race.name)
def test_no_interleaving_of_three_threads_violates_a_property(race: Litmus) -> None:
    result = explore(race.system())
    assert result.holds, str(result.violation)


@pytest.mark.parametrize(
    "name", ["nested pins", "two peeks", "write pin vs peek, faultcount", "close vs peek", "survey vs peek"]
)
def test_steps_name_all_that_they_touch(name: str) -> None:
    race = next(race for race in RACES if race.name == name)
    reduced, plain = check_reduction(race.system())
    assert reduced.states < plain.states


def test_threads_keep_nothing_the_explorer_cannot_see() -> None:
    race = next(race for race in RACES if race.name == "pin vs reclaim")
    merged, unmerged = check_merging(race.system())
    assert merged.states <= unmerged.states
