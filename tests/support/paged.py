"""The library with larger pages than this kernel's: a copy of the package whose core sees them (``native/pages.c``)."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

from .core_program import CORE, KERNEL, PAGED, PAGES
from .native import compiler

__all__ = ["paged_package"]


def paged_package(page: int, directory: Path) -> Path:
    """Build it in `directory`; answers what to put on ``PYTHONPATH``."""
    root = directory / f"pages-of-{page}"
    ignore = shutil.ignore_patterns("*.so", "__pycache__", "_core")
    shutil.copytree(CORE.parent, root / "mvolatile", ignore=ignore)
    found = compiler()
    assert found is not None, "the tests build the core with larger pages: install gcc"
    limited = [] if sysconfig.get_config_var("Py_GIL_DISABLED") else ["-DPy_LIMITED_API=0x030B0000"]
    sources = [PAGES, *(source for source in sorted(CORE.glob("*.c")) if source not in KERNEL)]
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden", "-shared", "-fPIC", "-pthread"]
    flags += ["-D_GNU_SOURCE", f"-DFAKE_PAGE={page}ul", *limited, *PAGED]
    headers = [f"-I{CORE}", f"-I{sysconfig.get_path('include')}"]
    target = root / "mvolatile" / "_core.abi3.so"
    subprocess.run([found, *flags, *headers, *map(str, sources), "-o", str(target)], check=True)
    return root
