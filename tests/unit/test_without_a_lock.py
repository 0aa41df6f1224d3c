"""One object in many threads at once. With a GIL this is soon told; in a free-threaded Python nothing but the core's
own locks stands between these threads, and a race ends the child by a signal or shows in what it counts.
"""

from __future__ import annotations

import sys
import sysconfig

import pytest

from support.processes import run_python

PRELUDE = """
import itertools, sys, threading
from mvolatile import NotWhole, VolatileCache, VolatileMemory, _core, testing

failures = []

def together(*works, turns=5000):
    "Each work again and again, each in a thread of its own, from the same moment on until all had so many turns."
    gate, had = threading.Barrier(len(works)), [0] * len(works)
    def run(number, work):
        gate.wait()
        try:
            while min(had) < turns and not failures:
                work()
                had[number] += 1
        except BaseException as error:
            failures.append(error)
            raise
    threads = [threading.Thread(target=run, args=one) for one in enumerate(works)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert not failures, failures
"""

STORIES = {
    "the first use": """
seen = []
def first():
    if len(seen) < 8:
        with VolatileMemory(4096) as memory:
            memory.write(b"x")
            seen.append(_core.tier())
together(*[first] * 8, turns=100)
assert len(set(seen)) == 1
""",
    "use and close": """
current = [VolatileMemory(3 * 4096)]
def use():
    memory = current[0]
    try:
        memory.write(b"x" * 5000)
        memory.read(0, 5000); memory.purged(); memory.generation; memory.resident(); repr(memory)
        with memory.peek() as view: bytes(view[:10])
        with memory.pin() as view: bytes(view[:10])
    except ValueError as error:
        assert "closed" in str(error)
    except NotWhole:
        pass
def close():
    fresh = VolatileMemory(3 * 4096)
    assert not any(fresh.read(0)), "a former owner's bytes"
    old, current[0] = current[0], fresh
    while True:
        try: old.close()
        except BufferError: continue
        break
    assert old.closed
together(use, use, use, close, turns=200)
""",
    "one pin": """
memory = VolatileMemory(4096)
pin = memory.pin()
def enter():
    try:
        view = pin.__enter__()
    except RuntimeError:
        pass
    pin.__exit__(None, None, None)
together(*[enter] * 4)
del pin
assert _core.pins(memory) == 0
memory.close()
""",
    "one peek": """
memory = VolatileMemory(4096)
memory.write(b"x" * 4096)
peek = memory.peek()
def enter():
    for step in (peek.__enter__, lambda: peek.__exit__(None, None, None)):
        try: step()
        except (RuntimeError, ValueError): pass
together(*[enter] * 4)
del peek
assert _core.pins(memory) == 0
memory.close()
""",
    "marks and their hook": """
memories = [VolatileMemory(4096) for _ in range(4)]
called = threading.Event()
def hook(): _core.set_unpin_hook(lambda memory: called.set())
def unhook(): _core.set_unpin_hook(None)
def write():
    for memory in memories: memory.write(b"x")
together(hook, unhook, write, write)
while not called.is_set():     # whether a writer met the hook was up to the scheduler
    together(hook, unhook, write, write)
_core.set_unpin_hook(None)
""",
    "a row of values": """
cache = VolatileCache(max_bytes=1 << 20)
numbers = itertools.count()
def put():
    i = next(numbers)
    cache[i % 5000] = b"%d." % (i % 5000) * 7
def get():
    i = next(numbers) * 7 % 5000
    found = cache.get(i)
    assert found in (None, b"%d." % i * 7), (i, found)
together(put, put, get, get, get)
""",
    "hits and misses": """
cache = VolatileCache()
cache["here"] = b"x" * 100
done = itertools.count()
def look():
    assert cache.get("here") == b"x" * 100
    assert cache.get("not here") is None
    next(done)
together(*[look] * 4)
rounds = next(done)
info = cache.cache_info()
assert (info.hits, info.misses) == (rounds, rounds), (info, rounds)
""",
    "who is there": """
from mvolatile import status
def come_and_go():
    memories = [VolatileMemory(4096) for _ in range(20)]
    for memory in memories[::2]: memory.close()
together(come_and_go, come_and_go, status, status, turns=50)
""",
}


@pytest.mark.parametrize("story", STORIES)
def test_one_object_in_many_threads(story: str) -> None:
    run_python(PRELUDE + STORIES[story], env={"PYTHON_GIL": "0"} if _free_threaded() else {}).check()


def _free_threaded() -> bool:
    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def test_the_lock_stays_away() -> None:
    """Importing the core does not switch the GIL on again."""
    if not _free_threaded():
        pytest.skip(f"Python {sys.version.split()[0]} here has a GIL")
    code = "import mvolatile, sys; mvolatile.VolatileMemory(1).close(); assert not sys._is_gil_enabled()"
    run_python(code, env={"PYTHONWARNINGS": "error"}).check()
