"""What do four workers make under a memory limit, with one cache for all of them, and with what people use?

    python benchmarks/shared_under_limit.py [--json FILE] [--quick] [--only NAME ...] [--forms NAME ...]

A real gunicorn of four workers in a memory cgroup of 512 MiB serves one Zipf stream of 15,000 requests over some 3,000
keys, whose values are of 100 to 300 KiB and cost 5 ms of processor time each. Three forms: plain; workers that are
recycled after 1,000 requests; a neighbour that takes 200 MiB for the middle third. Told: the time, the processor time
of all (the keeper's and servers' too), how many values were made, and who was killed. One process of four threads is
what making each value once costs. A last row has diskcache behind the shared cache: nothing that memory lost is made
again, as with diskcache alone. Servers are Debian's redis-server and memcached; who is not installed is left out.

All of it takes ten minutes. It may be run in parts: of what FILE has from earlier ones, what is not measured anew
stays, with the load of the machine at each. Files of all rows stay until the end: ext4 looks at each inode that was
freed within 35 seconds before it makes one, which took diskcache up to 2.4 s where another row had just been removed.
Exits with 1 if a goal is missed.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from harness import MIB, Goal, keep, parser
from web_load import ask, replay, wait_for

from mvolatile.kernel.cgroup import ChildCgroup
from mvolatile.shared.place import Place

REQUESTS, KEYS, LIMIT, TAKEN = 15_000, 6_000, 512 * MIB, 200 * MIB
APPLICATION = """
import os
import time
from contextlib import suppress

made = os.open(os.environ["MADE"], os.O_WRONLY | os.O_APPEND)


def make(key):
    os.write(made, b".")  # a byte for each value made, by whichever process
    end = time.thread_time() + 5e-3
    while time.thread_time() < end:
        pass
    return (b"%d " % key).ljust(16) * ((100 << 10) // 16 + key * 7919 % (200 << 10) // 16)


def through(get, put):
    def value(key):
        with suppress(Exception):  # the server may have been killed
            if (found := get(str(key))) is not None:
                return found
        made = make(key)
        with suppress(Exception):
            put(str(key), made)
        return made

    return value


kind = os.environ["KIND"]
if kind == "lru_cache":
    from functools import lru_cache

    value = lru_cache(450)(make)
elif kind == "volatile_cache":
    import mvolatile as mv

    value = mv.volatile_cache()(make)
elif kind == "SharedCache":
    import mvolatile as mv

    value = mv.volatile_cache(shared="values")(make)
elif kind == "SharedCache, diskcache behind":
    import diskcache

    import mvolatile as mv

    value = mv.volatile_cache(shared="values", behind=diskcache.Cache(os.environ["SERVER"], size_limit=1 << 30))(make)
elif kind == "a plain server":
    from plain_server import Client

    client = Client(os.environ["SERVER"])
    value = through(client.get, client.set)
elif kind == "Redis":
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # Once it is killed each request would wait for seconds.
    client = redis.Redis(unix_socket_path=os.environ["SERVER"], retry=Retry(NoBackoff(), 0))
    value = through(client.get, client.set)
elif kind == "memcached":
    from pymemcache.client.base import PooledClient

    client = PooledClient("unix:" + os.environ["SERVER"], max_pool_size=4)
    value = through(client.get, client.set)
else:
    import diskcache

    cache = diskcache.Cache(os.environ["SERVER"], size_limit=1 << 30)
    value = through(cache.get, cache.set)


def application(environ, start_response):
    body = value(int(environ["PATH_INFO"][1:]))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
FOUR, ALONE = ("--workers", "4"), ("--workers", "1", "--threads", "4")
FORMS: dict[str, tuple[str, ...]] = {
    "plain": FOUR,
    "recycled": (*FOUR, "--max-requests", "1000", "--max-requests-jitter", "100"),
    "neighbour": FOUR,
}
OURS, BEHIND, PLAIN = "SharedCache", "SharedCache, diskcache behind", "a plain server"
KINDS = ("lru_cache", "volatile_cache", "Redis", "memcached", "diskcache", PLAIN, OURS, BEHIND)
ONE = "one process of 4 threads"
PLAIN_SERVER = Path(__file__).with_name("plain_server.py")
SERVERS = {
    PLAIN: (
        *(sys.executable, "-c"),
        "import sys; sys.path.insert(0, sys.argv[1]); from plain_server import serve; serve(sys.argv[2])",
        str(PLAIN_SERVER.parent),
    ),
    "Redis": (
        "redis-server",
        "--port",
        "0",
        "--save",
        "",
        "--maxmemory",
        "320mb",
        "--maxmemory-policy",
        "allkeys-lru",
    ),
    "memcached": ("memcached", "-m", "320", "-u", "root"),
}
MODULES = {"Redis": "redis", "memcached": "pymemcache", "diskcache": "diskcache", BEHIND: "diskcache"}


def is_here(kind: str) -> bool:
    return (kind not in MODULES or importlib.util.find_spec(MODULES[kind]) is not None) and (
        kind not in SERVERS or shutil.which(SERVERS[kind][0]) is not None
    )


def stream_of(requests: int) -> list[int]:
    source = random.Random(1)
    weights = [1 / (rank + 1) for rank in range(KEYS)]
    return source.choices(range(KEYS), weights, k=requests)


class Neighbour:
    """A process in the same cgroup that takes memory, for a while."""

    def __init__(self, cgroup: ChildCgroup) -> None:
        program = f"block = bytearray({TAKEN}); block[::4096] = bytes(len(block[::4096])); input()"
        self.process = subprocess.Popen(
            cgroup.wrap([sys.executable, "-c", program]), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def leave(self) -> bool:
        """Whether it was killed."""
        with suppress(OSError):
            assert self.process.stdin
            self.process.stdin.close()
        return self.process.wait() == -signal.SIGKILL


def processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spent() -> float:
    """Of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def beside_a_neighbour(numbers: list[int], cgroup: ChildCgroup, killed: list[str]) -> Iterator[int]:
    """The numbers; one that takes memory comes after a third of them, and leaves after two."""
    for at, number in enumerate(numbers):
        if at == len(numbers) // 3:
            neighbour = Neighbour(cgroup)
        if at == len(numbers) * 2 // 3 and neighbour.leave():
            killed.append("neighbour")
        yield number


def ask_for_all(path: str, numbers: list[int], cgroup: ChildCgroup, with_neighbour: bool) -> list[str]:
    """By four threads; answers who of the neighbours was killed."""
    killed: list[str] = []

    def is_right(number: int) -> bool:
        for _ in range(100):
            with suppress(OSError, http.client.HTTPException):  # of a worker that was killed
                if ask(path, f"/{number}").startswith(b"%d " % number):
                    return True
            time.sleep(0.01)
        return False

    wrong = replay(beside_a_neighbour(numbers, cgroup, killed) if with_neighbour else numbers, is_right, 4)
    if wrong:
        raise SystemExit(f"no right answers for {wrong[:10]}")
    return killed


def serve(
    kind: str, options: tuple[str, ...], numbers: list[int], with_neighbour: bool, scratch: Path
) -> dict[str, Any]:
    directory = str(scratch)
    with ChildCgroup(LIMIT) as cgroup, ExitStack() as stack:
        (scratch / "served.py").write_text(APPLICATION)
        (scratch / PLAIN_SERVER.name).write_text(PLAIN_SERVER.read_text())
        made, path, listening = scratch / "made", str(scratch / "socket"), scratch / "server"
        made.touch()
        before = spent()
        beside: subprocess.Popen[bytes] | None = None
        if kind in SERVERS:
            option = {"Redis": ["--unixsocket"], "memcached": ["-s"]}.get(kind, [])
            beside = subprocess.Popen(
                cgroup.wrap([*SERVERS[kind], *option, str(listening)]), stdout=subprocess.DEVNULL
            )
            while not listening.exists():
                time.sleep(0.02)
        run = scratch / "run"
        server = subprocess.Popen(
            cgroup.wrap(
                [
                    *(sys.executable, "-m", "gunicorn", "--chdir", directory, "--bind", f"unix:{path}"),
                    *("--log-level", "critical", *options, "served:application"),
                ]
            ),
            env={
                **os.environ,
                "MADE": str(made),
                "KIND": kind,
                "SERVER": str(listening),
                "MVOLATILE_RUNTIME_DIR": str(run),
                "XDG_RUNTIME_DIR": directory,
            },
        )
        keeper, keepers = None, 0.0
        try:
            wait_for(server, lambda: bool(ask(path, "/0")))
            began = time.monotonic()
            killed = ask_for_all(path, numbers, cgroup, with_neighbour)
            took = time.monotonic() - began
            if kind in (OURS, BEHIND) and (channel := Place("values", run).connect()) is not None:
                keeper = channel.pid
                keepers = processor_time(keeper)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
            if keeper is not None:
                process = os.pidfd_open(keeper)
                stack.callback(os.close, process)
                signal.pidfd_send_signal(process, signal.SIGTERM)
                while Place("values", run).is_kept():
                    time.sleep(0.01)
            if beside is not None:
                if beside.poll() is not None:
                    killed.append(kind)
                beside.kill()
                beside.wait()
        if cgroup.oom_kills() and not killed:
            killed.append("a worker")
        return {
            "time": took,
            "processor": spent() - before + keepers,
            "made": made.stat().st_size,
            "killed": killed,
            "load": round(os.getloadavg()[0], 1),
        }


def earlier(path: Path | None, requests: int) -> dict[str, dict[str, dict[str, Any]]]:
    """What a run of as many requests left there."""
    if path is None or not path.exists():
        return {}
    left = json.loads(path.read_text())
    return left["found"] if left["requests"] == requests else {}


def goals_of(found: dict[str, dict[str, dict[str, Any]]]) -> list[Goal]:
    """What is asked of the shared cache beside those that were measured."""
    ours = found.get(OURS, {})
    if not ours:
        return []
    once = found[ONE]["plain"]["made"]
    goals = [Goal("made, beside one process", ours["plain"]["made"] / once, 1.03, False)] * ("plain" in ours)
    goals += [
        Goal(f"{what}, {form}, beside {kind}", row[form][what] / ours[form][what], 1.0, True)
        for kind, row in found.items()
        if kind not in (OURS, BEHIND, ONE)
        for form in FORMS
        if form in row and form in ours
        for what in ("time", "processor")
    ]
    return [*goals, Goal("killed", float(sum(len(row["killed"]) for row in ours.values())), 0, False)]


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--json", type=Path, metavar="FILE")
    arguments.add_argument(
        "--quick", action="store_true", help="a fifth of the requests, plain and neighbour"
    )
    arguments.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    arguments.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    options = arguments.parse_args()
    began = time.monotonic()
    numbers = stream_of(REQUESTS // 5 if options.quick else REQUESTS)
    found = earlier(options.json, len(numbers))
    todo = [(ONE, "plain")] if ONE not in found or options.only is KINDS else []
    # Those that are compared one after the other: others may use the machine, too.
    todo += [(kind, form) for form in options.forms for kind in options.only if is_here(kind)]
    with tempfile.TemporaryDirectory(prefix="mv") as directory:
        for number, (kind, form) in enumerate(todo):
            if options.quick and form == "recycled":
                continue
            scratch = Path(directory, str(number))
            scratch.mkdir()
            row = (
                serve("volatile_cache", ALONE, numbers, False, scratch)
                if kind == ONE
                else serve(kind, FORMS[form], numbers, form == "neighbour", scratch)
            )
            found.setdefault(kind, {})[form] = row
            print(
                f"{kind:>29} {form:>10}: {row['time']:6.1f} s, {row['processor']:6.1f} s of processor, "
                f"{row['made']:,} made, killed: {', '.join(row['killed']) or 'nobody'}, load {row['load']}",
                flush=True,
            )
    goals = goals_of(found)
    print("\n".join(map(str, goals)))
    if options.json:
        keep(
            options.json,
            __file__,
            time.monotonic() - began,
            requests=len(numbers),
            keys=len(set(numbers)),
            limit_mib=LIMIT // MIB,
            found=found,
            goals=[
                {"what": goal.what, "value": goal.value, "limit": goal.limit, "met": goal.met}
                for goal in goals
            ],
        )
    return 0 if all(goal.met for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
