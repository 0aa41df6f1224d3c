"""How fast is a slab of a zarr array that is read again and again, and what does a memory limit leave of it?

    python benchmarks/zarr_slab.py [--json FILE] [--quick]

An array of floats on the disk, in chunks of 1 MiB, compressed by zarr's default. In one run, taking turns: the same
slab from the store itself, through zarr's own `CacheStore` without a bound, and through our `VolatileStore`, with
decoded chunks, without, and with one cache for all processes. Then popular slabs of it in a memory cgroup, a child
process for each, from a store that answers after 5 ms, as one in a network does: no cache, `CacheStore` without a bound
and with bounds that suit and do not suit the limit, and ours, which has none; counted are the processor's time and the
waiting. Exits with 1 if a goal is missed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from harness import MIB, Goal, keep, parser, take_turns
from zarr.experimental.cache_store import CacheStore
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from mvolatile.integrations.zarr import VolatileStore
from mvolatile.kernel.cgroup import ChildCgroup

SIDE = 512
LIMIT, SLABS, READS = 192 * MIB, 320, 1500
FAR_SECONDS = 0.005
PLAIN, THEIRS, OURS, ENCODED, SHARED = (
    "no cache",
    "CacheStore",
    "VolatileStore",
    "VolatileStore, decoded=False",
    "VolatileStore, shared",
)
BOUNDS = (None, 160, 112, 96, 64)
"""Of `CacheStore`, MiB, under the limit."""


def filled(folder: Path, slabs: int) -> None:
    """Measured values, as sensors give them: a smooth field, and noise of three digits."""
    random = np.random.default_rng(3)
    array = zarr.create_array(folder, shape=(slabs, SIDE, SIDE), chunks=(1, SIDE, SIDE), dtype="f4")
    field = np.add.outer(np.sin(np.arange(SIDE) / 50), np.cos(np.arange(SIDE) / 40)) * 10
    for number in range(slabs):
        array[number] = np.round(field + number + random.normal(0, 0.05, (SIDE, SIDE)), 3)


class Far(WrapperStore[Any]):
    """A store that takes its time."""

    fetched = 0

    async def get(self, *what: Any, **how: Any) -> Any:
        Far.fetched += 1
        await asyncio.sleep(FAR_SECONDS)
        return await super().get(*what, **how)


def opened(folder: Path, which: str, bound: int | None = None, far: bool = False) -> Any:
    """The array through that cache."""
    store: Any = Far(LocalStore(folder)) if far else LocalStore(folder)
    if which == THEIRS:
        most = None if bound is None else bound * MIB
        store = CacheStore(store, cache_store=MemoryStore(), max_size=most)
    elif which == SHARED:
        store = VolatileStore(store, shared="zarr-slab")
    elif which != PLAIN:
        store = VolatileStore(store, decoded=which == OURS)
    return zarr.open_array(store, mode="r")


def speed(folder: Path, seconds: float) -> dict[str, Any]:
    """Of a slab of 8 chunks, as it is and a quarter of each chunk."""
    arrays = {which: opened(folder, which) for which in (PLAIN, THEIRS, OURS, ENCODED, SHARED)}
    right = arrays[PLAIN][4:12]
    assert all(np.array_equal(array[4:12], right) for array in arrays.values())
    found = {
        "slab": take_turns(
            {which: partial(array.__getitem__, slice(4, 12)) for which, array in arrays.items()},
            seconds=seconds,
        ),
        "quarter": take_turns(
            {
                which: partial(array.__getitem__, (slice(4, 12), slice(0, 256), slice(0, 256)))
                for which, array in arrays.items()
            },
            seconds=seconds,
        ),
    }
    arrays[SHARED].store.volatile.clear()
    arrays[SHARED].store.volatile.close()
    return found


def read_popular(folder: Path, which: str, bound: int | None, reads: int) -> dict[str, float]:
    """In a child: slabs, popular ones more often."""
    array = opened(folder, which, bound, far=True)
    random = np.random.default_rng(7)
    weights = 1 / np.arange(1, SLABS + 1) ** 0.9
    wanted = random.permutation(SLABS)[random.choice(SLABS, reads, p=weights / weights.sum())]
    start, used = time.perf_counter(), time.process_time()
    for number in wanted:
        slab = array[int(number)]
        assert abs(float(slab[0, 0]) - 10 - number) < 1, "another slab's"
    used = time.process_time() - used
    return {
        "seconds": time.perf_counter() - start,
        "fetched": Far.fetched,
        "worked_and_waited": used + Far.fetched * FAR_SECONDS,
    }


def under_limit(folder: Path, reads: int) -> list[dict[str, Any]]:
    """A child for each, one after the other."""
    rows = []
    for which, bound in [
        (PLAIN, None),
        *((THEIRS, bound) for bound in BOUNDS),
        (ENCODED, None),
        (OURS, None),
    ]:
        with ChildCgroup(LIMIT) as cgroup:
            command = [sys.executable, __file__, "--child", str(folder), which, str(bound or 0), str(reads)]
            done = subprocess.run(cgroup.wrap(command), capture_output=True, text=True)
            row: dict[str, Any] = {"cache": which, "bound_mib": bound, "killed": cgroup.oom_kills() > 0}
        if done.returncode and not row["killed"]:
            raise SystemExit(done.stderr)
        row |= (
            json.loads(done.stdout)
            if not row["killed"]
            else dict.fromkeys(("seconds", "fetched", "worked_and_waited"))
        )
        rows.append(row)
        print(row)
    return rows


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        folder, which, bound, reads = sys.argv[2:]
        print(json.dumps(read_popular(Path(folder), which, int(bound) or None, int(reads))))
        return 0
    options = parser(__doc__)
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    options.add_argument("--quick", action="store_true", help="less of everything, for a first look")
    given = options.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        where = Path(scratch, "array")
        filled(where, SLABS)
        encoded = sum(file.stat().st_size for file in where.rglob("*") if file.is_file())
        print(f"{SLABS} MiB, {encoded / MIB:.0f} MiB of them on the disk")
        times = speed(where, 3 if given.quick else 20)
        limited = under_limit(where, READS // 5 if given.quick else READS)
    least = {what: {name: one["least"] for name, one in found.items()} for what, found in times.items()}
    for what, found in least.items():
        for name, seconds in found.items():
            print(
                f"{what:>8} {name:>29}: {seconds * 1e3:7.2f} ms, {found[PLAIN] / seconds:5.2f} times as fast"
            )
    # The processor's time, and the store's: what else this machine does meanwhile is in neither.
    alive = [row["worked_and_waited"] for row in limited if row["cache"] == THEIRS and not row["killed"]]
    ours = limited[-1]["worked_and_waited"]
    goals = [
        Goal("a slab, beside no cache", least["slab"][PLAIN] / least["slab"][OURS], 2, True),
        Goal("a slab, beside CacheStore", least["slab"][THEIRS] / least["slab"][OURS], 2, True),
        Goal(
            "under the limit, without a bound, beside the best one",
            min(alive) / ours if ours else 0,
            1,
            True,
        ),
    ]
    print(*goals, sep="\n")
    if given.json:
        keep(
            given.json,
            __file__,
            time.monotonic() - start,
            seconds=least,
            encoded_mib=round(encoded / MIB),
            limit_mib=LIMIT // MIB,
            under_limit=limited,
        )
    return 0 if all(goal.met for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
