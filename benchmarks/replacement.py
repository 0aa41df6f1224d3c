"""Replacement policies from a few lines each, with a bound on entries; GDSF with one on bytes."""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from heapq import heappop, heappush
from typing import Any

__all__ = ["belady", "gdsf", "lru", "s3_fifo", "sieve", "w_tinylfu"]


def lru(trace: Iterable[Hashable], entries: int) -> int:
    """Hits."""
    there: OrderedDict[Hashable, None] = OrderedDict()
    hits = 0
    for key in trace:
        if key in there:
            hits += 1
            there.move_to_end(key)
            continue
        if len(there) >= entries:
            there.popitem(last=False)
        there[key] = None
    return hits


def sieve(trace: Iterable[Hashable], entries: int) -> int:
    """Zhang et al., NSDI 2024, figure 1."""
    newer: dict[Hashable, Hashable] = {}
    older: dict[Hashable, Hashable] = {}
    visited: dict[Hashable, bool] = {}
    ends: Any = object()  # both neighbours of the list's ends
    newer[ends] = older[ends] = ends
    hand: Any = ends
    hits = 0
    for key in trace:
        if key in visited:
            hits += 1
            visited[key] = True
            continue
        if len(visited) >= entries:
            victim = newer[ends] if hand is ends else hand
            while visited[victim]:
                visited[victim] = False
                victim = newer[victim]
                if victim is ends:
                    victim = newer[ends]
            hand = newer.pop(victim)
            older[hand] = older.pop(victim)
            newer[older[hand]] = hand
            del visited[victim]
        older[key], newer[key] = older[ends], ends
        newer[older[ends]] = older[ends] = key
        visited[key] = False
    return hits


def s3_fifo(trace: Iterable[Hashable], entries: int) -> int:
    """Yang et al., SOSP 2023, as libCacheSim has it: a tenth for the small queue, two hits to leave it for the main
    one, as many ghosts as the main queue has entries.
    """
    small_size = max(1, entries // 10)
    main_size = max(1, entries - small_size)
    small: OrderedDict[Hashable, None] = OrderedDict()
    main: OrderedDict[Hashable, None] = OrderedDict()
    ghosts: OrderedDict[Hashable, None] = OrderedDict()
    used: dict[Hashable, int] = {}

    def evict_main() -> None:
        while True:
            key, _ = main.popitem(last=False)
            if not used[key]:
                del used[key]
                return
            used[key] -= 1
            main[key] = None

    def evict_small() -> None:
        key, _ = small.popitem(last=False)
        if used[key] >= 2:
            used[key] = 0
            main[key] = None
            if len(main) > main_size:
                evict_main()
            return
        del used[key]
        ghosts[key] = None
        if len(ghosts) > main_size:
            ghosts.popitem(last=False)

    hits = 0
    for key in trace:
        if key in used:
            hits += 1
            used[key] = min(3, used[key] + 1)
            continue
        while len(used) >= entries:
            if small and (len(small) >= small_size or not main):
                evict_small()
            else:
                evict_main()
        used[key] = 0
        if key in ghosts:
            del ghosts[key]
            main[key] = None
        else:
            small[key] = None
    return hits


def w_tinylfu(trace: Iterable[Hashable], entries: int) -> int | None:
    """Theine's, a port of Ristretto and Caffeine; None where it is not installed."""
    try:
        from theine import Cache  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    cache: Any = Cache(entries)
    hits = 0
    for key in trace:
        name = str(key)
        if cache.get(name)[1]:
            hits += 1
        else:
            cache.set(name, 1)
    return hits


def belady(trace: Sequence[Hashable], entries: int) -> int:
    """The best there can be: what is needed latest goes, or does not enter."""
    never = len(trace)
    following = [never] * never
    last: dict[Any, int] = {}
    for at in range(never - 1, -1, -1):
        following[at] = last.get(trace[at], never + at)
        last[trace[at]] = at
    needed: list[tuple[int, Hashable]] = []  # sorted by when
    there: set[Hashable] = set()
    hits = first = 0
    for at, key in enumerate(trace):
        if key in there:
            hits += 1
            first += 1  # what is needed next is the first of all
        elif len(there) >= entries:
            if needed[-1][0] < following[at]:
                continue
            there.discard(needed.pop()[1])
        there.add(key)
        insort(needed, (following[at], key), lo=first)
        if first > 4096:
            del needed[:first]
            first = 0
    return hits


def gdsf(trace: Iterable[tuple[int, int, float]], capacity: int) -> float:
    """Greedy-Dual-Size-Frequency (Cherkasova, 1998), by keys, bytes and seconds: the seconds of all misses."""
    worth: dict[int, float] = {}
    uses: dict[int, int] = {}
    sizes: dict[int, int] = {}
    heap: list[tuple[float, int]] = []
    level = spent = used = 0.0
    for key, size, seconds in trace:
        if key not in worth:
            spent += seconds
            if size > capacity:
                continue
            while used + size > capacity:
                least, victim = heappop(heap)
                if worth.get(victim) == least:
                    level = least
                    used -= sizes[victim]
                    del worth[victim], uses[victim]
            used += size
            sizes[key] = size
        uses[key] = uses.get(key, 0) + 1
        worth[key] = level + uses[key] * seconds / size
        heappush(heap, (worth[key], key))
    return spent
