"""The table. A new row needs a file in ours/ that hands the suite our class, and what of it can mean nothing here."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version

__all__ = ["SUITES", "Source", "Suite"]


@dataclass(frozen=True)
class Source:
    """A distribution of PyPI's, by version and the hash of its file; without one, as it is installed."""

    project: str
    release: str = ""
    sha256: str = ""
    folder: str = "."
    """Of it, to import from."""
    url: str = ""
    """Of one file that no distribution has."""

    @property
    def version(self) -> str:
        """Pinned, or installed."""
        return self.release or version(self.project)

    @property
    def is_installed(self) -> bool:
        """Whether its tests come with the package."""
        return not self.sha256


@dataclass(frozen=True)
class Suite:
    """A run of pytest."""

    name: str
    what: str
    """For the table, in the framework's own words."""
    source: Source
    tests: tuple[str, ...]
    """Arguments of pytest, relative to ours/, or with ``{source}`` to the distribution, ``{needed}`` to the first that
    is needed beside it.
    """
    options: tuple[str, ...] = ()
    plugin: str = ""
    """A module in ours/ that is loaded before the suite is."""
    needs: tuple[Source, ...] = ()
    least: int = 20
    """Tests that must have passed: else something was not run."""
    server: str = ""
    left_out: dict[str, str] = field(default_factory=dict)
    """Tests that can mean nothing here, by their name in the distribution, with the reason."""
    note: str = ""


DJANGO = Source(
    "Django", "5.2.19", "ad03d8abc51dbff95ebf34b27123cf0c26a3b62db7ba0cd520783686362533d1", "tests"
)
CACHELIB = Source(
    "cachelib", "0.17.0", "f3c7dc8d3c1132ab699681ffdf8a52d341d9425ac1401c538cf0b1d87b1677c8", "tests"
)
XPROCESS = Source(
    "pytest-xprocess", "1.0.2", "15e270637586eabc56755ee5fcc81c48bdb46ba7ef7c0d5b1b64302d080cc60f"
)
REDIS = Source("redis", "8.1.0", "6e1a19beef9225c83efd689c7e6b7da2d5215b1f42cd13b7fc3714d0a09c7b25")
DOGPILE = Source("dogpile.cache")
FSSPEC = Source("fsspec")
FSSPEC_TESTS = Source(
    "fsspec-tests",
    "2026.7.0",
    "fe9cd1e3da1fe51029b629feb78488511f421dcb08bbec31400d1ccf5bd45798",
    url="https://raw.githubusercontent.com/fsspec/filesystem_spec/2026.7.0/fsspec/tests/test_caches.py",
)
ZARR = Source("zarr")
ZICT = Source("zict")
ANYIO = ("-o", "anyio_mode=auto")

SUITES = (
    Suite(
        "django-process",
        "`tests/cache`: `BaseCacheTests`, `LOCATION` empty",
        DJANGO,
        ("suite_django.py::ProcessTests",),
        plugin="site_django",
    ),
    Suite(
        "django-shared",
        "`tests/cache`: `BaseCacheTests`, `LOCATION` a name",
        DJANGO,
        ("suite_django.py::SharedTests",),
        plugin="site_django",
    ),
    Suite(
        "cachelib-process",
        "`CommonTests`, `HasTests`, `ClearTests`, `SerializerTests`",
        CACHELIB,
        ("suite_cachelib.py::TestProcess",),
        needs=(XPROCESS,),
    ),
    Suite(
        "cachelib-shared",
        "the same, `shared=` a name",
        CACHELIB,
        ("suite_cachelib.py::TestShared",),
        needs=(XPROCESS,),
    ),
    Suite(
        "dogpile-memory",
        "`dogpile.testing`: generic backend and serializer suites, `mvolatile.memory`",
        DOGPILE,
        ("suite_dogpile.py::TestMemory", "suite_dogpile.py::TestMemorySerialized"),
    ),
    Suite(
        "dogpile-shared",
        "`dogpile.testing`: generic backend, serializer and mutex suites, `mvolatile.shared`",
        DOGPILE,
        (
            "suite_dogpile.py::TestShared",
            "suite_dogpile.py::TestSharedSerialized",
            "suite_dogpile.py::TestSharedMutex",
        ),
    ),
    Suite(
        "redis",
        "`tests/test_cache.py`: `TestCache` and `TestUnitDefaultCache`",
        REDIS,
        (
            "{source}/tests/test_cache.py::TestCache",
            "{source}/tests/test_cache.py::TestUnitDefaultCache",
        ),
        plugin="plugin_redis",
        server="redis",
        left_out={
            "tests/test_cache.py::TestUnitDefaultCache::test_get_eviction_policy": (
                "asks for redis-py's own LRU; here the cache evicts, and the kernel"
            )
        },
        note="`DefaultCache` is ours. Where the server is older than 7.4, the suite and the client are told that it is "
        "not: tracking is there since 6.0.",
    ),
    Suite(
        "fsspec",
        '`tests/test_caches.py` of 2026.7.0, its tests of all caches, `cache_type="volatile"`',
        FSSPEC,
        ("{needed}/test_caches.py", "-k", "volatile"),
        plugin="plugin_fsspec",
        needs=(FSSPEC_TESTS,),
        least=16,
        note="the distributions have no tests of caches, so the file is taken from the repository.",
    ),
    Suite(
        "zarr-process",
        "`zarr.testing.store`: `StoreTests`, a `VolatileStore` around a `LocalStore`",
        ZARR,
        ("suite_zarr.py::TestProcess",),
        options=ANYIO,
    ),
    Suite(
        "zarr-shared",
        "the same, `shared=` a name",
        ZARR,
        ("suite_zarr.py::TestShared",),
        options=ANYIO,
    ),
    Suite(
        "zict",
        "`zict.tests.utils_test`: `check_mapping`, `check_different_keys_threadsafe`, `check_same_key_threadsafe`, "
        "`check_closing`, both caches",
        ZICT,
        ("suite_zict.py",),
        least=8,
    ),
)
