"""The architecture in one picture: boxes that rest on one another, written out as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

WIDTH, HEIGHT = 960, 560
INK, PAPER, QUIET = "#24292f", "#ffffff", "#57606a"
LIBRARY, CORE, KERNEL, MODEL = "#dbeafe", "#bfdbfe", "#e5e7eb", "#dcfce7"

Box = tuple[int, int, int, int, str, str, str]
"""x, y, width, height, colour, title, what it is for."""

BOXES: tuple[Box, ...] = (
    (20, 50, 295, 56, LIBRARY, "cli/  demo/  testing.py", "commands; losing memory on purpose"),
    (325, 50, 295, 56, LIBRARY, "integrations/", "the caches behind other frameworks"),
    (20, 122, 165, 72, LIBRARY, "cache/", "the kernel evicts"),
    (195, 122, 165, 72, LIBRARY, "shared/", "one for all processes"),
    (370, 122, 250, 72, LIBRARY, "arrays  holdings  residence/", "arrays; what is held; its limit"),
    (215, 210, 405, 72, LIBRARY, "memory.py  syscall.py", "what to do about a loss; the call of the patch"),
    (20, 210, 185, 72, LIBRARY, "kernel/", "features, cgroups, pressure"),
    (20, 298, 405, 56, CORE, "_core/python/  _core/cache/", "types: memories, pins, peeks, a cache's index"),
    (
        20,
        362,
        405,
        72,
        CORE,
        "_core/protocol/: range hold loss peek raw pool",
        "the protocol: pins, marks, losses, peeks",
    ),
    (435, 298, 185, 136, CORE, "... trap watch listener", "SIGBUS; fork; pressure"),
    (20, 442, 600, 40, CORE, "_core/platform/", "the only system calls"),
    (
        20,
        498,
        600,
        44,
        KERNEL,
        "the kernel",
        "MADV_FREE, MADV_POPULATE_WRITE, userfaultfd, pagemap, cgroups",
    ),
    (660, 50, 280, 72, MODEL, "explore/", "runs them in every order; knows nothing of memory"),
    (660, 210, 250, 110, MODEL, "model/", "the 2014 patch and Linux 3.14 around it, step by step"),
    (
        660,
        362,
        280,
        120,
        MODEL,
        "model/stock/",
        "a stock kernel, and the core's protocols function by function",
    ),
)

ARROWS = (
    (800, 210, 800, 124, "run by"),
    (660, 415, 622, 415, "twin"),
    (660, 246, 622, 246, "oracle"),
    (922, 362, 922, 124, ""),
)


def picture() -> str:
    """The SVG."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="system-ui, sans-serif" fill="{INK}">'
    )
    yield (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{QUIET}"/></marker></defs>'
    )
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>'
    yield '<text x="20" y="32" font-size="17" font-weight="600">The library: each rests on what is below</text>'
    yield '<text x="660" y="32" font-size="17" font-weight="600">The model</text>'
    for x, y, width, height, colour, title, purpose in BOXES:
        middle = y + height // 2
        flat = height < 50
        yield (
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{colour}" '
            f'stroke="{QUIET}" stroke-opacity="0.4"/>'
        )
        yield (
            f'<text x="{x + 12}" y="{middle + 5 if flat else middle - 4}" font-size="14" '
            f'font-weight="600">{escape(title)}</text>'
        )
        across = x + 24 + 9 * len(title) if flat else x + 12
        for line, text in enumerate([purpose] if flat else _wrapped(purpose, (x + width - across) // 7)):
            below = middle + 5 if flat else middle + 14 + 16 * line
            yield f'<text x="{across}" y="{below}" font-size="13" fill="{QUIET}">{escape(text)}</text>'
    for x1, y1, x2, y2, label in ARROWS:
        yield (
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{QUIET}" stroke-width="1.5" '
            'marker-end="url(#tip)"/>'
        )
        at = (x1 + 8, (y1 + y2) // 2 + 4) if x1 == x2 else (x2 + 2, y1 - 8)
        yield f'<text x="{at[0]}" y="{at[1]}" font-size="12" fill="{QUIET}">{escape(label)}</text>'
    yield "</svg>"


def _wrapped(text: str, columns: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > columns:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] or not word else word
    return lines
