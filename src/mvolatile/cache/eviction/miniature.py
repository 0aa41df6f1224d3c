"""Miniature simulations (Waldspurger et al., USENIX ATC 2017): small caches that see a sample of the keys, each with
another share for its window or another rule for what enters the main part, tell which would bring the most hits now.
`_core/cache/miniatures.c` has them; `sample.c` says which keys they see, and when another choice is clearly ahead.

A key is sampled by its hash, so that all requests for it are seen or none. Of stores the miniatures are told. Of hits
nobody is: the visits of sampled values are looked up, a few at each sampled store, some times while the cache is
filled once. That is late and out of order by little, beside the time that a value stays. With the exact order of all
requests they decide no better.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CHOICES", "FIRST", "Choice"]


class Choice(NamedTuple):
    """One way to be."""

    share: float
    """Of all bytes, for the window."""
    stubbornness: int = 0
    """By how much a candidate must be ahead of the one it is to replace, beside one."""
    enough: int = 0
    """Or how often it must have been asked for, whatever the other was; 0 where they are compared."""


CHOICES = (Choice(0.01, stubbornness=1), Choice(0.06), Choice(0.06, enough=2), Choice(0.4), Choice(1.0))
"""The first is for loops and scans: there a tie of counts that are out of date would let a loop in. The third lets in
what comes back, as ghosts do in S3-FIFO: for what becomes popular all at once. The last is CLOCK, which is near LRU.
"""
FIRST = 1
"""Of these, until another is clearly ahead."""
