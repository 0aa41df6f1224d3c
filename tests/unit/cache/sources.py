"""What makes the values of a cache that keeps old ones, for its tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest


class Source:
    """What makes values: its next answer is told, it may be stopped in the middle, and counts."""

    def __init__(self) -> None:
        self.now = 0.0
        self.answer: Any = b"first"
        self.made = 0
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, *key: Any) -> Any:
        self.gate.wait(60)
        self.made += 1
        self.threads.add(threading.get_ident())
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def clock(self) -> float:
        return self.now


@pytest.fixture
def source() -> Iterator[Source]:
    made = Source()
    yield made
    made.answer = None  # an exception's frames have the cache


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What refreshers raised."""
    seen: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: seen.append(told.exc_value))
    yield seen
    seen.clear()
