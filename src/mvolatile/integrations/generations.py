"""What was kept of a place that others may change, so that nothing is found that is older than the last change.

Each place has a *generation* in the cache, 12 random bytes, and what is kept of the place is kept under it. Who changes
the place says so first (`CHANGING`: nobody keeps anything), changes it, and then deletes the generation: the next who
asks makes a new one, and what lies under the old is found by nobody. Another generation is that of all places at once,
for changes of many.

Schedules that this survives:

1. A reader finds nothing and reads the old value; a writer changes it and returns; the reader stores what it read. It
   took the generation before it read, so it stores under one that is gone.
2. The kernel takes a generation. What was under it is not found any more, that is all: bytes that were random once come
   not again.
3. A writer is killed between its change and the deletion, while others read what is shared. They see `CHANGING` until
   its time is over, and keep nothing.
4. A writer fails, or is cancelled while a thread still writes for it: `CHANGING` stays for its time, too.
5. Two writers: the first to end deletes the generation, a reader makes one and keeps the value of that moment. The
   second deletes that when it ends.
6. Somebody reads the new value before the writer returns, another the old one after that, from what it found a moment
   ago: both began before the change was over.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ..errors import TooLargeError
from . import backing

__all__ = ["Generations"]

CHANGING = b"changing"
LONGEST = 60.0
"""Seconds for which a change is believed to go on whose end nobody told."""

EVERYWHERE = None


class Generations:
    """Of the places of one store, told from other stores in the same cache by `namespace`."""

    def __init__(self, cache: backing.Cache, namespace: str) -> None:
        self.cache = cache
        self.namespace = namespace

    def under(self, place: str) -> tuple[Any, ...] | None:
        """What the keys begin with under which something of `place` is found or may be kept now, if anything may."""
        whole, own = self._now(EVERYWHERE), self._now(place)
        return None if whole is None or own is None else (self.namespace, whole, own, place)

    def _now(self, place: str | None) -> bytes | None:
        key = (self.namespace, place)
        found = self.cache.get(key)
        if found is None:
            with suppress(ValueError):  # the cache is closed
                self.cache.add(key, secrets.token_bytes(12))
            found = self.cache.get(key)
        return None if found is None or found == CHANGING else bytes(found)

    @contextmanager
    def changing(self, place: str | None = EVERYWHERE) -> Iterator[None]:
        """Around a change of `place`, or of all of them."""
        if self.cache.closed:
            yield
            return
        key = (self.namespace, place)
        self._announce(key)
        try:
            yield
        except BaseException:
            self._announce(key)
            raise
        self.cache.delete_many([key])

    def _announce(self, key: tuple[str, str | None]) -> None:
        try:
            self.cache.set(key, CHANGING, ttl=LONGEST)
        except (TooLargeError, MemoryError, ValueError):  # no room for it, or the cache is closed
            self.cache.delete_many([key])
