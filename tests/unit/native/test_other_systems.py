"""The core for other systems: built for them where their compilers are, without a warning, and run where it can be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from support.native import SOURCES

CORE = SOURCES.parents[1] / "src" / "mvolatile" / "_core"
FILES = sorted(CORE.rglob("*.c"))
WITHOUT_PYTHON = [file for file in FILES if file.parent.name in ("platform", "protocol")]
FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
FLAGS += [f"-I{CORE}"]
NATIVE = Path("/usr/include") / (sysconfig.get_config_var("MULTIARCH") or "")

SYSTEMS = {
    "aarch64": (["aarch64-linux-gnu-gcc"], ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]),
    # The kernel's headers are among glibc's, which must not come before musl's own.
    "musl": (["musl-gcc", "-idirafter/usr/include", f"-idirafter{NATIVE}"], []),
}

each = pytest.mark.parametrize("system", SYSTEMS)


def compiler(system: str) -> list[str]:
    found = SYSTEMS[system][0]
    if shutil.which(found[0]) is None:
        pytest.skip(f"there is no {found[0]} here")
    return [*found, *FLAGS]


@pytest.mark.slow
@each
def test_the_core_compiles(system: str) -> None:
    """The machine's own pyconfig.h does: both are of 64 bits."""
    command: list[str | Path] = [
        *compiler(system),
        "-DPy_LIMITED_API=0x030B0000",
        f"-I{sysconfig.get_path('include')}",
    ]
    for file in FILES:
        subprocess.run([*command, "-c", file, "-o", os.devnull], check=True)


@pytest.mark.slow
@each
@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
def test_the_protocol_holds(system: str, tier: str, tmp_path: Path) -> None:
    """Against the oracle of test_protocol.py; an emulator knows nothing of userfaultfd."""
    program, run = tmp_path / "protocol", SYSTEMS[system][1]
    command: list[str | Path] = [*compiler(system), *WITHOUT_PYTHON, SOURCES / "protocol.c", "-o", program]
    if run and shutil.which(run[0]) is None:
        pytest.skip(f"there is no {run[0]} here")
    subprocess.run(command, check=True)
    done = subprocess.run([*run, program, tier, "70", "0", "1", "300"], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip(f"the tier {tier} cannot be had there")
    assert done.returncode == 0, done.stderr
