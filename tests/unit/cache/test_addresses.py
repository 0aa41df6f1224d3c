"""Address space, mappings and commit charge that run short: a cache gives way there as it does to the kernel.

Each limit is set in a process of its own.
"""

from __future__ import annotations

import platform

import pytest

from mvolatile.kernel import room
from support.processes import run_python

pytestmark = pytest.mark.room_counted


def _under(resource_name: str, spare: int, size: int) -> str:
    return f"""
import resource, mvolatile as mv
limit, spare, size = resource.{resource_name}, {spare}, {size}
made = []

def make(n):
    made.append(n)
    return bytes([n % 256]) * size

block = mv.volatile_cache(make)
block(0)
fields = [int(n) * resource.getpagesize() for n in open("/proc/self/statm").read().split()]
now = fields[0] if limit == resource.RLIMIT_AS else fields[5]
resource.setrlimit(limit, (now + spare, now + spare))
calls = min(6 * spare // size, 200_000)
for n in range(1, calls):
    assert block(n) == bytes([n % 256]) * size
"""


_AFTERWARDS = """
assert len(made) == calls, "each once"
held = len(block.cache)
hits = sum(block.cache.get(n) is not None for n in range(calls))
assert held * size > spare // 4, (held, "it uses what there is")
assert hits > held // 2, (hits, held, "and what it holds is found")
assert block.cache.get(calls - 1) is not None, "the newest is there"
own = [bytearray(4 << 20), bytearray(4 << 20)]  # there is room for the program itself
import threading
thread = threading.Thread(target=lambda: own.append(bytearray(1 << 20)))
thread.start()
thread.join()
assert len(own) == 3
assert block(10**6) == bytes([10**6 % 256]) * size
block.cache_clear()
assert block(1) == bytes([1]) * size
"""


@pytest.mark.parametrize("size", [300, pytest.param(20_000, marks=pytest.mark.slow), 1 << 20, 5 << 20])
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_limit_of_the_address_space(limit: str, size: int) -> None:
    spare = 80 << 20 if size < 1000 else 300 << 20
    run_python(_under(limit, spare, size) + _AFTERWARDS).check()


@pytest.mark.parametrize("size", [pytest.param(300, marks=pytest.mark.slow), 1 << 20, 5 << 20])
def test_next_to_no_room_at_all(size: int) -> None:
    """Less or nothing is stored, and no call raises for want of room. (The list, which grows too, is left out.)"""
    run_python(
        _under("RLIMIT_AS", 12 << 20, size).replace("    made.append(n)\n", "")
        + """
block.cache["set"] = bytes(size)
assert block.cache.get("set") in (None, bytes(size))
block.cache.update({n: bytes(size) for n in range(3)})
block.cache.clear()
assert block(1) == bytes([1]) * size
"""
    ).check()


def test_no_room_at_the_first_use_and_some_later() -> None:
    run_python(
        """
import resource, mvolatile as mv
cache = mv.VolatileCache()
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (3 << 20), resource.RLIM_INFINITY))
for n in range(20):
    cache[n] = b"small"
    cache.set("large", bytes(1 << 20))
    assert cache.get_or_set("made", lambda: b"made") == b"made"
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
cache["k"] = b"v"
cache["l"] = bytes(1 << 20)
assert cache["k"] == b"v" and cache["l"] == bytes(1 << 20)
"""
    ).check()


def test_no_room_in_a_child() -> None:
    run_python(
        """
import os, resource, mvolatile as mv
cache = mv.VolatileCache()
for n in range(1000):
    cache[n] = b"%d" % n * 200
large = b"l" * (1 << 20)
cache["l"] = large
pid = os.fork()
if not pid:
    now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (3 << 20), now + (3 << 20)))
    for n in range(10_000):
        cache[n] = b"%d" % n * 200
        assert cache.get(n) in (None, b"%d" % n * 200)
        assert cache.get(n // 2) in (None, b"%d" % (n // 2) * 200)
    assert cache.get("l") in (None, large)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    ).check()


def test_a_program_that_grows_gets_the_room_back() -> None:
    """A maker that has no memory for its value fails; the cache gives way, and the next call has it."""
    run_python(
        _under("RLIMIT_AS", 400 << 20, 5 << 20)
        + """
kept, failed = [], 0
def large(n):
    kept.append(bytearray(20 << 20))
    return b"x"
for n in range(13):  # 260 MiB: more than the cache had left free, less than all
    for _ in range(40):
        try:
            block.cache.get_or_set(("grown", n), lambda: large(n))
            break
        except MemoryError:
            failed += 1
assert len(kept) == 13, (len(kept), failed)
"""
    ).check()


def test_a_hit_that_there_is_no_room_for_is_a_miss() -> None:
    run_python(
        _under("RLIMIT_AS", 200 << 20, 5 << 20)
        + """
block.cache["there"] = b"t" * (40 << 20)
there = "there" in block.cache
own = []
try:
    while True:
        own.append(bytearray(1 << 20))
except MemoryError:
    pass
for _ in range(3):
    assert block.cache.get("there") in (None, b"t" * (40 << 20))
    block.cache.get(calls - 1)
own.clear()
assert block(7) == bytes([7]) * size
"""
    ).check()


def test_as_many_mappings_as_there_may_be() -> None:
    """`vm.max_map_count` is reached: a value with a mapping of its own cannot be stored. Nothing is raised."""
    run_python(
        """
import mmap, ctypes, mvolatile as mv
most = int(open("/proc/sys/vm/max_map_count").read())
cache = mv.VolatileCache()
for n in range(8):
    cache[n] = bytes([n]) * (3 << 20)
cache["small"] = b"small"
values = [bytes([n]) * (3 << 20) for n in range(40)]
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
base = libc.mmap(None, 2 * most * 4096, 3, 0x4022, -1, 0)
for at in range(base, base + 2 * most * 4096, 8192):  # every other page read-only: a mapping each
    if libc.mprotect(at, 4096, 1):
        break
else:
    raise AssertionError("no limit is met")
for n in range(40):
    cache[n] = values[n]
    assert cache.get(n) in (None, values[n])
    assert cache.get_or_set(("made", n), lambda: values[n]) == values[n]
    cache["small", n] = b"s" * n
    assert cache.get(("small", n)) in (None, b"s" * n)
libc.munmap(ctypes.c_void_p(base), ctypes.c_size_t(2 * most * 4096))
cache["after"] = b"a" * (3 << 20)
assert cache["after"] == b"a" * (3 << 20)
"""
    ).check()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="numbers of system calls")
def test_a_sandbox_that_does_not_tell_the_limits() -> None:
    """glibc asks for them by prlimit64(2), which some sandboxes refuse once a program has started."""
    run_python(
        f"""
import mvolatile as mv
from support import seccomp
try: seccomp.refuse({302 if platform.machine() == "x86_64" else 261})
except OSError: raise SystemExit(0)
import resource
try: resource.getrlimit(resource.RLIMIT_AS)
except OSError: pass
else: raise AssertionError("not refused")
cache = mv.VolatileCache()
for n in range(20):
    cache[n] = bytes([n]) * 200_000
    assert cache[n] == bytes([n]) * 200_000
assert mv.features().memlock_limit is None
"""
    ).check()


def test_what_strict_overcommit_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode is the machine's, and no test's to set; what is read of it is."""
    tables = {"/proc/meminfo": {"CommitLimit": 16 << 30, "Committed_AS": 15 << 30}}
    monkeypatch.setattr("mvolatile.kernel.room.files.read_table", tables.__getitem__)
    mode = ["2"]
    monkeypatch.setattr("mvolatile.kernel.room.files.read_int", lambda path: int(mode[0]))
    left = room.address_room(anew=True)
    assert left == (1 << 30) - room.MOST_LEFT_FREE
    mode[0] = "0"
    assert room.address_room() == left
    assert room.address_room(anew=True) is None
