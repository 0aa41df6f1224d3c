from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from mvolatile.demo.contenders import CONTENDERS, Contender, Source, keeper
from mvolatile.demo.imagery import TILE_BYTES, use

TILES = {key: os.urandom(TILE_BYTES) for key in range(8)}
LIMIT = 192 << 20


@pytest.fixture
def decoded() -> list[int]:
    return []


@pytest.fixture
def decode(decoded: list[int]) -> Callable[[int], bytes]:
    def decode(key: int) -> bytes:
        decoded.append(key)
        return TILES[key]

    return decode


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: contender.name)
def test_serves_the_tile_and_keeps_it(
    contender: Contender, decode: Callable[[int], bytes], decoded: list[int]
) -> None:
    kept = keeper(contender.name, contender.cap_bytes(LIMIT))
    for expected in (Source.BUILT, Source.HIT, Source.HIT):
        for key, tile in TILES.items():
            assert kept.serve(key, decode) == (use(tile), expected)
    assert decoded == list(TILES)


def test_an_lru_evicts_by_bytes(decode: Callable[[int], bytes]) -> None:
    kept = keeper("lru-small", 2 * TILE_BYTES)
    sources = [kept.serve(key, decode)[1] for key in (0, 1, 0, 2, 0, 1)]
    assert sources == [Source.BUILT, Source.BUILT, Source.HIT, Source.BUILT, Source.HIT, Source.BUILT]


def test_what_the_kernel_took_is_rebuilt(decode: Callable[[int], bytes], decoded: list[int]) -> None:
    kept = keeper("volatile")
    for key in TILES:
        kept.serve(key, decode)
    assert kept.shed(3 * TILE_BYTES) >= 3 * TILE_BYTES
    served = {key: kept.serve(key, decode) for key in TILES}
    assert {key: checksum for key, (checksum, _) in served.items()} == {key: use(TILES[key]) for key in TILES}
    rebuilt = [key for key, (_, source) in served.items() if source is Source.REBUILT]
    assert len(rebuilt) == 3
    assert decoded == [*TILES, *rebuilt]


def test_only_volatile_memory_can_shed(decode: Callable[[int], bytes]) -> None:
    for name in ("dict", "lru-large"):
        kept = keeper(name, LIMIT)
        kept.serve(0, decode)
        assert kept.shed(TILE_BYTES) == 0


def test_a_cap_smaller_than_a_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="cap"):
        keeper("lru-small", TILE_BYTES - 1)
    with pytest.raises(ValueError, match="cap"):
        keeper("lru-small")


def test_labels_tell_the_guess() -> None:
    labels = [contender.label(LIMIT) for contender in CONTENDERS]
    assert labels == ["dict, unbounded", "LRU of 128 MiB", "LRU of 48 MiB", "VolatileCache"]
