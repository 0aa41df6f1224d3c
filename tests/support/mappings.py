"""Mappings to stand behind a cache: one that stops, one that fails, one that is slow, whenever a test wants."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any


class Behind(dict[str, bytes]):
    """A dictionary. `before` is called before each operation, with its name and key; it may wait, or raise."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[str, Any], object] = lambda what, key: None
        self.done: list[tuple[str, Any]] = []

    def __getitem__(self, key: str) -> bytes:
        self.before("get", key)
        self.done.append(("get", key))
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: bytes) -> None:
        self.before("set", key)
        super().__setitem__(key, value)
        self.done.append(("set", key))

    def __delitem__(self, key: str) -> None:
        self.before("del", key)
        super().__delitem__(key)
        self.done.append(("del", key))

    def __iter__(self) -> Iterator[str]:
        self.before("iter", None)
        return super().__iter__()

    def fail(self, *what: str) -> None:
        """From now on these operations raise."""

        def raise_(operation: str, key: Any) -> None:
            if operation in what:
                raise OSError(28, "No space left on device")

        self.before = raise_

    def stop(self, what: str) -> tuple[threading.Event, threading.Event]:
        """The next of these operations waits: an event that tells that it does, and one to let it go."""
        came, go = threading.Event(), threading.Event()

        def wait(operation: str, key: Any) -> None:
            if operation == what and not came.is_set():
                came.set()
                assert go.wait(60)

        self.before = wait
        return came, go


def kinds(behind: Behind) -> list[str]:
    """What was done, without keys."""
    return [what for what, _ in behind.done]
