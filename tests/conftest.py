"""Fixtures for every test: limited child processes, and the check that a test leaves nothing behind."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from support import cgroups, leaks
from support.cgroups import Limited

# In children, mostly: NumPy takes 40 MiB of addresses, and some memory, for each processor; limits are for one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Shells start what runs in the background with SIGINT ignored, and every child would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A stalled machine is no failure, and what is drawn does not change from run to run but in the long forms.
settings.register_profile(
    "tests",
    deadline=None,
    database=None,
    derandomize=os.environ.get("MVOLATILE_STRESS") != "full",
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")


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
