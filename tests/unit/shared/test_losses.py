"""What a keeper does about what the kernel takes, and leaves again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mvolatile.shared import headroom, reclaim, segment
from mvolatile.shared.segments import SEGMENT
from mvolatile.shared.storage import Storage


class Unused:
    """No client says anything, or only that something was `lost`."""

    lost = 0

    def uses(self, slot: int, generation: int) -> int:
        return 0

    def forget_uses(self, slot: int, generation: int) -> None:
        """There is nothing to forget."""

    def counts(self) -> tuple[int, int, int]:
        return 0, 0, self.lost


@pytest.fixture
def unused() -> Unused:
    return Unused()


@pytest.fixture
def storage(_leaves_nothing: None, unused: Unused) -> Iterator[Storage]:
    one = Storage("test", None, unused)
    yield one
    one.clear()
    one.index.close()


def test_a_loss_that_somebody_met_is_looked_for_everywhere(storage: Storage) -> None:
    """The kernel passes over what was read since it looked last, and takes what is newer."""
    for number in range(40):
        storage.put(b"%d" % number, bytes(SEGMENT), SEGMENT, 0, 0.0)
    reclaimer = storage.reclaimer
    for one in storage.segments.all()[20:]:
        one.memory.purge()
    assert reclaimer.look_for_losses() == 0, "the oldest are whole"
    assert reclaimer.budget.allowance is None
    assert storage.whole_slot(b"30") < 0
    assert reclaimer.look_for_losses() == 19
    assert len(storage.index) == 20
    assert reclaimer.purged == 20
    assert reclaimer.budget.allowance is not None


def test_a_loss_that_a_client_counted_is_looked_for_everywhere(storage: Storage, unused: Unused) -> None:
    """Who finds it, and stores anew, asks the keeper nothing about it."""
    for number in range(40):
        storage.put(b"%d" % number, bytes(SEGMENT), SEGMENT, 0, 0.0)
    for one in storage.segments.all()[20:]:
        one.memory.purge()
    unused.lost = 1
    storage.put(b"30", bytes(SEGMENT), SEGMENT, 0, 0.0)
    assert storage.reclaimer.look_for_losses() == 19
    assert storage.reclaimer.look_for_losses() == 0
    storage.segments.all()[-2].memory.purge()
    assert storage.reclaimer.look_for_losses() == 0, "nobody has counted more"


def test_a_client_that_counts_what_was_not_lost_is_not_believed(storage: Storage, unused: Unused) -> None:
    for number in range(40):
        unused.lost += 1
        storage.put(b"%d" % number, bytes(SEGMENT), SEGMENT, 0, 0.0)
        assert storage.reclaimer.look_for_losses() == 0
    assert storage.reclaimer.budget.allowance is None
    assert len(storage.index) == 40


def test_a_limit_that_is_near_is_kept_away_from(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes is chosen before the kernel takes the oldest; and memory that a neighbour leaves is used at once."""
    limit = 60 << 20
    monkeypatch.setattr(headroom, "unclaimed", lambda: max(0, limit - storage.segments.nbytes))
    for number in range(400):
        storage.put(b"%d" % number, bytes(SEGMENT), SEGMENT, 0, 0.0)
    evicted, held = storage.reclaimer.evictable.evicted, storage.segments.nbytes
    assert storage.reclaimer.purged == 0
    assert limit * 3 // 4 < held < limit
    assert evicted > 100
    limit = 200 << 20
    for number in range(400, 600):
        storage.put(b"%d" % number, bytes(SEGMENT), SEGMENT, 0, 0.0)
    assert storage.reclaimer.evictable.evicted - evicted <= 16, "those up to the next look"
    assert storage.segments.nbytes > held + 180 * SEGMENT


def test_what_the_kernel_leaves_again_is_used_again(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large cache looks seldom for losses, and what was stored between two looks is many regions."""
    monkeypatch.setattr(reclaim, "TIME_TO_LOOK", 16 << 20)
    for number in range(100):
        storage.put(b"%d" % number, bytes(SEGMENT), SEGMENT, 0, 0.0)
    for one in storage.segments.all():
        one.memory.purge()
    storage.reclaimer.look_for_losses()
    assert storage.reclaimer.budget.allowance is not None
    for number in range(100 * (1 << 20) // SEGMENT):
        storage.put(b"%d" % (number % 10), bytes(SEGMENT), SEGMENT, 0, 0.0)
    storage.reclaimer.look_for_losses()
    assert storage.reclaimer.budget.allowance is None


def test_what_the_evictor_has_passed_goes_back_at_once(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two huge pages the first, while the second is in use; the memory serves again afterwards, whole."""
    monkeypatch.setattr(segment, "TIMES", 0)
    monkeypatch.setattr(segment, "LARGE", 0)
    size, each = 245_000, 2 * segment.HUGE // 245_200
    storage.resize(each * 3 * (size + 200))

    def put(number: int) -> None:
        storage.put(b"%d" % number, b"%07d" % number * (size // 7), size, 0, 0.0)

    put(0)
    first, number = storage.segments.open[0], 0
    assert first.nbytes == 2 * segment.HUGE
    while first.emptied < segment.HUGE:
        number += 1
        put(number)
    assert first.given == segment.HUGE <= first.emptied < first.used
    assert first.memory.resident() <= segment.HUGE
    assert first.is_resident(), "nothing is lost"
    there = 0
    for number in [*range(each * 3)] * 3:
        put(number)
    for number in range(each * 3):
        slot = storage.slot(b"%d" % number)
        if slot >= 0:
            there += 1
            assert storage.index.slots.read(slot) == (b"%d" % number, b"%07d" % number * (size // 7))
    assert there > each * 2
    assert storage.reclaimer.purged == 0
