"""status(): what this process holds, by name."""

from __future__ import annotations

import gc
import threading

import mvolatile as mv
from mvolatile import MemoryStatus, VolatileMemory, _core, status
from support.memories import PAGE, filled, lose
from support.tiers import loses


def _of(name: str) -> MemoryStatus | None:
    return next((one for one in status().memories if one.name == name), None)


def test_memories_of_one_name_are_summed(tier: str) -> None:
    gc.collect()
    volatile = tier != "unsupported"
    with filled(3 * PAGE, name="s1") as one, filled(5 * PAGE, name="s1"), VolatileMemory(7 * PAGE, "s1"):
        assert _of("s1") == MemoryStatus("s1", 3, 15 * PAGE, 8 * PAGE if volatile else 0, 8 * PAGE, 0, 0)
        with one.pin():
            assert _of("s1") == MemoryStatus(
                "s1", 3, 15 * PAGE, 5 * PAGE if volatile else 0, 8 * PAGE, 0, 3 * PAGE
            )
    assert _of("s1") is None


@loses
def test_losses_show() -> None:
    with filled(3 * PAGE, name="s2") as memory:
        lose(memory, [(PAGE, 2 * PAGE)])
        assert _of("s2") == MemoryStatus("s2", 1, 3 * PAGE, 3 * PAGE, PAGE, 2 * PAGE, 0)
        memory.write(bytes([1]) * 3 * PAGE)
        assert _of("s2") == MemoryStatus("s2", 1, 3 * PAGE, 3 * PAGE, 3 * PAGE, 0, 0)


def test_the_sums_and_the_tier(tier: str) -> None:
    gc.collect()
    before = status()
    with filled(3 * PAGE, name="s3"), filled(4 * PAGE, name="s4"), filled(PAGE):
        now = status()
        assert now.tier == tier == _core.tier()
        assert now.nbytes - before.nbytes == 8 * PAGE
        assert (now.resident or 0) - (before.resident or 0) == 8 * PAGE
        assert now.volatile - before.volatile == (0 if tier == "unsupported" else 8 * PAGE)
        assert now.lost == before.lost
        names = [one.name for one in now.memories]
        assert names == sorted(names)
        assert "unnamed" in names


def test_features_agree(tier: str) -> None:
    assert mv.features().tier == tier
    assert mv.features().can_purge == (tier != "unsupported")


def test_beside_threads_that_open_and_close() -> None:
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            with VolatileMemory(3 * PAGE, "churn") as memory:
                memory.write(b"x")

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            row = _of("churn")
            assert row is None or (
                row.nbytes == row.memories * 3 * PAGE and (row.resident or 0) <= row.nbytes
            )
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert _of("churn") is None
