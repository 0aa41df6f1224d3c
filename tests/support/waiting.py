"""Waiting until others wait."""

from __future__ import annotations

import threading

import pytest

from mvolatile.cache import circles

__all__ = ["await_waiters"]


def await_waiters(count: int) -> None:
    """Until so many callers wait for others."""
    patience = threading.Event()
    for _ in range(20_000):
        if len(circles.waiting) >= count:
            return
        patience.wait(0.001)
    pytest.fail(f"{len(circles.waiting)} wait, not {count}")
