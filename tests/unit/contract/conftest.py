"""Every test below is collected once for each tier; see support/tiers.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.areas import one_cpu
from support.tiers import (
    pytest_configure,
    pytest_generate_tests,
    pytest_itemcollected,
    pytest_pyfunc_call,
    pytest_runtest_setup,
    pytest_sessionfinish,
    tier,
)

__all__ = [
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_itemcollected",
    "pytest_pyfunc_call",
    "pytest_runtest_setup",
    "pytest_sessionfinish",
    "tier",
]


@pytest.fixture
def _one_cpu() -> Iterator[None]:
    """For tests that reclaim raw memory."""
    with one_cpu():
        yield
