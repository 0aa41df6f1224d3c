"""What a keeper does about what the kernel takes, and leaves again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mvolatile.shared import reclaim
from mvolatile.shared.segments import SEGMENT
from mvolatile.shared.storage import Storage


class Unused:
    """No client says anything."""

    def uses(self, slot: int, generation: int) -> int:
        return 0

    def forget_uses(self, slot: int, generation: int) -> None:
        """There is nothing to forget."""

    def counts(self) -> tuple[int, int, int]:
        return 0, 0, 0


@pytest.fixture
def storage(_leaves_nothing: None) -> Iterator[Storage]:
    one = Storage("test", None, Unused())
    yield one
    one.clear()
    one.index.close()


def test_a_loss_that_somebody_met_is_looked_for_everywhere(storage: Storage) -> None:
    """The kernel passes over what was read since it looked last, and takes what is newer."""
    for number in range(40):
        storage.put(b"%d" % number, bytes(SEGMENT), SEGMENT, 0, 0.0)
    reclaimer = storage.reclaimer
    for segment in storage.segments.all()[20:]:
        segment.memory.purge()
    assert reclaimer.look_for_losses() == 0, "the oldest are whole"
    assert reclaimer.budget.allowance is None
    assert storage.whole_slot(b"30") < 0
    assert reclaimer.look_for_losses() == 19
    assert len(storage.index) == 20
    assert reclaimer.purged == 20
    assert reclaimer.budget.allowance is not None


def test_what_the_kernel_leaves_again_is_used_again(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large cache looks seldom for losses, and what was stored between two looks is many regions."""
    monkeypatch.setattr(reclaim, "TIME_TO_LOOK", 16 << 20)
    for number in range(100):
        storage.put(b"%d" % number, bytes(SEGMENT), SEGMENT, 0, 0.0)
    for segment in storage.segments.all():
        segment.memory.purge()
    storage.reclaimer.look_for_losses()
    assert storage.reclaimer.budget.allowance is not None
    for number in range(100 * (1 << 20) // SEGMENT):
        storage.put(b"%d" % (number % 10), bytes(SEGMENT), SEGMENT, 0, 0.0)
    storage.reclaimer.look_for_losses()
    assert storage.reclaimer.budget.allowance is None
