"""The C core without Python: programs that link its sources directly."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import tempfile
from pathlib import Path

from .native import SOURCES, built_directory, compiler

__all__ = ["core_program"]

CORE = Path(__file__).resolve().parents[2] / "src" / "mvolatile" / "_core"
KERNEL = sorted(CORE.glob("os_*.c"))
PAGES = SOURCES / "pages.c"
PAGED = ["-Wl,--wrap=trap_catches"]


@functools.cache
def core_program(
    name: str,
    *,
    scripted: bool = False,
    sanitize: str = "",
    defines: tuple[str, ...] = (),
    page: int | None = None,
) -> Path:
    """Build ``tests/native/<name>.c`` with the core, once for each content; answers the executable.

    With `scripted`, the core's calls to the system layer go through ``scripted.h``, or, with ``SYSTEM_CALLS`` among
    the `defines`, those of the system layer to the kernel through ``scripted_calls.h``; `sanitize` is a list for
    ``-fsanitize=``; `defines` are macros; `page` is the size of pages that the core is to see (see ``pages.c``).
    """
    sources = sorted(path for path in CORE.glob("*.c") if '#include "python.h"' not in path.read_text())
    program = SOURCES / f"{name}.c"
    deep = "SYSTEM_CALLS" in defines
    if page is not None:
        sources = [*(path for path in sources if path not in KERNEL), PAGES]
        defines = (*defines, f"FAKE_PAGE={page}ul")
    read = [*sources, *KERNEL, *sorted(CORE.glob("*.h")), program, *sorted(SOURCES.glob("*.h"))]
    key = hashlib.sha256(
        b"".join(path.read_bytes() for path in read) + f"{scripted}{sanitize}{defines}".encode()
    )
    directory = built_directory()
    target = directory / f"{name}-{key.hexdigest()[:16]}"
    if target.exists():
        return target
    found = compiler()
    assert found is not None, "the tests build small C programs: install gcc"
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Wextra", f"-I{CORE}"]
    flags += [f"-D{macro}" for macro in defines]
    if sanitize:
        flags += [f"-fsanitize={sanitize}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        objects = []
        for source in [*sources, program]:
            redirect = scripted and source != program and (source in (*KERNEL, PAGES)) == deep
            script = SOURCES / ("scripted_calls.h" if deep else "scripted.h")
            extra = ["-include", str(script)] if redirect else []
            objects.append(str(Path(scratch) / f"{source.stem}.o"))
            subprocess.run([found, *flags, *extra, "-c", str(source), "-o", objects[-1]], check=True)
        if page is not None:
            flags = [*flags, *PAGED]
        unfinished = Path(scratch) / name
        subprocess.run([found, *flags, *objects, "-o", str(unfinished), "-pthread"], check=True)
        unfinished.rename(target)
    return target
