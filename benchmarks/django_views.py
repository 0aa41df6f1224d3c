"""How many requests does a Django site answer, and from what it had, with which cache?

    python benchmarks/django_views.py [--json FILE] [--quick]

A real gunicorn of 4 workers serves a cached view and a cached fragment, in a memory cgroup of its own, in which the
cache's server is, too, if it has one: Redis and memcached, which the script starts and stops. All get the same
requests, popular pages more often, from 4 threads over a unix socket, and the same limit. The peers get the size that
the limit leaves them, counted by hand; ours get none. Exits with 1 if a goal is missed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from harness import MIB, Goal, keep, parser
from web_load import ask, replay, wait_for

from mvolatile.kernel.cgroup import ChildCgroup

WORKERS, BYTES, SERVED = 4, 200_000, 100 * MIB
"""A page's size; and what is left beside the workers, by hand, for a cache's server or all of the workers' caches."""
LIMIT = (WORKERS + 1) * 38 * MIB + SERVED
APPLICATION = """
import os
import random

from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    CACHES={"default": {"TIMEOUT": None, **eval(os.environ["CACHE"])}},
    ROOT_URLCONF=__name__,
    SECRET_KEY="of the benchmark",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)

from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.template import engines
from django.urls import path
from django.views.decorators.cache import cache_page

made = os.open(os.environ["MADE"], os.O_WRONLY | os.O_APPEND)
handler = get_wsgi_application()
fragment = engines["django"].from_string("{% load cache %}{% cache None page number %}{{ body }}{% endcache %}")


def body(number):
    os.write(made, b".")  # a byte for each page made, by whichever worker
    return random.Random(number).randbytes(int(os.environ["BYTES"]) // 2).hex()


@cache_page(None)
def view(request, number):
    return HttpResponse(body(number))


def part(request, number):
    return HttpResponse(fragment.render({"number": number, "body": lambda: body(number)}))


urlpatterns = [path("view/<int:number>", view), path("part/<int:number>", part)]


def application(environ, start_response):
    return handler({**environ, "HTTP_HOST": "localhost"}, start_response)
"""


def backend(name: str, scratch: str, port: int) -> dict[str, Any]:
    core = "django.core.cache.backends"
    known: dict[str, dict[str, Any]] = {
        "locmem": {
            "BACKEND": f"{core}.locmem.LocMemCache",
            "OPTIONS": {"MAX_ENTRIES": SERVED // WORKERS // BYTES},
        },
        "Redis": {"BACKEND": f"{core}.redis.RedisCache", "LOCATION": f"unix://{scratch}/redis"},
        "memcached": {"BACKEND": f"{core}.memcached.PyMemcacheCache", "LOCATION": f"127.0.0.1:{port}"},
        "VolatileCache": {"BACKEND": "mvolatile.integrations.django.VolatileCache"},
        "SharedCache": {"BACKEND": "mvolatile.integrations.django.VolatileCache", "LOCATION": "bench"},
    }
    return known[name]


CACHES = ("locmem", "Redis", "memcached", "VolatileCache", "SharedCache")
PROGRAMS = {"Redis": "redis-server", "memcached": "memcached"}


@contextmanager
def running(command: list[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def start_peer(stack: ExitStack, name: str, cgroup: ChildCgroup, scratch: str, port: int) -> None:
    size = str(SERVED // MIB)
    command = {
        "Redis": ["redis-server", "--port", "0", "--unixsocket", f"{scratch}/redis", "--save", ""]
        + ["--maxmemory", f"{size}mb", "--maxmemory-policy", "allkeys-lru", "--dir", scratch],
        "memcached": ["memcached", "-u", "root", "-l", "127.0.0.1", "-p", str(port), "-m", size],
    }.get(name)
    if command is not None:
        stack.enter_context(running(list(cgroup.wrap(command))))


def serve(name: str, kind: str, requests: int, pages: int) -> dict[str, Any]:
    source = random.Random(1)
    weights = [1 / (rank + 8) ** 0.9 for rank in range(pages)]
    numbers = source.choices(range(pages), weights, k=requests)
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="mv"))
        cgroup = stack.enter_context(ChildCgroup(LIMIT))
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = int(found.getsockname()[1])
        Path(scratch, "served.py").write_text(APPLICATION)
        made, path = Path(scratch, "made"), str(Path(scratch, "socket"))
        made.touch()
        start_peer(stack, name, cgroup, scratch, port)
        options = ["--chdir", scratch, "--bind", f"unix:{path}", "--log-level", "error"]
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "--workers",
            str(WORKERS),
            *options,
            "served:application",
        ]
        server = stack.enter_context(
            running(
                list(cgroup.wrap(command)),
                MADE=str(made),
                BYTES=str(BYTES),
                CACHE=repr(backend(name, scratch, port)),
                XDG_RUNTIME_DIR=scratch,
                MVOLATILE_RUNTIME_DIR=scratch,
            )
        )
        wait_for(server, lambda: len(ask(path, "/view/0")) == BYTES)
        before = made.stat().st_size
        start = time.perf_counter()
        wrong = replay(numbers, lambda number: len(ask(path, f"/{kind}/{number}")) == BYTES, WORKERS)
        took = time.perf_counter() - start
        if wrong or cgroup.oom_kills():
            raise SystemExit(f"{name}: {len(wrong)} wrong pages, {cgroup.oom_kills()} processes killed")
        hits = requests - (made.stat().st_size - before)
        if name == "SharedCache":
            end_keeper(scratch)
    return {"cache": name, "kind": kind, "requests a second": requests / took, "hits": hits / requests}


def end_keeper(scratch: str) -> None:
    """The keeper would outlive its last client by a minute."""
    import mvolatile as mv

    os.environ["MVOLATILE_RUNTIME_DIR"] = scratch
    with mv.SharedCache[str, Any]("bench") as cache:
        keeper = cache.keeper_info().get("pid")
    if keeper:
        os.kill(keeper, signal.SIGTERM)
        while Path(f"/proc/{keeper}").exists():
            time.sleep(0.01)


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    options.add_argument("--quick", action="store_true", help="less of everything, for a first look")
    given = options.parse_args()
    requests, pages = (300, 200) if given.quick else (2500, 1500)
    start = time.monotonic()
    rows = []
    for kind in ("view",) if given.quick else ("view", "part"):
        for name in CACHES:
            if name in PROGRAMS and not shutil.which(PROGRAMS[name]):
                print(f"{name} is not here, and left out")
                continue
            rows.append(serve(name, kind, requests, pages))
            row = rows[-1]
            print(
                f"{kind} {name:>14}: {row['requests a second']:6.0f} a second, {row['hits']:.1%} hits",
                flush=True,
            )
    found = {(row["kind"], row["cache"]): row["hits"] for row in rows}
    goals = [
        Goal(
            f"{kind}: hits of SharedCache, beside locmem",
            found[kind, "SharedCache"] / found[kind, "locmem"],
            1.2,
            True,
        )
        for kind in {kind for kind, _ in found}
    ]
    print(*goals, sep="\n")
    if given.json:
        facts = {"limit_mib": LIMIT // MIB, "requests": requests, "pages": pages, "bytes": BYTES}
        keep(given.json, __file__, time.monotonic() - start, rows=rows, **facts)
    return 0 if all(goal.met for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
