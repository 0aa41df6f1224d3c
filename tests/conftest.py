"""Fixtures for every test: limited child processes, and the check that a test leaves nothing behind."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from support import cgroups, leaks
from support.cgroups import Limited


def pytest_collection_finish() -> None:
    """What was imported and collected need not be looked through again by every test's `gc.collect()`."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _leaves_nothing() -> Iterator[None]:
    """No test leaks a descriptor, a thread or a cgroup."""
    with leaks.leaves_nothing():
        yield


@pytest.fixture
def needs_cgroup() -> None:
    """Skips where no memory cgroup may be made."""
    reason = cgroups.why_not()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def run_limited(needs_cgroup: None) -> Callable[..., Limited]:
    """`support.cgroups.run_limited`, or a skip where no memory cgroup may be made."""
    return cgroups.run_limited
