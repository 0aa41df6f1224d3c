"""Runs a Hypothesis state machine against the kernel, in one tier, as often as asked."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from conformance.differences import Divergence, Tally
from conformance.processes import Nursery
from support.libc import has_swap

__all__ = ["TIERS", "Nursery", "explore"]

TIERS = ("userfaultfd", "faultcount")


def explore(
    machine: type[RuleBasedStateMachine],
    commands: str,
    tier: str,
    programs: int,
    *,
    derandomize: bool = True,
) -> Tally:
    """Run so many programs; the first `Divergence` is shrunk to its shortest program and raised.

    With ``derandomize=False`` the programs come from the seed ``MVOLATILE_SEED`` (default 1). Skips where a swap
    device is on: the kernel then keeps pages that the model's machine, which has none, does not.
    """
    if has_swap():
        pytest.skip("a swap device is on (/proc/swaps): the kernel keeps what the model does not")
    number = int(os.environ.get("MVOLATILE_SEED", "1"))
    shrink = [] if os.environ.get("MVOLATILE_SHRINK") == "no" else [Phase.shrink]
    tally = Tally()
    with Nursery(commands) as nursery:
        bound = type(machine.__name__, (machine,), {"nursery": nursery, "tier": tier, "tally": tally})
        try:
            run_state_machine_as_test(
                bound if derandomize else seed(number)(bound),
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
        except Divergence:
            if has_swap():
                pytest.skip("a swap device was turned on meanwhile (/proc/swaps): what differs says nothing")
            raise
    return tally
