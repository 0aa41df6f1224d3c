"""The small models, each of one protocol beside the memory's own: every interleaving of their races is right, and every
deliberate fault is found.
"""

from __future__ import annotations

from typing import Any

import pytest

from mvolatile.explore import ThreadedSystem, explore
from mvolatile.model.stock import (
    behind,
    behind_shared,
    listener,
    put,
    shared,
    shared_deletions,
    shared_makers,
)
from mvolatile.model.stock.acts import Model

MODELS: dict[str, Model[Any, Any]] = {
    "behind": behind.MODEL,
    "behind a shared cache": behind_shared.MODEL,
    "listener": listener.MODEL,
    "put": put.MODEL,
    "shared": shared.MODEL,
    "makers": shared_makers.MODEL,
    "deletions": shared_deletions.MODEL,
}
SLOW = "two readers"

CIRCLE = "a circle through two processes"
FORKED = "forked in C beside who is told"

FOUND_IN = {
    "behind": {
        "deletes_at_once": ("set and deleted", "newest"),
        "hand_unseen": ("set and deleted", "newest"),
        "hand_late": ("set and deleted", "newest"),
        "failure_forgotten": ("a write fails", "newest"),
        "load_unmarked": ("set and deleted", "newest"),
        "left_out": ("no room", "newest"),
        "waits_midway": ("waits for room", "newest"),
        "child_believes": ("a child", "newest"),
        "cleared_beside": ("cleared", "newest"),
        "clear_unseen": ("cleared", "newest"),
    },
    "behind a shared cache": {
        "turn_unasked": ("set and deleted", "newest"),
        "hand_unseen": ("set and deleted", "newest"),
        "duty_dies": ("a client is killed", "newest"),
        "unfiled": ("the keeper is killed", "newest"),
        "hand_unfiled": ("the keeper is killed", "newest"),
        "done_early": ("set and deleted", "newest"),
        "done_by_anybody": ("set and deleted", "newest"),
        "behind_believed": ("set twice", "newest"),
        "reading_kept": ("read and deleted", "newest"),
        "cleared_beside": ("cleared", "newest"),
        "heir_untold": ("a maker fails", "newest"),
    },
    "listener": {
        "shared_table": ("all closed", "no_foreign_touch"),
        "copied_table": ("all closed", "deadlock"),
        "ended_by_number": ("all closed", "no_foreign_touch"),
        "end_unseen": ("finalized", "deadlock"),
        "woken_before_told": ("told", "deadlock"),
        "asleep_unlooked": ("told", "deadlock"),
        "finalizer_waits": ("finalized", "deadlock"),
        "child_sleeps": ("forked in C", "deadlock"),
        "child_keeps_lock": ("forked in C", "deadlock"),
        "fork_unquiet": (FORKED, "no_phantom"),
        "fork_holds_lock": (FORKED, "deadlock"),
        "told_unlooked": (FORKED, "no_phantom"),
    },
    "put": {
        "lock_unasked": ("sealed", "held"),
        "seen_before": ("sealed", "held"),
        "left_armed": ("sealed", "held"),
        "calls_unasked": ("made", "newest"),
        "stale_unasked": ("made", "newest"),
        "forks_unasked": ("a child", "own"),
        "full_asked_before": ("full", "held"),
        "full_as_others": ("full", "held"),
    },
    "shared": {
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
    },
    "deletions": {
        "late_kept": ("expired and deleted", "newest"),
        "lease_untagged": ("made, and its tag deleted", "newest"),
        "lease_kept": ("made and deleted", "newest"),
        "tag_noted_late": ("made, and its tag deleted", "newest"),
        "layout_left": ("made and deleted", "newest"),
        "joined_to_the_end": ("made in vain", "newest"),
        "refresh_unleased": ("refreshed and deleted", "newest"),
    },
    "makers": {
        "waits_within": (CIRCLE, "deadlock"),
        "holding_untold": (CIRCLE, "deadlock"),
        "owner_stores": (CIRCLE, "lease"),
    },
}


def system(name: str, race: str, *, unended: bool = False, **switches: bool) -> ThreadedSystem[Any]:
    """`unended`: of the listener, that nobody ends."""
    model = MODELS[name]
    programs, daemons = model.programs(race, **switches), model.daemons.get(race, ())
    if unended:
        del programs["closer"]
        daemons = ("watcher", "waiter")
    return ThreadedSystem(model.world, programs, check=model.check, daemons=daemons)


@pytest.mark.parametrize(
    ("name", "race"),
    [
        pytest.param(name, race, marks=pytest.mark.slow if race == SLOW else (), id=f"{name}: {race}")
        for name, model in MODELS.items()
        for race in model.races
    ],
)
def test_every_interleaving_is_right(name: str, race: str) -> None:
    result = explore(system(name, race))
    assert result.violation is None, result.violation
    print(race, result)


@pytest.mark.parametrize(
    ("name", "switch"), [(name, switch) for name, model in MODELS.items() for switch in model.switches()]
)
def test_every_fault_is_found(name: str, switch: str) -> None:
    race, violated = FOUND_IN[name][switch]
    # A copied table keeps the pipe open only while its watcher lives, which is until somebody ends it.
    faulty = system(name, race, unended=switch == "copied_table", **{switch: True})
    result = explore(faulty, shortest=True)
    assert result.violation is not None
    assert result.violation.violated == violated
    print(result.violation)


def test_without_a_closer_the_pipe_ends_all_the_same() -> None:
    """What `copied_table` is compared with."""
    assert explore(system("listener", "all closed", unended=True)).violation is None
