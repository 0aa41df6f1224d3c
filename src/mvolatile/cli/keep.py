"""``mvolatile keep NAME``: be the keeper of a shared cache, in the foreground."""

from __future__ import annotations

import argparse
import math
import os
import socket
import sys

from ..residence import set_resident_limit
from ..shared.place import Place
from ..shared.start import keep
from .arguments import cache_name, limit, size

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "keep",
        help="be the keeper of a shared cache, in the foreground",
        description="Keeps the values of SharedCache(NAME) for all processes of this user that meet in the same "
        "directory (MVOLATILE_RUNTIME_DIR, XDG_RUNTIME_DIR). Nobody has to: the first program that needs a keeper "
        "starts one. As a service of systemd (Type=notify) or a sidecar it has a memory cgroup of its own. SIGTERM "
        "ends it.",
    )
    parser.add_argument("name", type=cache_name, metavar="NAME", help="the cache's name")
    parser.add_argument(
        "--max-bytes", type=size, metavar="SIZE", help="a bound on all values, as in 256MiB (default: none)"
    )
    parser.add_argument(
        "--max-resident",
        type=limit,
        metavar="SIZE",
        help="what its volatile memory may add to its RSS: 256MiB, or 80%% of its container's limit",
    )
    parser.add_argument(
        "--linger",
        type=float,
        default=math.inf,
        metavar="S",
        help="end when nobody used it for so many seconds",
    )
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Until SIGTERM or SIGINT; 1 if there is a keeper already."""
    place = Place(arguments.name)
    if place.is_kept():
        print(f"mvolatile: {place.path('sock')}: there is a keeper already", file=sys.stderr)
        return 1
    if arguments.max_resident is not None:
        set_resident_limit(arguments.max_resident)
    try:
        served = keep(
            place, arguments.max_bytes, arguments.linger, lambda: _notify(b"READY=1"), foreground=True
        )
    finally:
        _notify(b"STOPPING=1")
    return 0 if served else 1


def _notify(what: bytes) -> None:
    """To systemd, if it asked for it (sd_notify(3)). A variable that another service left is no reason to end."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        address = "\0" + path[1:] if path.startswith("@") else path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.sendto(what, address)
        except OSError as error:
            print(f"mvolatile: NOTIFY_SOCKET={path}: {error.strerror}; nobody was told", file=sys.stderr)
