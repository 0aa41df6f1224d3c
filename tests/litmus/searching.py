"""One search of one race, all interleavings of it."""

from functools import cache

from mvolatile.cli import searching
from mvolatile.cli.searching import litmus_named
from mvolatile.explore import Result


@cache
def search(race: str, variant: str, max_states: int | None = 400_000) -> Result:
    """Everything that is wrong with a variant in a race; the search must have been complete."""
    result = searching.search(litmus_named(race), variant, max_states=max_states)
    assert result.complete, f"{race}, {variant}: cut short at {result.states} states"
    assert result.cut == 0
    return result


def violated(race: str, variant: str) -> set[str]:
    return set(search(race, variant).properties)
