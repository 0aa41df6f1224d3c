"""The shared cache's protocol: every interleaving of its races, and every deliberate fault is found."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from mvolatile.explore import ThreadedSystem, explore
from mvolatile.model.stock.shared import Broken, World, check, races, switches

FOUND_IN = {
    "reused_first": ("overwritten", "whole"),
    "words_unannounced": ("overwritten", "whole"),
    "version_unchecked": ("overwritten", "whole"),
    "answered_early": ("overwritten", "newest"),
    "first_page_alone": ("purged to zeros", "whole"),
    "keeper_touches": ("purged", "whole"),
    "moved_late": ("the table moves", "newest"),
    "moved_unseen": ("the table moves", "whole"),
    "stamp_unchecked": ("death", "whole"),
    "unlocked_first": ("death", "newest"),
    "place_kept": ("two connections", "newest"),
    "dead_table_believed": ("another thread attaches", "newest"),
    "versions_anew": ("changed at a version", "newest"),
}


def system(race: str, broken: Broken) -> ThreadedSystem[World]:
    programs = {name: partial(program, broken) for name, program in races()[race].items()}
    return ThreadedSystem(World(), programs, check=check)


@pytest.mark.parametrize("race", races())
def test_every_interleaving_is_right(race: str) -> None:
    result = explore(system(race, Broken()))
    assert result.violation is None, result.violation
    print(race, result)


@pytest.mark.parametrize("switch", switches())
def test_every_fault_is_found(switch: str) -> None:
    race, violated = FOUND_IN[switch]
    result = explore(system(race, replace(Broken(), **{switch: True})), shortest=True)
    assert result.violation is not None
    assert result.violation.violated == violated
    print(result.violation)
