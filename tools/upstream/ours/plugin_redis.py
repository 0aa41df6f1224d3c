# mypy: ignore-errors
"""redis-py's tests of its cache, of ours instead. Loaded before them."""

import pytest
import redis.cache
import redis.connection

from mvolatile.integrations.redis import VolatileCache

redis.cache.DefaultCache = redis.cache.CacheConfig.DEFAULT_CACHE_CLASS = VolatileCache


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """The tests ask for the server's version while they are imported; it is known by now."""
    from tests.conftest import REDIS_INFO

    if (6,) <= tuple(map(int, REDIS_INFO["version"].split("."))) < (7, 4):
        redis.connection.CacheProxyConnection.MIN_ALLOWED_VERSION = REDIS_INFO["version"]
        REDIS_INFO["version"] = "7.4.0"
