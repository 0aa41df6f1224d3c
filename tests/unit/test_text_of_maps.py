"""mvolatile() before Linux 6.11, which has no PROCMAP_QUERY: the text of /proc/self/maps tells what is mapped."""

from __future__ import annotations

from textwrap import dedent

import pytest

import mvolatile as mv
from support.processes import run_python

pytestmark = pytest.mark.skipif(mv.features().tier == "unsupported", reason="nothing is marked in this tier")

PRELUDE = """
import ctypes, errno, os
from support.seccomp import refuse_ioctl
refuse_ioctl(0xC0686611)
import mvolatile as mv
from mvolatile import _core
from support.libc import PAGE, Anonymous, libc, pageout
assert _core.probe()["procmap_query"] == errno.ENOTTY

def refusal(area, first, pages):
    try: mv.mvolatile(area.address + first * PAGE, pages * PAGE, 1)
    except OSError as error: return error.errno
"""


def test_holes_and_what_cannot_be_marked() -> None:
    program = """
    area = Anonymous(16 * PAGE)
    area.fill()
    for page in (2, 5): assert not libc.mprotect(ctypes.c_void_p(area.address + page * PAGE), PAGE, 1)
    libc.munmap(area.address + 9 * PAGE, PAGE)
    assert refusal(area, 0, 16) == refusal(area, 9, 1) == refusal(area, 8, 2) == errno.ENOMEM
    assert refusal(area, 0, 9) == refusal(area, 5, 1) == errno.EINVAL
    assert mv.mvolatile(area.address + 10 * PAGE, 6 * PAGE, 1) == (6 * PAGE, 0)
    assert mv.mvolatile(area.address + 3 * PAGE, 2 * PAGE, 1) == (2 * PAGE, 0)
    assert mv.status().raw == 8 * PAGE
    pageout(area.address + 10 * PAGE, 6 * PAGE)
    assert refusal(area, 0, 16) == errno.ENOMEM and mv.status().raw == 8 * PAGE
    assert mv.mvolatile(area.address + 12 * PAGE, PAGE, 0) == (PAGE, 1)
    """
    run_python(PRELUDE + dedent(program)).check()


def test_a_fork_forgets_what_was_unmapped() -> None:
    program = """
    area, above = Anonymous(16 * PAGE), Anonymous(16 * PAGE)
    for one in (area, above):
        one.fill()
        for page in range(0, 16, 2): mv.mvolatile(one.address + page * PAGE, PAGE, 1)
    libc.munmap(area.address + 3 * PAGE, 6 * PAGE)
    libc.munmap(max(area.address, above.address), 16 * PAGE)
    left = 5 if area.address < above.address else 8
    pid = os.fork()
    if pid == 0: os._exit(mv.status().raw != left * PAGE)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert mv.status().raw == left * PAGE
    """
    run_python(PRELUDE + dedent(program)).check()


def test_a_call_and_a_fork_are_one_pass_each() -> None:
    """2,000 marks make 4,000 lines; who begins anew for each mapping reads them 4,000 times."""
    program = """
    MARKS = 2000
    def read():
        with open("/proc/self/io") as file: return int(file.readline().split()[1])
    def passes(work):
        before = read()
        work()
        return (read() - before) / text
    area = Anonymous(2 * MARKS * PAGE)
    for page in range(0, 2 * MARKS, 2): area.write(page, b"data")
    def marks():
        for page in range(0, 2 * MARKS, 2): mv.mvolatile(area.address + page * PAGE, PAGE, 1)
    before = read()
    marks()
    total = read() - before
    with open("/proc/self/maps", "rb") as file: text = len(file.read())
    assert total <= MARKS * text, "a mark is more than a pass"

    def fork():
        pid = os.fork()
        if pid == 0: os._exit(0)
        os.waitpid(pid, 0)
    assert passes(fork) < 3
    assert passes(lambda: mv.mvolatile(area.address, 2 * MARKS * PAGE, 1)) < 2
    assert passes(lambda: mv.mvolatile(area.address, 2 * MARKS * PAGE, 0)) < 2
    """
    run_python(PRELUDE + dedent(program)).check()
