"""Every call that the core makes to the kernel fails once, with each error it can give: no report is wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.core_program import core_program

FULL = pytest.mark.stress
LAYERS = {
    "calls of the core": ((), []),
    "system calls": (("SYSTEM_CALLS",), []),
    "system calls before Linux 6.7": (("SYSTEM_CALLS",), ["old"]),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
@pytest.mark.parametrize(
    ("pages", "huge"),
    [
        pytest.param(8, 0, id="small"),
        pytest.param(600, 1, id="huge", marks=pytest.mark.slow),
        pytest.param(600, 0, id="large", marks=FULL),
    ],
)
def test_each_call_fails_once(tier: str, pages: int, huge: int, layer: str) -> None:
    defines, arguments = LAYERS[layer]
    program = core_program("faults", scripted=True, defines=defines)
    command: list[str | Path] = [program, tier, str(pages), str(huge), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    if done.returncode == 3:
        pytest.skip(f"the tier {tier} cannot be had here")
    assert done.returncode == 0, done.stderr
    runs, triples = map(int, done.stdout.splitlines()[0].split())
    print(f"{runs} runs, {triples} different (operation, call, error)")
    assert triples > 90, "few failures were tried: is the layer scripted at all?"
