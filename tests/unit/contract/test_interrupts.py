"""KeyboardInterrupt at every moment: between a pin's system call and the pin's object, in the middle of leaving.

A real timer sends SIGALRM, whose handler raises, thousands of times at moments nobody chooses.
"""

from __future__ import annotations

import gc
import itertools
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, FunctionType
from typing import cast

import pytest

from mvolatile import Purged, VolatileMemory, _core
from support.memories import LAYOUTS, PAGE, every_layout, filled, lose, pattern
from support.tiers import loses

pytestmark = [
    # An interrupt inside coverage.py's tracer leaves its lock locked for good.
    pytest.mark.skipif(
        sys.gettrace() is not None, reason="interrupts strike a tracer, too, which is not made for it"
    ),
    pytest.mark.timeout(method="thread"),  # the other method is SIGALRM, which is ours here
]


class Interrupted(BaseException):
    """Our KeyboardInterrupt: pytest has plans of its own for the real one."""


def _duration(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def _weather(action: Callable[[], None], strikes: int) -> None:
    """Run `action` until an interrupt ends it, again and again, until it was struck so often from within.

    The moment sweeps over the time that it takes on this machine, measured anew for each sweep, and begins later while
    strikes come before it does; a timer that is late meets a later run. It fires once, so that nothing escapes the
    block below.
    """
    struck, begin = 0, 1e-6

    def strike(number: int, frame: FrameType | None) -> None:
        nonlocal struck, begin
        while frame and frame.f_code is not cast(FunctionType, action).__code__:
            frame = frame.f_back
        struck += frame is not None
        begin = max(1e-6, begin * 0.9) if frame else begin * 1.5
        raise Interrupted

    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    before = signal.signal(signal.SIGALRM, strike)
    try:
        for number in itertools.count():
            if number % 100 == 0:
                if struck >= strikes:
                    break
                takes = min(_duration(action) for _ in range(3))
            with suppress(Interrupted):
                signal.setitimer(signal.ITIMER_REAL, begin + takes * (number % 100) / 100)
                while True:
                    action()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def _check_at_rest(memory: VolatileMemory) -> None:
    gc.collect()
    assert _core.pins(memory) == 0
    assert _core.is_valid(memory)
    memory.close()
    assert memory.closed


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("layout", ["pooled", "huge"])
def test_pins(layout: str, write: bool) -> None:
    memory = filled(layout)

    expected = pattern(2 * PAGE)[PAGE]

    def use() -> None:
        for _ in range(10):
            with memory.pin(write=write) as view:
                assert view[PAGE] == expected

    _weather(use, 2000)
    use()
    _check_at_rest(memory)


def test_nested_pins() -> None:
    memory = filled("pooled")

    def use() -> None:
        for _ in range(10):
            with memory.pin() as one, memory.pin(write=True) as two, memory.pin() as three:
                assert one[0] == two[0] == three[0]

    _weather(use, 2000)
    _check_at_rest(memory)


def test_peeks() -> None:
    memory = filled("pooled")
    expected = pattern(1)[0]

    def use() -> None:
        for _ in range(50):
            with memory.peek() as view:
                assert view[0] == expected

    _weather(use, 2000)
    _check_at_rest(memory)


def test_copies_and_exports() -> None:
    memory = filled("pooled")
    target = bytearray(5 * PAGE)

    def use() -> None:
        for _ in range(5):
            memory.read(0)
            memory.readinto(target, PAGE)
        memory.write(b"\x05" * 10, PAGE - 5)
        bytes(memory)
        with memoryview(memory) as view:
            len(view)

    _weather(use, 2000)
    with memory.pin() as view:
        assert bytes(view[PAGE - 5 : PAGE + 5]) in (b"\x05" * 10, pattern(2 * PAGE)[PAGE - 5 : PAGE + 5])
    _check_at_rest(memory)


@loses
def test_losses_and_rebuilds() -> None:
    memory = filled("pooled")
    data = pattern(memory.nbytes, 1)

    def rebuild(view: memoryview, extents: object) -> None:
        view[:] = data

    def use() -> None:
        with suppress(BufferError):
            memory.purge()
        with suppress(Purged), memory.pin():
            pass
        with memory.pin(on_purge=rebuild) as view:
            view[0]

    _weather(use, 1000)
    with memory.pin(on_purge=rebuild) as view:
        assert bytes(view) in (data, pattern(memory.nbytes))
    lose(memory)
    with pytest.raises(Purged):
        memory.read(0)
    _check_at_rest(memory)


@every_layout
def test_opening_and_closing(layout: str) -> None:
    def use() -> None:
        for _ in range(5):
            with VolatileMemory(**LAYOUTS[layout]) as memory:
                memory.write(b"x")

    _weather(use, 500)
    gc.collect()
    use()


def test_the_real_one() -> None:
    """KeyboardInterrupt by raise_signal, inside the block."""
    memory = filled("pooled")
    for enter in (memory.pin, memory.peek):
        with pytest.raises(KeyboardInterrupt), enter():
            signal.raise_signal(signal.SIGINT)
        assert _core.pins(memory) == 0
    _check_at_rest(memory)
