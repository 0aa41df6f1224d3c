"""Using the files as a stranger would: a new environment, no compiler, nothing of the checkout in sight."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from support.documents import program

from .run import ROOT, ReleaseError, ended, run

__all__ = ["readme_runs", "sdist_is_refused"]

_COMPILERS = ("cc", "gcc", "clang", "c++", "g++", "tcc", "x86_64-linux-gnu-gcc")
_UNWANTED = ("PYTHONPATH", "CC", "CFLAGS", "VIRTUAL_ENV")


def _environment(at: Path) -> dict[str, str]:
    """A new virtual environment, and variables by which nothing but it is found."""
    run(sys.executable, "-m", "venv", at)
    env = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    env |= {"PATH": str(at / "bin"), "PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    found = [name for name in _COMPILERS if shutil.which(name, path=env["PATH"])]
    if found:
        raise ReleaseError(f"the clean environment has a compiler: {found}")
    return env


def readme_runs(wheel: Path, scratch: Path) -> str:
    """``pip install`` of the wheel, then the README's code, word for word. Answers the tier that served it."""
    home = scratch / "stranger"
    env = _environment(home / "venv")
    python = home / "venv" / "bin" / "python"
    run(
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--only-binary",
        ":all:",
        f"{wheel}[numpy]",
        cwd=home,
        env=env,
    )
    tutorial = home / "tutorial.py"
    tutorial.write_text(program(ROOT / "README.md"))
    said = run(python, tutorial, cwd=home, env=env)
    if not re.search(r"^tiles: \d+ bytes purged", said, re.MULTILINE):
        raise ReleaseError(f"the README's tutorial lost nothing:\n{said}")
    run(home / "venv" / "bin" / "mvolatile", "doctor", cwd=home, env=env)
    where = run(python, "-c", "import mvolatile; print(mvolatile.__file__)", cwd=home, env=env)
    if not where.startswith(str(home)):
        raise ReleaseError(f"not the wheel was used, but {where}")
    return run(python, "-c", "import mvolatile; print(mvolatile.features().tier)", cwd=home, env=env).strip()


def sdist_is_refused(sdist: Path, scratch: Path) -> None:
    """Without a compiler, the source says in one sentence what to install."""
    home = scratch / "source"
    env = {**_environment(home / "venv"), "CC": "/nonexistent/cc"}
    done = ended(home / "venv" / "bin" / "python", "-m", "pip", "install", sdist, cwd=home, env=env)
    sentences = [line for line in done.stdout.splitlines() if "needs a C compiler" in line]
    if done.returncode == 0 or len(sentences) != 1 or "Traceback" in done.stdout:
        raise ReleaseError(f"a source install without a compiler did not end in one sentence:\n{done.stdout}")
