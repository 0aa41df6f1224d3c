"""The library with larger pages than this kernel's: a copy of the package whose core sees them (``native/pages.c``)."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

from .core_program import CORE, KERNEL, PAGED, PAGES
from .native import build_once, digest, run_compiler

__all__ = ["paged_package"]


def paged_package(page: int) -> Path:
    """Build it, once for each content; answers what to put on ``PYTHONPATH``."""
    limited = [] if sysconfig.get_config_var("Py_GIL_DISABLED") else ["-DPy_LIMITED_API=0x030B0000"]
    sources = [PAGES, *(source for source in sorted(CORE.rglob("*.c")) if source not in KERNEL)]
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden", "-shared", "-fPIC", "-pthread"]
    flags += ["-D_GNU_SOURCE", f"-DFAKE_PAGE={page}ul", *limited, *PAGED]
    headers = [f"-I{CORE}", f"-I{sysconfig.get_path('include')}"]

    def build(root: Path) -> None:
        ignore = shutil.ignore_patterns("*.so", "__pycache__", "_core")
        shutil.copytree(CORE.parent, root / "mvolatile", ignore=ignore)
        run_compiler(*flags, *headers, *sources, "-o", root / "mvolatile" / "_core.abi3.so")

    read = [*KERNEL, *sources, *sorted(CORE.rglob("*.h")), *sorted(CORE.parent.rglob("*.py"))]
    return build_once(f"pages-of-{page}-{digest(read, flags, headers)}", build)
