"""The public names and signatures are what was recorded; docstrings have examples that run, and every name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import mvolatile
from support.api import PUBLIC, RECORD, written


def test_the_public_names_and_signatures_are_those_recorded() -> None:
    """A promise is changed on purpose: `make api` records the new one, and the diff is read by people."""
    pytest.importorskip("numpy")
    assert written().splitlines() == RECORD.read_text().splitlines()


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_documented(module: str) -> None:
    pytest.importorskip("numpy")
    imported = importlib.import_module(module)
    assert imported.__doc__
    undocumented = []
    for name in imported.__all__:
        value = getattr(imported, name)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        members: list[tuple[str, object]] = [(name, value)]
        if inspect.isclass(value):
            members += [
                (f"{name}.{member}", one)
                for member, one in inspect.getmembers(value)
                if not member.startswith("_") and (inspect.isroutine(one) or isinstance(one, property))
            ]
        undocumented += [member for member, one in members if not inspect.getdoc(one)]
    assert not undocumented


def _modules() -> list[str]:
    found = [name for _, name, _ in pkgutil.walk_packages(mvolatile.__path__, "mvolatile.")]
    return ["mvolatile", *(name for name in found if not name.endswith(("__main__", "_core")))]


@pytest.mark.parametrize("module", [name for name in _modules() if not name.startswith("mvolatile.demo")])
def test_examples_in_docstrings(module: str) -> None:
    pytest.importorskip("numpy")
    if not mvolatile.features().can_purge:
        pytest.skip("the examples lose memory, and nothing can be purged here")
    imported = pytest.importorskip(module, reason="make integrations installs what it is for")
    failed, _ = doctest.testmod(imported, optionflags=doctest.ELLIPSIS)
    assert not failed


def test_there_are_examples_to_run() -> None:
    pytest.importorskip("numpy")
    finder = doctest.DocTestFinder()
    documented = {
        test.name
        for module in _modules()
        if not module.startswith(("mvolatile.demo", "mvolatile.integrations"))
        for test in finder.find(importlib.import_module(module))
        if test.examples
    }
    wanted = {
        "mvolatile.memory.VolatileMemory",
        "mvolatile.arrays.VolatileArray",
        "mvolatile.cache.cache.VolatileCache",
        "mvolatile.cache.decorator.volatile_cache",
        "mvolatile.syscall.mvolatile",
        "mvolatile.testing.purging",
        "mvolatile.holdings.status",
        "mvolatile.kernel.features.features",
        "mvolatile.explore.threads.ThreadedSystem",
    }
    assert wanted <= documented, f"without an example: {sorted(wanted - documented)}"
