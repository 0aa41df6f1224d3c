"""The processes of this user that hold volatile memory, seen from outside."""

from __future__ import annotations

from pathlib import Path

from ..kernel import files, smaps
from ..kernel.smaps import NamedUsage

__all__ = ["command_of", "usages"]


def usages() -> dict[int, list[NamedUsage]]:
    """What each holds, by process id and name."""
    found = {}
    for pid in smaps.our_processes():
        try:
            held = smaps.usage_by_name(pid)
        except OSError:
            continue  # it ended since it was listed
        if held:
            found[pid] = held
    return found


def command_of(pid: int) -> str:
    """Its arguments; printable, since another user chooses them and the terminal is ours."""
    text = (files.read(Path(f"/proc/{pid}/cmdline")) or "").replace("\0", " ").strip()
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
