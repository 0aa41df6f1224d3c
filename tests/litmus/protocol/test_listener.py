"""The listener's protocol: every interleaving of its races, and every deliberate fault is found."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from mvolatile.explore import ThreadedSystem, explore
from mvolatile.model.stock.listener import Broken, World, check, races, switches

FOUND_IN = {
    "shared_table": ("all closed", "no_foreign_touch"),
    "copied_table": ("all closed", "deadlock"),
    "ended_by_number": ("all closed", "no_foreign_touch"),
    "end_unseen": ("finalized", "deadlock"),
    "woken_before_told": ("told", "deadlock"),
    "asleep_unlooked": ("told", "deadlock"),
    "finalizer_waits": ("finalized", "deadlock"),
    "child_sleeps": ("forked in C", "deadlock"),
    "child_keeps_lock": ("forked in C", "deadlock"),
    "fork_unquiet": ("forked in C beside who is told", "no_phantom"),
    "fork_holds_lock": ("forked in C beside who is told", "deadlock"),
    "told_unlooked": ("forked in C beside who is told", "no_phantom"),
}


def system(race: str, broken: Broken) -> ThreadedSystem[World]:
    programs = {name: partial(program, broken) for name, program in races()[race].items()}
    daemons = ["watcher"] if race == "told" else []
    # A copy keeps the pipe open only while it lives, which is until somebody ends the listener: nobody does here.
    if broken.copied_table:
        del programs["closer"]
        daemons = ["watcher", "waiter"]
    return ThreadedSystem(World(), programs, check=check, daemons=daemons)


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


def test_without_a_closer_the_pipe_ends_all_the_same() -> None:
    """What `copied_table` is compared with."""
    programs = {
        name: partial(program, Broken())
        for name, program in races()["all closed"].items()
        if name != "closer"
    }
    assert (
        explore(ThreadedSystem(World(), programs, check=check, daemons=["watcher", "waiter"])).violation
        is None
    )
