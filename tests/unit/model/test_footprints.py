"""The reduction believes what operations say of themselves: here they are watched while they work."""

import random
from collections.abc import Iterable, Sequence
from typing import Any, Self

import pytest

from mvolatile.cli.searching import litmus_named
from mvolatile.model.races import LITMUS
from mvolatile.model.state import World
from mvolatile.model.steps import Op


class Watched(tuple[Any, ...]):
    """A world that notes which of its cells are looked at."""

    read: set[int]

    def __new__(cls, cells: Iterable[Any]) -> Self:
        world = super().__new__(cls, cells)
        world.read = set()
        return world

    def __getitem__(self, cell: Any) -> Any:
        if isinstance(cell, int):
            self.read.add(cell)
        return super().__getitem__(cell)


def watch(op: Op, world: World, names: Sequence[str]) -> tuple[World, Any] | None:
    reads, writes = op.footprint(world) if op.footprint else (op.reads, op.writes)
    watched = Watched(world)
    ready = op.ready(watched)
    if ready:
        after, answer = op.perform(watched)
        changed = {cell for cell, (one, two) in enumerate(zip(world, after, strict=True)) if one != two}
        assert changed <= writes, f"{op.label} changes {[names[cell] for cell in changed - writes]}"
    assert watched.read <= reads | writes, (
        f"{op.label} reads {[names[cell] for cell in watched.read - reads - writes]}"
    )
    return (after, answer) if ready else None


def one_schedule(race: str, variant: str, seed: int) -> None:
    """Run the threads in a random order, watching every step."""
    dice = random.Random(seed)
    litmus = litmus_named(race)
    k = litmus.kernel(variant)
    world = litmus.world(k)
    threads = {name: program() for name, program in litmus.programs(k).items()}
    pending = {name: next(thread) for name, thread in threads.items()}
    while pending:
        name = dice.choice(sorted(pending))
        try:
            done = watch(pending[name], world, k.names)
            if done is None:
                continue
            world, answer = done
            pending[name] = threads[name].send(answer)
        except StopIteration:
            del pending[name]
        except AssertionError as bug:
            if not str(bug).startswith("no_kernel_bug"):
                raise
            return


@pytest.mark.parametrize("variant", ["posted", "v14", "fixed", "posted+notify_before_clear"])
@pytest.mark.parametrize("race", LITMUS)
def test_operations_stay_within_their_footprints(race: str, variant: str) -> None:
    for seed in range(12):
        one_schedule(race, variant, seed)


@pytest.mark.parametrize("number", range(60))
def test_in_generated_programs_too(number: int) -> None:
    for seed in range(6):
        one_schedule(f"generated-{number}", "fixed", seed)
