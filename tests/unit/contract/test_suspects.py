"""Which of many memories have lost something: the kernel is asked once for those that lie side by side."""

from __future__ import annotations

import random

import pytest

from mvolatile import Purged, VolatileMemory, _core
from support.memories import PAGE, filled, lose
from support.processes import run_python
from support.tiers import exact, loses

pytestmark = loses

SIZES = (PAGE, 3 * PAGE, 9 * PAGE, 9 * PAGE - 100, 40 * PAGE)


def many(count: int = 200) -> list[VolatileMemory]:
    """Side by side in arenas, and some apart on base pages and on huge ones."""
    small = [filled(SIZES[number % len(SIZES)], seed=number) for number in range(count)]
    return [*small, filled("base"), filled("huge")]


@pytest.mark.parametrize("seed", range(3))
def test_whoever_lost_something_is_among_them(seed: int) -> None:
    source, memories = random.Random(seed), many()
    source.shuffle(memories)
    losers = set(source.sample(range(len(memories)), 30))
    for number in losers:
        memory = memories[number]
        if memory.nbytes <= 40 * PAGE:
            lose(memory, [(source.randrange(memory.nbytes // PAGE or 1) * PAGE, 1)])
        else:
            lose(memory)
    found = _core.suspects(memories)
    assert losers <= set(found)
    assert {number for number, memory in enumerate(memories) if memory.purged()} == losers
    assert losers <= set(_core.suspects(memories)), "what is known by now stays so"


@exact
def test_none_else_of_the_small_ones() -> None:
    memories = [filled(9 * PAGE, seed=number) for number in range(200)]
    assert _core.suspects(memories) == []
    for number in (0, 17, 199):
        lose(memories[number], [(4 * PAGE, PAGE)])
    assert sorted(_core.suspects(memories)) == [0, 17, 199]


@exact
def test_a_hole_that_was_filled_with_zeros_meanwhile() -> None:
    memories = [filled(PAGE, seed=number) for number in range(3)]
    lose(memories[1])
    with pytest.raises(Purged), memories[1].pin() as view:
        assert bytes(view) == bytes(PAGE)
    assert _core.suspects(memories) == [1]


@exact
def test_what_was_never_written_is_none() -> None:
    """Whether it is held or not: where nothing was, zero pages stand."""
    held, idle, others = VolatileMemory(8 * PAGE), VolatileMemory(8 * PAGE), [filled(PAGE), filled(PAGE)]
    with held.pin(write=True) as view:
        view[0] = 1
        assert _core.suspects([*others, held, idle]) == []


def test_of_none_and_of_what_is_none() -> None:
    assert _core.suspects([]) == []
    gone = filled(PAGE)
    gone.close()
    with pytest.raises(ValueError, match="closed"):
        _core.suspects([filled(PAGE), gone])
    with pytest.raises(TypeError, match="not a Memory"):
        _core.suspects([filled(PAGE), object()])  # type: ignore[list-item]


def test_where_all_descriptors_were_closed_the_programs_file_is_left_alone() -> None:
    done = run_python(_in_a_daemon)
    assert done.returncode == 0, done.stderr


def _in_a_daemon() -> None:
    import os

    from mvolatile import VolatileMemory, _core

    page = _core.sizes()[0]
    memories = [VolatileMemory(page) for _ in range(20)]
    for memory in memories:
        memory.write(b"x" * page)
    os.closerange(3, 256)
    own = os.open(os.devnull, os.O_RDWR)
    memories[7].purge()
    assert memories[7].purged()
    assert 7 in _core.suspects(memories)
    assert os.readlink(f"/proc/self/fd/{own}") == os.devnull
