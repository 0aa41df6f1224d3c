"""All who are connected to a keeper, and what their hints say."""

from __future__ import annotations

from .peer import Client

__all__ = ["Clients"]


class Clients(dict[int, Client]):
    """By descriptor: those of connections, and those of their processes."""

    def __init__(self) -> None:
        super().__init__()
        self._gone = (0, 0, 0)

    @property
    def connections(self) -> list[Client]:
        """Each once."""
        return [client for descriptor, client in self.items() if descriptor != client.pidfd]

    def used_lately(self, slot: int, generation: int) -> bool:
        """Whether anybody has used an entry of the table of that generation; that is forgotten."""
        used = False
        for client in self.connections:
            if client.hints is not None and client.hints_of == generation:
                used |= client.hints.take(slot)
        return used

    def forget_hints(self, client: Client) -> None:
        """It has others, or is gone. What it counted stays."""
        if client.hints is not None:
            self._gone = _sum(self._gone, client.hints.counts)
            client.hints = None

    def counts(self) -> tuple[int, int, int]:
        """Hits, misses, purged, as all say and said."""
        counts = self._gone
        for client in self.connections:
            if client.hints is not None:
                counts = _sum(counts, client.hints.counts)
        return counts


def _sum(some: tuple[int, int, int], more: tuple[int, int, int]) -> tuple[int, int, int]:
    return some[0] + more[0], some[1] + more[1], some[2] + more[2]
