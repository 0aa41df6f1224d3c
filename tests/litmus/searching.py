"""One search of one race, all interleavings of it."""

from functools import cache

from mvolatile.cli.searching import litmus_named, system_for, without_consequences
from mvolatile.explore import Result, explore


@cache
def search(race: str, variant: str, max_states: int | None = 400_000) -> Result:
    """Everything that is wrong with a variant in a race; the search must have been complete."""
    result = explore(system_for(litmus_named(race), variant), stop_at_first=False, max_states=max_states)
    assert result.complete, f"{race}, {variant}: cut short at {result.states} states"
    assert result.cut == 0
    return result


def violated(race: str, variant: str) -> set[str]:
    found = without_consequences(litmus_named(race), variant, search(race, variant).violations)
    return {violation.violated for violation in found}
