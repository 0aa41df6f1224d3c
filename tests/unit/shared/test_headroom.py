"""How near the limit is, as a keeper sees it: before the kernel takes anything."""

from __future__ import annotations

import pytest

from mvolatile.shared import headroom as module
from mvolatile.shared.headroom import Headroom

MIB = 1 << 20
HELD, MARGIN = 100 * MIB, 6 * MIB


class Limit:
    free: int | None = 300 * MIB
    asked = 0

    def unclaimed(self) -> int | None:
        self.asked += 1
        return self.free


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    one = Limit()
    monkeypatch.setattr(module, "unclaimed", one.unclaimed)
    return one


def left(headroom: Headroom, stored: int = 4 * MIB, is_loss: bool = False) -> int | None:
    return headroom.left(stored, is_loss, HELD, MARGIN)


def test_far_from_a_limit_it_is_seldom_asked_for(limit: Limit) -> None:
    headroom = Headroom()
    assert left(headroom) is None
    for _ in range(149 * MIB // (4 * MIB)):
        assert left(headroom) is None
    assert limit.asked == 1
    assert left(headroom) is None
    assert limit.asked == 2, "half of what was free is stored"


def test_a_margin_stays_before_anything_is_lost(limit: Limit) -> None:
    headroom = Headroom()
    limit.free = 2 * MARGIN
    assert left(headroom) == MARGIN
    limit.free = 1 * MIB
    assert left(headroom) == 1 * MIB - MARGIN
    limit.free = 200 * MIB  # a neighbour has left
    assert left(headroom) == 200 * MIB - MARGIN
    assert left(headroom, stored=0) is not None, "it goes on asking"


def test_a_loss_beside_free_memory_is_not_that_limits_doing(limit: Limit) -> None:
    """There is a limit that cannot be seen from here, or the kernel thinks more of the page cache: by what is free more
    would be held after each loss, and lost again.
    """
    headroom = Headroom()
    limit.free = 1 * MIB
    assert left(headroom, is_loss=True) == 1 * MIB - MARGIN
    limit.free = 2 * MARGIN + 1
    assert left(headroom, is_loss=True) is None
    assert left(headroom) is None


def test_where_nothing_can_be_read(limit: Limit) -> None:
    headroom = Headroom()
    limit.free = None
    assert left(headroom) is None
    assert left(headroom) is None
    assert limit.asked == 1
    assert left(headroom, is_loss=True) is None
