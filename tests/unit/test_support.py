"""The checks that the tests rely on can fail."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from mvolatile.kernel.cgroup import ChildCgroup
from support.leaks import assert_no_growth, leaves_nothing
from support.processes import run_python


def test_a_descriptor_left_open_is_seen() -> None:
    opened: list[int] = []
    with pytest.raises(AssertionError, match="/dev/null"), leaves_nothing(0.1):
        opened.append(os.open("/dev/null", os.O_RDONLY))
    os.close(opened[0])


def test_a_thread_left_running_is_seen() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="forgotten")
    with pytest.raises(AssertionError, match="thread forgotten"), leaves_nothing(0.1):
        thread.start()
    stop.set()
    thread.join()


def test_a_cgroup_left_behind_is_seen(needs_cgroup: None) -> None:
    made: list[ChildCgroup] = []
    with pytest.raises(AssertionError, match=r"cgroup .*mvolatile-"), leaves_nothing(0.1):
        made.append(ChildCgroup(64 << 20))
    made[0].close()


def test_what_the_garbage_collector_frees_is_no_leak() -> None:
    class Ring:
        def __init__(self) -> None:
            self.file = open("/dev/null")  # noqa: SIM115
            self.ring = self

        def __del__(self) -> None:
            self.file.close()

    with leaves_nothing():
        Ring()


def test_growth_of_mappings_is_seen() -> None:
    """Pages of alternating protection, so that the kernel cannot merge them into one mapping."""

    def child() -> None:
        import mmap

        from support.leaks import assert_no_growth

        kept: list[Any] = []

        def leak() -> None:
            protection = mmap.PROT_READ if len(kept) % 2 else mmap.PROT_READ | mmap.PROT_WRITE
            kept.append(mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, protection))

        try:
            assert_no_growth(leak)
        except AssertionError as error:
            print(error)

    assert "mappings grew by" in run_python(child).check().stdout


def test_no_growth_is_no_alarm() -> None:
    assert_no_growth(lambda: os.close(os.open("/dev/null", os.O_RDONLY)))


def test_a_child_that_fails_shows_what_it_said() -> None:
    done = run_python("import sys; print('out'); sys.exit('err')")
    assert (done.returncode, done.stdout, done.stderr) == (1, "out\n", "err\n")
    with pytest.raises(AssertionError, match="child ended with 1"):
        done.check()
