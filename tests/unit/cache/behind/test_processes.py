"""What is due when a process forks, ends, or is killed."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mvolatile import VolatileCache, VolatilityWarning
from support.c_fork import in_c_child, in_child
from support.processes import run_python

from ..helpers import purge
from .mappings import Behind, kinds, written

told = partial(pytest.warns, VolatilityWarning)


@pytest.mark.parametrize("fork", [in_child, in_c_child])
@pytest.mark.own_process
def test_the_queue_of_the_parent_is_the_parents(fork: Callable[..., Any]) -> None:
    behind = Behind()
    cache: VolatileCache[str, bytes] = VolatileCache(behind=behind)
    cache["deleted"], cache["set"], cache["kept"] = b"old", b"old", b"kept"
    written(cache)

    def refuse(what: str, key: Any) -> None:
        raise OSError("not now")

    behind.before = refuse
    with told(match="not now"):
        cache["set"] = b"new"
        del cache["deleted"]
        written(cache)
    purge(cache)

    def child() -> None:
        behind.before = lambda what, key: None
        behind.done.clear()
        assert cache.get("deleted") is None
        assert cache.get("set") is None
        assert cache["kept"] == b"kept"
        cache["set"] = b"the child's"
        cache["own"] = b"the child's"
        cache.close()
        assert kinds(behind) == ["get", "set", "set"], "it writes its own, by a thread of its own"

    fork(child)
    behind.before = lambda what, key: None
    cache.close()
    assert len(behind) == 1


@pytest.mark.own_process
def test_a_child_that_is_forked_in_the_middle_of_a_write() -> None:
    """Python's fork waits for it: a lock of the mapping's would stay shut in the child."""
    behind = Behind()
    cache: VolatileCache[str, bytes] = VolatileCache(behind=behind)
    came, go = behind.stop("set")
    cache["k"] = b"v"
    assert came.wait(60)
    threading.Timer(0.1, go.set).start()
    in_child(lambda: None if dict.__len__(behind) == 1 else os._exit(9))
    cache.close()


FILES = """
import mvolatile, os, sys
from functools import partial
from pathlib import Path

class Files(dict):
    def __init__(self, folder): self.folder = Path(folder)
    def __getitem__(self, key):
        try: return (self.folder / key).read_bytes()
        except FileNotFoundError: raise KeyError(key)
    def __setitem__(self, key, value): (self.folder / key).write_bytes(value)
    def __delitem__(self, key):
        try: (self.folder / key).unlink()
        except FileNotFoundError: raise KeyError(key)
    def __iter__(self): return iter(os.listdir(self.folder))
"""


def program(folder: Path, body: str) -> Any:
    return run_python(FILES + f"cache = mvolatile.VolatileCache(behind=Files({str(folder)!r}))\n" + body)


def test_the_interpreters_end_waits_for_what_is_due(tmp_path: Path) -> None:
    done = program(tmp_path, "for n in range(200): cache[n] = bytes(1000)").check()
    assert done.stderr == ""
    done = program(tmp_path, "print(sum(cache.get(n) == bytes(1000) for n in range(200)))").check()
    assert done.stdout.strip() == "200"


def test_the_interpreters_end_does_not_wait_for_ever(tmp_path: Path) -> None:
    body = """
import threading
import mvolatile.cache.behind.writer as writer
writer.EXIT_SECONDS = 0.1
Files.__setitem__ = lambda *unused: threading.Event().wait()
cache["k"] = b"v"
"""
    done = program(tmp_path, body).check()
    assert done.stderr == ""


def test_a_kill_loses_what_was_due_and_nothing_else(tmp_path: Path) -> None:
    body = """
import signal, threading
cache["written"] = b"v"
cache.set("through", b"old")
from mvolatile.cache.engine import engine_of
engine_of(cache).tier.writer.flush()
Files.__setitem__ = lambda *unused: threading.Event().wait()
cache["due"] = b"v"
os.kill(os.getpid(), signal.SIGKILL)
"""
    program(tmp_path, body)
    done = program(tmp_path, "print(cache.get('written'), cache.get('through'), cache.get('due'))").check()
    assert done.stdout.strip() == "b'v' b'old' None"


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_the_writer_does_not_stop_green_threads(library: str) -> None:
    """The bad schedule: the queue that it waits at was made before the program was patched, and stops all of it."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"pip install 'mvolatile[libraries]' for {library}")
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("greenlets copy parts of the stack, which the address sanitizer takes for faults")

    def child(library: str) -> None:
        import warnings

        warnings.simplefilter("ignore")
        import mvolatile as mv
        from mvolatile.cache.behind import writer

        writer.LINGER = 600.0
        if library == "gevent":
            from gevent import monkey, sleep

            monkey.patch_all()
        else:
            from eventlet import monkey_patch, sleep

            monkey_patch()
        behind: dict[str, bytes] = {}
        cache = mv.VolatileCache(behind=behind)
        for n in range(3):
            cache[n] = b"v"
            while len(behind) <= n:
                sleep(0)
            sleep(0.001)
        cache.close()

    run_python(child, library, timeout=60).check()
