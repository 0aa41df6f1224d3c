"""Django's cache interface: what its own suite does not ask, sessions, fragments, coroutines, threads and processes."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("django", reason="make integrations installs it")

from django.conf import settings
from django.core.cache.backends.base import CacheKeyWarning
from django.core.exceptions import ImproperlyConfigured

import mvolatile as mv
from mvolatile.integrations.django import VolatileCache
from support.keepers import in_child
from support.processes import run_python

if not settings.configured:
    settings.configure()


@pytest.fixture(params=["", "site"], ids=["process", "shared"])
def location(request: pytest.FixtureRequest, closing: None) -> str:
    return str(request.param)


@pytest.fixture
def cache(location: str) -> VolatileCache:
    return VolatileCache(location, {"KEY_PREFIX": "test"})


class Unpicklable:
    def __getstate__(self) -> object:
        raise pickle.PicklingError("not this one")


def test_none_is_a_value(cache: VolatileCache) -> None:
    cache.set("k", None)
    assert cache.get("k", "missing") is None
    assert "k" in cache
    assert cache.get_many(["k", "other"]) == {"k": None}
    assert cache.get_or_set("k", lambda: 1) is None


def test_what_lives_no_time(cache: VolatileCache) -> None:
    for over in (0, -1, -0.5):
        cache.set("k", "old")
        cache.set("k", "new", timeout=over)
        assert cache.get("k") is None
        assert cache.add("k", "new", timeout=over) is True
        assert cache.get("k") is None
        cache.set("k", "old")
        assert cache.add("k", "new", timeout=over) is False
        assert cache.touch("k", timeout=over) is True
        assert cache.get("k") is None
        assert cache.get_or_set("k", lambda: "made", timeout=over) == "made"
        assert cache.get("k") is None


def test_timeouts_reach_the_cache(location: str) -> None:
    cache = VolatileCache(location, {"TIMEOUT": 50})
    cache.set("default", 1)
    cache.set("own", 1, timeout=500)
    cache.set("ever", 1, timeout=None)
    assert 0 < (cache.volatile.ttl(":1:default") or 0) <= 50
    assert 50 < (cache.volatile.ttl(":1:own") or 0) <= 500
    assert cache.volatile.ttl(":1:ever") == float("inf")
    cache.incr("own")
    assert 50 < (cache.volatile.ttl(":1:own") or 0) <= 500, "counting does not prolong it"
    cache.touch("own")
    assert (cache.volatile.ttl(":1:own") or 0) <= 50
    assert VolatileCache(location, {"TIMEOUT": None}).get_backend_timeout() == float("inf")


@pytest.mark.parametrize("store", ["set", "add"])
def test_what_does_not_pickle_raises_what_pickle_raises(cache: VolatileCache, store: str) -> None:
    with pytest.raises(pickle.PicklingError, match="not this one"):
        getattr(cache, store)("k", Unpicklable())
    with pytest.raises(TypeError, match="cannot pickle"):
        getattr(cache, store)("k", threading.Lock())
    with pytest.raises(pickle.PicklingError):
        cache.set_many({"k": Unpicklable()})


def test_what_is_too_large_is_not_stored_and_fails_no_page(location: str) -> None:
    cache = VolatileCache(location, {"OPTIONS": {"MAX_BYTES": 1 << 20}})
    large = b"x" * (2 << 20)
    cache.set("k", "small")
    cache.set("k", large)
    assert cache.get("k") is None
    assert cache.add("k", large) is False
    assert cache.set_many({"k": large, "other": 1}) == ["k"]
    assert cache.get("other") == 1
    assert cache.get_or_set("k", lambda: large) == large


def test_what_a_get_gives_is_the_callers_own(cache: VolatileCache) -> None:
    np = pytest.importorskip("numpy")
    cache.set("k", {"array": np.zeros(3), "list": [1]})
    cache.set("array", np.zeros(100_000))
    one, array = cache.get("k"), cache.get("array")
    one["array"][0] = one["list"][0] = array[0] = 7
    assert cache.get("k")["array"][0] == 0
    assert cache.get("k")["list"] == [1]
    assert cache.get("array")[0] == 0


def test_locations_and_aliases(runtime: Any, closing: None) -> None:
    process, again, other = (VolatileCache("", {"OPTIONS": {"NAME": name}}) for name in ("a", "a", "b"))
    shared = VolatileCache("a", {})
    process.set("k", 1)
    assert again.get("k") == 1
    assert other.get("k") is None
    assert shared.get("k") is None
    assert isinstance(process.volatile, mv.VolatileCache)
    assert isinstance(shared.volatile, mv.SharedCache)
    assert process.volatile.name == "a"
    assert shared.volatile is VolatileCache("a", {}).volatile
    again.clear()
    assert process.get("k") is None
    assert process.cache_info().currsize == 0


def test_a_closed_cache_is_opened_anew(closing: None) -> None:
    VolatileCache("", {}).volatile.close()
    cache = VolatileCache("", {})
    cache.set("k", 1)
    assert cache.get("k") == 1


@pytest.mark.parametrize(
    ("location", "options", "match"),
    [
        ("", {"MAX_BYTE": 1}, "may be MAX_BYTES, NAME, not MAX_BYTE"),
        ("", {"MAX_BYTES": "1 GB"}, "max_bytes"),
        ("", {"MAX_BYTES": -1}, "max_bytes"),
        ("unix:/run/socket", {}, "LOCATION 'unix:/run/socket'.*1 to 64 letters"),
        (["one", "two"], {}, "LOCATION"),
    ],
)
def test_what_cannot_be(location: Any, options: dict[str, Any], match: str, closing: None) -> None:
    with pytest.raises(ImproperlyConfigured, match=match):
        VolatileCache(location, {"OPTIONS": options})


def test_options_of_caches_that_count_are_no_error(closing: None) -> None:
    cache = VolatileCache("", {"OPTIONS": {"MAX_ENTRIES": 3, "CULL_FREQUENCY": 2}})
    cache.set_many({str(number): number for number in range(100)})
    assert len(cache.get_many(map(str, range(100)))) == 100


def test_keys_that_memcached_would_not_have_are_told(cache: VolatileCache) -> None:
    for key in ("with space", "x" * 300, "\x01"):
        with pytest.warns(CacheKeyWarning):
            cache.set(key, key)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheKeyWarning)
            assert cache.get(key) == key


def test_a_subclass_may_have_its_own_keys(location: str) -> None:
    class Own(VolatileCache):
        def make_key(self, key: Any, version: int | None = None) -> str:
            return f"own/{key}"

        def validate_key(self, key: str) -> None:
            assert key.startswith("own/")

    cache = Own(location, {})
    cache.set("with space", 1)
    assert cache.get("with space") == 1
    assert cache.volatile["own/with space"] == 1


def test_one_thread_makes_what_all_want(cache: VolatileCache) -> None:
    made, together = [], threading.Barrier(4)

    def make() -> str:
        made.append(1)
        time.sleep(0.05)
        return "value"

    def want(_: int) -> Any:
        together.wait()
        return cache.get_or_set("k", make)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(want, range(4))) == ["value"] * 4
    assert len(made) == 1


def test_coroutines(cache: VolatileCache) -> None:
    async def make() -> str:
        await asyncio.sleep(0)
        return "made"

    async def all_of_it() -> None:
        assert await asyncio.gather(*(cache.aget_or_set("m", make) for _ in range(4))) == ["made"] * 4
        assert await cache.aget_or_set("n", "given") == "given"
        await cache.aset("k", 1)
        assert await cache.aget("k") == 1
        assert await cache.aadd("k", 2) is False
        assert await cache.aincr("k", 4) == 5
        assert await cache.adecr("k") == 4
        assert await cache.atouch("k", 10) is True
        assert await cache.ahas_key("k") is True
        assert await cache.aincr_version("k") == 2
        assert await cache.aget("k", version=2) == 4
        assert await cache.aset_many({"a": 1, "b": 2}) == []
        assert await cache.aget_many(["a", "b", "c"]) == {"a": 1, "b": 2}
        await cache.adelete_many(["a"])
        assert await cache.adelete("b") is True
        assert await cache.aget("b", "gone") == "gone"
        with pytest.raises(ValueError, match="Key 'b' not found"):
            await cache.aincr("b")
        await cache.aclear()
        assert await cache.aget("k", version=2) is None
        await cache.aclose()

    asyncio.run(all_of_it())


def test_after_a_fork(cache: VolatileCache, location: str) -> None:
    cache.set("k", "before")

    def child() -> None:
        assert cache.get("k") == "before"
        cache.set("k", "in the child")
        assert VolatileCache(location, {"KEY_PREFIX": "test"}).get("k") == "in the child"

    in_child(child)
    assert cache.get("k") == ("in the child" if location else "before")


def in_a_site(location: str) -> None:
    """A site of one application, as Django sets it up; a process can have but one."""
    import sys
    from concurrent.futures import ThreadPoolExecutor
    from importlib import import_module

    import django
    from django.conf import settings

    backend = {"BACKEND": "mvolatile.integrations.django.VolatileCache", "LOCATION": location}
    settings.configure(
        CACHES={"default": backend, "prefixed": {**backend, "KEY_PREFIX": "p", "VERSION": 2}},
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["django.contrib.sessions"],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        SECRET_KEY="of the tests",
        USE_TZ=True,
    )
    django.setup()
    from django.contrib.sessions.models import Session
    from django.core.cache import cache, caches
    from django.core.signals import request_finished
    from django.db import connection
    from django.template import engines
    from django.test import override_settings

    # Backends of all threads are one cache, and the end of a request changes nothing.
    cache.set("k", 1)
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(lambda: caches["default"]).result()
    assert there is not caches["default"]
    assert there.get("k") == 1
    request_finished.send(sender=None)
    assert cache.get("k") == 1
    assert caches["default"] in caches.all()
    assert caches["prefixed"].get("k") is None
    assert "p:2:k" not in cache.volatile
    caches["prefixed"].set("k", 2)
    assert cache.volatile["p:2:k"] == 2

    # A test that overrides settings gets another backend of the same cache, or of another.
    with override_settings(CACHES={"default": {**backend, "OPTIONS": {"NAME": "of a test"}}}):
        assert caches["default"].get("k") == (1 if location else None)
    assert cache.get("k") == 1

    # Fragments.
    template = engines["django"].from_string(
        "{% load cache %}{% cache 60 menu user %}{{ made }}{% endcache %}"
    )
    assert template.render({"user": "a", "made": 1}) == "1"
    assert template.render({"user": "a", "made": 2}) == "1"
    assert template.render({"user": "b", "made": 3}) == "3"

    # With the database behind it a session outlives what the kernel takes; without one it does not.
    with connection.schema_editor() as editor:
        editor.create_model(Session)
    for engine, outlives in (("cache", False), ("cached_db", True)):
        store = import_module(f"django.contrib.sessions.backends.{engine}").SessionStore
        session = store()
        session["user"] = 7
        session.save()
        assert store(session.session_key)["user"] == 7
        cache.clear()  # as if the kernel had taken it
        assert store(session.session_key).get("user") == (7 if outlives else None), engine
    sys.exit(0)


def test_a_site(runtime: Path, location: str) -> None:
    run_python(in_a_site, location).check()


def test_a_thousand_counts_of_two_processes(closing: None, runtime: Any) -> None:
    cache = VolatileCache("site", {})
    cache.set("n", 0)
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                for _ in range(500):
                    cache.incr("n")
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    assert cache.get("n") == 1000
