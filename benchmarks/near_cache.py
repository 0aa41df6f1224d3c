"""How much faster is a near cache than the Redis server behind it, and is what it gives ever stale?

    python benchmarks/near_cache.py [--json FILE] [--quick]

A real redis-server on a port of 127.0.0.1, which the script starts and stops. In one run, taking turns: `NearCache`,
and redis-py without a cache, with its own client-side cache and with ours. Then a writer changes values while two
threads read them through the `NearCache`: an answer that is older than what the server had said is stale. Exits with 1
if a goal is missed.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import redis
from harness import Goal, keep, parser, take_turns
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection

from mvolatile.integrations.redis import NearCache, VolatileCache

VALUE = b"x" * 100
OURS, PLAIN = "NearCache", "redis-py"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def server() -> Iterator[int]:
    if not shutil.which("redis-server"):
        raise SystemExit("there is no redis-server here")
    port = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", scratch]
        process = subprocess.Popen(["redis-server", "--port", str(port), *options], stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(port=port) as client:
                end = time.monotonic() + 30
                while True:
                    try:
                        client.ping()
                        break
                    except redis.ConnectionError:
                        if time.monotonic() > end:
                            raise SystemExit("redis-server did not come up") from None
                        time.sleep(0.02)
            yield port
        finally:
            process.kill()
            process.wait()


def listening(near: NearCache) -> NearCache:
    while not near.listening:
        time.sleep(0.01)
    return near


def speed(port: int, seconds: float) -> dict[str, Any]:
    CacheProxyConnection.MIN_ALLOWED_VERSION = "6.0.0"  # tracking is there since; redis-py asks for 7.4
    with ExitStack() as stack:
        plain = stack.enter_context(redis.Redis(port=port))
        plain.set("k", VALUE)
        near = stack.enter_context(listening(NearCache(plain)))
        its = stack.enter_context(redis.Redis(port=port, protocol=3, cache_config=CacheConfig()))
        ours = stack.enter_context(redis.Redis(port=port, protocol=3, cache=VolatileCache()))
        clients = {OURS: near, PLAIN: plain, "its own cache": its, "VolatileCache": ours}
        assert all(client.get("k") == VALUE for client in clients.values())
        return take_turns(
            {name: partial(client.get, "k") for name, client in clients.items()}, seconds=seconds
        )


def staleness(port: int, changes: int) -> dict[str, int]:
    """A number that only grows, and a key for each change, whose message comes after that of the number."""
    told, stop = 0, threading.Event()
    counts = {"changes": changes, "reads": 0, "stale": 0}

    def read() -> None:
        reads = stale = 0
        while not stop.is_set():
            least = told
            stale += int(near.get("n") or 0) < least
            reads += 1
            time.sleep(
                0
            )  # else the listener waits for Python's lock, and there is little to read between changes
        counts["reads"] += reads
        counts["stale"] += stale

    with redis.Redis(port=port) as client, listening(NearCache(client)) as near:
        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        with redis.Redis(port=port) as writer:
            for number in range(1, changes + 1):
                near.get(f"said {number}")  # not there, and a message alone makes that untrue
                writer.set("n", number)
                writer.set(f"said {number}", 1)
                while near.get(f"said {number}") is None:
                    time.sleep(0.0002)
                if near.cache_info().purged == 0:  # else the kernel may have
                    told = number
        stop.set()
        for thread in threads:
            thread.join()
    return counts


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    options.add_argument("--quick", action="store_true", help="less of everything, for a first look")
    given = options.parse_args()
    start = time.monotonic()
    with server() as port:
        times = speed(port, 1 if given.quick else 10)
        stale = staleness(port, 50 if given.quick else 300)
    least = {name: found["least"] for name, found in times.items()}
    for name, seconds in least.items():
        print(
            f"{name:>15}: {seconds * 1e6:8.2f} us a hit, {least[PLAIN] / seconds:6.1f} times as fast as none"
        )
    print(
        f"{stale['reads']:,} reads while {stale['changes']:,} changes were told, {stale['stale']} of them stale"
    )
    goals = [
        Goal("a hit, beside the client without", least[PLAIN] / least[OURS], 30, True),
        Goal("stale reads", stale["stale"], 0, False, ""),
    ]
    print(*goals, sep="\n")
    if given.json:
        keep(given.json, __file__, time.monotonic() - start, seconds=least, staleness=stale)
    return 0 if all(goal.met for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
