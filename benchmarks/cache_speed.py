"""How fast is the cache, beside what people use now?

    python benchmarks/cache_speed.py [--json FILE] [--quick] [--before PYTHON]

All in one run, in one process, each figure the best of several rounds. Small hits: 100 bytes, str keys, from
cachetools.LRUCache behind a lock, cachebox, diskcache, and real Redis and memcached servers on loopback, which the
script starts and stops (Debian: redis-server, memcached); who is not installed is left out, and said so. Large
hits: an array returned over the cache's memory against `pickle.loads` from a dict of bytes. Sets: 8 MiB arrays
against memcpy into memory fresh from the kernel, and bytes of several sizes against memcpy into memory that is there.
Readers: how much more two threads read than one, of 8 MiB arrays that
are summed or copied, from the cache and from a dict. Calls: hits through the decorators. Objects: a hit of one that is
pickled, against `pickle.loads`. Index: bytes an entry beside key and value, at a million entries. With the interpreter
of another checkout as PYTHON: the same small hits and sets there, in turns with ours. Exits with 1 if a limit is
missed.
"""

from __future__ import annotations

import argparse
import importlib.util
import mmap
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, cycle
from pathlib import Path
from typing import Any

import numpy as np
from cache_steps import VALUE, beside, best, calls, in_turns, objects
from harness import keep, steps

import mvolatile as mv
from mvolatile.cache.engine import engine_of

BEYOND = 256 << 20
"""Bytes of arrays, taken in turn: what is asked for again and again would lie in the processor's cache, and a
server's has 32 MiB and more.
"""
KEYS = [f"key:{number}" for number in range(1000)]


def over_keys(get: Callable[[str], object]) -> Callable[[], None]:
    def action() -> None:
        for key in KEYS:
            get(key)

    return action


@contextmanager
def server(*command: str, port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def getters(stack: ExitStack, missing: list[str]) -> Iterator[tuple[str, Callable[[str], object], int]]:
    """Name, get, and how many loops over all keys."""
    import cachetools

    for label, sealed in (("ours, being filled", False), ("ours, volatile", True)):
        cache: mv.VolatileCache[str, bytes] = stack.enter_context(mv.VolatileCache())
        cache.update(dict.fromkeys(KEYS, VALUE))
        if sealed:
            engine_of(cache).change(engine_of(cache).store.seal_all)
        yield label, cache.__getitem__, 20
    lru: Any = cachetools.LRUCache(1 << 20)
    lru.update(dict.fromkeys(KEYS, VALUE))
    lock = threading.Lock()

    def locked(key: str) -> object:
        with lock:
            return lru[key]

    yield "cachetools.LRUCache, lock", locked, 20
    if importlib.util.find_spec("cachebox"):
        import cachebox

        box: Any = cachebox.LRUCache(1 << 20)
        for key in KEYS:
            box[key] = VALUE
        yield "cachebox.LRUCache", box.__getitem__, 20
    else:
        missing.append("cachebox")
    if importlib.util.find_spec("diskcache"):
        import diskcache

        disk = stack.enter_context(diskcache.Cache(stack.enter_context(tempfile.TemporaryDirectory())))
        for key in KEYS:
            disk[key] = VALUE
        yield "diskcache.Cache", disk.__getitem__, 1
    else:
        missing.append("diskcache")
    for name, program, module in (
        ("Redis", "redis-server", "redis"),
        ("memcached", "memcached", "pymemcache"),
    ):
        if not shutil.which(program) or not importlib.util.find_spec(module):
            missing.append(name)
            continue
        port = free_port()
        client: Any
        if name == "Redis":
            stack.enter_context(server(program, "--port", str(port), "--save", "", port=port))
            import redis

            client = redis.Redis(port=port)
        else:
            stack.enter_context(
                server(program, "-u", "nobody", "-l", "127.0.0.1", "-p", str(port), port=port)
            )
            from pymemcache.client.base import Client

            client = Client(("127.0.0.1", port))
        for key in KEYS:
            client.set(key, VALUE)
        yield name, client.get, 1
        client.close()


def small_hits() -> tuple[dict[str, float], list[str]]:
    missing: list[str] = []
    found = {}
    with ExitStack() as stack:
        for name, get, loops in steps(getters(stack, missing), "small hits"):
            found[name] = best(over_keys(get), loops) / len(KEYS)
    return found, missing


def some_arrays(mib: int) -> list[np.ndarray]:
    return [np.random.default_rng(seed).random(mib << 17) for seed in range(BEYOND // (mib << 20))]


def large(mib: int) -> dict[str, float]:
    arrays = some_arrays(mib)
    pickled = {seed: pickle.dumps(array, 5) for seed, array in enumerate(arrays)}
    turn = cycle(range(len(arrays)))
    with mv.VolatileCache() as cache:
        cache.update(enumerate(arrays))
        hit = best(lambda: cache[next(turn)], 200)
        hot = best(lambda: cache[0], 200)
        unpickle = best(lambda: pickle.loads(pickled[next(turn)]), len(arrays))

        def fresh() -> None:
            with mmap.mmap(-1, arrays[0].nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
                memory.madvise(mmap.MADV_HUGEPAGE)
                np.frombuffer(memory, float)[:] = arrays[next(turn)]

        def store() -> None:
            cache["k"] = arrays[next(turn)]

        return {
            "hit": hit,
            "hot": hot,
            "unpickle": unpickle,
            "set": best(store, 8),
            "memcpy_fresh": best(fresh, 8),
        }


def stores(nbytes: int) -> dict[str, float]:
    """Of one size: into memory that is new to the cache, and in a full cache; beside the copy alone into memory that is
    there, and in the processor's cache.
    """
    value, numbers = np.random.default_rng(nbytes).bytes(nbytes), count()
    target, many = memoryview(bytearray(nbytes)), max(8, min(200, BEYOND // nbytes // 2))

    def copy() -> None:
        target[:] = value

    found = {"memcpy_warm": best(copy, 50)}
    with mv.VolatileCache() as cache:
        found["fresh"] = best(lambda: cache.set(next(numbers), value), 4, rounds=many // 4)
    with mv.VolatileCache(16 * nbytes) as cache:
        for number in range(17):
            cache[number] = value
        ways = {"memcpy_warm": copy, "full": lambda: cache.set(next(numbers), value)}
        found |= in_turns(ways, 4, rounds=many)
    return found


def in_threads(count: int, read: Callable[[int], None]) -> float:
    """Seconds until so many threads have all read."""
    threads = [threading.Thread(target=read, args=(number,)) for number in range(count)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def readers(rounds: int) -> dict[str, dict[str, float]]:
    """How much more two threads read than one, each its half of the arrays: the least times of each, in turns."""
    arrays = some_arrays(8)
    half = len(arrays) // 2
    found: dict[str, dict[str, float]] = {}
    with mv.VolatileCache() as cache:
        cache.update(enumerate(arrays))
        for what in ("sum", "copy"):
            targets = [np.empty_like(arrays[0]) for _ in range(2)]
            least: dict[tuple[str, int], float] = {}
            for _ in range(rounds):
                for name, source in (("cache", cache), ("dict", dict(enumerate(arrays)))):

                    def read(
                        number: int, source: Any = source, what: str = what, targets: Any = targets
                    ) -> None:
                        for key in range(number * half, (number + 1) * half):
                            if what == "sum":
                                source[key].sum()
                            else:
                                np.copyto(targets[number], source[key])

                    for count in (1, 2):
                        seconds = in_threads(count, read)
                        least[name, count] = min(seconds, least.get((name, count), seconds))
            found[what] = {name: 2 * least[name, 1] / least[name, 2] for name in ("cache", "dict")}
    return found


def index_overhead(entries: int) -> float:
    """Bytes an entry beside the key: the interpreter's memory, and what the segments take beyond the values."""
    keys = [f"{number:08}" for number in range(entries)]
    tracemalloc.start()
    with mv.VolatileCache() as cache:
        before = tracemalloc.get_traced_memory()[0]
        for key in keys:
            cache[key] = VALUE
        traced = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        beyond = engine_of(cache).store.nbytes - entries * len(VALUE)
        return (traced + beyond) / entries


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--quick", action="store_true", help="a tenth of the entries in the index")
    parser.add_argument("--before", metavar="PYTHON", help="the interpreter of another checkout")
    arguments = parser.parse_args()
    start = time.monotonic()
    small, missing = small_hits()
    ours = small["ours, volatile"]
    print("small hits, 100 bytes")
    for name, seconds in small.items():
        print(f"  {name:<28}{seconds * 1e9:>10,.0f} ns{seconds / ours:>10.2f} x ours")
    for name in missing:
        print(f"  {name:<28} not installed")
    arrays = {mib: large(mib) for mib in steps((8, 64), "arrays")}
    for mib, row in arrays.items():
        print(
            f"{mib} MiB array: hit {row['hit'] * 1e6:.1f} us, unpickling {row['unpickle'] / row['hit']:,.0f} x that; "
            f"set {row['set'] * 1e3:.2f} ms = {row['memcpy_fresh'] / row['set']:.2f} of memcpy into fresh memory"
        )
    stored = {size: stores(size) for size in steps((64 << 10, 100_000, 1 << 20, 8 << 20), "stores")}
    for size, row in stored.items():
        told = ", ".join(
            f"{name} {row[name] * 1e6:.1f} us = {row[name] / row['memcpy_warm']:.1f} x" for name in row
        )
        print(f"a set of {size:,} bytes: {told}")
    scale = readers(5 if arguments.quick else 15)
    for what, row in scale.items():
        print(f"two threads {what} {row['cache']:.2f} x what one does; from a dict {row['dict']:.2f} x")
    made = objects()
    ratio = made["hit"] / made["loads"]
    print(f"a pickled object of {made['bytes']} bytes: {made['hit'] * 1e9:.0f} ns = {ratio:.2f} x loads")
    steps_of = beside(arguments.before)
    for name, (get, put) in steps_of.items():
        print(f"100 bytes, {name}: a hit {get * 1e9:.0f} ns, a set {put * 1e9:.0f} ns")
    through = calls()
    for name, seconds in through.items():
        print(f"  {name:<28}{seconds * 1e9:>10,.0f} ns")
    entries = 100_000 if arguments.quick else 1_000_000
    overhead = index_overhead(entries)
    print(f"index: {overhead:.0f} bytes an entry beside the key, {entries:,} entries")
    goals = (
        ("within 3 times of cachebox", "cachebox.LRUCache", 1 / 3),
        ("20 times faster than diskcache", "diskcache.Cache", 20),
        ("30 times faster than Redis", "Redis", 30),
        ("30 times faster than memcached", "memcached", 30),
    )
    others = {what: small[name] >= times * ours for what, name, times in goals if name in small}
    checks = {
        "a small hit as fast as cachetools behind a lock": small["cachetools.LRUCache, lock"] / ours >= 1,
        **others,
        "an 8 MiB hit in 20 us": arrays[8]["hit"] <= 20e-6,
        "an 8 MiB hit 100 times faster than unpickling": arrays[8]["unpickle"] >= 100 * arrays[8]["hit"],
        "64 MiB nearly the same": arrays[64]["hit"] <= 2 * arrays[8]["hit"],
        "a hot array of 8 MiB in 2.5 us": arrays[8]["hot"] <= 2.5e-6,
        "a pickled object in 1.4 times pickle.loads": made["hit"] <= 1.4 * made["loads"],
        "a decorated call in 2.2 times lru_cache's": through["volatile_cache"] <= 2.2 * through["lru_cache"],
        "keywords and methods in 3 times": all(
            through[f"volatile_cache, a {what}"] <= 3 * through[f"lru_cache, a {what}"]
            for what in ("keyword", "method")
        ),
        "a set of 100 bytes in 1.2 us": steps_of["now"][1] <= 1.2e-6,
        **(
            {"hits within 3 % of before": steps_of["now"][0] <= 1.03 * steps_of["before"][0]}
            if arguments.before
            else {}
        ),
        "set at 0.7 of memcpy into fresh memory": arrays[8]["memcpy_fresh"] >= 0.7 * arrays[8]["set"],
        "a set of 1 MiB in 8 times its memcpy": stored[1 << 20]["fresh"]
        <= 8 * stored[1 << 20]["memcpy_warm"],
        "in a full cache in 2.5 times": stored[1 << 20]["full"] <= 2.5 * stored[1 << 20]["memcpy_warm"],
        "a set of 64 KiB in a full cache in 8 us": stored[64 << 10]["full"] <= 8e-6,
        "two threads read arrays as they read a dict's": all(
            row["cache"] >= 0.9 * row["dict"] for row in scale.values()
        ),
        "200 bytes an entry": overhead <= 200,
    }
    for what, met in checks.items():
        print(f"{'met   ' if met else 'MISSED'}  {what}")
    if arguments.json:
        figures = {"small_hits": small, "missing": missing, "arrays": arrays, "index_bytes": overhead}
        figures |= {"stores": {str(size): row for size, row in stored.items()}}
        figures |= {"readers": scale, "calls": through, "objects": made, "small_steps": steps_of}
        keep(arguments.json, __file__, time.monotonic() - start, **figures, entries=entries, checks=checks)
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
