"""The stream of tile requests: several people at once, panning and zooming over maps.

Uniform noise would favour no cache, and a plain Zipf draw would know no neighbourhood. Here each viewer
walks: it heads for a place, popular ones more often, pans a fraction of a tile at a time, zooms in on
arrival, looks around, zooms out and goes on; now and then it switches the map. A viewer keeps what is on its
screen and asks only for the tiles that come into view, so every hit a cache scores is one that the screen
could not have answered.
"""

from __future__ import annotations

import itertools
import random
from array import array
from collections.abc import Iterator, Sequence

from mvolatile.demo.imagery import Level

__all__ = ["PLACES", "stream"]

PLACES = (
    ("Himalaya", 86.9, 28.0),
    ("Alps", 8.0, 46.5),
    ("Tokyo", 139.7, 35.7),
    ("Grand Canyon", -112.1, 36.1),
    ("London", -0.1, 51.5),
    ("Patagonia", -73.0, -50.0),
    ("New York", -74.0, 40.7),
    ("Great Barrier Reef", 147.7, -18.3),
    ("Iceland", -18.8, 64.9),
    ("Nile", 31.2, 30.0),
    ("Hawaii", -155.6, 19.8),
    ("Bay of Bengal", 90.4, 23.7),
    ("Andes", -70.0, -32.6),
    ("Kilimanjaro", 37.4, -3.1),
    ("San Francisco", -122.4, 37.8),
    ("Mumbai", 72.9, 19.1),
    ("Amazon", -60.0, -3.1),
    ("Sydney", 151.2, -33.9),
    ("Cape Town", 18.4, -33.9),
    ("Lake Baikal", 108.2, 53.5),
    ("Caribbean", -71.0, 17.5),
    ("Istanbul", 29.0, 41.0),
    ("Singapore", 103.8, 1.4),
    ("Greenland", -42.0, 70.0),
    ("Mariana Trench", 142.6, 11.4),
    ("Moscow", 37.6, 55.8),
    ("Tibesti", 18.5, 20.8),
    ("New Zealand", 170.1, -43.6),
    ("Kamchatka", 160.6, 56.1),
    ("Svalbard", 16.0, 78.2),
)
"""Name, degrees east, degrees north; the most popular first."""

_ZIPF = 0.8
_MAP_WEIGHTS = (6, 3, 2)
_SCREEN = (5, 4)
"""Tiles across and down that a screen shows."""
_STEP = 0.7
"""Tiles panned in one step."""


class _Viewer:
    """One person at a screen. Position is in world units: x from 0 (180 W) to 1, y from 0 (90 N) to 1."""

    def __init__(self, levels: Sequence[Level], rng: random.Random) -> None:
        self._rng = rng
        self._pyramids = [
            [level for level in levels if level.map == name]
            for name in dict.fromkeys(level.map for level in levels)
        ]
        self._screen: frozenset[int] = frozenset()

    def steps(self) -> Iterator[list[int]]:
        """For each step, the tiles that came into view, row by row."""
        rng = self._rng
        pyramid = self._choose_map()
        zoom = min(1, len(pyramid) - 1)
        x, y = self._choose_place()
        while True:
            target_x, target_y = self._choose_place()
            if rng.random() < 0.3:
                pyramid = self._choose_map()
                zoom = min(zoom, len(pyramid) - 1)
            # Far places are reached zoomed out, near ones by panning.
            if max(abs(target_x - x), abs(target_y - y)) > 0.15:
                while zoom > 1:
                    zoom -= 1
                    yield self._look(pyramid[zoom], x, y)
            while True:
                level = pyramid[zoom]
                off_x, off_y = (target_x - x) * level.columns, (target_y - y) * level.rows
                distance = (off_x**2 + off_y**2) ** 0.5
                if distance < _STEP:
                    break
                x += off_x / distance * _STEP / level.columns + rng.gauss(0, 0.1) / level.columns
                y += off_y / distance * _STEP / level.rows + rng.gauss(0, 0.1) / level.rows
                yield self._look(level, x, y)
            while zoom < len(pyramid) - 1 and rng.random() < 0.9:
                zoom += 1
                yield self._look(pyramid[zoom], x, y)
            level = pyramid[zoom]
            for _ in range(int(rng.expovariate(1 / 12))):
                x = min(max(x + rng.gauss(0, _STEP) / level.columns, 0), 1)
                y = min(max(y + rng.gauss(0, _STEP) / level.rows, 0), 1)
                yield self._look(level, x, y)

    def _choose_map(self) -> list[Level]:
        return self._rng.choices(self._pyramids, _MAP_WEIGHTS[: len(self._pyramids)])[0]

    def _choose_place(self) -> tuple[float, float]:
        weights = [1 / rank**_ZIPF for rank in range(1, len(PLACES) + 1)]
        _, east, north = self._rng.choices(PLACES, weights)[0]
        return (east + 180) / 360, (90 - north) / 180

    def _look(self, level: Level, x: float, y: float) -> list[int]:
        across, down = _SCREEN
        left, top = round(x * level.columns - across / 2), round(y * level.rows - down / 2)
        rows = range(max(top, 0), min(top + down, level.rows))
        seen = [level.key(column, row) for row in rows for column in range(left, left + across)]
        new = [key for key in dict.fromkeys(seen) if key not in self._screen]
        self._screen = frozenset(seen)
        return new


def stream(levels: Sequence[Level], requests: int, seed: int, viewers: int = 8) -> array[int]:
    """`requests` tile numbers, from `viewers` walks in turn; the same for the same arguments, everywhere."""
    walks = [_Viewer(levels, random.Random(f"{seed}/{number}")).steps() for number in range(viewers)]
    asked = itertools.chain.from_iterable(next(walk) for walk in itertools.cycle(walks))
    return array("I", itertools.islice(asked, requests))
