"""mvolatile.testing: losing memory on purpose."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from mvolatile import Purged, UnsupportedError, VolatileMemory, VolatilityWarning, _core, status, testing
from support.areas import lock, unlock
from support.libc import missing
from support.memories import HUGE, PAGE, filled, page_out, pattern
from support.tiers import loses


@loses
def test_purge_takes_what_it_is_told() -> None:
    with filled("pooled") as memory:
        assert testing.purge(memory, [(PAGE, PAGE), (5 * PAGE + 10, 1)]) == 2 * PAGE
        assert memory.purged() == ((PAGE, PAGE), (5 * PAGE, PAGE))
        assert testing.purge(memory, []) == 0
        assert testing.purge(memory) == 7 * PAGE
        assert memory.purged() == ((0, memory.nbytes),)


def test_purge_refuses() -> None:
    with filled("pooled") as memory:
        for extents in ([(-1, 1)], [(0, memory.nbytes + 1)], [(memory.nbytes, PAGE)]):
            with pytest.raises(ValueError, match="not within"):
                testing.purge(memory, extents)
        with memory.pin(), pytest.raises(BufferError):
            testing.purge(memory)
        with memory.pin(), pytest.raises(BufferError):
            testing.purge(memory, [(0, PAGE)])
    with pytest.raises(ValueError, match="closed"):
        testing.purge(memory)


def _losses(seed: int, *, rate: float = 1.0, whole: float = 0.5) -> list[object]:
    found: list[object] = []
    with testing.purging(seed, rate=rate, whole=whole):
        for _ in range(12):
            with VolatileMemory(7 * PAGE) as memory:
                memory.write(pattern(memory.nbytes))
                found.append(memory.purged())
    return found


@loses
def test_the_same_seed_loses_the_same() -> None:
    once = _losses(3)
    assert _losses(3) == once
    assert _losses(4) != once


@loses
def test_every_memory_meets_loss() -> None:
    for seed in range(3):
        assert all(_losses(seed))


@loses
def test_rate_and_whole() -> None:
    assert not any(_losses(1, rate=0))
    some = _losses(1, rate=0.5)
    assert 0 < sum(map(bool, some)) < len(some)
    assert _losses(1, whole=1.0) == [((0, 7 * PAGE),)] * 12
    parts = _losses(1, whole=0.0)
    assert all(isinstance(one, tuple) and len(one) == 1 for one in parts), "one run of pages each"
    assert len(set(parts)) > 4


@loses
@pytest.mark.parametrize("nbytes", [1, PAGE + 1, 9 * PAGE - 100, HUGE + 3 * PAGE, 2 * HUGE])
def test_all_sizes(nbytes: int) -> None:
    with testing.purging(5, whole=0.3):
        for seed in range(6):
            with filled(nbytes, seed=seed) as memory:
                extents = memory.purged()
                assert extents
                with memory.pin(on_purge="zero") as view:
                    wanted = bytearray(pattern(nbytes, seed))
                    for offset, length in extents:
                        wanted[offset : offset + length] = bytes(length)
                    assert bytes(view) == wanted


@loses
def test_at_every_end_of_a_pin() -> None:
    with VolatileMemory(3 * PAGE) as memory, testing.purging(1, whole=1.0):
        for round_ in range(5):
            with memory.pin(write=True, on_purge="zero") as view:
                view[:] = pattern(3 * PAGE, round_)
            with pytest.raises(Purged):
                memory.read(0)
        memory.write(pattern(3 * PAGE))
        with pytest.raises(Purged), memory.pin():
            pass


@loses
def test_a_pin_inside_a_pin_loses_nothing() -> None:
    """The memory is not volatile yet when the inner one ends."""
    with VolatileMemory(3 * PAGE) as memory, testing.purging(1):
        with memory.pin(write=True) as view:
            view[:] = pattern(3 * PAGE)
            with memory.pin():
                pass
            assert bytes(view) == pattern(3 * PAGE)


@loses
def test_nothing_is_lost_after_the_block() -> None:
    with VolatileMemory(3 * PAGE) as memory:
        with testing.purging(1):
            memory.write(pattern(3 * PAGE))
        assert memory.purged()
        memory.write(pattern(3 * PAGE, 1))
        assert memory.read(0) == pattern(3 * PAGE, 1)
        assert memory.purged() == ()


@pytest.mark.parametrize("name", ["rate", "whole"])
def test_shares_are_numbers_from_0_to_1(name: str) -> None:
    for wrong, error in (
        ("x", TypeError),
        (None, TypeError),
        (1.5, ValueError),
        (-0.1, ValueError),
        (float("nan"), ValueError),
    ):
        with pytest.raises(error, match=f"{name} must be a number from 0 to 1, not"):
            with testing.purging(1, **{name: cast(Any, wrong)}):
                pytest.fail("the block must not run")


@pytest.mark.tiers("unsupported")
def test_where_nothing_can_be_lost_it_says_so() -> None:
    """A user's test would pass there without having met a loss."""
    with pytest.raises(
        UnsupportedError, match="can lose nothing here: MVOLATILE_TIER=unsupported asks for it"
    ):
        with testing.purging(1):
            pytest.fail("the block must not run")


@loses
def test_it_does_not_nest() -> None:
    with testing.purging(1):
        with pytest.raises(RuntimeError, match="active already"), testing.purging(2):
            pytest.fail("the block must not run")
        with VolatileMemory(PAGE) as memory:
            memory.write(b"x")
    with testing.purging(1), pytest.raises(RuntimeError), testing.purging(2):
        pass


@loses
def test_an_exception_ends_it() -> None:
    with pytest.raises(KeyError), testing.purging(1):
        raise KeyError
    with filled("pooled") as memory:
        assert memory.purged() == ()
    with testing.purging(1):
        pass


@loses
def test_the_choices_come_from_the_seed_alone() -> None:
    """The block's value is its source of randomness, for the test's own choices too."""
    with testing.purging(9) as source:
        first = source.random()
    with testing.purging(9) as source:
        assert source.random() == first


@loses
def test_a_program_that_rebuilds_survives_it() -> None:
    """What the mode is for: every path of a user's program meets loss, from several threads."""
    wrong: list[bytes] = []

    def use(seed: int) -> None:
        data = pattern(5 * PAGE, seed)

        def rebuild(view: memoryview, extents: object) -> None:
            view[:] = data

        with VolatileMemory(5 * PAGE, fill=rebuild) as memory:
            memory.write(data)
            for _ in range(60):
                for found in (memory.read(0), bytes(memory)):
                    if found != data:
                        wrong.append(found[::PAGE])
            if not memory.generation:
                wrong.append(b"met no loss")

    with testing.purging(2):
        threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@loses
def test_threads_on_one_memory() -> None:
    data = pattern(5 * PAGE)

    def rebuild(view: memoryview, extents: object) -> None:
        view[:] = data

    wrong: list[bytes] = []
    with VolatileMemory(5 * PAGE) as memory, testing.purging(3):
        memory.write(data)

        def use() -> None:
            for _ in range(60):
                with memory.pin(on_purge=rebuild) as view:
                    if bytes(view) != data:
                        wrong.append(bytes(view[::PAGE]))

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert _core.pins(memory) == 0
    assert not wrong


# ---- memory that the kernel refuses to make volatile


@pytest.fixture
def locked(_one_cpu: None) -> Iterator[VolatileMemory]:
    """Written while its second half is locked; lost by nobody's doing yet."""
    with VolatileMemory(16 * PAGE, "locked") as memory:
        half = memory.address + 8 * PAGE
        lock(half, 8 * PAGE)
        with pytest.warns(VolatilityWarning, match="mlock") as caught:
            memory.write(pattern(16 * PAGE))
        assert [one.filename for one in caught] == [__file__], "the caller's line"
        yield memory


@loses
def test_it_is_not_called_volatile(locked: VolatileMemory) -> None:
    assert "not volatile (refused)" in repr(locked)
    assert [one.volatile for one in status().memories if one.name == "locked"] == [0]
    with pytest.raises(OSError, match="MADV_FREE"):
        locked.purge()
    unlock(locked.address + 8 * PAGE, 8 * PAGE)
    assert locked.purge() == 16 * PAGE
    assert repr(locked).endswith("bytes, volatile>")
    assert locked.purged() == ((0, 16 * PAGE),)


@loses
def test_what_went_of_the_half_that_was_not_refused_is_lost(locked: VolatileMemory) -> None:
    """The mark is tried again, over holes that are purged pages and not pages never written."""
    page_out(locked.address, 8 * PAGE)
    unlock(locked.address + 8 * PAGE, 8 * PAGE)
    gone = [page for page in range(8) if page not in missing(locked.address, 8 * PAGE)]
    locked.purge()
    assert not gone, "the kernel reclaimed nothing"
    with pytest.raises(Purged) as lost:
        locked.read(0, PAGE)
    assert lost.value.extents == ((0, 16 * PAGE),)
