"""Pressure stall information (PSI): how much of the time tasks waited for memory."""

from __future__ import annotations

import os
from dataclasses import dataclass

from . import files

__all__ = ["SYSTEM", "PsiReading", "Stall", "parse_psi", "read_psi"]

SYSTEM = "/proc/pressure/memory"


@dataclass(frozen=True, slots=True)
class Stall:
    """Share of time stalled over the last 10, 60 and 300 s, in percent, and the `total` in microseconds."""

    avg10: float
    avg60: float
    avg300: float
    total: int


@dataclass(frozen=True, slots=True)
class PsiReading:
    """`some`: at least one task waited; `full`: all that could run did (None where the kernel has no such
    line).
    """

    some: Stall
    full: Stall | None


def parse_psi(text: str) -> PsiReading:
    """Parse the text of a pressure file; raises ValueError if it is none."""
    stalls = {}
    for line in text.splitlines():
        kind, *fields = line.split()
        values = dict(field.split("=") for field in fields)
        stalls[kind] = Stall(
            float(values["avg10"]), float(values["avg60"]), float(values["avg300"]), int(values["total"])
        )
    if "some" not in stalls:
        raise ValueError(f"not a pressure file: {text!r}")
    return PsiReading(stalls["some"], stalls.get("full"))


def read_psi(path: str | os.PathLike[str] = SYSTEM) -> PsiReading | None:
    """Read a pressure file, the system's by default; None where the kernel was built or booted without PSI.

    With PSI switched off for a cgroup (``cgroup.pressure``) its file cannot be read either.
    """
    text = files.read(path)
    return parse_psi(text) if text else None
