"""``mvolatile status [PID]``: what the volatile memory of running processes holds, seen from outside."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import os

from ..kernel import smaps
from ..kernel.smaps import NAMELESS, NamedUsage
from ..shared.survey import keepers
from .arguments import process_id
from .processes import command_of
from .processes import usages as holders
from .tables import mib, print_table

__all__ = ["add_parser"]

_COLUMNS = ("name", "mappings", "size", "resident", "lazily freed", "huge", "swapped")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "status",
        help="what the volatile memory of running processes holds",
        description="Shows how much volatile memory a process holds, by name, what of it is resident, and "
        "what the kernel may take at any time ('lazily freed'), all from /proc/PID/smaps. Without PID: every "
        "process of this user that uses mvolatile. What is volatile, pinned or lost only the process itself can "
        "tell, by mvolatile.status(): from outside, a lost page looks like one that was never written.",
    )
    of = parser.add_mutually_exclusive_group()
    of.add_argument("pid", nargs="?", type=process_id, metavar="PID", help="the process to look at")
    of.add_argument("--shared", action="store_true", help="list the keepers of shared caches instead")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of tables")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Print one table for each process, or one of keepers."""
    if arguments.shared:
        return _print_keepers(arguments.json)
    if not os.access("/proc/self/smaps", os.R_OK):
        raise OSError(errno.ENOENT, "/proc cannot be read: what processes hold stands in /proc/PID/smaps")
    usages: dict[int, list[NamedUsage]] = {}
    if arguments.pid is not None:
        usages[arguments.pid] = _one(arguments.pid)
    else:
        usages = holders()
    if arguments.json:
        print(json.dumps([_as_json(pid, found) for pid, found in usages.items()], indent=2))
        return 0
    for pid, found in usages.items():
        _print(pid, found)
    if any(usages.values()):
        print("What was lost only the process itself can tell: mvolatile.status().")
    if not usages:
        print("No process of this user holds volatile memory.")
    if any(usage.name == NAMELESS for found in usages.values() for usage in found):
        print("This kernel keeps no names (CONFIG_ANON_VMA_NAME is off): memory watched by a userfaultfd,")
        print("or lazily freed, is taken for volatile.")
    return 0


_OF_KEEPERS = ("name", "pid", "clients", "entries", "bytes", "resident", "hits", "misses", "purged")


def _print_keepers(as_json: bool) -> int:
    found = keepers()
    if as_json:
        print(json.dumps(found, indent=2))
    elif not found:
        print("No keeper of this user serves a shared cache.")
    else:
        rows = [
            tuple(mib(one[what]) if what in ("bytes", "resident") else str(one[what]) for what in _OF_KEEPERS)
            for one in found
        ]
        print_table("keepers of shared caches", _OF_KEEPERS, rows)
    return 0


def _one(pid: int) -> list[NamedUsage]:
    try:
        return smaps.usage_by_name(pid)
    except PermissionError:
        if os.geteuid():
            raise
        raise PermissionError(
            errno.EACCES,
            f"process {pid} may not be looked into, not even by root: that takes CAP_SYS_PTRACE here",
        ) from None


def _as_json(pid: int, found: list[NamedUsage]) -> dict[str, object]:
    return {"pid": pid, "command": command_of(pid), "memory": [dataclasses.asdict(usage) for usage in found]}


def _print(pid: int, found: list[NamedUsage]) -> None:
    title = f"process {pid}: {command_of(pid)[:60]}"
    if not found:
        print(f"{title}\n  holds no volatile memory")
        return
    rows = [
        (
            usage.name,
            str(usage.mappings),
            *(
                mib(nbytes)
                for nbytes in (usage.size, usage.resident, usage.lazy_free, usage.huge, usage.swap)
            ),
        )
        for usage in found
    ]
    print_table(title, _COLUMNS, rows)
