"""Which form of a chunk is kept where there is no room for both: encoded, or decoded.

The cache gives up first what saves least for its size. But each read of a chunk that is not there decoded would bring a
decoded one in, and something has to go for that. So where the memory is full a decoded chunk is kept only if decoding
saves more for its bytes than fetching does for those of an encoded one: from a store in a network it does not, from a
local disk it does.
"""

from __future__ import annotations

from ..cache import VolatileCache
from ..cache.engine import engine_of
from . import backing

__all__ = ["Forms"]

PART = 1 / 16
"""Of what is usual, that each measurement takes, after the first."""
OUTLIER = 4.0
"""Times what is usual, as what a measurement counts at most: something else ran meanwhile."""


class Forms:
    """Of the chunks of one store in `cache`. Seconds a byte, of fetching and of decoding; 0 before the first."""

    def __init__(self, cache: backing.Cache) -> None:
        self._cache = cache
        self.fetching = self.decoding = 0.0

    def fetched(self, nbytes: int, seconds: float) -> None:
        """So many bytes of a chunk, encoded."""
        self.fetching = _usual(self.fetching, seconds / max(1, nbytes))

    def decoded(self, nbytes: int, seconds: float) -> None:
        """A chunk, to so many bytes."""
        self.decoding = _usual(self.decoding, seconds / max(1, nbytes))

    def keeps_decoded(self, nbytes: int) -> bool:
        """Whether a decoded chunk is worth its room. A shared cache does not tell how much it has."""
        if self.decoding >= self.fetching or not isinstance(self._cache, VolatileCache):
            return True
        return engine_of(self._cache).budget.excess(nbytes) <= 0


def _usual(usual: float, one: float) -> float:
    return usual + PART * (min(one, OUTLIER * usual) - usual) if usual else one
