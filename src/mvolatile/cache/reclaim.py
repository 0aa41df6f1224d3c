"""Keeps a store within its budget: the budget says how much has to go, the evictor what."""

from __future__ import annotations

from collections.abc import Hashable

from .._core import give_back_kept
from .addresses import AddressSpace
from .budget import Budget
from .cost import UNKNOWN
from .eviction import Evictor
from .expiry import Expirer
from .keeping import Keeping
from .rss import Residence
from .store import NOBODY, Region, Store, mend

__all__ = ["Reclaimer"]

STEPS = 8
"""Values moved or forgotten for each value stored, when there is need."""
LOOK, LOOKS = 256 << 10, 4
"""While the kernel leaves us what we want, the oldest regions are asked about after so many bytes, or a part of all."""
GIVEN_UP = 8
"""Where no memory is to be had, at least such a part of the values goes."""


class Reclaimer:
    """Of one cache."""

    def __init__(
        self,
        store: Store,
        budget: Budget,
        evictor: Evictor,
        expirer: Expirer,
        addresses: AddressSpace,
        residence: Residence,
    ) -> None:
        self._store = store
        self._budget = budget
        self._evictor, self.policy = evictor, evictor.policy
        self._expirer = expirer
        self._addresses = addresses
        self.residence = residence
        self._unlooked = self._overhead = 0  # bytes filled since the oldest regions were last asked about
        self._look = 0.0  # after so many
        self.is_tight = False
        """Whether something had to go for what was stored last."""
        self.given_up = 0
        """Steps of the evictor for what was stored."""
        self._keeping = Keeping(store)
        store.sealed, store.retired = self._sealed, self._retired

    # ---- before a value enters: afterwards the evictor may stand at the newest, all others hit, and would give up that

    def make_room(self, nbytes: int, key: Hashable, cost: int = UNKNOWN) -> int:
        """A value is to be stored: give up others until it fits. Answers its queue."""
        queue = self.policy.stored(key, nbytes, cost)
        self.fit(nbytes, key)
        self.is_tight |= self.residence.fit(nbytes)
        return queue

    def fit(self, nbytes: int, key: Hashable = NOBODY) -> None:
        """Give up values until `nbytes` more fit, in the place of what `key` has now."""
        self.is_tight = False
        excess = self._budget.excess
        while (over := excess(nbytes)) > 0:
            self.is_tight = True
            if over <= self._store.given_back_by(key) or not self._evictor.advance():
                return
            self.given_up += 1

    def make_place(self, key: Hashable) -> None:
        """`key` is to be stored: give up others until it is one of as many as there may be."""
        index, most = self._store.index, self._budget.max_entries
        if most is None or len(index) < most or key in index:
            return
        while self._store.clean(4096):
            pass
        while len(index) >= most and self._evictor.advance():
            self.given_up += 1

    def give_up(self, nbytes: int) -> bool:
        """No memory is to be had: give up the memory of values of about so many bytes, or more where many are held, and
        stay at that. False when there is nothing left to give up.
        """
        store, spare = self._store, self._store.regions.spare
        count, keep = len(store.regions), store.nbytes - max(nbytes, store.nbytes // GIVEN_UP)
        if spare:
            spare.clear()
            return True
        while (store.nbytes > keep or len(store.regions) >= count) and self._evictor.advance():
            pass
        spare.clear()
        give_back_kept()
        self._budget.back_off(store.footprint)
        return len(store.regions) < count

    # ---- by and by

    def tidy(self) -> None:
        """The bounded work of every change: remove dead keys, merge half-empty segments."""
        if self._store.dropped:
            self._store.clean(2 * STEPS)
        if self._store.sparse:
            self._store.work(STEPS)
        if self._expirer.needed:
            self._expirer.look_at(STEPS // 2)

    def finish(self) -> None:
        """All work that is due."""
        while self._store.clean(4096) or self._store.work(4096):
            pass

    # ---- what the kernel takes

    def _sealed(self, region: Region) -> None:
        """A region was filled: look whether the kernel took old ones, and adapt."""
        self.policy.sealed(region)
        self._keeping.sealed(region)
        self._unlooked += region.used
        self._overhead += region.overhead
        if (
            self._unlooked >= self._look
            or self._budget.allowance is not None
            or self._store.taken
            or self._addresses.shrinking
        ):
            self._look_at_oldest()

    def _look_at_oldest(self) -> None:
        """One of each queue; and settle what was filled since."""
        store, budget, filled, overhead = self._store, self._budget, self._unlooked, self._overhead
        self._unlooked = self._overhead = 0
        self._look = min(LOOK, store.nbytes // LOOKS)
        for queue in self.policy.queues():
            for region in queue:
                oldest = store.regions.get(region.number)
                if oldest is not None and not oldest.gone:
                    store.inspect(oldest)
                    break
        budget.filled(filled, overhead)
        if self._addresses.shrinking:
            self._addresses.shrinking = False
            budget.retreat()
        if not store.taken:
            budget.grow(filled + overhead)
        elif budget.is_survey_due:
            self.survey()

    def _retired(self, region: Region) -> None:
        self.policy.left(region)
        self._keeping.left(region)

    def survey(self) -> None:
        """Ask about every region what the kernel took, and keep below what it let us have before."""
        self._keeping.read_again()
        self._budget.surveyed()
        for region in self._store.regions.suspects():
            self._store.inspect(region)
        if self._store.taken:
            self._store.taken = False
            self._budget.taken()

    def lift(self) -> None:
        """As if the kernel had never taken anything."""
        self._budget.lift()
        self._store.taken = False

    def mend(self) -> None:
        """A change was cut short: all in order again."""
        store, policy = self._store, self.policy
        mend(store)
        known = {}
        for region in list(policy.order()):
            if region.number in known or region.number not in store.regions:
                policy.left(region)
            known[region.number] = region
        ordered = {region.number for region in policy.order()}
        for number, region in store.regions.items():
            if number not in ordered and not region.is_open:
                policy.sealed(region)
        policy.mended()
