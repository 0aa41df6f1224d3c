"""Memory that a forked child does not get, or gets empty: MADV_DONTFORK, as RDMA libraries put on what they register,
and MADV_WIPEONFORK, by somebody else. Only that memory is gone for the child.
"""

from __future__ import annotations

import pytest

from mvolatile import _core
from support.processes import run_python

from .test_fork import PRELUDE

DONTFORK, WIPEONFORK = 10, 18

MORE = """
import mmap
import mvolatile as mv
from support.areas import Area, libc_call
from support.memories import PAGE, filled, lose, pattern

innocent = filled(4 * PAGE); lose(innocent, [(PAGE, PAGE)])
large = filled(4 << 20)

def advise(address, length, advice): libc_call("madvise", address, length, advice)

def check_the_others(tier):
    assert _core.tier() == tier, _core.tier()
    assert innocent.purged() == ((PAGE, PAGE),) == lost(innocent)
    assert large.purged() == () and large.read(0) == pattern(4 << 20)
    fresh = filled(3 * PAGE)
    assert fresh.read(0) == pattern(3 * PAGE)

def is_mapped(address):
    try: libc_call("madvise", address, PAGE, 0)
    except OSError: return False
    return True
"""

TIERS = ("userfaultfd", "faultcount", "unsupported")
each_tier = pytest.mark.parametrize("tier", TIERS)
each_size = pytest.mark.parametrize(
    "options",
    ["4 * PAGE", "64 * PAGE", "(1 << 20)", "4 << 20", "(4 << 20), huge=False"],
)


def story(text: str, tier: str) -> None:
    if tier == "userfaultfd" and _core.tier() != tier:
        pytest.skip(f"the tier here is {_core.tier()}")
    lenient = "def lose(*unused): pass\n" if tier == "unsupported" else ""
    told = {"MVOLATILE_TIER": tier, "PYTHONWARNINGS": "ignore::mvolatile.UnsupportedKernelWarning"}
    prelude = PRELUDE + MORE
    if lenient:
        prelude = prelude.replace("innocent = filled", f"{lenient}innocent = filled")
        text = "".join(["def check_the_others(tier):\n    assert large.read(0) == pattern(4 << 20)\n", text])
    run_python(prelude + text, env=told).check()


@each_tier
@each_size
@pytest.mark.parametrize("advice", [DONTFORK, WIPEONFORK])
def test_a_whole_memory(tier: str, options: str, advice: int) -> None:
    if tier == "unsupported" and advice == WIPEONFORK:
        pytest.skip("nothing there tells a wiped page from one that was never written; said in the documents")
    story(
        f"""
victim = filled({options})
n = victim.nbytes
advise(victim.address, n, {advice})
def child():
    check_the_others({tier!r})
    assert victim.purged() == ((0, n),), victim.purged()
    for attempt in (lambda: victim.read(0, 8), lambda: victim.peek().__enter__(), lambda: memoryview(victim)):
        try: attempt()
        except Purged: pass
        else: raise AssertionError("silent zeros")
    assert _core.is_valid(victim) and victim.generation == 1
    with victim.pin(write=True, on_purge="zero") as view:
        assert bytes(view) == bytes(n)
        view[:] = pattern(n)
    assert victim.read(0) == pattern(n) and victim.purged() == ()
    if {tier!r} != "unsupported":
        assert victim.purge() == n and victim.purged() == ((0, n),)
    def grandchild(): check_the_others({tier!r}); assert _core.is_valid(victim)
    assert in_child(grandchild) == 0
    victim.close()
assert in_child(child) == 0
assert victim.read(0) == pattern(n) and innocent.purged() == (() if {tier!r} == "unsupported" else ((PAGE, PAGE),))
""",
        tier,
    )


@each_tier
@pytest.mark.parametrize("options", ["16 * PAGE", "4 << 20", "(4 << 20), huge=False"])
def test_a_part_of_a_memory(tier: str, options: str) -> None:
    """What is gone is told by its extent; the rest is whole."""
    story(
        f"""
victim = filled({options})
n = victim.nbytes
first, length = n // 4 + 2 * PAGE, n // 4
advise(victim.address + first, length, {DONTFORK})
neighbour = filled(PAGE)
def child():
    check_the_others({tier!r})
    assert victim.purged() == ((first, length),), victim.purged()
    assert lost(victim) == ((first, length),)
    with victim.pin(on_purge="zero") as view:
        assert view[:first] == pattern(n)[:first] and view[first + length:] == pattern(n)[first + length:]
        assert bytes(view[first:first + length]) == bytes(length)
    assert neighbour.read(0) == pattern(PAGE)
assert in_child(child) == 0
""",
        tier,
    )


@each_tier
@pytest.mark.parametrize("options", ["16 * PAGE", "4 << 20"])
def test_a_memory_that_is_pinned(tier: str, options: str) -> None:
    """The view that the child has shows zeros, and everybody else there learns of the loss."""
    story(
        f"""
victim = VolatileMemory({options})
n = victim.nbytes
with victim.pin(write=True) as view:
    view[:] = pattern(n)
    advise(victim.address, n, {DONTFORK})
    def child():
        check_the_others({tier!r})
        assert bytes(view) == bytes(n)
        assert victim.purged() == ((0, n),)
    assert in_child(child) == 0
    assert bytes(view) == pattern(n)
""",
        tier,
    )


@each_tier
@pytest.mark.parametrize(("first", "count"), [(0, 16), (0, 4), (4, 4), (12, 4)])
def test_marked_raw_memory(tier: str, first: int, count: int) -> None:
    """It is the caller's: the child has none there, no mark either, and what it maps there is its own."""
    story(
        f"""
area = Area(16); area.fill()
assert mv.mvolatile(area.address, area.nbytes, 1) == (area.nbytes, 0)
start, length = area.address + {first} * PAGE, {count} * PAGE
advise(start, length, {DONTFORK})
def child():
    check_the_others({tier!r})
    assert not is_mapped(start)
    marks = 0 if {tier!r} == "unsupported" else area.nbytes - length
    assert mv.status().raw == marks, mv.status().raw
    try: mv.mvolatile(area.address, area.nbytes, 0)
    except OSError as error: assert error.errno == 12
    else: raise AssertionError("unmarked what is not mapped")
    assert libc_call("mmap", start, length, 3, 0x100022, -1, 0) == start
    ctypes.memset(start, 0x6e, length)
    assert mv.mvolatile(start, length, 0) == (length, 0)
    assert mv.mvolatile(area.address, area.nbytes, 0) == (area.nbytes, 0)
    assert all(area.whole(p) for p in range(16) if not {first} <= p < {first} + {count})
    assert ctypes.string_at(start, length) == b"n" * length
assert in_child(child) == 0
assert mv.mvolatile(area.address, area.nbytes, 0) == (area.nbytes, 0)
assert all(map(area.whole, range(16)))
""",
        tier,
    )


@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
def test_marked_raw_memory_that_comes_empty(tier: str) -> None:
    story(
        f"""
area = Area(16); area.fill()
assert mv.mvolatile(area.address, area.nbytes, 1) == (area.nbytes, 0)
advise(area.address + 4 * PAGE, 4 * PAGE, {WIPEONFORK})
def child():
    check_the_others({tier!r})
    assert mv.mvolatile(area.address, 4 * PAGE, 0) == (4 * PAGE, 0)
    assert mv.mvolatile(area.address + 4 * PAGE, 12 * PAGE, 0) == (12 * PAGE, 1)
    assert all(area.whole(p) for p in range(16) if not 4 <= p < 8)
assert in_child(child) == 0
assert mv.mvolatile(area.address, area.nbytes, 0) == (area.nbytes, 0)
""",
        tier,
    )


@each_tier
def test_a_cache_goes_on(tier: str) -> None:
    """What it was filling was not copied: its values are lost, and what is stored next is there."""
    story(
        """
cache = mv.VolatileCache()
for i in range(50): cache[i] = b"%d." % i * 20
from mvolatile.cache.engine import engine_of
segment = engine_of(cache).store.open.get(0)
advise(segment.memory.address // PAGE * PAGE, segment.memory.nbytes, 10)
def child():
    assert cache.get(0) is None
    for i in range(100, 200):
        cache[i] = b"%d." % i * 20
        assert cache.get(i) == b"%d." % i * 20
    assert len(list(cache.items())) == 100
assert in_child(child) == 0
assert len(list(cache.items())) == 50
""",
        tier,
    )
