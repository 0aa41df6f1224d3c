"""Running `support.contained` inside a restriction."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from support.contained import LOST, SIZES
from support.processes import run_python

Judged = dict[str, Any]
Contained = Callable[..., Judged]
Wrap = Callable[[Sequence[str]], list[str]]


@pytest.fixture
def contained() -> Contained:
    """Run the program after `prelude` (a line of Python) or under `wrap`; the judge's findings, with what no
    restriction may change checked already.
    """

    def run(
        prelude: str = "",
        *,
        wrap: Wrap | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Judged:
        program = f"{prelude}\nfrom support.contained import main\nmain()\n"
        told: Judged = json.loads(run_python(program, wrap=wrap, env=env).check().stdout)
        for layout in SIZES:
            one = told[layout]
            if "error" not in one:
                assert one["untold"] == [], f"{layout}: pages were lost and not told: {told}"
                assert one["whole"], f"{layout}: what was just written is not there: {told}"
                assert one["rebuilt"], f"{layout}: what was rebuilt is not there: {told}"
        for part in ("cache", "array", "fork"):
            if part in told and "error" not in told[part]:
                assert told[part]["whole"], f"{part}: {told}"
        assert "error" not in told["cache"], told
        assert "error" not in told["status"], told
        if "error" not in told["raw"]:
            assert told["raw"]["whole"] or told["raw"]["told"], told
        return told

    return run


@pytest.fixture
def unshare() -> Callable[[str, str], Wrap]:
    """A wrapper that runs the command in new namespaces (flags of unshare(1)) after a line of shell; skips where this
    user may not make them.
    """
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare(1), of util-linux")

    def make(flags: str, line: str) -> Wrap:
        start = ["unshare", *flags.split(), "sh", "-c", f'{line} && exec "$@"', "sh"]
        tried = subprocess.run([*start, "true"], capture_output=True, text=True, check=False)
        if tried.returncode:
            pytest.skip(f"unshare {flags}: {tried.stderr.strip()}")
        return lambda command: [*start, *command]

    return make


def exact(told: Judged) -> bool:
    """Whether the pages that were purged, and no others, were told."""
    return all(told[layout]["told"] == list(LOST) for layout in SIZES)


def quiet(told: Judged) -> bool:
    """Whether nothing was warned of and nothing raised."""
    return not told["warnings"] and not any("error" in one for one in told.values() if isinstance(one, dict))
