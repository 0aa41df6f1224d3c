"""Whose bytes are whose: a new owner finds zeros whatever the old one went through, and a loss stays with its range."""

from __future__ import annotations

import ctypes
import platform
import random
from contextlib import suppress
from typing import Any

import pytest

from mvolatile import Purged, VolatileCache, VolatileMemory, _core
from mvolatile.cache.engine import engine_of
from support.memories import HUGE, PAGE, every_layout, filled, lose, pattern
from support.processes import run_python
from support.tiers import loses

SIZES = [PAGE, 9 * PAGE - 100, 40 * PAGE, 255 * PAGE, HUGE, HUGE + 3 * PAGE]


def found_by_all_ways(memory: VolatileMemory) -> set[bytes]:
    """What the bytes are, as every way to look at them tells."""
    ways = {memory.read(0)}
    buffer = bytearray(memory.nbytes)
    memory.readinto(buffer)
    ways.add(bytes(buffer))
    with memory.peek() as view:
        ways.add(bytes(view))
    with memory.pin() as view:
        ways.add(bytes(view))
        ways.add(ctypes.string_at(memory.address, memory.nbytes))
    return ways


class OurOwnError(Exception):
    pass


def _lose_some(memory: VolatileMemory, source: random.Random) -> None:
    if _core.is_volatile(memory):
        page = source.randrange(-(-memory.nbytes // PAGE))
        with suppress(AssertionError):  # of a huge page all goes, or nothing
            lose(memory, [(page * PAGE, min(PAGE, memory.nbytes - page * PAGE))])


def _fail(memory: VolatileMemory, source: random.Random) -> None:
    """Calls that fail half way, or are refused."""

    def rebuild(view: memoryview, extents: object) -> None:
        view[:PAGE] = b"\xee" * PAGE
        raise OurOwnError

    with suppress(OurOwnError), memory.pin(on_purge=rebuild):
        pass
    with pytest.raises(ValueError, match="not within"):
        memory.write(b"\xee" * PAGE, memory.nbytes)
    with pytest.raises(OSError, match="mmap"):
        VolatileMemory(2**62)
    with suppress(Purged), memory.pin(), pytest.raises(BufferError):
        memory.close()


def _rewrite(memory: VolatileMemory, source: random.Random) -> None:
    memory.write(bytes([source.randrange(1, 256)]) * source.randrange(1, memory.nbytes))


def _look(memory: VolatileMemory, source: random.Random) -> None:
    with suppress(Purged), memory.peek() as view:
        _lose_some(memory, source)
        bytes(view)


def _purge_all(memory: VolatileMemory, source: random.Random) -> None:
    memory.purge()


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_old_owner_went_through(seed: int) -> None:
    """The old owners' lives are drawn; every new owner must find zeros, and no loss."""
    source = random.Random(seed)
    lives = [_lose_some, _fail, _rewrite, _look, _purge_all]
    keeper = VolatileMemory(PAGE)  # else the arena may go when it is empty
    living: list[VolatileMemory] = []
    used: set[int] = set()
    reused = 0
    for _ in range(60):
        options: Any = {
            "dump": source.random() < 0.7,
            "inherit": source.random() < 0.7,
            "huge": source.random() < 0.5,
        }
        memory = VolatileMemory(source.choice(SIZES), **options)
        reused += memory.address in used
        used.add(memory.address)
        assert memory.purged() == ()
        assert memory.generation == 0
        assert found_by_all_ways(memory) == {bytes(memory.nbytes)}
        memory.write(pattern(memory.nbytes, seed))
        for life in source.choices(lives, k=3):
            life(memory, source)
        living.append(memory)
        if len(living) > 8:
            living.pop(source.randrange(len(living))).close()
    for memory in [*living, keeper]:
        memory.close()
    assert reused > 10, "few addresses came again, so little was tested"


def test_a_new_owner_in_a_forked_child(tier: str) -> None:
    def child_finds_zeros() -> None:
        import os

        from mvolatile import VolatileMemory

        keeper = VolatileMemory(4096)
        old = [VolatileMemory(size) for size in (4096, 100_000, 3 << 20)]
        for memory in old:
            memory.write(b"\xee" * memory.nbytes)
        old[0].purge()
        pid = os.fork()
        for memory in old:
            memory.close()
        for size in (4096, 100_000, 3 << 20, 200_000):
            with VolatileMemory(size) as fresh:
                assert fresh.read(0) == bytes(size)
                assert fresh.purged() == ()
        keeper.close()
        if pid == 0:
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0

    run_python(child_finds_zeros, env={"MVOLATILE_TIER": tier}).check()


def test_what_a_cache_leaves_behind() -> None:
    keeper = VolatileMemory(PAGE)
    with VolatileCache() as cache:
        for i in range(3000):
            cache[i] = b"\xee" * 700
        cache["large"] = b"\xee" * 300_000
        spans = {
            region.memory.address: region.memory.nbytes for region in engine_of(cache).store.regions.values()
        }
        for i in range(0, 3000, 2):
            del cache[i]
    met = 0
    memories = [VolatileMemory(nbytes) for nbytes in spans.values()]
    for memory in memories:
        met += memory.address in spans
        assert memory.read(0) == bytes(memory.nbytes)
    assert met, "no memory of the cache's came again, so this proves nothing"
    with VolatileCache() as cache:
        cache["one"] = b"\xaa" * 100
        (region,) = engine_of(cache).store.regions.values()
        with region.memory.pin() as view:
            assert bytes(view[region.used :]) == bytes(len(view) - region.used)
    for memory in [*memories, keeper]:
        memory.close()


@every_layout
@loses
def test_a_loss_stays_with_its_range(layout: str) -> None:
    """Neighbours, pinned, peeked at or volatile, and those with other options, neither lose nor hear of it."""
    options: list[dict[str, bool]] = [{}, {"dump": False}, {"inherit": False}, {}]
    memories = [filled(layout, seed=seed, **one) for seed, one in enumerate(options)]
    victim = memories[0]
    with memories[1].pin() as pinned, memories[2].peek() as peeked:
        victim.purge()
        assert bytes(pinned) == pattern(pinned.nbytes, 1)
        assert bytes(peeked) == pattern(peeked.nbytes, 2)
    for seed, memory in enumerate(memories[1:], 1):
        assert memory.purged() == ()
        assert memory.generation == 0
        assert found_by_all_ways(memory) == {pattern(memory.nbytes, seed)}
    with pytest.raises(Purged):
        victim.read(0)
    victim.write(pattern(victim.nbytes, 9))
    assert victim.read(0) == pattern(victim.nbytes, 9)
    for memory in memories:
        memory.close()


REFUSED = """
import sys
from mvolatile import VolatileMemory
from mvolatile.kernel.smaps import mappings
from support import seccomp

advice, option, nbytes = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
keeper = VolatileMemory(4096)
seccomp.refuse_advice(advice)
for attempt in range(100):
    if attempt in (0, 50): before = len(mappings())     # a sanitizer's allocator has taken what it needs by then
    try:
        VolatileMemory(nbytes, **{option: False})
    except OSError as error:
        assert "madvise for" in str(error) and "Invalid argument" in str(error), error
    else:
        raise AssertionError("a memory without what was asked for")
assert len(mappings()) <= before + 2
with VolatileMemory(nbytes) as memory:
    memory.write(b"x" * nbytes)
    assert memory.read(0) == b"x" * nbytes
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the rule is written out for x86-64")
@pytest.mark.parametrize(("advice", "option"), [(16, "dump"), (18, "inherit")])
@pytest.mark.parametrize("nbytes", [3 * PAGE, HUGE])
def test_an_option_that_the_kernel_refuses(tier: str, advice: int, option: str, nbytes: int) -> None:
    """An error, nothing left behind, and others go on."""
    run_python(REFUSED, advice, option, nbytes, env={"MVOLATILE_TIER": tier}).check()
