"""The second tier of one cache: keys as they are there, readings, errors and counts. It knows nothing of memory."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, MutableMapping
from contextlib import suppress
from hashlib import blake2b
from typing import Any

from ...errors import VolatilityWarning
from .. import keybytes
from ..checks import Mode
from ..fork import catch_up
from ..stopped import raise_if_stopped
from .pending import ABSENT, UNKNOWN, Load, Pending
from .records import Record, unpacked
from .room import Room
from .writer import Due, Writer

__all__ = ["QUEUE", "Behind", "Tier", "Written", "prefix_of"]

QUEUE = 16 << 20
"""Bytes that wait at most."""


def prefix_of(name: str) -> str:
    """Of the keys that the cache of a name has there."""
    return f"mv1-{blake2b(name.encode('utf-8', 'surrogatepass'), digest_size=6).hexdigest()}-"


class Behind:
    """What is behind one cache, whoever has that in which order. Keys there are strings of 60 characters: a digest of
    the cache's name, and one of the key, which also stands in the record. Threads: any. Raises nothing that the
    mapping raises.
    """

    def __init__(
        self, mapping: MutableMapping[str, Any], mode: Mode, name: str, coded: bool, due: Due
    ) -> None:
        self.hits = self.errors = 0
        self._mapping, self._coded, self._name, self._due = mapping, coded, name, due
        self.prefix = prefix_of(name)
        self._told: set[str] = set()
        self.writer = Writer(mapping, due, self.prefix, mode == "through", self.failed)
        self.room = Room(due, self.writer)

    def __repr__(self) -> str:
        return f"what is behind {self._name!r}"

    def key(self, key: Hashable) -> tuple[str, bytes] | None:
        """As it is there, and as it stands in its record; None where a key means nothing to another process."""
        try:
            encoded = keybytes.encode(key)
        except (TypeError, ValueError) as error:
            self._tell("a key", f"such a key stays in memory alone: {error}")
            return None
        return self.prefix + blake2b(encoded, digest_size=20).hexdigest(), encoded

    def changed(self) -> None:
        """A change is over, and the cache's lock let go."""
        self.writer.changed()

    def fetch(self, key: str, encoded: bytes) -> Record | None:
        """The record that is there, expired or not."""
        if self.writer.pauses:
            return None
        try:
            found = self._mapping[key]
        except KeyError:
            return None
        except Exception as error:
            self.writer.pause()
            self.failed(error)
            return None
        record = None if found is None else unpacked(found, encoded, self._coded)
        if record is None and found is not None:
            self.failed(ValueError("what was found is no record of this key, or not whole"))
        return record

    # ---- what goes wrong

    def failed(self, error: Exception) -> None:
        """The mapping raised it. `error` is raised on only if a signal's handler did."""
        raise_if_stopped(error)
        self.errors += 1
        self._tell("an error", f"{type(error).__name__}: {error}")

    def _tell(self, kind: str, what: str) -> None:
        if kind in self._told:
            return
        self._told.add(kind)
        with suppress(VolatilityWarning):  # where warnings are errors: a get raises none
            warnings.warn(f"{self!r} ({kind}): {what}", VolatilityWarning, stacklevel=4)

    def counts(self) -> dict[str, int]:
        """For `CacheInfo`."""
        return {
            "behind_hits": self.hits,
            "behind_errors": self.errors,
            "behind_waiting": len(self._due),
            "behind_dropped": self._due.dropped,
        }

    # ---- the whole

    def close(self) -> None:
        """Have all done that is due, or say what could not be."""
        self.writer.flush()
        if len(self._due):
            undone = f"{len(self._due)} changes could not be done there"
            self._told.discard("the end")
            self._tell("the end", f"{undone}; values that they were to replace may be found later")

    def after_fork(self) -> None:
        """In the child."""
        self._due.after_fork()
        self.writer.after_fork()
        self.room.after_fork()


class Tier(Behind):
    """Of a cache that one process has, whose lock orders what happens."""

    def __init__(
        self, mapping: MutableMapping[str, Any], mode: Mode, name: str, coded: bool, queue: int = QUEUE
    ) -> None:
        self.pending = Pending(queue)
        super().__init__(mapping, mode, name, coded, self.pending)

    def delete(self, key: Hashable) -> None:
        """Under the cache's lock: it has no value."""
        there = self.key(key)
        if there is not None:
            self.pending.note(there[0], None)

    def read(self, key: Hashable) -> tuple[Record | None, Load, str] | None:
        """The record of `key`, expired or not; the reading, which is to be ended by ``pending.end``, and the key there.
        None where there can be none.
        """
        catch_up()
        there = self.key(key)
        if there is None:
            return None
        found, load = self.pending.begin(there[0])
        if found is UNKNOWN:
            try:
                found = self.fetch(*there)
            except BaseException:
                self.pending.end(there[0], load)
                raise
        return None if found is ABSENT else found, load, there[0]


class Written:
    """In place of a call: a value that is stored in memory is to be stored behind, too."""

    __slots__ = ("_call", "_calls", "_key", "_pending", "_record", "_there")

    def __init__(
        self, pending: Pending, calls: Any, key: Hashable, there: str, record: Record | None, call: Any
    ) -> None:
        self._pending, self._calls, self._call = pending, calls, call
        self._key, self._there, self._record = key, there, record

    @property
    def tag(self) -> Any:
        """As of the call."""
        return None if self._call is None else self._call.tag

    @property
    def stale(self) -> bool:
        """Asked under the lock, in the moment before the value is stored."""
        if self._call is None:
            self._calls.invalidate(self._key)
        elif self._call.stale:
            return True
        self._pending.note(self._there, self._record)
        return False
