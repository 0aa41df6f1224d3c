"""The parts of one cache, and how they are changed together: one change at a time, mended where it was cut short, after
a fork, and under memory pressure.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

from .._core import Lookup, give_back_kept
from ..errors import VolatilityWarning
from ..memory import callers_level
from ..residence import Share
from . import pressure
from .addresses import AddressSpace, for_want_of_room
from .behind import Tier
from .budget import Budget
from .calls import Calls
from .changes import Changes
from .checks import Mode, TimeToLive, Unstorable
from .cost import Costs
from .departures import Why, tell_each
from .eviction import Evictor, make_policy
from .expiry import Expirer
from .fork import follow
from .guard import Guard
from .notices import Notices
from .reclaim import Reclaimer
from .rss import Residence
from .stopped import raise_if_stopped
from .store import FRESH, Store, of_entry, stores
from .tags import Tags
from .values import Codec

__all__ = ["Parts"]

ONE_GIFT = 16 << 20
"""Where no memory is to be had, so much of the values is given up for the program."""

WORTH_SEALING = 256 << 10
"""Open segments with less in them stay open under pressure: of one cache. Many share this."""


class Figures:
    """What a policy may ask."""

    def __init__(self, store: Store, budget: Budget, lookup: Lookup) -> None:
        self._store, self._budget, self.lookup = store, budget, lookup
        self.counts, self.visits, self.lives = lookup.counts, lookup.visits, lookup.lives
        self.filling = store.filling

    @property
    def limit(self) -> float:
        """Bytes that values may take now."""
        budget = self._budget
        if budget.allowance is None:
            return inf if budget.max_bytes is None else budget.max_bytes
        return budget.limit

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return self.lookup.nbytes

    @property
    def entries(self) -> int:
        """How many there are."""
        return len(self._store.index)


class Parts:
    """The arguments are `VolatileCache`'s, checked; `owner` is the name of its type."""

    def __init__(
        self,
        lookup: Lookup,
        owner: str,
        *,
        max_bytes: int | None,
        maxsize: int | None,
        max_resident: int | Share | None,
        ttl: TimeToLive,
        name: str,
        codec: Codec | None,
        copy: bool | None,
        on_lost: Callable[[list[Any]], object] | None,
        on_evict: Callable[[Any, Why], object] | None,
        dump: bool,
        inherit: bool,
        timer: Callable[[], float],
        stale: float,
        stale_if_error: float,
        unstorable: Unstorable,
        behind: Any,
        behind_mode: Mode,
    ) -> None:
        self.owner, self.name = owner, name
        self.ttl, self.timer = ttl, timer
        self.grace = max(stale, stale_if_error)
        self.unstorable = unstorable
        self.tags: Tags | None = None  # until the first value has one
        self.tier = None if behind is None else Tier(behind, behind_mode, name, codec is not None)
        self.written: Callable[[Any, Any, float | None, Any, int], Any] | None = None  # of `Tiers`
        self.put_full: Callable[[Any, int, bytes], bool]  # of `Storing`
        self.codec, self.copy = codec, copy
        self.lookup, self.index = lookup, lookup.index
        self.undecodable = 0
        self.closed = self.listening = False
        self.has_news = True  # we are not told of pressure yet, or somebody is to be told of keys
        self.notices = None if on_lost is None else Notices(on_lost)
        self.departures = None if on_evict is None else Notices(partial(tell_each, on_evict))
        self.addresses = AddressSpace(name, dump=dump, inherit=inherit)
        self.store = Store(self.addresses.take, lookup, max_bytes)
        if self.notices is not None or self.departures is not None:
            self.store.tell = self.tell
        self.budget = Budget(lookup, max_bytes, maxsize)
        self.store.gives_way = max_bytes is None is maxsize
        self.policy = make_policy(Figures(self.store, self.budget, lookup))
        self.expirer = Expirer(self.store, timer, self.grace)
        evictor = Evictor(self.store, self.policy)
        self.residence = Residence(self.store, evictor, max_resident)
        self.reclaimer = Reclaimer(
            self.store, self.budget, evictor, self.expirer, self.addresses, self.residence
        )
        self.calls, self.costs = Calls(), Costs()
        self.guard = Guard(lookup)
        self.change = Changes(self, lookup)
        self._inherit = inherit
        self._told: set[type[Exception]] = set()
        follow(self)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{len(self.index)} entries, {self.store.nbytes} bytes"
        return f"<{self.owner} {self.name!r}: {state}>"

    # ---- after each change

    def mend(self) -> None:
        """A change was cut short."""
        try:
            self.reclaimer.mend()
        except MemoryError:  # it counts all that there is
            self.store.clear("evicted")

    def changed(self) -> None:
        """A change is over: see that we are told of pressure, and tell who left."""
        if not self.listening and self.store.regions:
            self.listening = pressure.listen(self)
            self.has_news = not self.listening or self.store.tell is not None or self.tier is not None
        if self.store.tell is not None:
            for notices in (self.notices, self.departures):
                if notices is not None and notices.due:
                    notices.deliver()
        if self.tier is not None:
            self.tier.changed()

    def arm(self) -> None:
        """In a change, at its end: have plain stores go by one call until the next, if that is all there is to them."""
        store = self.store
        if store.tell is not None or store.dropped or store.sparse:
            return
        if self.guard.share < 1 or self.tags is not None or self.tier is not None:
            return
        if self.codec is not None or self.ttl is not None or self.expirer.needed:
            return
        if not self.listening or self.closed:
            return
        segment, lock, credit = store.open.get(FRESH), self.change.lock, 0.0
        if segment is not None and self.budget.max_entries is None and not self.reclaimer.is_tight:
            credit = min(segment.capacity - segment.used, self.budget.credit, self.policy.indifferent())
        if segment is not None and credit > 0:
            self.lookup.arm(
                segment.table,
                segment.keys,
                segment.number,
                int(credit),
                lock.acquire,
                lock.release,
                self.calls,
                self.change.later,
                of_entry,
                store.dear,
            )
        elif self.budget.max_entries != 0:
            self.lookup.arm_full(self.put_full, lock.acquire, lock.release, self.calls, self.change.later)

    def begin_tags(self) -> None:
        """In a change: from now on what is stored has a tag, or has none any more."""
        if self.tags is None:
            self.tags = Tags(self.index)

    def tell(self, key: Any, why: Why) -> None:
        """A key left."""
        if self.notices is not None and why == "purged":
            self.notices.due.append(key)
        if self.departures is not None:
            self.departures.due.append((key, why))

    # ---- where memory is short

    def under_pressure(self) -> None:
        """Memory grows short somewhere: see what was lost, and let the kernel have what is still being filled."""
        self.change(self._give_way)

    def _give_way(self) -> None:
        self.store.seal_all(at_least=WORTH_SEALING // max(1, len(stores)))
        self.store.regions.spare.clear()
        give_back_kept()
        self.reclaimer.survey()
        self.store.clean(4096)

    def give_way_to_program(self) -> None:
        """There was no memory for something: a part of the values goes, and all where there is none even for that."""
        try:
            self.change(self.reclaimer.give_up, ONE_GIFT)
        except (MemoryError, OSError) as error:
            if not for_want_of_room(error):
                raise
            self.change(self.store.clear, "evicted")

    def tell_trouble(self, error: Exception) -> None:
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

    # ---- after a fork

    def after_fork(self) -> None:
        """In the child."""
        self.change.after_fork()
        self.listening, self.has_news = self.closed, True
        self.calls.forget_other_threads()
        self.store.rebuilds.after_fork()
        for notices in (self.notices, self.departures):
            if notices is not None:
                notices.after_fork()
        if self.tier is not None:
            self.tier.after_fork()
        if not self._inherit:
            tell, self.store.tell = self.store.tell, None  # they left nobody: the parent has them
            self.store.clear()
            self.store.tell = tell
            self.reclaimer.lift()
        self.change.caught_up()
