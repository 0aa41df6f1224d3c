"""Queues, by number: values of one queue share segments."""

from __future__ import annotations

__all__ = ["FRESH", "KEPT"]

FRESH, KEPT = 0, 1
"""New values go where their owner says, else into `FRESH`; what is moved out of a segment that is mostly dead goes into
`KEPT`, or stays in its own beyond that.
"""
