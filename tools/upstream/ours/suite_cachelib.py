# mypy: ignore-errors
"""cachelib's mixins with our caches, as its own `test_simple_cache.py` has them for its `SimpleCache`."""

import os

import pytest
from clear import ClearTests
from common import CommonTests
from has import HasTests
from serializer import SerializerTests

from mvolatile.integrations.cachelib import VolatileCache


class TestProcess(CommonTests, HasTests, ClearTests, SerializerTests):
    """Each object its own."""

    def cache_factory(self, **options):
        """As the mixins ask for one."""
        return VolatileCache(**options)


class TestShared(CommonTests, HasTests, ClearTests, SerializerTests):
    """One of the host; each test finds it empty."""

    @pytest.fixture(autouse=True)
    def _closing(self):
        self.made = []
        yield
        for cache in self.made:
            cache.volatile.close()

    def cache_factory(self, **options):
        """As the mixins ask for one."""
        self.made.append(VolatileCache(shared=f"cachelib-{os.getpid()}", **options))
        self.made[-1].clear()
        return self.made[-1]
