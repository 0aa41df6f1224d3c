"""What the library does not run on, and in: each refusal is one sentence, where it is met first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.native import compiler
from support.processes import run_python

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "src" / "mvolatile" / "_core"

ELSEWHERE = {
    "darwin": ("sys.platform = 'darwin'", "works on Linux alone: it is made of the kernel's own calls"),
    "windows": ("sys.platform = 'win32'", "works on Linux alone: it is made of the kernel's own calls"),
    "32-bit": ("sys.maxsize = 2**31 - 1", "needs a 64-bit Python: it reserves address space by the gigabyte"),
}

elsewhere = pytest.mark.parametrize("where", ELSEWHERE)


@elsewhere
def test_importing_it(where: str) -> None:
    """Before anything is imported that does not exist there."""
    pretend, sentence = ELSEWHERE[where]
    done = run_python(f"import sys; import os, warnings, threading, weakref; {pretend}; import mvolatile")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: mvolatile {sentence}"


@elsewhere
def test_building_it(where: str) -> None:
    pretend, sentence = ELSEWHERE[where]
    program = f"""
import sys, setuptools, setuptools.command.build_ext
{pretend}
sys.argv = ["setup.py", "build_ext"]
exec(compile(open("setup.py").read(), "setup.py", "exec"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 1
    assert done.stderr == f"error: mvolatile {sentence}.\n"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        pytest.param(["-m32"], "needs a 64-bit system", id="32-bit"),
        pytest.param(["-mx32"], "needs a 64-bit system", id="x32"),
        pytest.param(["-U__linux__"], "works on Linux alone", id="not-linux"),
    ],
)
def test_compiling_it(flags: list[str], sentence: str) -> None:
    """The C sources say so themselves, whoever builds them, and before a header is missed."""
    found = compiler()
    assert found is not None
    if subprocess.run([found, *flags, "-xc", "-fsyntax-only", os.devnull], capture_output=True).returncode:
        pytest.skip(f"this compiler knows nothing of {' '.join(flags)}")
    done = subprocess.run(
        [
            found,
            *flags,
            "-xc",
            "-D_GNU_SOURCE",
            "-fsyntax-only",
            f"-I{CORE}",
            "-include",
            "platform/os.h",
            os.devnull,
        ],
        capture_output=True,
        text=True,
    )
    first = next(line for line in done.stderr.splitlines() if "error:" in line)
    assert f'#error "mvolatile {sentence}' in first


# ---- interpreters

SECOND = """
import sys
try:
    import _interpreters
    start = lambda own_lock: _interpreters.create("isolated" if own_lock else "legacy")
    def run(interpreter, code):
        failure = _interpreters.exec(interpreter, code)
        return failure.formatted if failure else None
    end = _interpreters.destroy
except ImportError:
    import _xxsubinterpreters as interpreters
    start = lambda own_lock: interpreters.create(isolated=own_lock)
    def run(interpreter, code):
        try: interpreters.run_string(interpreter, code)
        except interpreters.RunFailedError as error: return str(error)
    end = interpreters.destroy
own_lock = sys.argv[1] == "own"
main_first = sys.argv[2] == "main"

def use():
    from mvolatile import VolatileMemory
    with VolatileMemory(3 * 4096) as memory:
        memory.write(b"x" * 12288)
        with memory.peek() as view:
            assert bytes(view) == b"x" * 12288

if main_first: use()
for _ in range(3):
    second = start(own_lock)
    said = run(second, "import mvolatile")
    assert said and "ImportError: mvolatile works in the main interpreter alone" in said \
        or said.endswith("ImportError'>: mvolatile works in the main interpreter alone: its SIGBUS handler, its fork "
                         "handlers and its memory belong to the whole process"), said
    assert "\\n" not in said.split("main interpreter alone")[1].strip()
    end(second)
use()
"""


@pytest.mark.parametrize("lock", ["own", "shared"])
@pytest.mark.parametrize("first", ["main", "second"])
def test_a_second_interpreter(lock: str, first: str) -> None:
    """Refused, whichever comes first; the main one is none the worse for it."""
    run_python(SECOND, lock, first, env={"PYTHONWARNINGS": "ignore"}).check()


def test_loading_it_again() -> None:
    """A copy of the core would share its state with the first one."""
    done = run_python(
        """
        import sys, mvolatile
        for name in [name for name in sys.modules if name.startswith("mvolatile")]:
            del sys.modules[name]
        import mvolatile
        """
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: mvolatile can be loaded once in a process, and was loaded before"
    )
