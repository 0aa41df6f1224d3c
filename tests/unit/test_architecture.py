"""Who may use whom, in Python and in C; who talks to the kernel; what the handler may call; how long files are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import mvolatile
from support.c_source import calls_by_function, exported, reachable, strip
from support.graphs import cycle, imported_names, module_graph
from support.processes import run_python

ROOT = Path(mvolatile.__file__).parent
CORE = ROOT / "_core"
REPOSITORY = Path(__file__).resolve().parents[2]

MAY_IMPORT = {
    "errors": set(),
    "_platform": set(),
    "_core": {"errors"},
    "kernel": {"_core", "errors"},
    "residence": {"kernel", "_core", "errors"},
    "memory": {"residence", "kernel", "_core", "errors"},
    "syscall": {"kernel", "_core", "errors"},
    "arrays": {"memory", "errors"},
    "holdings": {"memory", "_core"},
    "cache": {"memory", "residence", "kernel", "_core", "errors"},
    "shared": {"cache", "memory", "kernel", "_core", "errors"},
    "model": {"errors"},
    "explore": {"errors"},
    "testing": {"memory", "arrays", "kernel", "_core", "errors"},
    "demo": {"cache", "shared", "kernel", "errors"},
    "metrics": {"shared", "cache", "kernel"},
    "integrations": {"metrics", "cache", "shared", "errors"},
    "behind": set(),
}
"""By room, which is a module of the package or a package below it. `__init__`, `__main__` and `cli` may
import all.
"""

UNRULED = {"__init__", "__main__", "cli"}
NOT_AT_START = (
    "model",
    "explore",
    "cli",
    "testing",
    "demo",
    "cache",
    "arrays",
    "shared",
    "integrations",
    "behind",
    "metrics",
)

KERNEL_CALLS = re.compile(
    r"\b(madvise|process_madvise|mmap|munmap|mremap|mprotect|mlock|munlock|mincore|msync|move_pages|ioctl|userfaultfd|syscall|prctl)"
    r"\s*\("
)
C_MAY_USE = {
    "platform": set(),
    "protocol": {"platform"},
    "python": {"protocol", "platform"},
    "cache": {"python", "protocol"},
    "module": {"cache", "python", "protocol", "platform"},
}
"""By folder of `_core/`, by include or by name; `module.c` stands for itself."""
BETWEEN = {
    "platform/parts.h": {"platform"},
    "protocol/parts.h": {"protocol"},
    "cache/cache.h": {"cache", "module"},
}
"""Headers that are not for everybody who may use their folder."""

KNOW_PYTHON = {"python", "cache", "module"}
LONGEST_FILE = 400
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
    found = {f"{module}.{name}" for module, name in imported_names(ROOT, path, source)}
    return {name.split(".")[1] for name in found if "." in name.rstrip(".")}


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


@pytest.mark.parametrize("here", MAY_IMPORT)
def test_no_room_has_a_right_that_it_does_not_use(here: str) -> None:
    used = {
        other for path in modules() if room(path) == here for other in imported_rooms(path, path.read_text())
    }
    assert not MAY_IMPORT[here] - used


def test_no_modules_import_each_other() -> None:
    """Nor in a circle, be it inside of functions. What is imported for annotations alone is not: it never runs."""
    assert cycle(module_graph(ROOT)) == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_private_name_is_imported(path: Path) -> None:
    """ruff (SLF) sees those that are reached by a dot."""
    names = {name for _, name in imported_names(ROOT, path, path.read_text()) if name.startswith("_")}
    assert names <= {"_core", "_platform"}


def test_no_private_name_of_another_is_used() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--select", "SLF001", "--no-cache", "src"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_document_has_the_same_table() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "architecture.md").read_text()
    told: dict[str, set[str]] = {}
    for rooms, allowed in re.findall(
        r"^\| (`.*?`) \| (.*?) \|$", page.split("| room | may import |")[1], re.MULTILINE
    ):
        for here in re.findall(r"`(\w+)`", rooms):
            told.setdefault(here, set(re.findall(r"`(\w+)`", allowed)))
    assert {here: told[here] for here in MAY_IMPORT} == MAY_IMPORT
    layers = page.split("| layer of `_core/` | may use |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)(?:/|\.c)` \| (.*?) \|$", layers, re.MULTILINE)
    assert {here: set(re.findall(r"`(\w+)/`", allowed)) for here, allowed in rows} == C_MAY_USE


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


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "tools"])
def test_no_file_is_too_long(folder: str) -> None:
    files = [
        path for path in (REPOSITORY / folder).rglob("*.*") if path.suffix in (".py", ".pyi", ".c", ".h")
    ]
    assert files
    long = {str(path): n for path in files if (n := len(path.read_text().splitlines())) > LONGEST_FILE}
    assert not long


# ---- the core


def c_files() -> list[Path]:
    return sorted([*CORE.rglob("*.c"), *CORE.rglob("*.h")])


def c_name(path: Path) -> str:
    return str(path.relative_to(CORE))


def layer(name: str) -> str:
    return name.rpartition("/")[0] or name.removesuffix(".c")


@pytest.fixture(scope="module")
def c_graph() -> dict[str, set[str]]:
    """Each file with those that it includes, and those whose functions and variables it uses."""
    texts = {c_name(path): path.read_text() for path in c_files()}
    words = {name: set(re.findall(r"\w+", strip(text))) for name, text in texts.items()}
    includes = {
        name: set(re.findall(r'^#include "(.*)"', text, re.MULTILINE)) for name, text in texts.items()
    }
    home = {one: name for name, text in texts.items() if name.endswith(".c") for one in exported(text)}
    assert home["gate_enter"] == "protocol/gate.c"
    assert home["os_page_size"] == home["os_probe"] == "platform/facts.c"
    graph = {}
    for name in texts:
        declared = {(layer(header), word) for header in reachable(name, includes) for word in words[header]}
        used = words[name] & home.keys() if name.endswith(".c") else set()
        graph[name] = includes[name] | {home[one] for one in used if (layer(home[one]), one) in declared} - {
            name
        }
    return graph


def test_the_core_has_no_circle_of_files(c_graph: dict[str, set[str]]) -> None:
    assert cycle(c_graph) == []


def test_the_layers_of_the_core_use_what_they_may(c_graph: dict[str, set[str]]) -> None:
    used: dict[str, set[str]] = {}
    for name, others in c_graph.items():
        used.setdefault(layer(name), set()).update({layer(other) for other in others} - {layer(name)})
    assert used == C_MAY_USE, "more than the table allows, or a right that nobody uses"


def test_headers_between_files_stay_between_them(c_graph: dict[str, set[str]]) -> None:
    for header, allowed in BETWEEN.items():
        including = {layer(name) for name, others in c_graph.items() if header in others}
        assert including == allowed, header


def test_the_platform_alone_talks_to_the_kernel() -> None:
    talkers = {path for path in CORE.rglob("*.c") if KERNEL_CALLS.search(strip(path.read_text()))}
    assert talkers <= set(CORE.glob("platform/*.c"))
    assert talkers


def test_few_files_know_python() -> None:
    includes = re.compile(r'^\s*#\s*include\s*["<](Python|python/.*|cache/.*)\.h[">]', re.MULTILINE)
    knowing = {layer(c_name(path)) for path in c_files() if includes.search(path.read_text())}
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
    for path in CORE.rglob("*.c"):
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
    assert exported(source + "int told, *kept[3] = {0}; struct s;\nextern int x; int y(void);") == {
        *("outer", "told", "kept")
    }
    assert not KERNEL_CALLS.search(strip('fail("madvise(2)"); /* mmap(0) */ my_mmap(1);'))
    assert KERNEL_CALLS.search(strip("x = madvise (p, n, 8);"))
