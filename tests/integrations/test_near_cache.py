"""`NearCache` before a real redis-server: fast while the server is silent, and nothing stale once it has spoken."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

pytest.importorskip("redis", reason="make integrations installs it")

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mvolatile.integrations.redis import NearCache
from support.keepers import in_child, until
from support.servers import RedisServer, redis_server

pytestmark = pytest.mark.xdist_group("near_cache")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[Any]:
    """Somebody else's."""
    with redis.Redis(unix_socket_path=server.path) as other:
        other.flushall()
        yield other


@pytest.fixture
def open_near(server: RedisServer, closing: None) -> Iterator[Callable[..., NearCache]]:
    opened: list[NearCache] = []
    clients = []

    def open_one(*, decode_responses: bool = False, protocol: int = 2, **options: Any) -> NearCache:
        clients.append(
            redis.Redis(
                unix_socket_path=server.path,
                decode_responses=decode_responses,
                protocol=protocol,
                retry=Retry(NoBackoff(), 0),
            )
        )
        opened.append(NearCache(clients[-1], heartbeat=0.2, **options))
        until(lambda: opened[-1].listening)
        return opened[-1]

    yield open_one
    for near in opened:
        near.close()
    for one in clients:
        one.close()


@pytest.fixture
def near(open_near: Callable[..., NearCache]) -> NearCache:
    return open_near()


def settle(near: NearCache, client: Any) -> None:
    """Returns when `near` has heard all that the server had to tell until now."""
    client.set("mark", "first")
    assert near.get("mark") == b"first"  # from now on a message takes it away
    client.set("mark", "last")
    until(lambda: near.get("mark") == b"last")


def asked(client: Any) -> int:
    """How often anybody read from the server."""
    return int(client.info("commandstats").get("cmdstat_get", {"calls": 0})["calls"])


def test_the_server_is_asked_once(near: NearCache, client: Any) -> None:
    client.set("k", "v")
    settle(near, client)
    before = asked(client)
    assert [near.get("k") for _ in range(5)] == [b"v"] * 5
    assert near["k"] == near[b"k"] == b"v"
    assert "k" in near
    assert asked(client) == before + 1
    assert near.cache_info().hits >= 4


def test_what_is_not_there_is_known_too(near: NearCache, client: Any) -> None:
    settle(near, client)
    before = asked(client)
    assert [near.get("k") for _ in range(5)] == [None] * 5
    assert near.get("k", b"default") == b"default"
    with pytest.raises(KeyError):
        near["k"]
    assert "k" not in near
    assert asked(client) == before + 1
    client.set("k", "v")
    until(lambda: near.get("k") == b"v")


@pytest.mark.parametrize(
    "change",
    [
        lambda client: client.set("k", "new"),
        lambda client: client.append("k", "er"),
        lambda client: client.delete("k"),
        lambda client: client.rename("k", "other"),
        lambda client: client.flushall(),
        lambda client: client.pexpire("k", 20),
        lambda client: client.copy("k2", "k", replace=True),
        lambda client: client.eval("return redis.call('SET', 'k', 'by a script')", 0),
    ],
)
def test_whatever_changes_a_key_is_seen(near: NearCache, client: Any, change: Callable[[Any], Any]) -> None:
    client.mset({"k": "old", "k2": "another"})
    until(lambda: near.get("k") == b"old" and near.get("k2") == b"another")
    change(client)
    until(lambda: near.get("k") == client.get("k") != b"old")


def test_a_key_that_expires_is_gone_when_it_is(near: NearCache, client: Any) -> None:
    """The server tells of it late; what was read is not kept for longer."""
    client.config_set("hz", 1)
    try:
        client.set("k", "v", px=150)
        until(lambda: near.get("k") == b"v" or not client.exists("k"))
        until(lambda: not client.exists("k"))
        assert near.get("k") is None
    finally:
        client.config_set("hz", 10)


def test_ones_own_writes_are_seen_at_once(near: NearCache) -> None:
    for number in range(200):
        assert near.set("k", number) is True
        assert near.get("k") == b"%d" % number
        if number % 10 == 0:
            assert near.delete("k") == 1
            assert near.get("k") is None
    assert near.set("k", "v", nx=True) is None, "options are the client's"


def test_a_value_that_changes_while_it_is_fetched_is_not_kept(
    near: NearCache, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is on its way, the message overtakes it, and what the answer said is old."""
    client.set("k", "old")
    client.set("told", "x")
    settle(near, client)
    assert near.get("told") == b"x"
    pipeline = near.client.pipeline

    class Held:
        """The real pipeline, whose answer arrives late."""

        def __init__(self, **options: Any) -> None:
            self._real = pipeline(**options)

        def __enter__(self) -> Held:
            return self

        def __exit__(self, *unused: object) -> None:
            self._real.reset()

        def get(self, key: bytes) -> Held:
            self._real.get(key)
            return self

        def pttl(self, key: bytes) -> Held:
            self._real.pttl(key)
            return self

        def execute(self) -> Any:
            answer = self._real.execute()
            client.set("k", "new")
            client.set("told", "y")
            until(lambda: b"told" not in near.volatile)
            return answer

    monkeypatch.setattr(near.client, "pipeline", Held)
    assert near.get("k") == b"old"
    monkeypatch.undo()
    assert near.get("k") == b"new"


def test_nothing_stale_under_writers(near: NearCache, client: Any, server: RedisServer) -> None:
    """A counter that a writer counts up: once told, no reader sees an older number than what was there when told."""
    settle(near, client)  # what was emptied for this test would take away what a message alone is to
    told, stop, wrong = 0, threading.Event(), []

    def write() -> None:
        nonlocal told
        with redis.Redis(unix_socket_path=server.path) as writer:
            for number in range(1, 60):
                assert near.get(f"wrote {number}") is None  # a message alone takes that away
                writer.set("n", number)
                writer.set(f"wrote {number}", 1)
                until(partial(near.get, f"wrote {number}"))
                if near.cache_info().purged == 0:  # else the kernel may have
                    told = number
        stop.set()

    def read() -> None:
        while not stop.is_set():
            least = told
            if (found := int(near.get("n") or 0)) < least:
                wrong.append((found, least))

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(write), pool.submit(read), pool.submit(read)]:
            done.result()
    assert wrong == []


def test_a_lost_connection_ends_belief(near: NearCache, client: Any) -> None:
    client.set("k", "old")
    until(lambda: near.get("k") == b"old")
    first = near.volatile
    listeners = [one["id"] for one in client.client_list() if "subscribe" in one["cmd"]]
    assert len(listeners) == 1
    client.client_kill_filter(_id=listeners[0])
    until(lambda: near.get("k") == b"old" and len(first) == 0 and not near.listening)
    client.set("k", "new")
    assert near.get("k") == b"new"
    until(lambda: near.listening)
    until(lambda: near.get("k") == b"new" and b"k" in near.volatile)


def test_a_server_that_is_silent_is_not_believed(near: NearCache, client: Any, server: RedisServer) -> None:
    client.set("k", "old")
    until(lambda: near.get("k") == b"old")
    assert server.process
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        until(lambda: not near.listening)
        assert len(near.volatile) == 0
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    until(lambda: near.listening)
    assert near.get("k") == b"old"


def test_a_server_that_is_away_and_comes_back(near: NearCache, client: Any, server: RedisServer) -> None:
    client.set("k", "old")
    until(lambda: near.get("k") == b"old")
    server.stop()
    until(lambda: not near.listening)
    with pytest.raises(redis.ConnectionError):
        near.get("k")
    server.start()
    until(lambda: near.listening)
    with suppress(redis.ConnectionError):  # the client's pool has a dead connection yet
        near.get("k")
    assert near.get("k") is None


def test_prefixes(open_near: Callable[..., NearCache], client: Any) -> None:
    near = open_near(prefixes=["user:", b"page:"])
    client.mset({"user:1": "a", "page:1": "b", "other": "c"})

    def kept() -> set[Any]:
        """Once the server's message of that change has come: it may take away what was read before."""
        assert [near.get(key) for key in ("user:1", "page:1", "other")] == [b"a", b"b", b"c"]
        return set(near.volatile)

    until(lambda: kept() == {b"user:1", b"page:1"})
    client.mset({"user:1": "x", "other": "z"})
    assert near.get("other") == b"z"
    until(lambda: near.get("user:1") == b"x")


@pytest.mark.parametrize("protocol", [2, 3])
def test_what_the_client_gives(open_near: Callable[..., NearCache], client: Any, protocol: int) -> None:
    near = open_near(decode_responses=True, protocol=protocol)
    client.set("k", "ä")
    assert near.get("k") == near.get("k") == "ä"
    client.hset("h", "f", "v")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        near.get("h")


def test_in_a_forked_child(near: NearCache, client: Any) -> None:
    client.set("k", "old")
    until(lambda: near.get("k") == b"old")

    def child() -> None:
        assert len(near.volatile) == 0
        assert not near.listening
        assert near.get("k") == b"old"
        until(lambda: near.listening)
        assert near.get("k") == b"old"
        near.client.set("k", "new")
        until(lambda: near.get("k") == b"new")

    in_child(child)
    until(lambda: near.get("k") == b"new")


@pytest.mark.parametrize("protocol", [2, 3])
def test_over_tcp(server: RedisServer, client: Any, closing: None, protocol: int) -> None:
    with (
        redis.Redis(host="127.0.0.1", port=server.port, protocol=protocol) as one,
        NearCache(one, heartbeat=0.2) as near,
    ):
        until(lambda: near.listening)
        client.set("k", "v")
        settle(near, client)
        assert near.get("k") == near.get("k") == b"v"
        client.set("k", "new")
        until(lambda: near.get("k") == b"new")
        assert near.trouble is None
        assert "listening, " in repr(near)


def test_a_server_that_may_not_be_asked_to_tell(server: RedisServer, client: Any, closing: None) -> None:
    """It works without, and says why it has to."""
    client.acl_setuser("limited", enabled=True, passwords=["+p"], keys=["*"], commands=["+@all", "-client"])
    with (
        redis.Redis(unix_socket_path=server.path, username="limited", password="p") as one,
        NearCache(one, heartbeat=0.2) as near,
    ):
        until(lambda: near.trouble)
        client.set("k", "v")
        assert near.get("k") == b"v"
        assert not near.listening
        assert "NoPermission" in repr(near)


def test_close(open_near: Callable[..., NearCache], client: Any) -> None:
    near = open_near()
    client.set("k", "v")
    with near:
        assert near.get("k") == b"v"
    assert near.get("k") == b"v", "the client is open"
    assert not near.listening
    assert "closed" in repr(near)
    near.close()


def test_one_that_is_dropped_leaves_no_thread(server: RedisServer, closing: None) -> None:
    with redis.Redis(unix_socket_path=server.path) as client:
        alive = weakref.ref(NearCache(client, heartbeat=0.1))
        gc.collect()
        assert alive() is None
        until(lambda: not any(one.name == "mvolatile-near" for one in threading.enumerate()))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [({"heartbeat": 0}, ValueError, "heartbeat"), ({"prefixes": "user:"}, TypeError, "several")],
)
def test_misuse(options: dict[str, Any], error: type[Exception], match: str) -> None:
    with redis.Redis() as client, pytest.raises(error, match=match):
        NearCache(client, **options)
