"""A snapshot of all caches of this process, those of one name together."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..cache.ages import BOUNDS
from ..cache.engine import engine_of
from ..cache.rebuild import NONE, RebuildPressure
from ..cache.registry import caches
from ..shared import shared_caches

__all__ = ["BOUNDS", "CacheFigures", "figures"]

NO_AGES = (0,) * (len(BOUNDS) + 1)


@dataclasses.dataclass(frozen=True)
class CacheFigures:
    """Of the caches of one name and kind in this process.

    `kind`: ``volatile``, or ``shared``: a `SharedCache`. Of that, `hits`, `misses`, the seconds saved and spent and
    what is said of rebuilds are this process's. The rest (`KEEPERS`) is its keeper's, and so the same in every process.

    `lost_ages`: how old values were when the kernel took them, counts by the classes of `AGE_BOUNDS` (seconds) and one
    of what was older; `lost_age_sum`: seconds. `rebuild`: rebuild pressure, of one cache the largest of the name.
    The rest is as in `mvolatile.cache.CacheInfo`, but that counts go on where a cache is cleared. They begin anew where
    it is closed.
    """

    name: str
    kind: str
    hits: int = 0
    misses: int = 0
    stores: int = 0
    lost: int = 0
    evicted: int = 0
    expired: int = 0
    entries: int = 0
    bytes: int = 0
    resident_bytes: int = 0
    pinned_bytes: int = 0
    saved_seconds: float = 0.0
    spent_seconds: float = 0.0
    lost_seconds: float = 0.0
    rebuild_seconds: float = 0.0
    rebuild: RebuildPressure = NONE
    lost_ages: tuple[int, ...] = NO_AGES
    lost_age_sum: float = 0.0

    def __add__(self, other: CacheFigures) -> CacheFigures:
        """Both together."""
        mine, theirs = vars(self), vars(other)
        return CacheFigures(**{what: _together(what, mine[what], theirs[what]) for what in mine})

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "rebuild": self.rebuild._asdict(), "lost_ages": list(self.lost_ages)}


def figures() -> list[CacheFigures]:
    """One for each name and kind, by name. Threads: any; a forked child counts what it has itself.

    Errors: none. What a keeper does not tell, because there is none, is 0.
    """
    found: dict[tuple[str, str], CacheFigures] = {}
    for cache in caches():
        _enter(found, _of_volatile(cache))
    for client in shared_caches():
        _enter(found, _of_shared(client))
    return [found[key] for key in sorted(found)]


def _enter(found: dict[tuple[str, str], CacheFigures], one: CacheFigures) -> None:
    key = one.name, one.kind
    found[key] = found[key] + one if key in found else one


def _together(what: str, mine: Any, theirs: Any) -> Any:
    if what in ("name", "kind"):
        return mine
    if what == "rebuild":
        return max(mine, theirs)
    if what == "lost_ages":
        return tuple(a + b for a, b in zip(mine, theirs, strict=True))
    return mine + theirs


def _of_volatile(cache: Any) -> CacheFigures:
    engine = engine_of(cache)
    info, store = cache.cache_info(), engine.store
    rebuild = store.rebuilds.pressure()
    return CacheFigures(
        name=cache.name,
        kind="volatile",
        **engine.counted(),
        entries=info.currsize,
        bytes=info.bytes,
        resident_bytes=info.resident_bytes or 0,
        pinned_bytes=info.pinned_bytes,
        rebuild_seconds=rebuild.total,
        rebuild=rebuild,
        lost_ages=tuple(store.ages.counts),
        lost_age_sum=store.ages.sum,
    )


def _of_shared(client: Any) -> CacheFigures:
    info, keeper = client.cache_info(), client.keeper_info()
    rebuild = client.here().rebuild
    return CacheFigures(
        name=client.name,
        kind="shared",
        hits=info.hits,
        misses=info.misses,
        stores=info.stores,
        lost=info.purged,
        evicted=info.evicted,
        expired=info.expired,
        entries=info.currsize,
        bytes=info.bytes,
        resident_bytes=info.resident_bytes or 0,
        pinned_bytes=info.pinned_bytes,
        saved_seconds=info.saved_seconds,
        spent_seconds=info.spent_seconds,
        lost_seconds=info.lost_seconds,
        rebuild_seconds=rebuild.total,
        rebuild=rebuild,
        lost_ages=tuple(keeper.get("lost_ages", NO_AGES)),
        lost_age_sum=keeper.get("lost_age_sum", 0.0),
    )
