"""What a cache gives has the type of what was stored. As `decorated`."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

from mvolatile import SharedCache, VolatileCache, caches
from mvolatile.cache import CacheInfo


def bare() -> None:
    assert_type(VolatileCache(), VolatileCache[Any, Any])
    with VolatileCache(ttl=5) as cache, SharedCache("a") as shared:
        assert_type(cache["k"], Any)
        assert_type(shared, SharedCache[Any, Any])
    named: VolatileCache[str, int] = VolatileCache()
    assert_type(named["k"], int)


def reading(cache: VolatileCache[str, bytes]) -> None:
    assert_type(cache["k"], bytes)
    assert_type(cache.get("k"), bytes | None)
    assert_type(cache.get("k", b""), bytes)
    assert_type(cache.get("k", None), bytes | None)
    assert_type(cache.get("k", default=0), bytes | int)
    assert_type(cache.get_many(["k"]), dict[str, bytes])
    assert_type(cache.ttl("k"), float | None)
    for key in cache:
        assert_type(key, str)
    for key, value in cache.items():
        assert_type((key, value), tuple[str, bytes])
    for value in cache.values():
        assert_type(value, bytes)
    cache[1]  # type: ignore[index]
    cache.get(1)  # type: ignore[call-overload]
    cache.get_many([1])  # type: ignore[list-item]


def taking(cache: VolatileCache[str, bytes]) -> None:
    assert_type(cache.pop("k"), bytes)
    assert_type(cache.pop("k", b""), bytes)
    assert_type(cache.pop("k", None), bytes | None)
    assert_type(cache.pop("k", 0), bytes | int)
    assert_type(cache.popitem(), tuple[str, bytes])
    assert_type(cache.delete_many(["k"]), int)
    cache.pop(1)  # type: ignore[call-overload]
    cache.delete_many([1])  # type: ignore[list-item]


async def making(cache: VolatileCache[str, bytes], perhaps: VolatileCache[str, bytes | None]) -> None:
    assert_type(cache.setdefault("k", b""), bytes)
    assert_type(perhaps.setdefault("k"), bytes | None)
    assert_type(cache.get_or_set("k", lambda: b"", ttl=len), bytes)
    assert_type(await cache.aget_or_set("k", lambda: b"", ttl=5), bytes)
    assert_type(cache.add("k", b"", ttl=5), bool)
    assert_type(cache.touch("k", 5), bool)
    cache.set_many({"k": b""}, ttl=5, tag="t")
    cache.set("k", b"", tag=("a", 5))
    assert_type(cache.delete_tag("t"), int)
    assert_type(cache.get_or_set("k", lambda: b"", tag="t"), bytes)
    cache.set_many([("k", b"")])
    cache.setdefault("k", 1)  # type: ignore[arg-type]
    cache.setdefault("k")  # type: ignore[call-arg]
    cache.get_or_set("k", lambda: 1)  # type: ignore[return-value, arg-type]
    cache["k"] = 1  # type: ignore[assignment]
    cache.set("k", 1)  # type: ignore[arg-type]
    cache.add("k", 1)  # type: ignore[arg-type]
    cache.set_many({"k": 1})  # type: ignore[arg-type]


def telling(cache: VolatileCache[str, bytes]) -> None:
    info = cache.cache_info()
    assert_type(info, CacheInfo)
    assert_type(info[0], int)
    assert_type(info.resident_bytes, int | None)
    assert_type(caches(), list[VolatileCache[Any, Any]])
    VolatileCache(on_lost=lambda keys: print(len(keys)), on_evict=lambda key, why: print(why))
    VolatileCache(stale=timedelta(seconds=5), stale_if_error=60, unstorable="return")
    VolatileCache(behind={}, behind_mode="through")
    VolatileCache(behind=5)  # type: ignore[arg-type]
    VolatileCache(behind_mode="both")  # type: ignore[arg-type]
    assert_type(info.behind_hits, int)
    VolatileCache(unstorable="no")  # type: ignore[arg-type]
    info.purged = 5  # type: ignore[misc]
    print(info.nothing)  # type: ignore[attr-defined]
    VolatileCache(on_purge=print)  # type: ignore[call-arg]
