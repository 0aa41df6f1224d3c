"""The budget alone: how much has to go, with nothing that could."""

from __future__ import annotations

import math

import pytest

from mvolatile.cache import budget as module
from mvolatile.cache.budget import LEAST, Budget

MIB = 1 << 20


class Usage:
    nbytes = 0
    overhead = 0


@pytest.fixture
def usage(monkeypatch: pytest.MonkeyPatch) -> Usage:
    monkeypatch.setattr(module, "room", lambda: None)
    return Usage()


def test_without_bounds_nothing_has_to_go(usage: Usage) -> None:
    budget = Budget(usage, None, None)
    usage.nbytes = 1 << 40
    assert budget.limit == math.inf
    assert budget.excess(1 << 40) < 0
    assert not budget.is_full(1 << 40)


def test_the_users_bounds(usage: Usage) -> None:
    budget = Budget(usage, 1000, 3)
    usage.nbytes = 900
    assert budget.excess(100) == 0
    assert budget.excess(101) == 1
    assert [budget.is_full(entries) for entries in (2, 3, 4)] == [False, True, True]


def test_a_loss_sets_an_allowance_for_values_and_overhead_together(usage: Usage) -> None:
    budget = Budget(usage, None, None)
    usage.nbytes, usage.overhead = 80 * MIB, 20 * MIB
    budget.grow(MIB)
    budget.taken()
    assert budget.allowance == pytest.approx(98.5 * MIB)
    assert budget.excess(0) == pytest.approx(1.5 * MIB)
    usage.overhead = 200 * MIB
    assert budget.limit < 0, "keys take all"


def test_the_allowance_grows_until_it_is_lifted(usage: Usage) -> None:
    budget = Budget(usage, None, None)
    usage.nbytes = 100 * MIB
    budget.taken()
    steps, before = 0, budget.allowance
    while budget.allowance is not None:
        assert before is not None
        assert budget.allowance >= before
        before = budget.allowance
        budget.grow(MIB)
        steps += 1
    assert 5 * module.QUIET <= steps <= 6 * module.QUIET
    budget.taken()
    budget.lift()
    assert budget.allowance is None


def test_it_never_falls_below_the_least(usage: Usage) -> None:
    budget = Budget(usage, None, None)
    budget.taken()
    assert budget.allowance == LEAST


def test_little_room_for_ordinary_memory_counts_as_a_loss(
    usage: Usage, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget, has = Budget(usage, None, None), [1 << 30]
    monkeypatch.setattr(module, "room", lambda: has[0])
    usage.nbytes, usage.overhead = 50 * MIB, 10 * MIB
    budget.filled(MIB, 2 * MIB)
    assert budget.allowance is None
    has[0] = MIB
    budget.filled(MIB, 2 * MIB)
    assert budget.allowance == 0.95 * 60 * MIB
    budget.grow(MIB)
    assert budget.allowance == 0.95 * 60 * MIB, "nothing grows while there is so little"
