"""What a `VolatileCache` does inside: find, and change under one lock. Nothing here is for users."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeVar, cast

from .._core import MISSING, Finder, forks
from ..errors import Purged, VolatilityWarning
from ..memory import VolatileMemory, callers_level
from . import pressure, registry
from .addresses import AddressSpace, for_want_of_room
from .checks import TimeToLive
from .departures import Why, tell_each
from .duel import Duel
from .flights import Flights
from .fork import catch_up, follow
from .hand import Hand
from .log import Log, logs
from .mend import mend
from .notices import Notices
from .segment import KIND_BITS, NUMBER_SHIFT, SLOTS
from .stopped import raise_if_stopped
from .sweep import Sweeper
from .values import BYTES, EXPIRES, EXPIRY, Codec, decode

__all__ = ["Engine"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

TRIES_TO_READ = 2
ONE_GIFT = 16 << 20
"""Where no memory is to be had, so much of the values is given up for the program."""

WORTH_SEALING = 256 << 10
"""Open segments with less in them stay open under pressure: of one cache. Many share this."""

EXPIRY_SIZE, _expiry = EXPIRY.size, EXPIRY.unpack
_SLOT_MASK, _KIND_MASK = SLOTS - 1, (1 << KIND_BITS) - 1


class Engine(Finder[K, V]):
    """The parts of one cache, and what they do together. The arguments are `VolatileCache`'s, checked."""

    _missing: Any = MISSING

    def __init__(
        self,
        max_bytes: int | None,
        maxsize: int | None,
        ttl: TimeToLive,
        name: str,
        codec: Codec | None,
        copy: bool | None,
        on_lost: Callable[[list[Any]], object] | None,
        on_evict: Callable[[Any, Why], object] | None,
        *,
        dump: bool,
        inherit: bool,
        timer: Callable[[], float],
    ) -> None:
        self.name: str = name
        self._ttl = ttl
        self._told: set[type[Exception]] = set()
        self._codec, self._copy = codec, copy
        self._undecodable = 0
        self._notices = None if on_lost is None else Notices(on_lost)
        self._departures = None if on_evict is None else Notices(partial(tell_each, on_evict))
        self._timer = timer
        self._inherit = inherit
        self._addresses = AddressSpace(partial(VolatileMemory, name=self.name, dump=dump, inherit=inherit))
        self._log = Log(self._addresses.take, self._index, self._shelves, max_bytes)
        self._telling = self._notices is not None or self._departures is not None
        if self._telling:
            self._log.tell = self._tell
        self._hand = Hand(self._log, maxsize, Sweeper(self._log, timer), Duel(self._counts), self._addresses)
        self._flights = Flights()
        self._closed = self._listening = False
        self._later: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._lock = threading.RLock()
        self._torn = False
        self._forks = forks()  # when last all was as a fork leaves it
        follow(self)
        registry.enter(self)

    # ---- reading

    def _find_carefully(self, key: Any) -> Any:
        """For `Finder`, when something is not as usual; the value or `MISSING`.

        That is the answer too where there is no memory for what a hit would give, even after some values went.
        """
        for _ in range(TRIES_TO_READ):
            try:
                locator, data = self._fetch_carefully(key, False)
                return data if data is MISSING else self._decoded(key, locator, data)
            except (MemoryError, OSError) as error:
                if not for_want_of_room(error):
                    raise
            self._give_way_to_program()
        return MISSING

    def _find_or_miss(self, key: Any) -> Any:
        """As `_find`, for who can make the value: what the kernel refuses (memory, a mapping) is a miss."""
        try:
            return self._find(key)
        except (MemoryError, OSError) as error:
            self._tell_trouble(error)
            return MISSING

    def _decoded(self, key: Any, locator: int, data: Any) -> Any:
        """For `Finder`: the value, unless it is expired."""
        kind = locator & _KIND_MASK
        if kind & EXPIRES:
            if self._timer() >= _expiry(data[-EXPIRY_SIZE:])[0]:
                self._change(self._log.remove, key, locator, "expired")
                return MISSING
            data, kind = data[:-EXPIRY_SIZE], kind - EXPIRES
        if kind == BYTES and type(data) is bytes:
            return data
        try:
            return decode(kind, data, self._codec)
        except (MemoryError, RecursionError):  # another time it can be
            raise
        except Exception as error:  # its class was renamed, or its file is gone
            raise_if_stopped(error)
            first = not self._undecodable
            self._change(self._forget_undecodable, key, locator)
            if first:
                told = f"cannot be decoded, and is a miss. {type(error).__qualname__}: {error}"
                warnings.warn(f"{self!r}: a value {told}", VolatilityWarning, callers_level())
            return MISSING

    def _forget_undecodable(self, key: Any, locator: int) -> None:
        if self._log.remove(key, locator, "undecodable"):
            self._undecodable += 1

    def _fetch_carefully(self, key: Any, probe: bool) -> tuple[int, Any]:
        """Something was not as usual: the key is not there, its shelf was sealed or dropped meanwhile, or the
        value is lost. The locator and the bytes found in the end, or `MISSING`. A probe marks nothing, and copies no
        large value.
        """
        while (locator := self._index.get(key)) is not None:
            shelf = self._log.by_number.get(locator >> NUMBER_SHIFT)
            if shelf is None:
                self._change(self._log.forget_dangling, key, locator)
                if self._index.get(key) == locator and locator >> NUMBER_SHIFT not in self._log.by_number:
                    break  # a finalizer asks in the middle of a change
                continue
            slot = locator >> KIND_BITS & _SLOT_MASK
            try:
                data = shelf.probe(slot) if probe else shelf.fetch(slot)
            except ValueError:
                continue  # sealed at this moment
            except KeyError:
                self._change(self._log.remove, key, locator, "expired")
                break
            except Purged:
                self._change(self._log.lose, key, locator)
                break
            else:
                if not probe:
                    shelf.mark(slot)
                return locator, data
        return 0, MISSING

    def _give_way_to_program(self) -> None:
        """There was no memory for something: a part of the values goes, and all where there is none even for that."""
        try:
            self._change(self._hand.give_up, ONE_GIFT)
        except (MemoryError, OSError) as error:
            if not for_want_of_room(error):
                raise
            self._change(self._log.clear, "evicted")

    def _tell_trouble(self, error: Exception) -> None:
        """Once for each kind: a cache that stores nothing makes its program slow, and nobody would know why."""
        raise_if_stopped(error)
        if type(error) in self._told:
            return
        self._told.add(type(error))
        warnings.warn(
            f"{self!r} could not store or read a value, which was made and returned: {type(error).__name__}: {error}",
            VolatilityWarning,
            stacklevel=callers_level(),
        )

    # ---- the whole

    def _clear(self) -> None:
        self._flights.spoil_all()
        self._log.clear()
        self._log.purged = self._undecodable = 0
        self._hand.lift()
        self._reset_counts()

    def _resize(self, max_bytes: int | None) -> None:
        self._log.max_bytes = max_bytes
        self._hand.fit(0)

    def _settle(self) -> None:
        self._hand.survey()
        self._hand.finish()

    def _close(self) -> None:
        self._closed = True
        self._flights.spoil_all()
        self._log.clear()

    # ---- changes

    def _change(self, action: Callable[..., T], *arguments: Any) -> T:
        """Make one change under the lock.

        A finalizer or a key's `__eq__` may call back while its own thread is in the middle of a change: such a
        change is made when the outer one is done (and answers None). A change that was cut short, by
        KeyboardInterrupt or in a forked child, is mended before the next.
        """
        if self._forks != forks():
            catch_up()
        if self._lock._is_owned():  # type: ignore[attr-defined]
            self._later.append((action, arguments))
            return cast(T, None)
        with self._lock:
            if self._torn:
                self._mend()
            self._torn = True
            result = action(*arguments)
            while self._later:
                later, its = self._later.pop(0)
                later(*its)
            self._torn = False
        if not self._listening and self._log.by_number:
            self._listening = pressure.listen(self)
        if self._telling:
            self._deliver()
        return result

    def _tell(self, key: Any, why: Why) -> None:
        if self._notices is not None and why == "purged":
            self._notices.due.append(key)
        if self._departures is not None:
            self._departures.due.append((key, why))

    def _deliver(self) -> None:
        for notices in (self._notices, self._departures):
            if notices is not None and notices.due:
                notices.deliver()

    def _mend(self) -> None:
        try:
            mend(self._log)
        except MemoryError:  # it counts all that there is
            self._log.clear("evicted")

    def _under_pressure(self) -> None:
        """Memory grows short somewhere: see what was lost, and let the kernel have what is still being filled."""
        self._change(self._give_way)

    def _give_way(self) -> None:
        self._log.seal_all(at_least=WORTH_SEALING // max(1, len(logs)))
        self._log.spare.clear()
        self._hand.survey()
        self._log.clean(4096)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._later.clear()
        self._torn = True
        self._listening = self._closed
        self._flights.forget_other_threads()
        for notices in (self._notices, self._departures):
            if notices is not None:
                notices.after_fork()
        if not self._inherit:
            tell, self._log.tell = self._log.tell, None  # they left nobody: the parent has them
            self._log.clear()
            self._log.tell = tell
            self._hand.lift()
        self._forks = forks()
