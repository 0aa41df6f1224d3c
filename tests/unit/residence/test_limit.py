"""The limit on what volatile memory adds to RSS: kept before the first byte, whoever takes it."""

from __future__ import annotations

import pytest

from mvolatile import _core
from support.polling import LIMIT, OWN, poll_while_passing
from support.processes import run_python

TIERS = ["userfaultfd", "faultcount"]
pytestmark = pytest.mark.skipif(_core.tier() != "userfaultfd", reason="this kernel has one tier at most")


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("size", [1_000, 100_000, 3_000_000])
def test_a_cache_never_takes_more(tier: str, size: int) -> None:
    """VmHWM is the peak, which the kernel keeps for every moment."""

    def child(size: int) -> None:
        import mvolatile as mv
        from mvolatile.kernel import files
        from mvolatile.kernel.smaps import usage_by_name

        limit, slack = 32 << 20, 6 << 20  # of the interpreter, the value itself, index and counts
        mv.set_resident_limit(limit)
        cache: mv.VolatileCache[int, bytes] = mv.VolatileCache()
        cache[0] = bytes(size)
        keys = 120_000_000 // size
        value = b"v" * size
        own = files.read_table("/proc/self/status")["VmRSS"] - mv.memory_usage().volatile
        for key in range(keys):
            cache[key] = value
        peak = files.read_table("/proc/self/status")["VmHWM"]
        there = sum(usage.resident for usage in usage_by_name())
        overhead = cache.cache_info().currsize * 400
        assert peak - own <= limit + slack + overhead, (peak - own, limit, overhead)
        assert limit * 0.7 < there <= limit, there
        assert cache[keys - 1] == value
        assert cache.cache_info().purged == 0  # by its policy alone

    run_python(child, size, env={"MVOLATILE_TIER": tier}).check()


@pytest.mark.parametrize("tier", TIERS)
def test_threads_and_arrays_and_memories_share_one(tier: str) -> None:
    def child() -> None:
        import threading

        import numpy as np

        import mvolatile as mv
        from mvolatile.kernel import files
        from mvolatile.kernel.smaps import usage_by_name

        limit, slack = 48 << 20, 16 << 20  # of 110 MB; each thread has a value or two in its hands
        blocks = {what: np.full(1 << 20, what, np.uint8) for what in range(1, 5)}
        mv.set_resident_limit(str(limit))
        mv.VolatileCache()[0] = b"what is loaded at first use"
        own = files.read_table("/proc/self/status")["VmRSS"]
        wrong: list[object] = []

        def fill(what: int) -> None:
            # No copies that the interpreter makes: without a GIL each thread keeps tens of MiB of what it freed.
            cache: mv.VolatileCache[int, np.ndarray] = mv.VolatileCache(name=f"c{what}")
            memories = []
            for number in range(15):
                cache[number] = blocks[what][:900_000]
                memory = mv.VolatileMemory(1 << 20)
                memory.write(blocks[what])
                memories.append(memory)
                with memory.pin(write=True, on_purge="zero") as view:
                    view[:4] = b"rest"
                got = cache.get(number)
                if got is not None and not got.min() == got.max() == what:
                    wrong.append(got[:10])
            for memory in memories:
                try:
                    if memory.read(8, 8) != bytes([what]) * 8:
                        wrong.append(what)
                except mv.Purged:
                    pass

        threads = [threading.Thread(target=fill, args=(what,)) for what in blocks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong, wrong
        peak = files.read_table("/proc/self/status")["VmHWM"]
        assert peak - own <= limit + slack, (peak - own, limit)
        assert sum(usage.resident for usage in usage_by_name()) <= limit

    run_python(child, env={"MVOLATILE_TIER": tier}).check()


@pytest.mark.parametrize("tier", TIERS)
def test_it_is_kept_when_it_is_set(tier: str) -> None:
    """And what goes is the oldest, a part of a very large memory as well."""

    def child() -> None:
        import mvolatile as mv
        from mvolatile.kernel.smaps import usage_by_name

        old = mv.VolatileMemory(80 << 20)
        old.write(b"o" * (80 << 20))
        young = mv.VolatileMemory(4 << 20)
        young.write(b"y" * (4 << 20))
        mv.set_resident_limit("24MiB")
        there = sum(usage.resident for usage in usage_by_name())
        assert 10 << 20 < there <= 24 << 20, there
        assert young.read(0, 4) == b"yyyy"
        assert old.read(old.nbytes - 4, 4) == b"oooo"
        try:
            old.read(0, 4)
        except mv.Purged:
            pass
        else:
            raise AssertionError("the oldest is still there")
        mv.set_resident_limit(None)
        with old.pin(write=True, on_purge="zero") as view:
            view[:] = b"n" * len(view)
        assert sum(usage.resident for usage in usage_by_name()) > 80 << 20

    run_python(child, env={"MVOLATILE_TIER": tier}).check()


@pytest.mark.parametrize("tier", TIERS)
def test_a_child_gives_back_what_it_shares_with_its_parent(tier: str) -> None:
    """Reclaim leaves pages that two processes have; they count in the RSS of both."""

    def child() -> None:
        import os

        import mvolatile as mv
        from mvolatile.kernel.smaps import usage_by_name

        cache: mv.VolatileCache[int, bytes] = mv.VolatileCache()
        for key in range(60):
            cache[key] = bytes([key]) * 1_000_000
        begins, ends = os.pipe(), os.pipe()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                mv.set_resident_limit("20MB")
                there = sum(usage.resident for usage in usage_by_name())
                whole = [key for key in range(60) if cache.get(key) == bytes([key]) * 1_000_000]
                wrong = [key for key in range(60) if cache.get(key) not in (None, bytes([key]) * 1_000_000)]
                assert there <= 20_000_000, there
                assert len(whole) > 10, whole
                assert not wrong, wrong
                os.write(begins[1], b"1")
                os.read(ends[0], 1)
                code = 0
            finally:
                os._exit(code)
        os.close(begins[1])
        assert os.read(begins[0], 1) == b"1"
        assert [key for key in range(60) if cache[key] != bytes([key]) * 1_000_000] == []
        mv.set_resident_limit("30MB")  # beside a child that has them
        assert sum(usage.resident for usage in usage_by_name()) <= 30_000_000
        assert [key for key in range(60) if cache.get(key) not in (None, bytes([key]) * 1_000_000)] == []
        os.write(ends[1], b"1")
        assert os.waitpid(pid, 0)[1] == 0

    run_python(child, env={"MVOLATILE_TIER": tier}).check()


def test_what_is_held_is_told_once_and_goes_when_it_can() -> None:
    def child() -> None:
        import warnings

        import mvolatile as mv
        from mvolatile import _core

        memory = mv.VolatileMemory(8 << 20)
        memory.write(b"x" * (8 << 20))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with memory.pin():
                mv.set_resident_limit(1 << 20)
                mv.set_resident_limit(1 << 20)
                assert mv.memory_usage().held == 8 << 20
        assert [str(one.message) for one in told if "held" in str(one.message)], told
        assert len(told) == 1, told
        mv.set_resident_limit(1 << 20)
        assert _core.residence()[0] <= 1 << 20
        assert mv.memory_usage().held == 0

    run_python(child).check()


def test_an_idle_cache_goes_before_one_that_is_used() -> None:
    def child() -> None:
        import mvolatile as mv

        mv.set_resident_limit(40 << 20)
        idle: mv.VolatileCache[int, bytes] = mv.VolatileCache(name="idle")
        for key in range(20):
            idle[key] = b"i" * 1_000_000
        used: mv.VolatileCache[int, bytes] = mv.VolatileCache(name="used")
        for _ in range(40):
            for key in range(30):
                if used.get(key) is None:
                    used[key] = b"u" * 1_000_000
        info = used.cache_info()
        assert info.currsize == 30, info
        assert sum(key in idle for key in range(20)) <= 12

    run_python(child).check()


def test_a_value_beyond_the_limit_is_not_stored() -> None:
    def child() -> None:
        import pytest

        import mvolatile as mv

        mv.set_resident_limit(2 << 20)
        cache: mv.VolatileCache[str, bytes] = mv.VolatileCache()
        cache["small"] = b"s" * 500_000
        with pytest.raises(mv.NoRoomError, match="set_resident_limit"):
            cache["large"] = b"l" * (3 << 20)
        assert cache["small"] == b"s" * 500_000

        @mv.volatile_cache
        def make() -> bytes:
            return b"m" * (3 << 20)

        assert make() == make() == b"m" * (3 << 20)
        assert make.cache_info().currsize == 0

    run_python(child).check()


@pytest.mark.parametrize("size", [1_000, 1_000_000])
def test_a_cache_has_a_limit_of_its_own(size: int) -> None:
    def child(size: int) -> None:
        import pytest

        import mvolatile as mv
        from mvolatile.kernel.smaps import usage_by_name

        most = 20 << 20
        other: mv.VolatileCache[int, bytes] = mv.VolatileCache(name="other")
        cache: mv.VolatileCache[int, bytes] = mv.VolatileCache(max_resident="20MiB", name="small")
        for key in range(60_000_000 // size):
            cache[key] = b"c" * size
            if key * size % 2_000_000 == 0:
                other[key] = b"o" * 1_000_000
                there = sum(usage.resident for usage in usage_by_name())
                assert there <= most + len(other) * 1_003_520, (there, len(other))
        assert len(other) == 30
        assert cache.cache_info().bytes > most * 0.6
        with pytest.raises(mv.TooLargeError, match="max_resident"):
            cache[-1] = b"t" * (most + 1)

    run_python(child, size).check()


def test_a_poller_never_sees_it_above() -> None:
    """Half a gigabyte; `tests/stress/test_resident_limit.py` has 20."""
    looks = poll_while_passing(500_000_000)
    assert looks.above == 0, looks
    assert looks.peak <= LIMIT + OWN, looks
