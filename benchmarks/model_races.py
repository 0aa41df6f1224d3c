"""What the reduction saves on the races of the patch, and how fast the model is searched.

    python benchmarks/model_races.py [--variant NAME]

For each race of several threads: all its interleavings (exact, counted over the state graph: what a search that
remembers nothing has to run); the executions that a search follows which remembers states and leaves nothing out; and
those that the reduced search follows, to their end or to a state already known. Then the states of both, and the two
ratios. Both must violate the same properties. Then steps a second of the reduced search in one process. Exits with 1
if reduction follows more than a tenth of the interleavings, or makes fewer than 50,000 steps in a second of processor
time.
"""

from __future__ import annotations

import sys
from statistics import median
from time import process_time
from typing import Any

from explore_speed import SHARE, STEPS_A_SECOND, comparison
from harness import Goal, finish, parser

from mvolatile.cli.searching import system_for
from mvolatile.explore import Exhaustive, count_interleavings, explore
from mvolatile.model.races import LITMUS

PLAIN_STATES = 1_000_000
"""A plain search that has not ended by then is left out of the second ratio."""


def measure(name: str, variant: str) -> tuple[dict[str, Any], int, float]:
    """A row; and the steps and seconds of the reduced search."""
    race = LITMUS[name]
    begin = process_time()
    reduced = explore(system_for(race, variant), stop_at_first=False)
    seconds = process_time() - begin
    plain = explore(
        system_for(race, variant), Exhaustive(reduce=False), stop_at_first=False, max_states=PLAIN_STATES
    )
    if plain.complete and reduced.properties != plain.properties:
        raise SystemExit(
            f"{name}: the reduced search finds {reduced.properties}, the plain one {plain.properties}"
        )
    row = {"race": name, **comparison(reduced, plain, count_interleavings(system_for(race, variant)))}
    return row, reduced.steps, seconds


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--variant", default="fixed")
    variant = arguments.parse_args().variant
    rows, steps, seconds = [], 0, 0.0
    for name, race in LITMUS.items():
        if len(race.threads) > 1:
            row, more, took = measure(name, variant)
            rows.append(row)
            steps += more
            seconds += took
    beside = [row["reduced / plain"] for row in rows if row["reduced / plain"]]
    goals = [
        Goal(
            "largest share of all interleavings",
            max(r["reduced / interleavings"] for r in rows),
            SHARE,
            False,
        ),
        Goal("steps a second", steps / seconds, STEPS_A_SECOND, True, ""),
    ]
    print(
        f"beside a search that remembers states: {min(beside):.2f} to {max(beside):.2f}, median {median(beside):.2f}"
    )
    return finish(
        __file__, "What does the reduction save on the races of the patch?", rows, goals, variant=variant
    )


if __name__ == "__main__":
    sys.exit(main())
