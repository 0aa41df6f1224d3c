"""The core's guard of the limit alone: no cache that gives up before, no Python that looks at the limit anew."""

from __future__ import annotations

import pytest

from mvolatile import _core
from support.processes import run_python

pytestmark = pytest.mark.skipif(_core.tier() != "userfaultfd", reason="this kernel has one tier at most")


@pytest.fixture(params=["userfaultfd", "faultcount"])
def env(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"MVOLATILE_TIER": request.param}


def test_the_oldest_goes_before_the_first_byte(env: dict[str, str]) -> None:
    """By their last use. VmHWM is the kernel's own peak; what is counted is never more than the limit."""

    def child() -> None:
        from mvolatile import _core
        from mvolatile.kernel import files

        size, limit = 1 << 20, 8 << 20
        memories = [_core.Memory.__new__(_core.Memory) for _ in range(40)]
        data = b"d" * size
        own = files.read_table("/proc/self/status")["VmRSS"]
        with open("/proc/self/clear_refs", "w") as peak:
            peak.write("5")
        _core.limit_residence(limit)
        for memory in memories:
            _core.open_memory(memory, size, False, True, True, None, "guard")
            memory.write(data)
            assert _core.residence()[0] <= limit
            assert (
                bytes(memoryview(_core.hold(memories[0], False))[:4]) == b"dddd"
            )  # the first is used each time
        _core.mark_lingering()
        peak_bytes = files.read_table("/proc/self/status")["VmHWM"] - own
        assert peak_bytes <= limit + (3 << 20), peak_bytes

        there = [at for at, memory in enumerate(memories) if not _core.lost(memory, True)[0]]
        assert there[0] == 0
        assert there[1:] == list(range(40 - len(there) + 1, 40)), there
        assert len(there) >= 6, there

    run_python(child, env=env).check()


def test_what_is_held_stays_and_another_goes(env: dict[str, str]) -> None:
    def child() -> None:
        from mvolatile import _core

        size = 1 << 20
        memories = []
        for _ in range(4):
            memory = _core.Memory.__new__(_core.Memory)
            _core.open_memory(memory, size, False, True, True, None, "guard")
            memory.write(b"h" * size)
            memories.append(memory)
        held = _core.hold(memories[0], False)
        assert _core.held_bytes() == size
        assert _core.limit_residence(2 * size) >= 2 * size
        assert _core.residence()[0] <= 2 * size
        assert memoryview(held) == b"h" * size
        assert _core.lost(memories[1], True)[0] == ((0, size),)
        assert memories[3].read() == b"h" * size
        _core.limit_residence(0)  # less than what is held: nothing is broken for it
        assert memoryview(held) == b"h" * size
        assert _core.residence()[0] == size
        del held
        _core.mark_lingering()
        _core.limit_residence(0)
        assert _core.residence()[0] == 0
        assert _core.held_bytes() == 0

    run_python(child, env=env).check()


def test_who_writes_does_not_give_back_what_it_writes(env: dict[str, str]) -> None:
    """Its own lock is taken: the guard tries it, and must not wait."""

    def child() -> None:
        from mvolatile import _core

        _core.limit_residence(1 << 20)
        memory = _core.Memory.__new__(_core.Memory)
        _core.open_memory(memory, 4 << 20, False, True, True, None, "guard")
        with _core.pin(memory, True, "zero") as view:
            view[:] = b"w" * (4 << 20)
            assert _core.residence()[0] == 4 << 20
            assert view == b"w" * (4 << 20)
        _core.mark_lingering()
        _core.limit_residence(1 << 20)
        assert _core.residence()[0] <= 1 << 20

    run_python(child, env=env).check()


def test_what_is_closed_or_purged_counts_no_more(env: dict[str, str]) -> None:
    def child() -> None:
        from mvolatile import _core

        memories = []
        for _ in range(2):
            memory = _core.Memory.__new__(_core.Memory)
            _core.open_memory(memory, 1 << 20, False, True, True, None, "guard")
            memory.write(b"c" * (1 << 20))
            memories.append(memory)
        _core.mark_lingering()
        assert _core.residence() == (2 << 20, 0, None)
        _core.purge(memories[0])
        assert _core.lost(memories[0], True)[0] == ((0, 1 << 20),)  # it is counted when it is seen
        assert _core.residence()[0] == 1 << 20
        _core.close_memory(memories[1])
        assert _core.residence()[0] == 0
        assert _core.give_back(0) == 0

    run_python(child, env=env).check()


def test_threads_that_store_at_once_give_back_for_each_other(env: dict[str, str]) -> None:
    """Each counts its own first; the sum is looked at again after every step."""

    def child() -> None:
        import threading
        import time

        from mvolatile import _core

        size, limit, threads = 1 << 20, 6 << 20, 4
        _core.limit_residence(limit)
        seen: list[int] = []
        over = threading.Event()

        def store() -> None:
            for number in range(20):
                memory = _core.Memory.__new__(_core.Memory)
                _core.open_memory(memory, size, False, True, True, None, "guard")
                memory.write(bytes([number]) * size)
                if number % 3:
                    kept.append(memory)
                seen.append(_core.residence()[0])

        def look() -> None:
            highest = 0
            while not over.is_set():
                highest = max(highest, _core.residence()[0])
                time.sleep(0)  # Python's lock, else who stores waits for it at each step
            seen.append(highest)

        kept: list[_core.Memory] = []
        looking = threading.Thread(target=look)
        storing = [threading.Thread(target=store) for _ in range(threads)]
        for thread in [looking, *storing]:
            thread.start()
        for thread in storing:
            thread.join()
        over.set()
        looking.join()
        # A thread has counted, and gives back now: no byte of that is there yet.
        assert max(seen) <= limit + threads * size, max(seen)
        _core.mark_lingering()
        _core.give_back(limit)
        assert _core.residence()[0] <= limit

    run_python(child, env=env).check()
