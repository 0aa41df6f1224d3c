"""Where memories live: shared arenas, huge pages, and what a new owner finds."""

from __future__ import annotations

import gc
import itertools
import platform
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mvolatile import Purged, VolatileMemory, _core
from mvolatile.kernel.smaps import mappings
from support.libc import Anonymous, smaps_field
from support.memories import HUGE, PAGE, filled, lose, pattern
from support.processes import run_python
from support.tiers import exact, loses

SIZES = [1, PAGE, 16 * PAGE, 100 * PAGE, HUGE - PAGE, HUGE]


@pytest.mark.parametrize("nbytes", SIZES)
def test_a_new_owner_finds_zeros(nbytes: int) -> None:
    keeper = VolatileMemory(PAGE)  # else the arena may go, and the next one lie elsewhere
    with VolatileMemory(nbytes, huge=False) as memory:
        address = memory.address
        memory.write(pattern(nbytes))
    met = False
    for _ in range(5):
        with VolatileMemory(nbytes, huge=False) as memory:
            met = met or memory.address == address
            assert memory.read(0) == bytes(nbytes)
            memory.write(pattern(nbytes))
    keeper.close()
    if nbytes < HUGE:
        assert met, "the slot was not used again, so this proves nothing"


@pytest.mark.parametrize("nbytes", SIZES[1:5])
@pytest.mark.parametrize("known", [False, True])
@loses
def test_an_old_loss_is_not_the_new_owners(nbytes: int, known: bool) -> None:
    keeper = VolatileMemory(PAGE)
    for _ in range(3):
        with filled(nbytes) as memory:
            address = memory.address
            lose(memory)
            if known:
                assert memory.purged()
        with VolatileMemory(nbytes) as memory:
            assert memory.address == address
            assert memory.purged() == ()
            assert memory.generation == 0
            assert memory.read(0) == bytes(nbytes)
            memory.write(b"x")
            with memory.pin() as view:
                assert bytes(view) == b"x" + bytes(nbytes - 1)
            with memory.peek() as view:
                assert bytes(view) == b"x" + bytes(nbytes - 1)
    keeper.close()


@exact
def test_a_repaired_page_is_not_the_new_owners() -> None:
    """The note of a trap must die with the old owner."""
    keeper = VolatileMemory(PAGE)
    with filled(4 * PAGE) as memory:
        address = memory.address
        with pytest.raises(Purged), memory.peek() as view:
            lose(memory)
            bytes(view)
    with VolatileMemory(4 * PAGE) as memory:
        assert memory.address == address
        assert _core.is_valid(memory)
        with memory.peek() as view:
            assert bytes(view) == bytes(4 * PAGE)
        assert memory.purged() == ()
    keeper.close()


@loses
def test_neighbours_in_an_arena_do_not_lose_for_each_other() -> None:
    memories = [filled(3 * PAGE, seed=seed) for seed in range(50)]
    for memory in memories[::2]:
        lose(memory)
    for number, memory in enumerate(memories):
        if number % 2:
            assert memory.read(0) == pattern(3 * PAGE, number)
        assert memory.purged() == (() if number % 2 else ((0, 3 * PAGE),))
        memory.close()


def test_memories_do_not_overlap() -> None:
    source = random.Random(1)
    memories = [filled(source.choice(SIZES[:5]), seed=seed) for seed in range(300)]
    spans = sorted((memory.address, memory.address + memory.nbytes) for memory in memories)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))
    for seed, memory in enumerate(memories):
        assert memory.read(0) == pattern(memory.nbytes, seed)
        memory.close()


def test_threads_open_and_close() -> None:
    wrong: list[bytes] = []

    def use(seed: int) -> None:
        source = random.Random(seed)
        held: list[tuple[VolatileMemory, bytes]] = []
        for _ in range(300):
            if held and source.random() < 0.5:
                memory, data = held.pop(source.randrange(len(held)))
                found = memory.read(0)
                if found != data:
                    wrong.append(found[::PAGE])
                memory.close()
            else:
                memory = VolatileMemory(source.choice(SIZES[:4]))
                if any(memory.read(0)):
                    wrong.append(b"not zero")
                data = bytes([source.randrange(1, 256)]) * memory.nbytes
                memory.write(data)
                held.append((memory, data))
        for memory, _ in held:
            memory.close()

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- many


def _many(tier: str) -> None:
    import gc
    from pathlib import Path

    from mvolatile import VolatileMemory, _core

    assert _core.tier() == tier

    def field(name: str) -> int:
        text = Path("/proc/self/status").read_text()
        return int(text.split(f"{name}:")[1].split()[0]) * 1024

    def count() -> int:
        return len(Path("/proc/self/maps").read_text().splitlines())

    size, number = 64 << 10, 100_000
    VolatileMemory(size).close()
    gc.collect()
    before, space, rss = count(), field("VmSize"), field("VmRSS")
    memories = []
    for i in range(number):
        memory = VolatileMemory(size)
        memory.write(i.to_bytes(8, "little") * 8)
        memories.append(memory)
    held = count() - before
    assert field("VmRSS") - rss > number * 4096
    for i in range(0, number, 997):
        assert memories[i].read(0, 64) == i.to_bytes(8, "little") * 8
    for memory in memories:
        memory.close()
    memories.clear()
    gc.collect()
    print(held, count() - before, field("VmSize") - space, field("VmRSS") - rss)


def test_a_hundred_thousand_live_ranges(tier: str) -> None:
    """Under the default limit of mappings; closing gives back address space, memory and mappings."""
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    said = run_python(_many, tier, env={"MVOLATILE_TIER": tier}).check().stdout
    held, mapped, space, rss = map(int, said.split())
    assert held < 1000 < limit
    assert mapped <= 100
    # What stays is bookkeeping: structs that a signal handler may still look at are never freed.
    assert space < 512 << 20, f"{space} of {100_000 * (64 << 10)} bytes of address space are left"
    assert rss < 96 << 20, f"{rss} bytes of {100_000 * 4096} are left"


def _space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * PAGE


def test_arenas_are_given_back_when_their_last_memory_goes() -> None:
    VolatileMemory(PAGE).close()
    gc.collect()
    before = _space()
    memories = [filled(200 * PAGE) for _ in range(200)]
    taken = _space() - before
    assert taken >= 128 << 20
    for memory in memories:
        memory.close()
    assert _space() - before < taken // 2  # a thread that begins meanwhile takes some for itself


# ---- huge pages


def _huge_bytes(memory: VolatileMemory) -> int:
    end = memory.address + memory.nbytes
    return sum(one.huge for one in mappings() if memory.address <= one.start < end)


def _gets_them_all(get: Callable[[], int], wanted: int) -> None:
    """`get` answers how many bytes of huge pages it got, and is asked again while the machine has none for others,
    either: its memory may be in pieces. Skips where it stays so.
    """
    if "[never]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text():
        pytest.skip("transparent huge pages are switched off here")
    others = []
    for _ in range(5):
        if (got := get()) == wanted:
            return
        with Anonymous(wanted, align=HUGE, huge=True) as plain:
            plain.fill()
            others.append(smaps_field(plain.address, "AnonHugePages"))
    if min(others) < wanted:
        pytest.skip("this machine's memory is in pieces: nobody can count on huge pages")
    pytest.fail(f"there are huge pages, and of {wanted} bytes {got} sit on them")


def test_two_mib_and_more_sit_on_huge_pages() -> None:
    def get() -> int:
        with filled(4 * HUGE) as memory, filled(4 * HUGE, huge=False) as base:
            assert memory.address % HUGE == 0
            assert _huge_bytes(base) == 0
            got = _huge_bytes(memory)
            memory.read(0)
            with memory.pin() as view:
                assert bytes(view) == pattern(memory.nbytes)
            memory.write(b"x", HUGE + 5)
            assert _huge_bytes(memory) >= got, "marking and unmarking splits none"
            return got

    _gets_them_all(get, 4 * HUGE)


@loses
def test_a_rebuild_gets_huge_pages_again() -> None:
    def get() -> int:
        with filled(2 * HUGE) as memory:
            lose(memory)
            assert _huge_bytes(memory) == 0
            with memory.pin(write=True, on_purge=lambda view, extents: None) as view:
                view[:] = pattern(memory.nbytes, 1)
            got = _huge_bytes(memory)
            if platform.release().startswith(("6.1.", "6.12.")) and not got:
                pytest.skip(
                    "Linux 6.1 and 6.12 leave a page table where a huge page was purged, which keeps huge pages out"
                )
            assert memory.read(0) == pattern(memory.nbytes, 1)
            return got

    _gets_them_all(get, 2 * HUGE)


def test_small_memories_never_do() -> None:
    memories = [filled(HUGE - PAGE) for _ in range(8)]
    for memory in memories:
        assert not any(one.huge for one in mappings() if one.start <= memory.address < one.end)
        memory.close()


def test_the_address_space_of_a_large_memory_is_given_back() -> None:
    VolatileMemory(64 << 20).close()
    before = _space()
    memories = [VolatileMemory(64 << 20) for _ in range(20)]
    assert _space() - before >= 20 * (64 << 20)
    for memory in memories:
        memory.close()
    assert _space() - before < 64 << 20
