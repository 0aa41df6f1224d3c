"""cachelib's interface: what its own suite does not ask, and Flask-Caching and Flask-Session over it."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cachelib", reason="make integrations installs it")

from cachelib.serializers import SimpleSerializer

import mvolatile as mv
from mvolatile.integrations.cachelib import VolatileCache
from support.keepers import in_child
from support.processes import run_python

WHICH: dict[str, dict[str, Any]] = {"process": {}, "shared": {"shared": "site"}}


@pytest.fixture(params=WHICH)
def cache(request: pytest.FixtureRequest, closing: None) -> VolatileCache:
    return VolatileCache(**WHICH[request.param])


class Unpicklable:
    def __getstate__(self) -> object:
        raise pickle.PicklingError("not this one")


def test_timeouts(cache: VolatileCache) -> None:
    cache.set("default", 1)
    cache.set("ever", 1, timeout=0)
    cache.set("own", 1, timeout=timedelta(hours=1))
    assert 0 < (cache.volatile.ttl("default") or 0) <= 300
    assert cache.volatile.ttl("ever") == float("inf")
    assert 300 < (cache.volatile.ttl("own") or 0) <= 3600
    assert cache.inc("own", 2) == 3
    assert 300 < (cache.volatile.ttl("own") or 0) <= 3600
    assert cache.set("own", 2, timeout=-1) is True
    assert cache.get("own") is None
    assert cache.add("own", 2, timeout=-1) is True
    assert cache.has("own") is False


def test_counting_where_everything_is_over_at_once(closing: None, runtime: Path) -> None:
    for which in WHICH.values():
        assert VolatileCache(-1, **which).inc("k") == 1


def test_none_is_there_and_reads_as_a_miss(cache: VolatileCache) -> None:
    cache.set("k", None)
    assert cache.get("k") is None
    assert cache.has("k")
    assert cache.add("k", 1) is False


@pytest.mark.parametrize("store", ["set", "add"])
def test_what_does_not_pickle_raises_what_pickle_raises(cache: VolatileCache, store: str) -> None:
    with pytest.raises(pickle.PicklingError, match="not this one"):
        getattr(cache, store)("k", Unpicklable())


def test_what_is_too_large(closing: None, runtime: Path) -> None:
    for which in WHICH.values():
        cache = VolatileCache(max_bytes=1 << 20, **which)
        cache.set("k", 1)
        assert cache.set("k", b"x" * (2 << 20)) is False
        assert cache.get("k") is None
        assert cache.add("k", b"x" * (2 << 20)) is False
        assert cache.set_many({"k": b"x" * (2 << 20), "other": 1}) == ["other"]


def test_a_serializer(cache: VolatileCache) -> None:
    cache.serializer = SimpleSerializer()
    cache.set("k", [1])
    assert cache.get("k") == [1]
    assert isinstance(cache.volatile["k"], bytes)
    assert cache.inc("n", 3) == 3
    assert cache.dec("n") == 2
    other = VolatileCache(serializer=SimpleSerializer(), name="other")
    other.set("k", {1: 2})
    assert other.get("k") == {1: 2}
    assert other.volatile.name == "other"
    assert VolatileCache.serializer is None


def test_each_object_has_its_own_unless_it_is_shared(closing: None, runtime: Path) -> None:
    one, other = VolatileCache(), VolatileCache()
    one.set("k", 1)
    assert other.get("k") is None
    one, other = VolatileCache(shared="a"), VolatileCache(shared="a")
    one.set("k", 1)
    assert other.get("k") == 1
    assert isinstance(other.volatile, mv.SharedCache)
    assert other.cache_info().hits == 1
    other.clear()
    assert one.get("k") is None


def test_counts_of_threads_and_processes(cache: VolatileCache) -> None:
    together = threading.Barrier(4)

    def count(_: int) -> None:
        together.wait()
        for _ in range(50):
            cache.inc("n")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert cache.get("n") == 200
    in_child(lambda: cache.inc("n", 5))
    assert cache.get("n") == (205 if isinstance(cache.volatile, mv.SharedCache) else 200)


def in_flask(options: dict[str, object]) -> None:
    """Views, memoized functions and sessions of an application."""
    import flask
    import flask_caching
    import flask_session

    from mvolatile.integrations.cachelib import VolatileCache

    app = flask.Flask("site")
    app.secret_key = "of the tests"
    caching = flask_caching.Cache(
        app,
        config={"CACHE_TYPE": "mvolatile.integrations.cachelib.VolatileCache", "CACHE_OPTIONS": options},
    )
    assert isinstance(caching.cache, VolatileCache)
    made = []

    @app.get("/view")
    @caching.cached(timeout=60)
    def view() -> str:
        made.append("view")
        return "seen"

    @caching.memoize()
    def double(number: int) -> int:
        made.append("double")
        return 2 * number

    app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=VolatileCache(name="sessions", **options))
    flask_session.Session(app)

    @app.get("/visit")
    def visit() -> str:
        flask.session["visits"] = flask.session.get("visits", 0) + 1
        return str(flask.session["visits"])

    with app.test_client() as client:
        assert client.get("/view").data == client.get("/view").data == b"seen"
        assert [client.get("/visit").data for _ in range(3)] == [b"1", b"2", b"3"]
    with app.app_context():
        assert double(4) == double(4) == 8
        assert made == ["view", "double"]
        caching.delete_memoized(double, 4)
        assert double(4) == 8
        assert made == ["view", "double", "double"]
        assert caching.delete_many("view//view", "nobody") == ["view//view", "nobody"]
        caching.clear()
        assert double(4) == 8


@pytest.mark.parametrize("which", WHICH)
def test_flask(which: str, runtime: Path) -> None:
    for package in ("flask", "flask_caching", "flask_session"):
        pytest.importorskip(package, reason="make integrations installs it")
    run_python(in_flask, WHICH[which]).check()
