"""Losses: exact, sticky, and counted by `generation`."""

from __future__ import annotations

import random

import pytest

from mvolatile import Purged, VolatileMemory, _core
from support.memories import HUGE, LAYOUTS, PAGE, every_layout, filled, lose, pattern
from support.tiers import exact, loses

pytestmark = loses


def _merged(pages: set[int], nbytes: int) -> tuple[tuple[int, int], ...]:
    """Extents of whole pages, cut at the end of the memory."""
    found: list[list[int]] = []
    for page in sorted(pages):
        start, end = page * PAGE, min((page + 1) * PAGE, nbytes)
        if found and found[-1][1] == start:
            found[-1][1] = end
        else:
            found.append([start, end])
    return tuple((start, end - start) for start, end in found)


def _check_exact(memory: VolatileMemory, pages: set[int], before: bytes) -> None:
    """Every way of asking answers with these pages, and the others are whole."""
    expected = _merged(pages, memory.nbytes)
    with pytest.raises(Purged) as lost, memory.pin():
        pass
    assert lost.value.extents == expected
    assert memory.purged() == expected
    with memory.pin(on_purge="zero") as view:
        wanted = bytearray(before)
        for offset, length in expected:
            wanted[offset : offset + length] = bytes(length)
        assert bytes(view) == wanted
    assert _core.is_valid(memory)


@pytest.mark.parametrize(
    "pages",
    [{0}, {4}, {8}, {0, 1, 2}, {0, 2, 4, 6, 8}, {7, 8}, {1, 2, 5, 6}, set(range(9))],
    ids=str,
)
@pytest.mark.parametrize("layout", ["pooled", "ragged"])
def test_exactly_the_purged_pages_are_lost(layout: str, pages: set[int]) -> None:
    with filled(layout) as memory:
        lose(memory, _merged(pages, memory.nbytes))
        _check_exact(memory, pages, pattern(memory.nbytes))
        assert memory.generation == 1


@pytest.mark.parametrize("layout", ["base", "huge"])
@pytest.mark.parametrize("seed", range(4))
def test_random_pages_of_large_memory(layout: str, seed: int) -> None:
    with filled(layout, seed=seed) as memory:
        source = random.Random(seed)
        count = memory.nbytes // PAGE
        pages = set(source.sample(range(count), source.choice([1, 7, count // 3])))
        lose(memory, _merged(pages, memory.nbytes))
        _check_exact(memory, pages, pattern(memory.nbytes, seed))


def test_the_tail_of_a_ragged_memory() -> None:
    with filled(2 * PAGE + 1) as memory:
        lose(memory, [(2 * PAGE, 1)])
        with pytest.raises(Purged) as lost:
            memory.read(0)
        assert lost.value.extents == ((2 * PAGE, 1),)
        assert memory.read(0, 2 * PAGE) == pattern(2 * PAGE)


def test_one_of_two_huge_pages() -> None:
    with filled("huge") as memory:
        lose(memory, [(HUGE, HUGE)])
        assert memory.purged() == ((HUGE, HUGE),)
        assert memory.read(0, HUGE) == pattern(HUGE)
        _check_exact(memory, set(range(HUGE // PAGE, 2 * HUGE // PAGE)), pattern(memory.nbytes))


@pytest.mark.parametrize("offset", [0, HUGE // 2, HUGE - PAGE])
def test_a_huge_page_partly_purged(offset: int) -> None:
    """Reclaim of a part splits it; what it took must be told page by page."""
    with filled("huge") as memory:
        _core.purge(memory, offset, PAGE)
        lost = memory.purged()
        pages = {at // PAGE for start, length in lost for at in range(start, start + length, PAGE)}
        assert pages <= {offset // PAGE}, "reclaim was asked for one page"
        lose(memory, [(offset, PAGE)] if not pages else [])
        _check_exact(memory, {offset // PAGE}, pattern(memory.nbytes))


@every_layout
def test_never_written_pages_are_never_lost(layout: str) -> None:
    with VolatileMemory(**LAYOUTS[layout] | {"huge": False}) as memory:
        memory.write(pattern(PAGE), 3 * PAGE)
        lose(memory, [(3 * PAGE, PAGE)])
        memory.purge()
        assert memory.purged() == ((3 * PAGE, PAGE),)
        assert memory.read(0, 3 * PAGE) == bytes(3 * PAGE)
        _check_exact(memory, {3}, bytes(memory.nbytes))


@every_layout
def test_a_loss_is_sticky(layout: str) -> None:
    with filled(layout) as memory:
        lose(memory)
        for _ in range(3):
            with pytest.raises(Purged), memory.pin():
                pass
        assert memory.generation == 1
        assert _core.pins(memory) == 0
        with memory.pin(write=True, on_purge=lambda view, extents: None):
            pass
        assert memory.purged() == (), "a rebuild settles it, whatever it wrote"


def test_nested_and_late_pins_learn() -> None:
    with filled("pooled") as memory:
        lose(memory, [(PAGE, PAGE)])
        with pytest.raises(Purged):
            memory.read(PAGE, 1)
        learned = []

        def rebuild(view: memoryview, extents: object) -> None:
            """Before it returns nothing is rebuilt, so others must still learn of it."""
            with pytest.raises(Purged) as lost, memory.pin():
                pass
            learned.append(lost.value.extents)
            raise KeyError("cannot rebuild")

        with pytest.raises(KeyError), memory.pin(on_purge=rebuild):
            pass
        assert learned == [((PAGE, PAGE),)]
        with pytest.raises(Purged), memory.pin():
            pass
        with memory.pin(on_purge="zero") as view:
            assert bytes(view[PAGE : 2 * PAGE]) == bytes(PAGE)
            with memory.pin() as nested:
                assert nested[0] == pattern(1)[0]
        with memory.pin():
            pass
        assert memory.generation == 1


def test_losses_add_up() -> None:
    with filled("pooled") as memory:
        lose(memory, [(0, PAGE)])
        assert memory.purged() == ((0, PAGE),)
        assert memory.generation == 1
        lose(memory, [(2 * PAGE, PAGE)])
        assert memory.purged() == ((0, PAGE), (2 * PAGE, PAGE))
        assert memory.generation == 2
        with pytest.raises(Purged) as lost, memory.pin():
            pass
        assert lost.value.extents == ((0, PAGE), (2 * PAGE, PAGE))
        assert lost.value.generation == 2
        lose(memory, [(PAGE, PAGE)])
        assert memory.purged() == ((0, 3 * PAGE),)
        assert memory.generation == 3


@every_layout
def test_generation_counts_each_detected_loss_once(layout: str) -> None:
    with filled(layout) as memory:
        for round_ in range(1, 5):
            lose(memory)
            with memory.pin(on_purge="zero"):
                assert memory.generation == round_
            with memory.pin(write=True) as view:
                view[:] = pattern(memory.nbytes, round_)
        assert memory.generation == 4
        assert memory.read(0) == pattern(memory.nbytes, 4)


def test_asking_twice_is_one_loss() -> None:
    with filled("base") as memory:
        lose(memory, [(0, 3 * PAGE)])
        for _ in range(5):
            assert memory.purged() == ((0, 3 * PAGE),)
        assert memory.generation == 1


@every_layout
def test_rebuilt_memory_can_be_lost_again(layout: str) -> None:
    with filled(layout) as memory:
        lose(memory)
        memory.write(pattern(memory.nbytes, 1))
        assert memory.purged() == ()
        assert memory.read(0) == pattern(memory.nbytes, 1)
        lose(memory)
        assert memory.purged() == ((0, memory.nbytes),)
        assert memory.generation == 2


def test_accepted_zeros_are_not_lost_again() -> None:
    """They were never written since: nothing is there to lose."""
    with filled("pooled") as memory:
        lose(memory, [(PAGE, PAGE)])
        with memory.pin(on_purge="zero"):
            pass
        for _ in range(3):
            memory.purge()
        assert memory.purged() == ((0, PAGE), (2 * PAGE, 7 * PAGE))
        with memory.pin(on_purge="zero") as view:
            assert bytes(view) == bytes(memory.nbytes)


@every_layout
def test_purge_tells_what_went(layout: str) -> None:
    with filled(layout) as memory:
        gone = 0
        for _ in range(20):
            gone += memory.purge()
            if gone == -(-memory.nbytes // PAGE) * PAGE:
                break
        assert gone == -(-memory.nbytes // PAGE) * PAGE
        assert memory.resident() == 0
        assert memory.purge() == 0


def test_overwriting_takes_from_the_loss() -> None:
    with filled("pooled") as memory:
        lose(memory, [(0, 3 * PAGE)])
        assert memory.purged() == ((0, 3 * PAGE),)
        memory.write(b"\x07" * PAGE, PAGE)
        assert memory.purged() == ((0, PAGE), (2 * PAGE, PAGE))
        memory.write(b"\x07" * 10, 2 * PAGE + 5)
        assert memory.purged() == ((0, PAGE), (2 * PAGE, 5), (2 * PAGE + 15, PAGE - 15))
        assert memory.read(2 * PAGE + 5, 10) == b"\x07" * 10
        with pytest.raises(Purged):
            memory.read(2 * PAGE + 4, 1)
        assert memory.generation == 1


def test_a_write_keeps_only_its_own_pages() -> None:
    """A write makes its pages volatile again when it is done, on their own or with the rest."""
    with filled("pooled") as memory:
        memory.write(b"new", 4 * PAGE)
        lose(memory)
        assert memory.purged() == ((0, memory.nbytes),)


@exact
def test_peeking_finds_the_same_extents() -> None:
    with filled("pooled") as memory:
        lose(memory, [(PAGE, PAGE), (5 * PAGE, 2 * PAGE)])
        with pytest.raises(Purged) as lost, memory.peek() as view:
            sum(view)
        assert lost.value.extents == ((PAGE, PAGE), (5 * PAGE, 2 * PAGE))
        assert memory.generation == 1
