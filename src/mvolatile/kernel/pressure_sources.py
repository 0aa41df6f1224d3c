"""What the kernel offers to be woken by when memory grows short, as the core's `Listener` opens it.

Nothing here opens anything: a descriptor in the program's own table could be closed by it, and its number be another
file's when it is next polled, read or closed. The core opens them in a table of their own.
"""

from __future__ import annotations

import base64
import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass

from . import psi
from .cgroup import MemoryCgroup

__all__ = ["Kind", "Source", "sources"]

_SILENCED = "/dev/null"
"""A service manager that names this file for MEMORY_PRESSURE_WATCH asks for no watching at all."""


class Kind(enum.IntEnum):
    """How it is opened and read; `enum source_kind` of the core."""

    PSI = 0
    """A PSI trigger: fires at most once per window in which tasks stalled for that long.

    Ordinary users need Linux 6.5 and a window that is a multiple of 2 s; on cgroup files 6.7.
    """
    LEVEL = 1
    """Cgroup version 1's ``memory.pressure_level``: the kernel's own reclaim in this cgroup, as it happens.

    The level is 'low' (any reclaim at all), 'medium' or 'critical'.
    """
    EVENTS = 2
    """Cgroup version 2's ``memory.events``: the limits were met. It also changes for things that are no pressure."""
    GIVEN = 3
    """The file that the service manager told us to watch: a pressure file, a FIFO or a socket."""


@dataclass(frozen=True, slots=True)
class Source:
    """One of them. `short` names it where it is refused."""

    kind: Kind
    short: str
    name: str
    path: str | os.PathLike[str]
    control: str | os.PathLike[str] = ""
    text: bytes = b""

    def described(self) -> tuple[int, bytes, bytes, bytes]:
        """As the core takes it."""
        return int(self.kind), os.fsencode(self.path), os.fsencode(self.control), self.text


def sources(
    cgroup: MemoryCgroup | None, stall_us: int, window_us: int, level: str, environ: Mapping[str, str]
) -> list[Source]:
    """All that may be there; none where the service manager asks for silence."""
    given = environ.get("MEMORY_PRESSURE_WATCH")
    if given == _SILENCED:
        return []
    if given:
        name = f"MEMORY_PRESSURE_WATCH={given}"
        to_write = base64.b64decode(environ.get("MEMORY_PRESSURE_WRITE", ""))
        return [Source(Kind.GIVEN, name, name, given, text=to_write)]
    found = []
    if cgroup is not None and cgroup.version == 1:
        control, path = cgroup.path / "cgroup.event_control", cgroup.path / "memory.pressure_level"
        name = f"memory.pressure_level ({level}) of {cgroup.path}"
        found.append(Source(Kind.LEVEL, "memory.pressure_level", name, path, control, level.encode()))
    elif cgroup is not None:
        path = cgroup.path / "memory.pressure"
        found.append(_psi("memory.pressure", path, stall_us, window_us))
        path = cgroup.path / "memory.events"
        found.append(Source(Kind.EVENTS, "memory.events", os.fspath(path), path))
    return [*found, _psi(psi.SYSTEM, psi.SYSTEM, stall_us, window_us)]


def _psi(short: str, path: str | os.PathLike[str], stall_us: int, window_us: int) -> Source:
    trigger = f"some {stall_us} {window_us}\0".encode()
    return Source(Kind.PSI, short, f"PSI trigger on {os.fspath(path)}", path, text=trigger)
