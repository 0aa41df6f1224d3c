"""The clock of times to live: seconds of `time.monotonic`, and those by which `time.time` was set forward.

`time.monotonic` alone stands still while the machine sleeps, and does not see what tests do to the clock (time-machine
sets `time.time` alone). `time.time` alone may be set back, and what was due would live on. So whichever of the two
goes forward ends a life; neither makes it longer.

freezegun replaces `time.monotonic` in every module that has it, by one that counts from 1970: what was stored then
would, after the test, live for decades. So the real one is kept where it does not look.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["lifetime"]

JUMP = 0.05
"""Seconds. Less is not the clock being set: a thread may rest between looking at one clock and at the other."""

_seen: tuple[float, float] = (time.time() - time.monotonic(), 0.0)
"""How far `time.time` was ahead, and what jumps forward came to. One object: two threads that see the same jump begin
with the same, and come to the same.
"""


def lifetime(*, _monotonic: Callable[[], float] = time.monotonic) -> float:
    """Seconds since some time long ago. From any thread; a forked child goes on with its parent's."""
    ahead, jumped = _seen
    now = _monotonic()
    if -JUMP < time.time() - now - ahead < JUMP:
        return now + jumped
    return _after_a_jump(_monotonic)


def _after_a_jump(monotonic: Callable[[], float]) -> float:
    global _seen
    ahead, jumped = _seen
    before = monotonic()
    wall = time.time()
    now = monotonic()
    if now - before > JUMP / 2:
        return now + jumped  # we rested meanwhile: the next to ask finds out
    jumped += max(0.0, wall - now - ahead)
    _seen = wall - now, jumped
    return now + jumped
