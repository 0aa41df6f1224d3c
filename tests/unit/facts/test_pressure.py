"""What the library takes for granted about this kernel, without the library: how pressure is told."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

from mvolatile.kernel.cgroup import memory_cgroup
from support.cgroups import run_limited
from support.processes import run_python


def test_an_ordinary_user_may_wait_for_memory_pressure() -> None:
    if not Path("/proc/pressure/memory").exists():
        pytest.skip("this kernel keeps no PSI")

    def as_nobody() -> None:
        import os

        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        fd = os.open("/proc/pressure/memory", os.O_RDWR | os.O_NONBLOCK)
        os.write(fd, b"some 150000 2000000\0")
        print("armed")

    assert run_python(as_nobody).check().stdout == "armed\n"


def test_pressure_level_events_of_cgroup_version_1() -> None:
    own = memory_cgroup()
    if own is None or own.version != 1 or not (own.path / "memory.pressure_level").exists():
        pytest.skip("needs the memory controller of cgroup version 1")
    path = own.path / "memory.pressure_level"
    if os.geteuid() and not path.stat().st_mode & 0o444:
        # Linux 6.1: for root alone, even where the cgroup is the user's own. 6.18 lets everybody read it.
        with pytest.raises(PermissionError):
            os.open(path, os.O_RDONLY)
        return
    counter = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    level = os.open(path, os.O_RDONLY)
    try:
        (own.path / "cgroup.event_control").write_text(f"{counter} {level} low")
        assert select.select([counter], [], [], 0)[0] == []
    except PermissionError as error:
        pytest.skip(f"{error}")
    finally:
        os.close(level)
        os.close(counter)


@pytest.mark.usefixtures("needs_cgroup")
def test_volatile_pages_count_as_inactive_file_before_they_are_purged() -> None:
    """So the kubelet's working set does not count them, while RSS and the cgroup's usage do."""

    def look() -> None:
        from support.counting import inactive_file
        from support.libc import MADV_FREE, MADV_NOHUGEPAGE, Anonymous, drain

        with Anonymous(16 << 20) as memory:
            memory.advise(MADV_NOHUGEPAGE)
            memory.fill()
            before = inactive_file()
            memory.advise(MADV_FREE)
            drain()
            print(inactive_file(lambda found: found - before > 12 << 20) - before)

    grown = int(run_limited(look, 128 << 20).check().stdout)
    assert grown > 12 << 20


@pytest.mark.usefixtures("needs_cgroup")
def test_pages_held_again_count_so_until_reclaim_meets_them() -> None:
    """A working set leaves out what is held again until the kernel has looked; nothing is lost by that."""

    def look() -> None:
        from support.counting import inactive_file
        from support.libc import (
            MADV_FREE,
            MADV_NOHUGEPAGE,
            MADV_POPULATE_WRITE,
            PAGE,
            Anonymous,
            drain,
            missing,
        )

        def filled(nbytes: int) -> Anonymous:
            memory = Anonymous(nbytes)
            memory.advise(MADV_NOHUGEPAGE)
            memory.fill()
            return memory

        before = inactive_file()
        with filled(16 << 20) as held, filled(48 << 20) as volatile:
            held.advise(MADV_FREE)
            drain()
            held.advise(MADV_POPULATE_WRITE)
            print(inactive_file(lambda found: found - before > 12 << 20) - before)
            volatile.advise(MADV_FREE)
            drain()
            with filled(48 << 20):  # more than the limit: reclaim comes to both, the one held first
                gone = missing(volatile.address, volatile.length)
                assert gone
                assert not missing(held.address, held.length)
                rest = volatile.length - PAGE * len(gone)
                print(inactive_file(lambda found: found - before - rest < 4 << 20) - before - rest)

    at_first, after_reclaim = map(int, run_limited(look, 96 << 20).check().stdout.split())
    assert at_first > 12 << 20
    assert after_reclaim < 4 << 20
