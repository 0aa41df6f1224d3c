"""All who are connected to a keeper, and what their hints say."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress

from .._core import HINTS_HEADER, Hints
from .index import Index
from .peer import Client

__all__ = ["Clients"]

MOST_LEFT = 8
"""Of so many who are gone what they said of use stays: where each worker is replaced after some requests, most was said
by those who are. A byte a slot each.
"""


class Clients(dict[int, Client]):
    """By descriptor: those of connections, and those of their processes."""

    def __init__(self) -> None:
        super().__init__()
        self._gone = (0, 0, 0)
        self._left: deque[tuple[Hints, int]] = deque(maxlen=MOST_LEFT)
        self._hints: tuple[Hints, ...] = ()
        self._hints_of = -1
        self._heard: Hints | None = None
        self._heard_of = -1

    @property
    def connections(self) -> list[Client]:
        """Each once."""
        return [client for descriptor, client in self.items() if descriptor != client.pidfd]

    def take_hints(self, client: Client, hints: Hints, generation: int) -> None:
        """They are of the table of that generation."""
        self.forget_hints(client)
        client.hints, client.hints_of = hints, generation

    def forget_hints(self, client: Client) -> None:
        """It has others, or is gone. What it counted stays, and what it said of use, for a while."""
        if client.hints is not None:
            self._gone = _sum(self._gone, client.hints.counts)
            self._left.append((client.hints, client.hints_of))
            client.hints = None
        self._hints_of = -1

    def counts(self) -> tuple[int, int, int]:
        """Hits, misses, purged, as all say and said."""
        counts = self._gone
        for client in self.connections:
            if client.hints is not None:
                counts = _sum(counts, client.hints.counts)
        return counts

    # ---- hints of use

    def uses(self, slot: int, generation: int) -> int:
        """How often clients have used a slot of the table of that generation; at most 255."""
        return Hints.uses(self._all(generation), slot)

    def forget_uses(self, slot: int, generation: int) -> None:
        """It counts anew."""
        Hints.forget(self._all(generation), slot)

    def heard(self, slot: int, index: Index) -> None:
        """Somebody who may not read by itself has asked for it: a hint of the keeper's own."""
        if self._heard is None or self._heard_of != index.generation:
            with suppress(OSError):  # it goes a little sooner
                self._heard = _own(index.slots.capacity)
                self._heard_of, self._hints_of = index.generation, -1
        if self._heard is not None and self._heard_of == index.generation:
            self._heard.use(slot)

    def _all(self, generation: int) -> tuple[Hints, ...]:
        if self._hints_of != generation:
            self._left = deque((left for left in self._left if left[1] == generation), MOST_LEFT)
            all_hints = [(client.hints, client.hints_of) for client in self.connections]
            all_hints += [*self._left, (self._heard, self._heard_of)]
            self._hints = tuple(hints for hints, of in all_hints if hints is not None and of == generation)
            self._hints_of = generation
        return self._hints


def _own(capacity: int) -> Hints:
    descriptor = os.memfd_create("mvolatile hints", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, HINTS_HEADER + capacity)
        return Hints(descriptor, capacity)
    finally:
        os.close(descriptor)


def _sum(some: tuple[int, int, int], more: tuple[int, int, int]) -> tuple[int, int, int]:
    return some[0] + more[0], some[1] + more[1], some[2] + more[2]
