"""A public name is one thing, in whatever order modules are imported."""

from __future__ import annotations

import importlib
import pkgutil
import types

import pytest

import mvolatile
from support.api import PUBLIC
from support.processes import run_python

ORDERS = {
    "the package first": "import mvolatile; before = mvolatile.status",
    "a name first": "from mvolatile import status as before; import mvolatile",
    "every module first": """
import contextlib, importlib, mvolatile, pkgutil
for one in pkgutil.walk_packages(mvolatile.__path__, "mvolatile."):
    if not one.name.endswith("__main__"):
        with contextlib.suppress(ImportError):
            importlib.import_module(one.name)
before = mvolatile.status
""",
}


@pytest.mark.parametrize("order", ORDERS)
def test_status_is_a_function_whatever_was_imported_before(order: str) -> None:
    program = """
try:
    import mvolatile.status
except ModuleNotFoundError as error:
    assert error.name == "mvolatile.status", error
else:
    raise AssertionError("mvolatile.status is a module, too")
import mvolatile
assert before is mvolatile.status and mvolatile.status().tier
"""
    run_python(ORDERS[order] + program).check()


@pytest.mark.parametrize("module", ["mvolatile", *PUBLIC])
def test_no_name_is_a_module_too(module: str) -> None:
    pytest.importorskip("numpy")
    imported = importlib.import_module(module)
    modules = {one.name for one in pkgutil.iter_modules(getattr(imported, "__path__", ()))}
    assert not modules & {
        name for name in imported.__all__ if not isinstance(getattr(imported, name), types.ModuleType)
    }


def test_dir_tells_what_there_is() -> None:
    assert set(mvolatile.__all__) == set(dir(mvolatile))
