"""What several tests of both caches need."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import mvolatile as mv
from mvolatile.cache.lifetime import lifetime

LARGE = 100_000
"""Bytes of a value that has memory of its own, and so is volatile when it is stored, in each of the caches."""


def later(seconds: float) -> None:
    """Wait until so much time has passed, by the clock that times to live are told by."""
    end, patience = lifetime() + seconds, threading.Event()
    while lifetime() < end:
        patience.wait(0.001)


def purge(cache: Any) -> None:
    """Have the kernel take the large values."""
    if not mv.features().can_purge:
        pytest.skip("nothing can be purged here")
    assert cache.purge() > 0
