"""Whether a process is still the one it was: its number may be another's by now, and its program another."""

from __future__ import annotations

import os

from . import files

__all__ = ["Life", "life_of", "lives", "namespace", "stack_of"]

Life = tuple[int, int]
"""A process: its number, and when it began, in ticks since boot (0: nobody says)."""

_BEGAN, _STACK = 19, 25
"""Places in ``/proc/PID/stat``, behind the state, which follows the name."""


def life_of(pid: int) -> Life:
    """Of a process that is there now."""
    fields = _fields(pid)
    return pid, int(fields[_BEGAN]) if fields else 0


def lives(life: Life) -> bool:
    """Whether that process has not ended. One in another pid namespace, which has no number here, has."""
    pid, began = life
    if pid <= 0:
        return False
    fields = _fields(pid)
    if not fields:  # gone; or there is no /proc, or no descriptor to read it by, and that is no death
        return _answers(pid)
    return fields[0] not in "ZX" and began in (0, int(fields[_BEGAN]))


def stack_of(pid: int) -> int:
    """Where its stack begins, which is elsewhere after each exec, unless addresses are not random there; 0: nobody
    says, as of a process that may not be looked into.
    """
    fields = _fields(pid)
    return int(fields[_STACK]) if fields else 0


def namespace() -> str:
    """Of process numbers, in which this process has its own: the kernel's number of it; 0 where nobody says."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "0"


def _fields(pid: int) -> list[str]:
    fields = (files.read(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
    return fields if len(fields) > _STACK else []


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
