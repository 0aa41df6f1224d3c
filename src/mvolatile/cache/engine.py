"""The engine of one cache: its parts, those that work on them, and the cache as a whole. `VolatileCache` has one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from .. import _core
from .._core import MISSING, Lookup, Reader, give_back_kept, mark_lingering
from . import pressure
from .addresses import resident_bytes
from .calls import Call
from .checks import checked_condition, checked_tag, checked_ttl
from .parts import Parts
from .reading import Reading
from .refreshing import Refreshing
from .singleflight import SingleFlight, Terms
from .statistics import CacheInfo
from .storing import Storing
from .tags import NO_TAGS, Tagged
from .tiers import Tiers

__all__ = ["Engine", "engine_of"]


class Engine(Parts):
    """What `VolatileCache` and the decorator call."""

    def __init__(self, lookup: Lookup, owner: str, **given: Any) -> None:
        super().__init__(lookup, owner, **given)
        stale, if_error = given["stale"], given["stale_if_error"]
        self.reading = lookup.engine = Reading(self)
        self.storing = Storing(self, self.reading)
        self.put_full = self.storing.put_full
        making = self, self.calls, self.store.rebuilds
        self.singleflight: SingleFlight = (
            Refreshing(*making, self.reading, stale, if_error) if stale or if_error else SingleFlight(*making)
        )
        self.find, self.find_or_miss = lookup.find, self.reading.find_or_miss
        self.count_hit, self.count_miss = lookup.count_hit, lookup.count_miss
        self.tiers: Tiers | None = None
        if self.tier is not None:
            self.tiers = Tiers(self, self.storing, self.tier)
            self.written, self.reading.find_behind = self.tiers.written, self.tiers.find
            lookup.behind = True
        self.make_again, self.lay_out = self.storing.make_again, self.storing.lay_out
        self.past: dict[str, Any] = {}  # what was counted before the cache was cleared; seconds as well
        self._told_last = self.past

    def store_made(self, key: Any, value: Any, terms: Terms, call: Call) -> bool:
        """See `Storing.store_made`. Who asked after a change does not wait for what was begun before it."""
        self.storing.store_made(key, value, terms, call)
        return True

    def holds(self, key: Any) -> bool:
        """Whether there is an entry, perhaps one that is lost already."""
        return key in self.index

    def delete(self, key: Any) -> bool:
        """Whether this call removed it."""
        present = self.reading.contains(key)  # if it is lost or expired, it leaves as such
        behind = not present and self.tiers is not None and self.tiers.has(key)
        if self.grace and not present:
            self.change(self.forget_expired, key)
        removed: bool | None = self.change(self.storing.remove, key)
        return behind or (
            present if removed is None else removed
        )  # None: a finalizer, in the middle of a change

    # ---- what is behind

    def load(self, call: Call) -> Any:
        """The value of what is missing, from behind; or `MISSING`."""
        return MISSING if self.tiers is None else self.tiers.load(call.key, call)

    def find_anywhere(self, key: Any) -> Any:
        """As `find`, and behind."""
        value = self.find(key)
        return self.tiers.find(key) if value is MISSING and self.tiers is not None else value

    def contains(self, key: Any) -> bool:
        """Whether a get would have been a hit now."""
        return self.reading.contains(key) or (self.tiers is not None and self.tiers.has(key))

    def bring(self, key: Any) -> None:
        """Have it in memory, if it is behind alone: for what reads and changes it in one step."""
        if self.tiers is not None and not self.reading.contains(key):
            self.tiers.find(key)

    def use_tag(self, tag: Any, key: Any = None) -> Tagged | None:
        """What a store of `key` has in place of a call; None without a tag."""
        if tag is None:
            return None
        if self.tier is not None:
            raise ValueError(NO_TAGS)
        hash(tag)
        self.change(self.begin_tags)
        return Tagged(self.calls, key, tag)

    def terms(self, ttl: Any, condition: Any, tag: Any) -> Terms:
        """Those of one making."""
        self.use_tag(tag)
        return Terms(checked_ttl(ttl), checked_condition(condition), tag_of=checked_tag(tag))

    def delete_tag(self, tag: Any) -> int:
        """How many values were deleted."""
        return self.change(self._delete_tag, tag) or 0  # None: a finalizer asks in the middle of a change

    def _delete_tag(self, tag: Any) -> int:
        self.calls.invalidate_tagged(tag)
        deleted = 0
        for key in () if self.tags is None else self.tags.take(tag):
            there = self.reading.entry(key) is not None
            deleted += self.storing.remove(key) and there
        return deleted

    def forget_missing(self, key: Any) -> bool:
        """Somebody takes the value of `key`, which memory has not. False; or True if it was brought there meanwhile.

        The bad schedule: the kernel takes it after it was brought, and what is behind would be found by the next get.
        """
        return self.change(self._forget_missing, key) is True

    def _forget_missing(self, key: Any) -> bool:
        if self.tier is not None and self.reading.entry(key) is not None:
            return True
        self.forget_expired(key)
        if self.tier is not None:
            self.tier.delete(key)
        return False

    def forget_expired(self, key: Any) -> None:
        """What is being made for `key` is out of date, and what expired is not to be given in its place."""
        self.calls.invalidate(key)
        if self.grace and self.reading.entry(key) is None:
            self.store.remove(key, None, "expired")

    # ---- the whole

    def clear(self) -> None:
        """Forget everything, statistics too."""
        self.change(self._clear)

    def _clear(self) -> None:
        self.calls.invalidate_all()
        self.store.clear()
        self.tags = None
        if self.tier is not None:
            self.tier.pending.note_clear()
        self.reclaimer.lift()
        self._count_anew()

    def _count_anew(self) -> None:
        self.past = self._counted()
        self.lookup.reset_counts()
        store = self.store
        store.purged = store.evicted = store.expired = self.undecodable = 0
        store.lost_seconds = 0.0

    def counted(self) -> dict[str, Any]:
        """What those who watch are told: counts and seconds as in `info`, since the cache was made, not since it was
        cleared. In one change, and so never less than before.
        """
        counted: dict[str, Any] | None = self.change(self._settled_counts)
        self._told_last = counted or self._told_last  # None: a finalizer, in the middle of a change
        return self._told_last

    def _settled_counts(self) -> dict[str, Any]:
        self._settle()
        return self._counted()

    def _counted(self) -> dict[str, Any]:
        store, lookup = self.store, self.lookup
        hits, misses = lookup.counts()
        now = {
            "hits": hits,
            "misses": misses,
            "stores": lookup.stores,
            "lost": store.purged,
            "evicted": store.evicted,
            "expired": store.expired,
            "saved_seconds": lookup.saved,
            "spent_seconds": lookup.spent,
            "lost_seconds": store.lost_seconds,
        }
        return {what: number + self.past.get(what, 0) for what, number in now.items()}

    def resize(self, max_bytes: int | None) -> None:
        """Change the bound on bytes."""
        self.change(self._resize, max_bytes)

    def _resize(self, max_bytes: int | None) -> None:
        self.store.most = self.budget.max_bytes = max_bytes
        self.store.gives_way = max_bytes is None is self.budget.max_entries
        self.reclaimer.fit(0)

    def purge(self, nbytes: int | None) -> int:
        """Have the kernel reclaim values, the oldest first, until `nbytes` went."""
        given = 0
        give_back_kept()
        for region in list(self.store.regions.values()):
            if nbytes is not None and given >= nbytes:
                break
            with suppress(BufferError, ValueError):  # held, or dropped by another thread meanwhile
                given += region.memory.purge()
        return given

    def count(self) -> int:
        """Entries not known to be lost or expired."""
        if self.store.dropped:
            self.change(self.reclaimer.finish)
        return len(self.index)

    def info(self) -> CacheInfo:
        """Statistics."""
        self.change(self._settle)
        mark_lingering()  # it would count neither as pinned nor as what the kernel can take
        store, spare = self.store, self.store.regions.spare
        regions = list(store.regions.values())
        hits, misses = self.lookup.counts()
        pinned = sum(region.memory.nbytes for region in regions if _core.pins(region.memory))
        pinned += sum(memory.nbytes for memory in store.regions.leaving if _core.pins(memory))
        resident: int | None
        try:
            resident = sum(map(resident_bytes, [region.memory for region in regions] + spare))
        except (FileNotFoundError, PermissionError):  # no /proc, or a daemon that has changed its user
            resident = None
        return CacheInfo(
            hits=hits,
            misses=misses,
            maxsize=self.budget.max_entries,
            currsize=len(self.index),
            purged=store.purged,
            evicted=store.evicted,
            expired=store.expired,
            stores=self.lookup.stores,
            bytes=store.nbytes,
            resident_bytes=resident,
            pinned_bytes=pinned,
            segments=len(regions),
            undecodable=self.undecodable,
            overhead=0,
            **({} if self.tier is None else self.tier.counts()),
            saved_seconds=self.lookup.saved,
            spent_seconds=self.lookup.spent,
            lost_seconds=store.lost_seconds,
        )

    def _settle(self) -> None:
        self.reclaimer.survey()
        self.reclaimer.finish()

    def after_fork(self) -> None:
        """In the child."""
        super().after_fork()
        self.singleflight.after_fork()

    def close(self) -> None:
        """Give the memory back."""
        self.change(self._close)
        self.listening = True
        pressure.ignore(self)
        self.singleflight.drop()
        if self.tier is not None:
            self.tier.close()

    def _close(self) -> None:
        self.closed = True
        self.tags = None
        self.calls.invalidate_all()
        self.store.clear()


def engine_of(cache: Reader[Any, Any]) -> Engine:
    """The engine of a `VolatileCache`, for the decorator, and for tests of what is inside."""
    engine: Engine = cache._engine  # type: ignore[attr-defined]  # noqa: SLF001
    return engine
