"""The C core without Python: programs that link its sources directly."""

from __future__ import annotations

import functools
from pathlib import Path

from .native import SOURCES, build_once, digest, run_compiler

__all__ = ["core_program"]

CORE = Path(__file__).resolve().parents[2] / "src" / "mvolatile" / "_core"
KERNEL = sorted(CORE.glob("platform/*.c"))
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
    sources = [*KERNEL, *sorted(CORE.glob("protocol/*.c"))]
    program = SOURCES / f"{name}.c"
    deep = "SYSTEM_CALLS" in defines
    if page is not None:
        sources = [*(path for path in sources if path not in KERNEL), PAGES]
        defines = (*defines, f"FAKE_PAGE={page}ul")
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Wextra", f"-I{CORE}"]
    flags += [f"-D{macro}" for macro in defines]
    if sanitize:
        flags += [f"-fsanitize={sanitize}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    objects = []
    for source in [*sources, program]:
        redirect = scripted and source != program and (source in (*KERNEL, PAGES)) == deep
        script = SOURCES / ("scripted_calls.h" if deep else "scripted.h")
        objects.append(_object(source, [*flags, *(["-include", str(script)] if redirect else [])]))
    linked = [*flags, *(PAGED if page is not None else []), "-pthread"]
    return build_once(
        f"{name}-{digest(objects, linked)}", lambda target: run_compiler(*linked, *objects, "-o", target)
    )


def _object(source: Path, flags: list[str]) -> Path:
    """Programs that differ in one source share the others."""
    headers = [*sorted(CORE.rglob("*.h")), *sorted(SOURCES.glob("*.h"))]
    key = digest([source, *KERNEL, *headers], flags)  # pages.c includes the kernel's sources
    return build_once(
        f"{source.stem}-{key}.o", lambda target: run_compiler(*flags, "-c", source, "-o", target)
    )
