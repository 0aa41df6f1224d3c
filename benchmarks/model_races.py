"""What the reduction saves on the races of the patch, and how fast the model is searched.

    python benchmarks/model_races.py [--variant NAME]

For each race: the number of interleavings (exact, counted over the state graph), how many executions the reduced
search follows, the states it visits and those that plain search visits, and whether both find the same. Then steps a
second of the reduced search in one process. Exits with 1 if reduction follows more than a tenth of the interleavings,
if the two searches differ, or if fewer than 50,000 steps are made in a second of processor time.
"""

from __future__ import annotations

import argparse
import platform
import sys
from time import process_time

from mvolatile.cli.searching import system_for
from mvolatile.explore import Exhaustive, count_interleavings, explore
from mvolatile.model.races import LITMUS

STEPS_A_SECOND = 50_000
SHARE = 0.1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", default="fixed")
    variant = parser.parse_args().variant
    print(f"Python {platform.python_version()}, one process, processor time, variant {variant}\n")
    print(f"{'race':34}{'interleavings':>14}{'followed':>10}{'share':>10}{'plain':>9}{'reduced':>9}  same")
    steps = 0
    seconds = 0.0
    missed: list[str] = []
    for name, race in LITMUS.items():
        if len(race.threads) == 1:
            continue
        begin = process_time()
        reduced = explore(system_for(race, variant), stop_at_first=False)
        seconds += process_time() - begin
        steps += reduced.steps
        plain = explore(system_for(race, variant), Exhaustive(reduce=False), stop_at_first=False)
        every = count_interleavings(system_for(race, variant))
        share = reduced.executions / every
        same = reduced.properties == plain.properties and reduced.complete and plain.complete
        print(
            f"{name:34}{every:14.3e}{reduced.executions:10,}{share:10.1e}{plain.states:9,}{reduced.states:9,}"
            f"  {'yes' if same else 'NO'}"
        )
        if share > SHARE or not same:
            missed.append(name)
    rate = steps / seconds
    print(f"\n{steps:,} steps in {seconds:.1f} s: {rate:,.0f} a second (limit {STEPS_A_SECOND:,})")
    if rate < STEPS_A_SECOND:
        missed.append("steps a second")
    if missed:
        print(f"missed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
