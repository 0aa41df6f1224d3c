"""A schedule as a string: who moves, in order.

``reader*3 reclaim reader*2`` is six steps: three of reader, one of reclaim, two of reader. Where an actor is
offered several steps at once, ``reader.1`` takes the second of them. ``-`` is the empty schedule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

from .system import Step

__all__ = ["Move", "choice_at", "format_schedule", "located", "move_at", "parse_schedule"]

Move = tuple[str, int]
"""An actor, and which of its own enabled steps (0 is the first)."""

TOKEN = re.compile(r"(?P<actor>[^\s.*]+)(?:\.(?P<choice>[0-9]{1,9}))?(?:\*(?P<count>[1-9][0-9]*))?")
LONGEST = 1_000_000
"""Moves in a schedule that is read: far more than a search can make, and few enough to hold."""


def format_schedule(moves: Iterable[Move]) -> str:
    """Write moves down."""
    words = []
    for (actor, choice), run in groupby(moves):
        count = sum(1 for _ in run)
        words.append(actor + (f".{choice}" if choice else "") + (f"*{count}" if count > 1 else ""))
    return " ".join(words) or "-"


def parse_schedule(text: str) -> list[Move]:
    """Read them back, at most a million; `ValueError` names the word that is not one."""
    moves: list[Move] = []
    words = text.split()
    if words == ["-"]:
        return moves
    if not words:
        raise ValueError("an empty schedule is written '-'")
    for word in words:
        match = TOKEN.fullmatch(word)
        if match is None:
            raise ValueError(
                f"not a move of a schedule: {word!r} (expected actor, actor*count or actor.choice)"
            )
        move = (match["actor"], int(match["choice"] or 0))
        count = match["count"] or "1"
        if len(count) > len(str(LONGEST)) or len(moves) + int(count) > LONGEST:
            raise ValueError(f"a schedule has at most {LONGEST:,} moves; {word[:40]!r} goes beyond")
        moves += [move] * int(count)
    return moves


def move_at(enabled: Sequence[Step], index: int) -> Move:
    """The move that takes ``enabled[index]``."""
    actor = enabled[index].actor
    return actor, sum(1 for step in enabled[:index] if step.actor == actor)


def choice_at(enabled: Sequence[Step], move: Move) -> int:
    """The index in `enabled` that `move` takes, or -1 when it is not offered."""
    actor, choice = move
    own = [index for index, step in enumerate(enabled) if step.actor == actor]
    return own[choice] if choice < len(own) else -1


@contextmanager
def located(path: Callable[[], Iterable[Move]]) -> Iterator[None]:
    """Notes, on an exception that the system raises, the schedule that led to it."""
    try:
        yield
    except Exception as error:
        error.add_note(f"schedule up to there: {format_schedule(path())}")
        raise
