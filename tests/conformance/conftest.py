"""What every comparison with the kernel needs: time on a busy machine, and nobody else who takes pages."""

from __future__ import annotations

import time
from collections.abc import Generator

import pytest

from conformance.differences import Divergence
from conformance.running import SETTLE, stolen
from support.libc import has_swap

PATIENT = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "conformance" in item.path.parts and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(PATIENT))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A single program that differs after reclaim came by itself, or while swap is on, says nothing; nor does what
    it counts. The long forms judge that themselves, program by program."""
    if pyfuncitem.get_closest_marker("stress"):
        return (yield)
    before = stolen()
    try:
        return (yield)
    except (Divergence, AssertionError):
        time.sleep(SETTLE)
        if has_swap() or stolen() != before:
            pytest.skip("swap, or reclaim that nobody asked for, came into the program")
        raise
