"""Every test below is collected once for each tier; see support/tiers.py."""

from __future__ import annotations

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
