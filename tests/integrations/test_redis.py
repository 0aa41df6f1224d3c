"""redis-py's client-side caching with our cache, before a real redis-server that speaks RESP3."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("redis.cache", reason="make integrations installs it")

import redis
from redis.cache import CacheConfig, CacheEntry, CacheEntryStatus, CacheKey, CacheProxy
from redis.connection import CacheProxyConnection

from mvolatile.integrations.redis import VolatileCache
from support.keepers import in_child
from support.servers import RedisServer, redis_server

pytestmark = pytest.mark.xdist_group("redis")


class Connection:
    """Something that entries may refer to."""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def other(server: RedisServer) -> Iterator[Any]:
    """Somebody else's client."""
    with redis.Redis(port=server.port) as client:
        client.flushall()
        yield client


@pytest.fixture
def cache(closing: None) -> VolatileCache:
    return VolatileCache()


@pytest.fixture
def client(
    server: RedisServer, cache: VolatileCache, other: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    # redis-py asks for 7.4, where all that call themselves Redis have it; tracking is there since 6.0.
    monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "7.0.0")
    with redis.Redis(port=server.port, protocol=3, cache=cache) as one:
        yield one


def key(name: str, command: str = "GET") -> CacheKey:
    return CacheKey(command=command, redis_keys=(name,), redis_args=(command, name))


def entry(name: str, value: Any = b"v", *, waits: bool = False, by: Any = None) -> CacheEntry:
    status = CacheEntryStatus.IN_PROGRESS if waits else CacheEntryStatus.VALID
    return CacheEntry(key(name), value, status, by)


def gets(client: Any) -> int:
    return int(client.info("commandstats").get("cmdstat_get", {"calls": 0})["calls"])


def test_what_is_unchanged_is_read_from_memory(client: Any, other: Any, cache: VolatileCache) -> None:
    other.set("k", "v")
    before = gets(other)
    assert [client.get("k") for _ in range(5)] == [b"v"] * 5
    assert gets(other) == before + 1
    assert cache.size == 1
    assert client.get_cache() is cache
    assert cache.cache_info().hits > 4


def test_what_changes_is_read_anew(client: Any, other: Any) -> None:
    for number in range(100):
        other.set("k", number)
        other.lpush("list", number)
        # Its connection has the message before it has the answer to a command that was sent afterwards.
        assert client.ping()
        assert client.get("k") == b"%d" % number
        assert client.lrange("list", 0, 0) == [b"%d" % number]
        assert client.mget("k", "nobody") == [b"%d" % number, None]
    other.flushall()
    assert client.ping()
    assert client.get("k") is None


def test_several_connections_of_one_client(client: Any, other: Any) -> None:
    """An answer that came by one is not believed by another after the one has been told that it changed."""
    for number in range(50):
        held = [client.connection_pool.get_connection() for _ in range(number % 3)]
        for connection in held:
            client.connection_pool.release(connection)
        other.set("n", number)
        assert client.ping()
        assert client.get("n") == client.get("n") == b"%d" % number


def test_by_configuration(
    server: RedisServer, other: Any, closing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "7.0.0")
    config = CacheConfig(max_size=5, cache_class=VolatileCache)
    with redis.Redis(port=server.port, protocol=3, cache_config=config) as client:
        cache = client.get_cache()
        assert isinstance(cache, CacheProxy)
        for number in range(50):
            other.set(f"k{number}", number)
            assert client.get(f"k{number}") == b"%d" % number
            assert cache.size <= 5
        assert cache.config is config


def test_an_answer_that_was_overtaken_is_not_kept(cache: VolatileCache) -> None:
    """Its key changed between the look at the placeholder and the store: another thread had the message."""
    connection = Connection()
    cache.set(entry("k", waits=True, by=connection))
    answer = cache.get(key("k"))
    assert answer is not None
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(cache.delete_by_redis_keys, [b"k"]).result() == [True]
    answer.status, answer.cache_value = CacheEntryStatus.VALID, b"old"
    assert cache.set(answer) is False
    assert cache.get(key("k")) is None


def test_a_placeholder_is_its_threads_alone(cache: VolatileCache) -> None:
    mine, its = Connection(), Connection()
    cache.set(entry("k", waits=True, by=mine))
    ours = cache.get(key("k"))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(cache.get, key("k")).result() is None
        assert pool.submit(cache.set, entry("k", waits=True, by=its)).result() is True
        assert cache.get(key("k")) is None
        assert ours is not None
        ours.status = CacheEntryStatus.VALID
        assert cache.set(ours) is False, "the other's counts now"
        answer = pool.submit(cache.get, key("k")).result()
        assert answer is not None
        answer.status, answer.cache_value = CacheEntryStatus.VALID, b"new"
        assert pool.submit(cache.set, answer).result() is True
    found = cache.get(key("k"))
    assert found is not None
    assert found.cache_value == b"new"
    assert found.connection_ref is its


def test_an_answer_goes_with_its_connection(cache: VolatileCache) -> None:
    connection = Connection()
    cache.set(entry("k", by=connection))
    assert cache.get(key("k")) is not None
    del connection
    assert cache.get(key("k")) is None
    assert cache.size == 0


def test_what_the_kernel_takes_leaves_no_index(cache: VolatileCache) -> None:
    for number in range(3000):
        cache.set(entry(str(number)))
        if number % 500 == 499:
            cache.volatile.clear()  # as if the kernel had taken it all
    assert len(cache._by_redis_key) < 2000  # noqa: SLF001 - that it does not grow


def test_keys_are_one_as_text_and_as_bytes(cache: VolatileCache) -> None:
    cache.set(entry("k"))
    assert cache.delete_by_redis_keys(["other"]) == []
    assert cache.delete_by_redis_keys(["k"]) == [True]
    cache.set(entry("k"))
    assert cache.delete_by_redis_keys([b"k"]) == [True]
    assert cache.delete_by_redis_keys([b"\xff"]) == []


def test_the_rest_of_the_interface(cache: VolatileCache) -> None:
    for name in "abc":
        assert cache.set(entry(name)) is True
    assert cache.set(CacheEntry(key("a", "SET"), b"", CacheEntryStatus.VALID, None)) is False
    assert set(cache.collection) == set(map(key, "abc"))
    assert cache.delete_by_cache_keys([key("a"), key("z")]) == [True, False]
    assert cache.eviction_policy.evict_next() in map(key, "bc")
    with pytest.raises(ValueError, match="above cache size"):
        cache.eviction_policy.evict_many(2)
    assert cache.flush() == 1
    assert cache.size == 0
    cache.set(entry("a", {1, 2}))
    value: Any = cache.collection[key("a")].cache_value
    assert value == {1, 2}
    cache.close()
    assert cache.get(key("a")) is None


def test_a_child_has_an_empty_one(client: Any, other: Any, cache: VolatileCache) -> None:
    other.set("k", "v")
    assert client.get("k") == b"v"

    def child() -> None:
        assert cache.size == 0
        assert cache.get(key("k")) is None
        assert client.get("k") == client.get("k") == b"v"

    in_child(child)
    other.set("k", "new")
    client.ping()
    assert client.get("k") == b"new", "the child has not taken the parent's message"
