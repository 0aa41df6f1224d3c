"""What is decorated keeps its types. Read by `make lint`, never run: a line that is wrong must be an error to mypy
and to pyright, for both tell of a comment that ignores none.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Coroutine, Hashable
from datetime import timedelta
from typing import Any, assert_type

from mvolatile import volatile_cache


@volatile_cache
def bare(uid: int, *, full: bool = False) -> bytes:
    return bytes(uid) * full


@volatile_cache(maxsize=10, ttl=timedelta(seconds=5), condition=lambda value: value is not None)
def called(uid: int) -> bytes | None:
    return bytes(uid)


@volatile_cache(stale=5, stale_if_error=timedelta(hours=1), unstorable="raise", tag=lambda uid: uid)
def kept(uid: int) -> str:
    return str(uid)


@volatile_cache
def nothing() -> str:
    return ""


@volatile_cache
async def fetched(url: str) -> list[str]:
    return [url]


class Repo:
    @volatile_cache
    def get(self, uid: int, *, full: bool = False) -> bytes:
        return bytes(uid) * full

    @volatile_cache(typed=True)
    def alone(self) -> str:
        return ""

    @volatile_cache()
    async def fetch(self, url: str) -> list[str]:
        return [url]

    @classmethod
    @volatile_cache
    def made(cls, n: int) -> str:
        return cls.__name__ * n

    @staticmethod
    @volatile_cache
    def still(n: int) -> str:
        return "x" * n

    @staticmethod
    @volatile_cache
    def empty() -> str:
        return ""

    @classmethod
    @volatile_cache
    async def later(cls, n: int) -> str:
        return "x" * n

    @property
    @volatile_cache
    def title(self) -> str:
        return ""

    def inside(self) -> bytes:
        return self.get(1)


class Sub(Repo): ...


def functions() -> None:
    assert_type(bare(1, full=True), bytes)
    assert_type(called(1), bytes | None)
    assert_type(nothing(), str)
    assert_type(kept(1), str)
    kept("1")  # type: ignore[arg-type]
    assert_type(bare.__wrapped__(1), bytes)
    assert_type(bare.cache_key(1, full=True), Hashable)
    assert_type(bare.cache_delete(1), bool)
    hits, misses, maxsize, currsize = bare.cache_info()
    assert_type((hits, misses, maxsize, currsize), tuple[int, int, int | None, int])
    assert_type(bare.cache_info().purged, int)
    bare("1")  # type: ignore[arg-type]
    bare(1, True)  # type: ignore[call-arg]
    bare.cache_delete("1")  # type: ignore[arg-type]
    called()  # type: ignore[call-arg]
    nothing(1)  # type: ignore[call-arg]


def methods(repo: Repo, sub: Sub) -> None:
    assert_type(repo.get(1, full=True), bytes)
    assert_type(sub.get(1), bytes)
    assert_type(Repo.get(repo, 1), bytes)
    assert_type(repo.alone(), str)
    assert_type(repo.title, str)
    assert_type(repo.get.cache_info().hits, int)
    assert_type(Repo.get.cache_delete(repo, 1), bool)
    repo.get.cache_clear()
    repo.get("1")  # type: ignore[call-overload]
    repo.get(1, 7, x=1)  # type: ignore[call-overload]
    repo.alone(1)  # type: ignore[call-overload]
    Repo.get.cache_delete(repo, "1")  # type: ignore[arg-type]


def methods_of_classes(repo: Repo) -> None:
    assert_type(Repo.made(1), str)
    assert_type(repo.made(1), str)
    assert_type(Sub.made(1), str)
    assert_type(Repo.made.cache_info().hits, int)
    assert_type(Repo.still(1), str)
    assert_type(repo.still(1), str)
    assert_type(Repo.still(n=1), str)
    assert_type(Repo.empty(), str)
    assert_type(repo.empty(), str)
    Repo.made("1")  # type: ignore[call-overload]
    Repo.still("1")  # type: ignore[call-overload]


async def coroutines(repo: Repo) -> None:
    assert_type(await fetched("a"), list[str])
    later: Coroutine[Any, Any, list[str]] = fetched("a")
    assert_type(await later, list[str])
    assert_type(await repo.fetch("a"), list[str])
    assert_type(await Repo.later(1), str)
    await fetched(1)  # type: ignore[arg-type]
    await repo.fetch(1)  # type: ignore[call-overload]
