"""For every test: its turn among others, limited child processes, the check that it leaves nothing behind; and what was
not run is told at the end.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from support import cgroups, leaks, own_process
from support.cgroups import Limited
from support.native import built_directory
from support.turns import INSIDE, Turns

# In children, mostly: NumPy takes 40 MiB of addresses, and some memory, for each processor; limits are for one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Shells start what runs in the background with SIGINT ignored, and every child would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A stalled machine is no failure, and what is drawn does not change from run to run but in the long forms.
settings.register_profile(
    "tests",
    deadline=None,
    database=None,
    derandomize=os.environ.get("MVOLATILE_STRESS") != "full",
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")


# ---- keepers of shared caches

_KEEPERS = Path(tempfile.mkdtemp(prefix="mv"))
"""Not where the user's own keepers are, nor those of tests that run beside these."""
os.environ["MVOLATILE_RUNTIME_DIR"] = str(_KEEPERS)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    if any(_KEEPERS.iterdir()):
        from support.keepers import end_keepers  # which imports much, and few tests need it

        end_keepers(_KEEPERS)
    shutil.rmtree(_KEEPERS, ignore_errors=True)


# ---- whose turn it is

_turns = None if INSIDE in os.environ else Turns(built_directory())


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("alone"):
            item.add_marker(pytest.mark.xdist_group("alone"))
        elif item.get_closest_marker("own_process"):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before the clock of pytest-timeout runs
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    if _turns is None:
        return (yield)
    alone = item.get_closest_marker("alone") is not None
    if not (alone and INSIDE in os.environ):
        _turns.take(alone)
        os.environ[INSIDE] = "1"
    try:
        return (yield)
    finally:
        # A fixture of the module may live from one such test to the next: so does the turn.
        if not (alone and nextitem is not None and nextitem.get_closest_marker("alone")):
            os.environ.pop(INSIDE, None)
            _turns.give()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not own_process.is_worker() or not pyfuncitem.get_closest_marker("own_process"):
        return None
    own_process.run(pyfuncitem)
    return True


# ---- what was left out

_LEFT = pytest.StashKey[int]()


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    config = items[0].config
    if "not slow" in config.option.markexpr:
        slow = [
            one for one in items if one.get_closest_marker("slow") and not one.get_closest_marker("stress")
        ]
        config.stash[_LEFT] = config.stash.get(_LEFT, 0) + len(slow)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left"] = session.config.stash.get(_LEFT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Of pytest-xdist: each worker has left out the same."""
    node.config.stash[_LEFT] = getattr(node, "workeroutput", {}).get("left", 0)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Generator[None, object, object]:
    told = yield
    if left := config.stash.get(_LEFT, 0):
        terminalreporter.write_line(f"left to `make check`: {left} slow tests")
    return told


# ---- garbage


def pytest_collection_finish() -> None:
    """What was imported and collected need not be looked through again by every test's `gc.collect()`."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _what_others_left_is_not_looked_through() -> None:
    """Nor need what the tests of other modules keep: the explorer's results are some hundred MB."""
    gc.collect()
    gc.freeze()


# ---- fixtures


@pytest.fixture(autouse=True)
def _leaves_nothing() -> Iterator[None]:
    """No test leaks a descriptor, a thread or a cgroup."""
    with leaks.leaves_nothing():
        yield


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of keepers of the test's own, all gone when it ends. Short, since a socket's path is."""
    from support.keepers import end_keepers, entries

    with tempfile.TemporaryDirectory(prefix="mv") as directory:
        monkeypatch.setenv("MVOLATILE_RUNTIME_DIR", directory)
        monkeypatch.setenv("MVOLATILE_KEEPER_LOG", str(Path(directory, "log")))
        path = Path(directory)
        yield path
        end_keepers(path)
        assert entries(path / "log") == [], "a keeper met an error"


@pytest.fixture
def needs_cgroup() -> None:
    """Skips where no memory cgroup may be made."""
    reason = cgroups.why_not()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def run_limited(needs_cgroup: None) -> Callable[..., Limited]:
    """`support.cgroups.run_limited`, or a skip where no memory cgroup may be made."""
    return cgroups.run_limited
