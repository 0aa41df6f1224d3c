"""What a `VolatileCache` does inside: find, store, and change under one lock. Nothing here is for users."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

from .._core import MISSING, Finder
from ..errors import NoRoomError, Purged, TooLargeError
from ..kernel.room import room
from ..memory import VolatileMemory
from . import pressure
from .checks import checked_ttl
from .duel import Duel
from .flights import Flights
from .fork import catch_up, follow
from .hand import Hand
from .log import Log, logs
from .notices import Notices
from .segment import KIND_BITS, NUMBER_SHIFT, SLOTS, Range
from .sweep import Sweeper
from .values import EXPIRES, EXPIRY, Codec, decode, encode

__all__ = ["Engine"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

OWN_RANGE = 64 << 10
"""Values from this size on get memory of their own: a hit is a system call or two, and no copy."""

OWN_PAGES = 16 << 10
"""So do those from this size on that would waste much of a segment; smaller ones would waste much of a page."""

WORTH_ASKING = 32 << 20
"""Before storing values from this size on, the kernel is asked whether there is room: half a millisecond."""

WORTH_SEALING = 256 << 10
"""Open segments with less in them stay open under pressure: of one cache. Many share this."""

_SLOT_MASK, _KIND_MASK = SLOTS - 1, (1 << KIND_BITS) - 1


class Engine(Finder[K, V]):
    """The parts of one cache, and what they do together. The arguments are `VolatileCache`'s, checked."""

    def __init__(
        self,
        max_bytes: int | None,
        maxsize: int | None,
        ttl: float | None,
        name: str,
        codec: Codec | None,
        on_purge: Callable[[list[Any]], object] | None,
        *,
        dump: bool,
        inherit: bool,
        timer: Callable[[], float],
    ) -> None:
        self.name: str = name
        self._ttl = ttl
        self._codec = codec
        self._notices = None if on_purge is None else Notices(on_purge)
        self._timer = timer
        self._inherit = inherit
        self._new_memory = partial(VolatileMemory, name=self.name, dump=dump, inherit=inherit)
        self._log = Log(self._new_memory, self._index, self._shelves, max_bytes)
        if self._notices is not None:
            self._log.tell_lost = self._notices.due.append
        self._hand = Hand(self._log, maxsize, Sweeper(self._log, timer), Duel(self._counts))
        self._flights = Flights()
        self._closed = self._listening = False
        self._later: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._lock = threading.RLock()
        self._torn = False
        follow(self)

    # ---- reading

    def _find_carefully(self, key: Any) -> Any:
        """For `Finder`, when something is not as usual; the value or `MISSING`."""
        locator, data = self._fetch_carefully(key, False)
        return data if data is MISSING else self._decoded(key, locator, data)

    def _decoded(self, key: Any, locator: int, data: Any) -> Any:
        """For `Finder`: the value, unless it is expired."""
        kind = locator & _KIND_MASK
        if kind & EXPIRES:
            if self._timer() >= EXPIRY.unpack_from(data, len(data) - EXPIRY.size)[0]:
                self._change(self._log.remove, key, locator)
                return MISSING
            data, kind = data[: -EXPIRY.size], kind - EXPIRES
        return decode(kind, data, self._codec)

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
                self._change(self._log.remove, key, locator)
                break
            except Purged:
                self._change(self._log.lose, key, locator)
                break
            else:
                if not probe:
                    shelf.mark(slot)
                return locator, data
        return 0, MISSING

    # ---- writing

    def _store(self, key: Any, value: Any, ttl: float | None, flight: Any) -> None:
        hash(key)
        if self._closed:
            raise ValueError(f"{self!r}: nothing can be stored")
        lives = self._ttl if ttl is None else checked_ttl(ttl)
        if lives is not None and lives <= 0:
            self._change(self._put_nothing, key, flight)
            return
        expires = None if lives is None or lives == math.inf else self._timer() + lives
        encoded = encode(value, self._codec)
        if expires is not None:
            self._hand.sweeper.needed = True
        elif not encoded.nbytes:
            expires = math.inf  # takes some bytes: else nothing would bound how many there are
        most = self._log.max_bytes
        nbytes = encoded.nbytes + (0 if expires is None else EXPIRY.size)
        if (most is not None and nbytes > most) or self._hand.max_entries == 0:
            self._change(self._put_nothing, key, flight)
            if self._hand.max_entries == 0:
                return
            raise TooLargeError(f"a value that takes {nbytes} bytes is larger than max_bytes={most}")
        if nbytes >= WORTH_ASKING and (has := room()) is not None and nbytes + _page_tables(nbytes) > has:
            self._change(self._put_nothing, key, flight)
            raise NoRoomError(f"a value of {encoded.nbytes} bytes, but there is room for {max(0, has)}")
        if nbytes >= OWN_RANGE or (nbytes >= OWN_PAGES and nbytes * 4 > self._log.segment_bytes()):
            self._change(self._hand.make_room, encoded.nbytes)
            memory = self._new_memory(max(1, encoded.nbytes))
            shelf = Range(self._log.next_number(), key, encoded, memory, expires, self._timer)
            self._change(self._put_range, shelf, flight)
            return
        parts, kind = encoded.parts, encoded.kind
        if expires is not None:
            parts, kind = [*parts, EXPIRY.pack(expires)], kind | EXPIRES
        data = parts[0] if len(parts) == 1 else b"".join(map(_as_bytes, parts))
        self._change(self._put, key, kind, data, flight)

    _missing: Any = MISSING

    def _store_made(self, key: Any, value: Any, ttl: float | None, flight: Any) -> None:
        with suppress(TooLargeError):
            self._store(key, value, ttl, flight)

    def _stands(self, key: Any, flight: Any) -> bool:
        """Whether a value may be stored: not one that was made while its key was set, deleted or cleared."""
        if self._closed:
            return False
        if flight is not None:
            return not flight.stale
        self._flights.spoil(key)
        return True

    def _put(self, key: Any, kind: int, data: bytes, flight: Any) -> None:
        if self._stands(key, flight):
            self._hand.make_room(len(data))
            self._log.put(key, kind, data)
            self._hand.keep_count()
            self._hand.tidy()

    def _put_range(self, shelf: Range, flight: Any) -> None:
        if self._stands(shelf.keys[0], flight):
            self._hand.fit(shelf.used)  # before it is there: the hand may stand at the newest
            self._log.put_range(shelf)
            self._hand.keep_count()
            self._hand.tidy()

    def _put_nothing(self, key: Any, flight: Any) -> None:
        if self._stands(key, flight):
            self._log.remove(key)

    def _remove(self, key: Any) -> None:
        self._flights.spoil(key)
        self._log.remove(key)
        self._hand.tidy()

    def _take(self, key: Any, locator: int | None) -> bool:
        """Locators are never used twice: if it is there still, it is the value that was read."""
        if self._index.get(key) != locator:
            return False
        self._remove(key)
        return True

    # ---- the whole

    def _clear(self) -> None:
        self._flights.spoil_all()
        self._log.clear()
        self._log.purged = 0
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
        catch_up()
        if self._lock._is_owned():  # type: ignore[attr-defined]
            self._later.append((action, arguments))
            return cast(T, None)
        with self._lock:
            if self._torn:
                self._log.mend()
            self._torn = True
            result = action(*arguments)
            while self._later:
                later, its = self._later.pop(0)
                later(*its)
            self._torn = False
        if not self._listening and self._log.by_number:
            self._listening = pressure.listen(self)
        if self._notices is not None and self._notices.due:
            self._notices.deliver()
        return result

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
        if self._notices is not None:
            self._notices.after_fork()
        if not self._inherit:
            self._log.clear()
            self._hand.lift()


def _page_tables(nbytes: int) -> int:
    """What the kernel takes beside the pages, and a little for what else happens meanwhile."""
    return nbytes // 256 + (1 << 20)


def _as_bytes(part: Any) -> Any:
    return part if isinstance(part, bytes | bytearray | memoryview) else part.tobytes("A")
