"""The races: each a few lines of program for a few processors, named after what it provokes."""

from __future__ import annotations

from ..litmus import Litmus
from . import addresses, call, marker, mixtures, secondary, sharers, unmark

__all__ = ["LITMUS"]

LITMUS: dict[str, Litmus] = {
    race.name: race
    for part in (marker, unmark, sharers, addresses, secondary, call, mixtures)
    for race in part.RACES
}
"""Every race, by name."""
