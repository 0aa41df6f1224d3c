"""What `cache_info` answers is used as that of `functools.lru_cache`, and tells more by name."""

from __future__ import annotations

import copy
import functools
import pickle
from typing import Any

import pytest

from mvolatile import volatile_cache
from mvolatile.cache import CacheInfo

MORE = (
    *(
        "purged",
        "evicted",
        "expired",
        "stores",
        "bytes",
        "resident_bytes",
        "pinned_bytes",
        "segments",
        "undecodable",
        "overhead",
    ),
    *("saved_seconds", "spent_seconds", "lost_seconds"),
    *("behind_hits", "behind_errors", "behind_waiting", "behind_dropped"),
)


def info() -> CacheInfo:
    return CacheInfo(
        3,
        4,
        None,
        2,
        purged=1,
        evicted=0,
        expired=0,
        stores=2,
        bytes=100,
        resident_bytes=None,
        pinned_bytes=0,
        segments=1,
        undecodable=0,
        overhead=0,
        saved_seconds=0.0,
        spent_seconds=0.0,
        lost_seconds=0.0,
        behind_hits=0,
        behind_errors=0,
        behind_waiting=0,
        behind_dropped=0,
    )


def test_the_four_are_unpacked_and_compared() -> None:
    infos = []
    for decorate in (functools.lru_cache(maxsize=None), volatile_cache):
        cached = decorate(lambda n: n)
        cached(1), cached(1)
        hits, misses, maxsize, currsize = cached.cache_info()
        assert (hits, misses, maxsize, currsize) == (1, 1, None, 1)
        infos.append(cached.cache_info())
    theirs: Any
    ours: Any
    theirs, ours = infos
    assert ours == theirs == (1, 1, None, 1)
    assert hash(ours) == hash(theirs)
    assert len(ours) == 4
    assert ours._fields == theirs._fields
    assert list(ours._asdict()) == [*theirs._asdict(), *MORE]
    assert str(ours).startswith(
        "CacheInfo(hits=1, misses=1, maxsize=None, currsize=1, purged=0, evicted=0, expired=0, stores=1, bytes="
    )
    match ours:
        case (hits, misses, _, _):
            assert (hits, misses) == (1, 1)


def test_the_rest_is_there_by_name() -> None:
    assert [getattr(info(), name) for name in MORE] == [1, 0, 0, 2, 100, None, 0, 1, *[0] * 9]
    assert info() == info()._replace(purged=9)
    assert info()._replace(hits=5, purged=9).purged == 9
    assert info()._replace(hits=5) == (5, 4, None, 2)
    if hasattr(copy, "replace"):
        assert vars(copy.replace(info(), hits=5)) == vars(info())


def test_what_it_has_not_is_refused() -> None:
    makers: list[Any] = [lambda **more: CacheInfo(1, 2, None, 3, **more), info()._replace]
    for make in makers:
        with pytest.raises(TypeError, match="other"):
            make(other=5)


def test_one_of_a_former_version_has_what_was_added_since() -> None:
    assert CacheInfo(1, 2, None, 3).purged == 0
    assert CacheInfo._make((1, 2, None, 3))._asdict()["undecodable"] == 0


@pytest.mark.parametrize("name", ["hits", *MORE, "other"])
def test_it_cannot_be_changed(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(info(), name, 5)
    with pytest.raises(AttributeError):
        delattr(info(), name)


def test_copies() -> None:
    for copied in (
        copy.copy(info()),
        copy.deepcopy(info()),
        *(pickle.loads(pickle.dumps(info(), n)) for n in range(6)),
    ):
        assert type(copied) is CacheInfo
        assert copied == info()
        assert vars(copied) == vars(info())
