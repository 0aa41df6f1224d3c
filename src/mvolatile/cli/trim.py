"""``mvolatile trim``: volatile memory of running processes, given back from outside."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from ..kernel import trim
from ..shared import SharedCache
from .arguments import cache_name, process_id, size
from .tables import mib

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "trim",
        help="give volatile memory of running processes back",
        description="Has the kernel reclaim volatile memory of a process until its RSS is SIZE, of all processes of a "
        "memory cgroup until its usage is, or of the keeper of a shared cache. The processes are not stopped and "
        "lose nothing but what the kernel might have taken at any moment. Do it before a limit is lowered. It takes "
        "CAP_SYS_NICE, and CAP_SYS_PTRACE for other users' processes; a keeper is asked, by its own user. "
        "Exits with 3 if more is left than SIZE.",
    )
    of = parser.add_mutually_exclusive_group(required=True)
    of.add_argument("--pid", type=process_id, metavar="N", help="a process")
    of.add_argument(
        "--cgroup", type=Path, metavar="PATH", help="the directory of a memory cgroup, version 1 or 2"
    )
    of.add_argument("--shared", type=cache_name, metavar="NAME", help="the keeper of SharedCache(NAME)")
    parser.add_argument("--to", type=size, required=True, metavar="SIZE", help="bytes, or as in 256MiB, 2G")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Until it is enough; 3 if it is not."""
    target = arguments.to
    if arguments.pid is not None:
        told = _trim_process(arguments.pid, target)
    elif arguments.cgroup is not None:
        told = _trim_cgroup(arguments.cgroup, target)
    else:
        told = _trim_keeper(arguments.shared, target)
    enough: bool = told["after"] <= target
    if arguments.json:
        print(json.dumps({**told, "target": target, "enough": enough}, indent=2))
        return 0 if enough else 3
    print(f"{told['what']}: {mib(told['before'])} before, {mib(told['after'])} now.")
    if told["mixed"]:
        print(
            f"{mib(told['mixed'])} stay: they lie among memory that is held, and there is a swap it would go to."
        )
    if not enough:
        print(f"The rest, {mib(told['after'] - target)} more than {mib(target)}, is not volatile, or held.")
    for refusal in told["refused"]:
        print(f"mvolatile: {refusal}", file=sys.stderr)
    return 0 if enough else 3


def _progress(what: str) -> Any:
    """Told after each step; shown on a terminal alone."""
    if not sys.stderr.isatty():
        return bool
    return lambda nbytes: print(f"\r\x1b[K{what}: {mib(nbytes)}", end="", file=sys.stderr, flush=True)


def _end_progress() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _trim_process(pid: int, target: int) -> dict[str, Any]:
    what = f"RSS of process {pid}"
    try:
        done = trim.trim_process(pid, lambda: trim.rss_of(pid) <= target, _progress(what))
    finally:
        _end_progress()
    return {"what": what, **dataclasses.asdict(done), "refused": []}


def _trim_cgroup(path: Path, target: int) -> dict[str, Any]:
    what = f"usage of {path}"
    before, mixed = trim.cgroup_usage(path), 0
    refused: list[str] = []
    tell = _progress(what)
    try:
        for pid in list(trim.cgroup_processes(path)):
            if trim.cgroup_usage(path) <= target:
                break
            try:
                done = trim.trim_process(
                    pid, lambda: trim.cgroup_usage(path) <= target, lambda _: tell(trim.cgroup_usage(path))
                )
            except ProcessLookupError:
                continue
            except PermissionError as error:
                refused.append(error.strerror or str(error))
                continue
            mixed += done.mixed
    finally:
        _end_progress()
    after = trim.cgroup_usage(path)
    if refused and after > target and after >= before:
        raise PermissionError(1, refused[0])
    return {"what": what, "before": before, "after": after, "mixed": mixed, "refused": refused}


def _trim_keeper(name: str, target: int) -> dict[str, Any]:
    with SharedCache[Any, Any](name) as cache:
        told = cache.keeper_info()
        if not told:
            raise OSError(f"no keeper of this user serves a shared cache {name!r}")
        before = int(told["resident"] or 0)
        if before > target:
            cache.purge(before - target)
        after = int(cache.keeper_info().get("resident") or 0)
    return {
        "what": f"memory of the keeper of {name!r}",
        "before": before,
        "after": after,
        "mixed": 0,
        "refused": [],
    }
