"""Runs a Hypothesis state machine against the kernel, in one tier, as often as asked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from conformance.differences import Divergence, Tally
from conformance.processes import Nursery
from support.libc import has_swap

__all__ = ["TIERS", "Nursery", "ProgramMachine", "explore"]

TIERS = ("userfaultfd", "faultcount")
SETTLE = 0.1
"""Seconds after which what reclaim took has been counted."""
PATIENCE = 1800.0
"""Seconds that a long form waits for a swap device to go."""


def stolen() -> int:
    """Pages that reclaim has taken anywhere on this machine for want of memory; MADV_PAGEOUT does not count."""
    counts = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return sum(int(counts.get(name, 0)) for name in ("pgsteal_kswapd", "pgsteal_direct"))


class ProgramMachine(RuleBasedStateMachine):
    """A state machine whose rules are steps of one program on both sides.

    A program that differs after reclaim came by itself, or a swap device was turned on, says nothing: the model takes
    the pages that it is told, and has no swap. Such a program is counted and thrown away; its rules go on being drawn,
    because Hypothesis must see the same draws whatever the kernel does.
    """

    nursery: Nursery
    tier: str
    tally: Tally
    program: Any

    def __init__(self) -> None:
        super().__init__()
        self.broken = False
        self.before = stolen()

    def do(self, *step: Any) -> None:
        self._judged(self.program.do, *step)

    def teardown(self) -> None:
        try:
            self._judged(self.program.finish)
            if not self.broken:
                self.tally.agreed(self.tier, str(self.program))
        finally:
            self.program.end()

    def _judged(self, step: Callable[..., None], *args: Any) -> None:
        if self.broken:
            return
        try:
            step(*args)
        except Divergence:
            self.broken = True
            time.sleep(SETTLE)
            if has_swap() or stolen() != self.before:
                self.tally.disturbed[self.tier] += 1
                return
            raise
        except BaseException:
            self.broken = True
            raise


def explore(
    machine: type[ProgramMachine],
    commands: str,
    tier: str,
    programs: int,
    *,
    derandomize: bool = True,
) -> Tally:
    """Run so many programs; the first `Divergence` is shrunk to its shortest program and raised.

    The ordinary form runs the same programs each time, and skips where a swap device is on. With
    ``derandomize=False``, the long form, they come from the seed ``MVOLATILE_SEED`` (default 1), others in each tier;
    it waits for the device to go, and fails if it stays: what was not run was not shown.
    """
    if derandomize and has_swap():
        pytest.skip("a swap device is on: the model has none")
    deadline = time.monotonic() + (0 if derandomize else PATIENCE)
    tally = Tally()

    class Bound(machine):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            while has_swap() and time.monotonic() < deadline:
                time.sleep(0.2)
            super().__init__()
            if has_swap():
                self.broken = True
                tally.disturbed[tier] += 1

    Bound.__name__ = machine.__name__
    number = os.environ.get("MVOLATILE_SEED", "1")
    shrink = [] if os.environ.get("MVOLATILE_SHRINK") == "no" else [Phase.shrink]
    with Nursery(commands) as nursery:
        Bound.nursery, Bound.tier, Bound.tally = nursery, tier, tally
        run_state_machine_as_test(
            Bound if derandomize else seed(f"{number} {tier}")(Bound),
            settings=settings(
                max_examples=programs,
                stateful_step_count=25,
                derandomize=derandomize,
                database=None,
                deadline=None,
                report_multiple_bugs=False,
                phases=[Phase.generate, *shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
    if tally.disturbed[tier] > programs // 10:
        said = f"{tally.disturbed[tier]} of {programs} programs met swap or reclaim that nobody asked for"
        (pytest.skip if derandomize else pytest.fail)(said)
    return tally
