"""A schedule drawn as lanes, one for each processor: as text, as SVG, and as a page of HTML for a bug report."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .trace import Event

LANE = 390
ROW = 17
HEAD = 46


def text(events: Sequence[Event], cpus: Sequence[str], width: int = 46) -> str:
    """Lanes side by side; a function's name stands above its steps, what changed behind them."""
    lines = ["      " + "".join(cpu.ljust(width) for cpu in cpus), "      " + "-" * (width * len(cpus))]
    last: dict[str, str] = {}
    for number, event in enumerate(events, 1):
        lane = cpus.index(event.cpu)
        if last.get(event.cpu) != event.function or (number > 1 and events[number - 2].cpu != event.cpu):
            lines.append(_row("", lane, width, f"{event.function or 'user space'}():"))
            last[event.cpu] = event.function
        lines.append(_row(str(number), lane, width, "  " + event.label))
        lines += [_row("", lane, width, f"    [{change}]") for change in event.changes]
        if event.wrong:
            lines.append(f"  !!  {event.wrong}")
    return "\n".join(line.rstrip() for line in lines)


def _row(number: str, lane: int, width: int, what: str) -> str:
    return f"{number:>4}  " + " " * (lane * width) + what


def svg(events: Sequence[Event], cpus: Sequence[str], title: str) -> str:
    """An SVG drawing: time runs down, a step is a line in its lane, the violation stands in red at the bottom."""
    width = LANE * len(cpus) + 40
    parts: list[str] = []
    y = HEAD
    last = ("", "")
    for number, event in enumerate(events, 1):
        x = 40 + LANE * cpus.index(event.cpu)
        if last != (event.cpu, event.function):
            y += ROW
            name = f"{event.function or 'user space'}() — {event.source}"
            parts.append(f'<text x="{x}" y="{y}" class="f">{escape(name)}</text>')
            last = (event.cpu, event.function)
        y += ROW
        parts.append(f'<text x="34" y="{y}" class="n">{number}</text>')
        parts.append(f'<text x="{x + 10}" y="{y}" class="s">{escape(event.label)}</text>')
        for change in event.changes:
            y += ROW
            parts.append(f'<text x="{x + 22}" y="{y}" class="c">{escape(change)}</text>')
        if event.wrong:
            y += ROW + 6
            parts.append(f'<text x="40" y="{y}" class="w">{escape(event.wrong)}</text>')
    height = y + 20
    lanes = "".join(
        f'<rect x="{36 + LANE * at}" y="24" width="{LANE - 8}" height="{height - 30}" class="l{at % 2}"/>'
        f'<text x="{40 + LANE * at}" y="40" class="h">{escape(cpu)}</text>'
        for at, cpu in enumerate(cpus)
    )
    style = (
        "text{font:11px monospace}.h{font-weight:bold;font-size:13px}.f{fill:#555;font-style:italic}"
        ".n{fill:#999;text-anchor:end}.c{fill:#06c}.w{fill:#c00;font-weight:bold}"
        ".l0{fill:#f6f6f6}.l1{fill:#eef2f7}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"><style>{style}</style><title>{escape(title)}</title>'
        f'<text x="40" y="16" class="h">{escape(title)}</text>{lanes}{"".join(parts)}</svg>\n'
    )


def html(events: Sequence[Event], cpus: Sequence[str], title: str, question: str, replay: str) -> str:
    """A page that stands alone: the question, the drawing, and the command that shows the same schedule again."""
    wrong = "; ".join(event.wrong for event in events if event.wrong) or "nothing is violated"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        "<style>body{font-family:sans-serif;margin:2em}pre{background:#eee;padding:.6em;white-space:pre-wrap}"
        ".w{color:#c00}</style></head><body>"
        f"<h1>{escape(title)}</h1><p>{escape(question)}</p>"
        f'<p class="w">{escape(wrong)}</p>'
        f"<pre>mvolatile model replay '{escape(replay)}'</pre>{svg(events, cpus, title)}</body></html>\n"
    )
