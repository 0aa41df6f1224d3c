"""Who may import whom, who talks to the kernel, and what the signal handler may call."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import mvolatile
from support.c_source import calls_by_function, reachable, strip
from support.processes import run_python

ROOT = Path(mvolatile.__file__).parent
CORE = ROOT / "_core"

MAY_IMPORT = {
    "errors": set(),
    "_platform": set(),
    "_core": {"errors"},
    "kernel": {"_core", "errors"},
    "memory": {"kernel", "_core", "errors"},
    "syscall": {"kernel", "_core", "errors"},
    "arrays": {"memory", "errors"},
    "holdings": {"memory", "kernel", "_core", "errors"},
    "cache": {"memory", "arrays", "kernel", "_core", "errors"},
    "shared": {"cache", "memory", "kernel", "_core", "errors"},
    "model": {"errors"},
    "explore": {"errors"},
    "testing": {"memory", "arrays", "cache", "kernel", "_core", "errors"},
    "demo": {"memory", "arrays", "cache", "kernel", "errors", "holdings"},
}
"""By room, which is a module of the package or a package below it. `__init__`, `__main__` and `cli` may
import all.
"""

UNRULED = {"__init__", "__main__", "cli"}
NOT_AT_START = ("model", "explore", "cli", "testing", "demo", "cache", "arrays", "shared")

KERNEL_CALLS = re.compile(
    r"\b(madvise|process_madvise|mmap|munmap|mremap|mprotect|mlock|munlock|mincore|msync|move_pages|ioctl|userfaultfd|syscall|prctl)"
    r"\s*\("
)
KNOW_PYTHON = {"python", "cache"}
SAFE_IN_A_HANDLER = {
    "sigaction",
    "raise",
    "ioctl",
    "madvise",
    "close",
    "sched_yield",
    "syscall",
    "memcpy",
    "offsetof",
    "sa_handler",
    "sa_sigaction",
}
"""The calls that the handler may make outside of the core: bare system calls, and the handler that was there before
ours. Atomic operations and compiler builtins go without saying.
"""


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py").removesuffix(".pyi")


def imported_rooms(path: Path, source: str) -> set[str]:
    """The rooms that a module imports, wherever in it, for types alone or not."""
    package = ("mvolatile", *path.relative_to(ROOT).parent.parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("mvolatile.")}
    return found


def modules() -> list[Path]:
    return sorted([*ROOT.rglob("*.py"), *ROOT.rglob("*.pyi")])


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_table(path: Path) -> None:
    here = room(path)
    if here in UNRULED:
        return
    assert here in MAY_IMPORT, f"{here} has no row in the table"
    wrong = imported_rooms(path, path.read_text()) - MAY_IMPORT[here] - {here}
    assert not wrong, f"{here} may not import {', '.join(sorted(wrong))}"


def test_the_document_has_the_same_table() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "architecture.md").read_text()
    told: dict[str, set[str]] = {}
    for rooms, allowed in re.findall(
        r"^\| (`.*?`) \| (.*?) \|$", page.split("| room | may import |")[1], re.MULTILINE
    ):
        for here in re.findall(r"`(\w+)`", rooms):
            told.setdefault(here, set(re.findall(r"`(\w+)`", allowed)))
    assert {here: told[here] for here in MAY_IMPORT} == MAY_IMPORT


@pytest.mark.parametrize(
    ("module", "statement", "rooms"),
    [
        ("memory.py", "import mvolatile.cli", {"cli"}),
        ("memory.py", "from . import _core", {"_core"}),
        ("memory.py", "from .kernel.features import features", {"kernel"}),
        ("kernel/cgroup/child.py", "from mvolatile.errors import Purged", {"errors"}),
        ("kernel/cgroup/child.py", "from ...memory import VolatileMemory", {"memory"}),
        ("model/state.py", "def f():\n from ..explore import engine", {"explore"}),
        ("memory.py", "from mvolatile import arrays\nimport numpy", {"arrays"}),
    ],
)
def test_the_walk_sees_every_form_of_import(module: str, statement: str, rooms: set[str]) -> None:
    assert imported_rooms(ROOT / module, statement) == rooms


def test_importing_the_library_loads_little() -> None:
    def child() -> None:
        import sys

        import mvolatile

        assert mvolatile.__doc__
        print(*sys.modules)

    loaded = run_python(child).check().stdout.split()
    assert "mvolatile" in loaded
    heavy = [name for name in loaded if name.split(".")[0] in ("numpy", "rich", "matplotlib", "PIL")]
    assert not heavy
    rooms = {name.split(".")[1] for name in loaded if name.startswith("mvolatile.")}
    assert not rooms & set(NOT_AT_START)


def c_files() -> list[Path]:
    return sorted([*CORE.glob("*/*.c"), *CORE.glob("*/*.h")])


def test_the_system_layer_alone_talks_to_the_kernel() -> None:
    talkers = {path for path in CORE.glob("*/*.c") if KERNEL_CALLS.search(strip(path.read_text()))}
    assert talkers == set(CORE.glob("platform/*.c"))
    inner = {path for path in c_files() if '#include "platform/parts.h"' in path.read_text()}
    assert inner == talkers - {CORE / "platform" / "apart.c"}, "os.h is the one door"


def test_few_files_know_python() -> None:
    includes = re.compile(r'^\s*#\s*include\s*["<](Python|python/.*)\.h[">]', re.MULTILINE)
    knowing = {path.parent.name for path in c_files() if includes.search(path.read_text())}
    assert knowing == KNOW_PYTHON, "the protocol must be buildable and testable without Python"


def unsafe_calls(calls: dict[str, set[str]]) -> dict[str, str]:
    reached = reachable("handle", calls)
    return {
        name: by
        for name, by in reached.items()
        if name not in calls
        and name not in SAFE_IN_A_HANDLER
        and not name.startswith(("atomic_", "__builtin_"))
    }


@pytest.fixture
def core_calls() -> dict[str, set[str]]:
    calls: dict[str, set[str]] = {}
    for path in CORE.glob("*/*.c"):
        for function, called in calls_by_function(path.read_text()).items():
            calls.setdefault(function, set()).update(called)
    return calls


def test_the_handler_is_async_signal_safe(core_calls: dict[str, set[str]]) -> None:
    """No lock, no allocation, no Python: whatever it can reach is our own code or on the list."""
    assert unsafe_calls(core_calls) == {}


@pytest.mark.parametrize("call", ["malloc", "free", "pthread_mutex_lock", "PyErr_SetString", "longjmp"])
def test_an_unsafe_call_deep_below_the_handler_is_seen(core_calls: dict[str, set[str]], call: str) -> None:
    core_calls["range_repair"].add(call)
    assert unsafe_calls(core_calls) == {call: "range_repair"}


def test_the_c_reader_sees_calls_and_only_calls() -> None:
    source = """
    #define X(y) malloc(y)
    static int table[] = {one(1), 2};
    struct s { int a; };
    /* free(x) */ static int inner(int a) { if (a) { return sizeof(a) + "lock(\\"" [0]; } return deep(a); }
    void outer(void) {
        // calloc(1);
        inner(2);
    }
    """
    calls = calls_by_function(source)
    assert calls == {"inner": {"deep"}, "outer": {"inner"}}
    assert reachable("outer", calls) == {"inner": "outer", "deep": "inner"}
    assert not KERNEL_CALLS.search(strip('fail("madvise(2)"); /* mmap(0) */ my_mmap(1);'))
    assert KERNEL_CALLS.search(strip("x = madvise (p, n, 8);"))
