"""What the recycled workers do: values of 1 MB by key, through a cache of each process."""

from __future__ import annotations

import os
import time

import mvolatile as mv

made = 0


@mv.volatile_cache
def decode(key: int) -> bytes:
    global made
    made += 1
    return bytes([key % 256]) * 1_000_000


def work(key: int, pause: float = 0.0) -> tuple[int, int, int]:
    """Process, values made for this one, values held now."""
    before = made
    assert decode(key)[:1] == bytes([key % 256])
    time.sleep(pause)
    return os.getpid(), made - before, len(decode.cache)
