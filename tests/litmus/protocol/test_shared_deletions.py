"""What a deletion in a shared cache reaches: every interleaving of its races, and every deliberate fault is found."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from mvolatile.explore import ThreadedSystem, explore
from mvolatile.model.stock.shared_deletions import Broken, World, check, initial, races, switches

FOUND_IN = {
    "late_kept": "expired and deleted",
    "lease_untagged": "made, and its tag deleted",
    "lease_kept": "made and deleted",
    "tag_noted_late": "made, and its tag deleted",
    "layout_left": "made and deleted",
    "joined_to_the_end": "made in vain",
    "refresh_unleased": "refreshed and deleted",
}


def system(race: str, broken: Broken) -> ThreadedSystem[World]:
    programs = {name: partial(program, broken) for name, program in races()[race].items()}
    return ThreadedSystem(initial(race), programs, check=check)


@pytest.mark.parametrize("race", races())
def test_every_interleaving_is_right(race: str) -> None:
    result = explore(system(race, Broken()))
    assert result.violation is None, result.violation
    print(race, result)


@pytest.mark.parametrize("switch", switches())
def test_every_fault_is_found(switch: str) -> None:
    result = explore(system(FOUND_IN[switch], replace(Broken(), **{switch: True})), shortest=True)
    assert result.violation is not None
    assert result.violation.violated == "newest"
    print(result.violation)
