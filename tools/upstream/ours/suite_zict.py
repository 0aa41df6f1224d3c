# mypy: ignore-errors
"""zict's checks of a mapping with our caches, as its own tests have them for each of its mappings."""

import os
from contextlib import closing

import pytest
from zict.tests import utils_test as checks

import mvolatile as mv


@pytest.fixture(params=["process", "shared"])
def mapping(request):
    """An empty one."""
    which = request.param
    with closing(
        mv.VolatileCache() if which == "process" else mv.SharedCache(f"zict-{os.getpid()}")
    ) as cache:
        cache.clear()
        yield cache


def test_mapping(mapping):
    """All that a mapping does."""
    checks.check_mapping(mapping)


def test_different_keys_threadsafe(mapping):
    """Two threads, a key each."""
    checks.check_different_keys_threadsafe(mapping)


def test_same_key_threadsafe(mapping):
    """Four threads, one key."""
    checks.check_same_key_threadsafe(mapping)


def test_closing(mapping):
    """It is closed without a word."""
    checks.check_closing(mapping)
