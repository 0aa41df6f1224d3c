"""How fast is one cache for several processes, beside what people share values by now?

    python benchmarks/shared_speed.py [--json FILE] [--quick]

All in one run, in one process that is a client of each, taking turns: SharedCache, real Redis and memcached servers on
unix sockets, which the script starts and stops (Debian: redis-server, memcached), and diskcache; who is not installed
is left out, and said so. Hits and sets of 100 bytes, 1 MiB of bytes and arrays of 8 MiB, which are taken in turn from
256 MiB. Then two processes that read, beside one. Exits with 1 if a goal is missed.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from harness import MIB, Goal, keep, parser, take_turns

import mvolatile as mv

SMALL = b"x" * 100
KEYS = [f"key:{number}" for number in range(1000)]
LARGE = 256
"""MiB of values that are taken in turn: what is asked for again and again would lie in the processor's cache."""
PEERS = ("Redis", "memcached", "diskcache")
OURS = "SharedCache"


class Contestant(NamedTuple):
    """How to get and set bytes, and arrays, which servers take pickled."""

    get: Callable[[str], Any]
    set: Callable[[str, Any], Any]
    get_array: Callable[[str], Any]
    set_array: Callable[[str, Any], Any]


def pickled(get: Callable[[str], Any], put: Callable[[str, Any], Any]) -> Contestant:
    return Contestant(
        get, put, lambda key: pickle.loads(get(key)), lambda key, value: put(key, pickle.dumps(value, 5))
    )


@contextmanager
def server(listening: Path, *command: str) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not listening.exists():
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} did not come up")
            time.sleep(0.02)
        yield
    finally:
        process.kill()
        process.wait()


def contestants(stack: ExitStack, scratch: Path) -> dict[str, Contestant]:
    """Those that are here."""
    cache: mv.SharedCache[str, Any] = stack.enter_context(mv.SharedCache("speed", linger=0))
    found = {OURS: Contestant(cache.get, cache.set, cache.get, cache.set)}
    has = {name: importlib.util.find_spec(name) for name in ("redis", "pymemcache", "diskcache")}
    if has["redis"] and shutil.which("redis-server"):
        import redis

        path = scratch / "redis"
        options = ("--save", "", "--appendonly", "no", "--maxmemory", "2gb")
        stack.enter_context(server(path, "redis-server", "--port", "0", "--unixsocket", str(path), *options))
        client = redis.Redis(unix_socket_path=str(path))
        found["Redis"] = pickled(client.get, client.set)
    if has["pymemcache"] and shutil.which("memcached"):
        from pymemcache.client.base import Client

        path = scratch / "memcached"
        user = ("-u", "root") if os.geteuid() == 0 else ()
        stack.enter_context(server(path, "memcached", "-s", str(path), "-m", "2048", "-I", "32m", *user))
        other = Client(f"unix:{path}", default_noreply=False)
        stack.callback(other.close)
        found["memcached"] = pickled(other.get, other.set)
    if has["diskcache"]:
        import diskcache

        disk = stack.enter_context(diskcache.Cache(str(scratch / "disk"), size_limit=4 << 30))
        found["diskcache"] = Contestant(disk.get, disk.set, disk.get, disk.set)
    return found


def in_turn(do: Callable[[str], Any], keys: list[str]) -> Callable[[], None]:
    """Each call the next of the keys."""
    following = cycle(keys).__next__
    return lambda: do(following())


def setting(put: Callable[[str, Any], Any], value: Any, keys: list[str]) -> Callable[[], None]:
    return in_turn(lambda key: put(key, value), keys)


def measure(them: dict[str, Contestant], seconds: float) -> dict[str, dict[str, float]]:
    """Seconds of each for each task; the least of many."""
    mebibyte, array = os.urandom(MIB), np.arange(MIB, dtype="f8")
    small = KEYS
    middle = [f"mib:{number}" for number in range(LARGE // 4)]
    large = [f"array:{number}" for number in range(LARGE // 8)]
    tasks: dict[str, Callable[[Contestant], Callable[[], None]]] = {
        "set of 100 B": lambda one: setting(one.set, SMALL, small),
        "hit of 100 B": lambda one: in_turn(one.get, small),
        "set of 1 MiB": lambda one: setting(one.set, mebibyte, middle),
        "hit of 1 MiB": lambda one: in_turn(one.get, middle),
        "set of an 8 MiB array": lambda one: setting(one.set_array, array, large),
        "hit of an 8 MiB array": lambda one: in_turn(one.get_array, large),
    }
    for one in them.values():
        for keys, value, put in (
            (small, SMALL, one.set),
            (middle, mebibyte, one.set),
            (large, array, one.set_array),
        ):
            for key in keys:
                put(key, value)
        assert one.get(small[0]) == SMALL
        assert one.get(middle[0]) == mebibyte
        assert (one.get_array(large[0]) == array).all()
    found = {}
    for what, of in tasks.items():
        told = take_turns({name: of(one) for name, one in them.items()}, seconds=seconds)
        found[what] = {name: figures["least"] for name, figures in told.items()}
        print(
            f"{what:>22}:", ", ".join(f"{name} {1e6 * least:,.1f} us" for name, least in found[what].items())
        )
    sources = cycle([array.copy() for _ in range(LARGE // 8)]).__next__
    targets = cycle([array.copy() for _ in range(4)]).__next__
    copied = take_turns({"memcpy": lambda: np.copyto(targets(), sources())}, seconds=seconds)
    found["copy of 8 MiB"] = {"memcpy": copied["memcpy"]["least"]}
    return found


def read_for(seconds: float, barrier: Any, told: Any) -> None:
    """Hits of 64 KiB, so that neither the system call nor memory's speed is all of it."""
    with mv.SharedCache[str, bytes]("speed", linger=0) as cache:
        cache.get("read:0")
        barrier.wait()
        end, hits = time.perf_counter() + seconds, 0
        while time.perf_counter() < end:
            for number in range(64):
                hits += cache.get(f"read:{number}") is not None
        told.put(hits)


def readers(seconds: float) -> float:
    """How many times what one process reads two read in the same time."""
    context = multiprocessing.get_context("spawn")
    with mv.SharedCache[str, bytes]("speed", linger=0) as cache:
        for number in range(64):
            cache[f"read:{number}"] = os.urandom(1 << 16)
        best: dict[int, int] = {}
        for _ in range(3):
            for count in (1, 2):
                barrier, told = context.Barrier(count), context.Queue()
                them = [context.Process(target=read_for, args=(seconds, barrier, told)) for _ in range(count)]
                for one in them:
                    one.start()
                hits = sum(told.get() for _ in them)
                for one in them:
                    one.join()
                best[count] = max(best.get(count, 0), hits)
    return best[2] / best[1]


def goals_of(found: dict[str, dict[str, float]], both: float) -> list[Goal]:
    """What is asked of it beside those who are here."""
    wanted = {
        ("hit of 100 B", "Redis"): 15,
        ("hit of 100 B", "memcached"): 5,
        ("hit of 100 B", "diskcache"): 2,
        ("hit of 1 MiB", "Redis"): 20,
        ("hit of 1 MiB", "diskcache"): 1,
        ("hit of an 8 MiB array", "Redis"): 20,
        ("hit of an 8 MiB array", "diskcache"): 1,
        ("set of 100 B", "Redis"): 1,
        ("set of 1 MiB", "Redis"): 2,
    }
    goals = [
        Goal(f"{what}, times as fast as {name}", found[what][name] / found[what][OURS], limit, True)
        for (what, name), limit in wanted.items()
        if name in found[what]
    ]
    if len(os.sched_getaffinity(0)) > 1:
        goals.append(Goal("two processes read, times what one does", both, 1.8, True))
    return goals


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--json", type=Path, metavar="FILE")
    arguments.add_argument("--quick", action="store_true")
    options = arguments.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mv") as directory, ExitStack() as stack:
        os.environ["MVOLATILE_RUNTIME_DIR"] = str(Path(directory, "run"))
        them = contestants(stack, Path(directory))
        for name in PEERS:
            if name not in them:
                print(f"{name} is not here, and left out")
        found = measure(them, 1.0 if options.quick else 6.0)
        both = readers(0.3 if options.quick else 2.0)
    share = found["copy of 8 MiB"]["memcpy"] / found["hit of an 8 MiB array"][OURS]
    print(f"a hit of an 8 MiB array reaches {share:.0%} of memcpy's speed")
    goals = goals_of(found, both)
    print("\n".join(map(str, goals)))
    if options.json:
        keep(
            options.json,
            __file__,
            time.monotonic() - began,
            seconds=found,
            share_of_memcpy=share,
            two_readers=both,
            goals=[
                {"what": goal.what, "value": goal.value, "limit": goal.limit, "met": goal.met}
                for goal in goals
            ],
        )
    return 0 if all(goal.met for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
