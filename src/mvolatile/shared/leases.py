"""Who makes what: for each missing value one client has the lease, and others wait.

A lease ends with a store, with a failure or the death of whoever has it (then the next who waits gets it), or with
the word that what was made is not to be stored (then all who wait make their own). A change of the key makes it
stale: who waits looks again, and what is made under it is not stored. So does the deletion of the tag that it is made
with, which stands in the lease from its beginning on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from .wire import Status

__all__ = ["Lease", "Leases", "Told"]

Told: TypeAlias = list[tuple[Hashable, Status, int]]
"""Who is to be told what, with which lease."""


@dataclass(slots=True)
class Waiter:
    """A client that waits, and the leases that it has meanwhile, or that those it works for have."""

    who: Hashable
    holding: frozenset[int]
    tag: bytes = b""


@dataclass(slots=True)
class Lease:
    """One making."""

    number: int
    key: bytes
    who: Hashable
    tag: bytes = b""
    stale: bool = False
    waiters: deque[Waiter] = field(default_factory=deque)


class Leases:
    """All leases of a keeper. What it answers is to be told by the caller."""

    def __init__(self) -> None:
        self._last = 0
        self._of_key: dict[bytes, Lease] = {}
        self._of_number: dict[int, Lease] = {}

    def __len__(self) -> int:
        return len(self._of_number)

    @property
    def waiting(self) -> int:
        """Clients that wait for one."""
        return sum(len(lease.waiters) for lease in self._of_number.values())

    def ask(self, who: Hashable, key: bytes, holding: Iterable[int], tag: bytes = b"") -> tuple[Status, int]:
        """`OK` and a lease; `WAIT`; or `OWN`, since to wait would close a circle."""
        lease = self._of_key.get(key)
        if lease is None:
            return Status.OK, self._grant(who, key, tag).number
        mine = frozenset(holding)
        if self._leads_to(lease, mine):
            return Status.OWN, 0
        lease.waiters.append(Waiter(who, mine, tag))
        return Status.WAIT, 0

    def _grant(self, who: Hashable, key: bytes, tag: bytes) -> Lease:
        self._last += 1
        lease = self._of_key[key] = self._of_number[self._last] = Lease(self._last, key, who, tag)
        return lease

    def _leads_to(self, lease: Lease, holding: frozenset[int]) -> bool:
        """Whether whoever makes under `lease` waits, itself or by others, for one of `holding`."""
        met, todo = {lease.number}, [lease.number]
        while todo:
            number = todo.pop()
            if number in holding:
                return True
            for other in self._of_number.values():
                if other.number not in met and any(number in waiter.holding for waiter in other.waiters):
                    met.add(other.number)
                    todo.append(other.number)
        return False

    def valid(self, number: int, who: Hashable) -> Lease | None:
        """The lease, if it is this client's and not stale."""
        lease = self._of_number.get(number)
        return lease if lease is not None and lease.who == who and not lease.stale else None

    def changed(self, key: bytes) -> Told:
        """The key has another value, or none, by somebody's will: what is being made is out of date."""
        lease = self._of_key.pop(key, None)
        if lease is None:
            return []
        lease.stale = True
        return self._tell_all(lease, Status.LOOK)

    def all_changed(self) -> Told:
        """As `changed`, for all keys."""
        return [told for key in list(self._of_key) for told in self.changed(key)]

    def tag_changed(self, tag: bytes) -> Told:
        """As `changed`, for all keys that are made with that tag."""
        keys = [key for key, lease in self._of_key.items() if lease.tag == tag]
        return [told for key in keys for told in self.changed(key)]

    def end(self, number: int, who: Hashable, status: Status) -> Told:
        """`LOOK`: it is stored; `OWN`: it will not be; `NO`: it failed, and the next one tries."""
        lease = self._of_number.get(number)
        if lease is None or lease.who != who:
            return []
        del self._of_number[number]
        if self._of_key.get(lease.key) is lease:
            del self._of_key[lease.key]
        if status != Status.NO or not lease.waiters:
            return self._tell_all(lease, status if status != Status.NO else Status.LOOK)
        first = lease.waiters.popleft()
        heir = self._grant(first.who, lease.key, first.tag)
        heir.waiters = lease.waiters
        return [(heir.who, Status.OK, heir.number)]

    def _tell_all(self, lease: Lease, status: Status) -> Told:
        waiters, lease.waiters = lease.waiters, deque()
        return [(waiter.who, status, 0) for waiter in waiters]

    def gone(self, who: Hashable) -> Told:
        """A client has died, or has let go of its connection."""
        for lease in self._of_number.values():
            if any(waiter.who == who for waiter in lease.waiters):
                lease.waiters = deque(waiter for waiter in lease.waiters if waiter.who != who)
        mine = [number for number, lease in self._of_number.items() if lease.who == who]
        return [told for number in mine for told in self.end(number, who, Status.NO)]
