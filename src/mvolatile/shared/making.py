"""What `SharedCache` makes: each missing value once on a host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from .._core import MISSING
from .access import Access
from .values import Terms, TimeToLive

if TYPE_CHECKING:
    from .client import SharedCache

__all__ = ["Making", "access_of"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")


class Making(Generic[K, V]):
    """Methods of `SharedCache`."""

    _access: Access
    _find: Callable[[Any], Any]

    @overload
    def setdefault(self: Making[K, T | None], key: K, default: None = None) -> T | None: ...
    @overload
    def setdefault(self, key: K, default: V) -> V: ...
    def setdefault(self, key: K, default: Any = None) -> Any:
        """The value; if there is none, `default` is stored and returned."""
        value = self._find(key)
        return self._access.make(key, lambda: default, Terms(timed=False)) if value is MISSING else value

    def get_or_set(
        self,
        key: K,
        factory: Callable[[], V],
        *,
        ttl: TimeToLive = None,
        condition: Callable[[V], object] | None = None,
        tag: Hashable = None,
    ) -> V:
        """The value; on a miss that of ``factory()``, which is stored.

        Single-flight on the whole host: while one thread of one process makes the value, all others that want it
        wait, and get one like it. If the maker fails or dies another takes over. If the key is set, deleted or cleared
        meanwhile, or its `tag` deleted, the made value is returned and not stored; so is one that `condition(value)`
        finds false or that cannot be stored. A factory may use the cache. Makers that need each other's values in a
        circle make their own.
        """
        access = self._access
        terms = access.terms(ttl, condition, tag)
        value = self._find(key)
        return cast(V, access.make(key, factory, terms) if value is MISSING else value)

    async def aget_or_set(
        self,
        key: K,
        factory: Callable[[], V | Awaitable[V]],
        *,
        ttl: TimeToLive = None,
        condition: Callable[[V], object] | None = None,
        tag: Hashable = None,
    ) -> V:
        """As `get_or_set` for coroutines, under asyncio, trio or anyio: `factory` may return an awaitable."""
        access = self._access
        terms = access.terms(ttl, condition, tag)
        value = self._find(key)
        return cast(V, await access.amake(key, factory, terms) if value is MISSING else value)

    def delete_tag(self, tag: Hashable) -> int:
        """Delete all values that were last stored with that tag, by whatever process; answers how many. What is being
        made with it anywhere is returned, and not stored. When it returns nobody reads them any more.

        A tag is what may be a key. `TypeError` for what may not; `ValueError` where something is `behind` the cache.
        """
        return self._access.delete_tag(tag)


def access_of(cache: SharedCache[Any, Any]) -> Access:
    """For the decorator."""
    return cache._access  # noqa: SLF001
