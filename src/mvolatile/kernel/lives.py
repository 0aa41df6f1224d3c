"""Whether a process is still the one it was: its number may be another's by now."""

from __future__ import annotations

import os

__all__ = ["Life", "life_of", "lives"]

Life = tuple[int, int]
"""A process: its number, and when it began, in ticks since boot (0: nobody says)."""

_BEGAN = 19
"""The place in ``/proc/PID/stat``, behind the state, which follows the name."""


def life_of(pid: int) -> Life:
    """Of a process that is there now."""
    state, began = _state(pid)
    return pid, began if state else 0


def lives(life: Life) -> bool:
    """Whether that process has not ended. One in another pid namespace, which has no number here, has."""
    pid, began = life
    if pid <= 0:
        return False
    state, begins = _state(pid)
    if not state:
        return not os.path.exists("/proc/self/stat") and _answers(pid)
    return state not in "ZX" and began in (0, begins)


def _state(pid: int) -> tuple[str, int]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[_BEGAN])
    except (OSError, IndexError, ValueError):
        return "", 0


def _answers(pid: int) -> bool:
    """Where there is no ``/proc``."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
