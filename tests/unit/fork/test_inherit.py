"""``inherit=False``: a forked child gets none of the bytes, knows it, and the neighbours are inherited as ever."""

from __future__ import annotations

import pytest

from support.processes import run_python

from .test_fork import PRELUDE

TIERS = ("userfaultfd", "faultcount", "unsupported")

MORE = """
import warnings
from mvolatile import Overwritten, VolatileCache, mvolatile
from mvolatile.kernel.smaps import mappings

def private(pages, **options):
    memory = VolatileMemory(pages * PAGE, inherit=False, **options)
    memory.write(b"".join(map(page_bytes, range(pages))))
    return memory

def bytes_under(memory):
    "As another process would read them: past the library, without a trap."
    with open("/proc/self/mem", "rb", buffering=0) as mem:
        found = b""
        for page in range(0, memory.nbytes, PAGE):
            try: found += os.pread(mem.fileno(), PAGE, memory.address + page)
            except OSError: found += bytes(PAGE)      # missing, and watched
        return found
"""

each_tier = pytest.mark.parametrize("tier", TIERS)
sizes = pytest.mark.parametrize(
    "pages", [pytest.param(3, id="pooled"), pytest.param(600, id="large"), pytest.param(1024, id="huge")]
)


def story(text: str, tier: str) -> None:
    env = {"MVOLATILE_TIER": tier, "PYTHONWARNINGS": "ignore::mvolatile.UnsupportedKernelWarning"}
    run_python(PRELUDE + MORE + text, env=env).check()


@each_tier
@sizes
def test_the_child_has_none_of_it_and_is_told(tier: str, pages: int) -> None:
    story(
        f"""
memory, neighbour = private({pages}), stamped({pages})
def child():
    assert bytes_under(memory) == bytes({pages} * PAGE)
    assert memory.purged() == ((0, {pages} * PAGE),)
    assert memory.generation == 1
    for attempt in (lambda: memory.read(0, 8), lambda: memory.peek().__enter__(), lambda: memoryview(memory)):
        try: attempt()
        except Purged: pass
        else: raise AssertionError("silent zeros")
    assert whole(neighbour), "the option leaked to a neighbour"
    with memory.pin(write=True, on_purge=lambda view, extents: None) as view:
        view[:] = b"".join(page_bytes(p, 1) for p in range({pages}))
    assert whole(memory, 1) and _core.is_valid(memory)
    def grandchild():
        assert lost(memory) == ((0, {pages} * PAGE),)
        assert whole(neighbour)
    assert in_child(grandchild) == 0
    assert whole(memory, 1)
assert in_child(child) == 0
assert memory.purged() == () and whole(memory) and whole(neighbour)
""",
        tier,
    )


@each_tier
@sizes
def test_what_was_never_written_is_not_lost(tier: str, pages: int) -> None:
    story(
        f"""
fresh = VolatileMemory({pages} * PAGE, inherit=False, huge=False)
some = VolatileMemory({pages} * PAGE, inherit=False, huge=False)
some.write(b"x", PAGE)
def child():
    assert lost(fresh) == () and fresh.read(0) == bytes({pages} * PAGE)
    assert lost(some) == ((PAGE, PAGE),), lost(some)
    fresh.write(b"y")
    assert fresh.read(0, 1) == b"y"
assert in_child(child) == 0
""",
        tier,
    )


@each_tier
@sizes
def test_what_was_held_over_the_fork(tier: str, pages: int) -> None:
    """A view that is held shows zeros in the child, where everybody else learns of a loss."""
    story(
        f"""
memory, fresh = private({pages}), VolatileMemory({pages} * PAGE, inherit=False)
with memory.pin() as view, fresh.pin(write=True) as half_written:
    half_written[:8] = b"12345678"
    def child():
        assert bytes(view) == bytes({pages} * PAGE) == bytes(half_written)
        for one in (memory, fresh):
            assert lost(one) == ((0, {pages} * PAGE),)
            assert _core.is_valid(one)
    assert in_child(child) == 0
    assert bytes(view[:8]) == page_bytes(0)[:8] and bytes(half_written[:8]) == b"12345678"
""",
        tier,
    )


@each_tier
def test_a_peek_over_the_fork(tier: str) -> None:
    story(
        """
memory = private(3)
def child():
    try:
        peek.__exit__(None, None, None)
    except Purged as error:
        assert not isinstance(error, Overwritten)
    else:
        raise AssertionError("the peek ended whole")
peek = memory.peek()
view = peek.__enter__()
assert in_child(child) == 0
assert bytes(view[:8]) == page_bytes(0)[:8]
view = None
peek.__exit__(None, None, None)
""",
        tier,
    )


@pytest.mark.parametrize("tier", TIERS[:2])
def test_what_was_purged_before_is_one_loss_with_the_rest(tier: str) -> None:
    story(
        """
memory = private(16)
testing.purge(memory, extents_of([1, 2]))
def child():
    assert lost(memory) == ((0, 16 * PAGE),)
    assert memory.generation <= 2
assert in_child(child) == 0
assert lost(memory) == extents_of([1, 2])
""",
        tier,
    )


def test_the_child_leaves_the_parents_pages_purgeable() -> None:
    """Nothing is shared, so nothing keeps reclaim from the parent's pages."""
    story(
        """
memory = private(16)
read, write = os.pipe()
pid = os.fork()
if not pid:
    os.read(read, 1)
    os._exit(0)
assert memory.purge() == 16 * PAGE
os.write(write, b"x")
assert os.waitpid(pid, 0)[1] == 0
""",
        "userfaultfd",
    )


@each_tier
def test_what_the_kernel_has_of_neighbours(tier: str) -> None:
    story(
        """
sizes = (PAGE, 100 * PAGE, 4 << 20)
memories = {inherit: [VolatileMemory(n, inherit=inherit) for n in sizes] for inherit in (True, False)}
flags = [(one.start, one.end, one.flags) for one in mappings()]
for inherit, some in memories.items():
    for memory in some:
        (found,) = [has for start, end, has in flags if start <= memory.address < end]
        assert ("wf" in found) is not inherit
""",
        tier,
    )


@each_tier
@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("fork", ["os.fork", "ctypes.PyDLL(None).fork"])
def test_a_cache_that_is_not_inherited(tier: str, sealed: bool, fork: str) -> None:
    """Empty in the child, and of use; also where Python does not know that it forked."""
    story(
        f"""
os.fork = {fork}
cache, inherited = VolatileCache(inherit=False), VolatileCache()
for one in (cache, inherited):
    for i in range(300):
        one[i] = b"%d." % i * 20
    one["large"] = b"x" * 200_000
    if {sealed}:
        from mvolatile.cache.engine import engine_of
        engine_of(one).change(engine_of(one).store.seal_all)
def child():
    for i in [*range(300), "large"]:
        assert cache.get(i) is None
    assert inherited[5] == b"5." * 20 and inherited["large"] == b"x" * 200_000
    cache[1] = b"new"
    assert cache.get(1) in (b"new", None)
    if {fork!r} == "os.fork":
        assert len(cache) == 1 and cache[1] == b"new"
assert in_child(child) == 0
assert cache[5] == b"5." * 20 and cache["large"] == b"x" * 200_000
""",
        tier,
    )
