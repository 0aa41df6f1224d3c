"""docs/upstream.md, of what docs/upstream.json has."""

from __future__ import annotations

from typing import Any

__all__ = ["page"]

HEAD = """# The frameworks' own tests

`make upstream` runs, unmodified, the tests that frameworks have for their own caches, on this library's backends.
They are taken from the source distributions on PyPI, by version and hash, or from the installed packages; none of them
is part of this repository. The table is made by that command. What is skipped is told with the suite's own reason, or
with ours.

| suite | of | passed | failed | not run |
|---|---|--:|--:|---|
"""


def page(results: list[dict[str, Any]]) -> str:
    """The whole page."""
    rows = "".join(f"| {' | '.join(_row(one))} |\n" for one in results)
    notes = "".join(f"\n{one['project']}: {one['note']}\n" for one in results if one["note"])
    return HEAD + rows + notes


def _row(one: dict[str, Any]) -> list[str]:
    what = f"{one['project']} {one['version']}"
    return [one["what"], what, str(one["passed"]), str(len(one["failed"])), _not_run(one)]


def _not_run(one: dict[str, Any]) -> str:
    reasons = {**one["skipped"], **one["left_out"]}
    return "; ".join(f"{count}: {reason}" for reason, count in reasons.items())
