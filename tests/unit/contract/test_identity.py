"""Who writes: a thread that ended is nobody else, however the system uses its memory and its numbers again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mvolatile import Overwritten, VolatileMemory
from support.libc import PAGE
from support.processes import run_python

LOOKS: dict[str, Callable[[VolatileMemory], object]] = {
    "read": lambda memory: memory.read(0),
    "read, some": lambda memory: memory.read(PAGE - 8, 16),
    "readinto": lambda memory: memory.readinto(bytearray(2 * PAGE)),
    "peek": lambda memory: _peek(memory),
}


def _peek(memory: VolatileMemory) -> bytes:
    with memory.peek() as view:
        return bytes(view)


def in_a_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@pytest.fixture
def half_written() -> Iterator[VolatileMemory]:
    """A memory, and the view of a write pin that an ended thread opened; half of it is new."""
    with VolatileMemory(2 * PAGE) as memory:
        memory.write(b"A" * 2 * PAGE)
        pins: list[Any] = []

        def opens() -> None:
            pin = memory.pin(write=True)
            pins.extend((pin, pin.__enter__()))

        in_a_thread(opens)
        pin, view = pins
        view[:PAGE] = b"B" * PAGE
        yield memory
        view.release()
        pin.__exit__(None, None, None)
        pins.clear()
        del pin, view


@pytest.mark.parametrize("look", LOOKS)
def test_the_next_thread_is_not_the_writer(look: str, half_written: VolatileMemory) -> None:
    """glibc gives its stack, and all that is at a fixed place in it, to the next thread."""
    told = []

    def looks() -> None:
        with pytest.raises(Overwritten):
            LOOKS[look](half_written)
        told.append(True)

    for _ in range(5):
        in_a_thread(looks)
    assert len(told) == 5


@pytest.mark.parametrize("look", LOOKS)
def test_a_thread_that_got_the_view_is_not_the_writer(look: str, half_written: VolatileMemory) -> None:
    with pytest.raises(Overwritten):
        LOOKS[look](half_written)


FORK = """
import os, sys, threading, time
from mvolatile import Overwritten, VolatileMemory
from support.libc import PAGE
from unit.contract.test_identity import LOOKS, in_a_thread
{setup}

def told(look):
    try: LOOKS[look](memory)
    except Overwritten: return True
    raise SystemExit(f"{{look}}: half of a write was believed")

def all_told():
    for look in LOOKS: told(look)
    done.append(True)

done = []
memory = VolatileMemory(2 * PAGE)
memory.write(b"A" * 2 * PAGE)
inside, go = threading.Event(), threading.Event()
def writes():
    with memory.pin(write=True) as view:
        view[:PAGE] = b"B" * PAGE
        inside.set()
        go.wait()
        view[PAGE:] = b"B" * PAGE
writer = threading.Thread(target=writes, daemon=True)
writer.start()
inside.wait()
pid = {fork}
if not pid:
    try:
        all_told()
        for _ in range(3): {thread}(all_told)
        if {grandchild}:
            again = os.fork()
            if not again:
                in_a_thread(all_told)
                os._exit(len(done) != 5)
            assert os.waitpid(again, 0)[1] == 0
    finally:
        os._exit(len(done) != 4)
assert os.waitpid(pid, 0)[1] == 0
go.set()
writer.join()
assert memory.read(0) == b"B" * 2 * PAGE
"""
FORKS = {
    "by Python": ("", "os.fork()", "in_a_thread", False),
    "of a fork": ("", "os.fork()", "in_a_thread", True),
    # Python's own locks are as the other threads left them: no thread of its can start there.
    "by C": ("import ctypes\nlibc = ctypes.PyDLL(None)", "libc.fork()", "(lambda work: work())", False),
}


@pytest.mark.parametrize("kind", FORKS)
def test_no_thread_of_a_forked_child_is_the_parents_writer(kind: str) -> None:
    setup, fork, thread, grandchild = FORKS[kind]
    program = FORK.format(setup=setup, fork=fork, thread=thread, grandchild=grandchild)
    run_python(program, timeout=60).check()


def test_a_writer_that_forks_is_the_writer_in_the_child() -> None:
    program = """
    import os, threading
    from mvolatile import Overwritten, VolatileMemory
    memory = VolatileMemory(8192)
    memory.write(b"A" * 8192)
    def other():
        try: memory.read(0)
        except Overwritten: seen.append(True)
    seen = []
    with memory.pin(write=True) as view:
        view[:4096] = b"B" * 4096
        pid = os.fork()
        assert memory.read(4095, 2) == b"BA"
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert seen
        view[4096:] = b"B" * 4096
        del view
    assert memory.read(0) == b"B" * 8192
    if not pid: os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    """
    run_python(program).check()


def test_a_peek_of_an_ended_thread_does_not_bind_the_next_ones_child() -> None:
    """It stays open in the parent; the child has no such thread, and can close the memory."""
    program = """
    import os, threading
    from mvolatile import VolatileMemory
    memory = VolatileMemory(8192)
    memory.write(b"A" * 8192)
    kept = []
    def opens():
        peek = memory.peek()
        kept.extend((peek, peek.__enter__()))
    def forks():
        pid = os.fork()
        if not pid:
            memory.close()
            os._exit(0)
        status.append(os.waitpid(pid, 0)[1])
    status = []
    for work in opens, forks:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert status == [0], status
    """
    run_python(program).check()
