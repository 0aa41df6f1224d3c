"""Runs all suites, or those whose names are given, prints what came of it, and writes docs/upstream.{json,md}."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .fetch import UnavailableError
from .page import page
from .run import run
from .suites import SUITES

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "docs" / "upstream.json"


def main() -> int:
    """Answers 1 if a test failed, or a suite could not be had: then nothing is written."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(one.name for one in SUITES))
    parser.add_argument("--quick", action="store_true", help="without slow tests; writes nothing")
    parser.add_argument(
        "--into", type=Path, default=ROOT / "build" / "upstream", help="where sources are kept"
    )
    given = parser.parse_args()
    if unknown := set(given.suites) - {one.name for one in SUITES}:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    known = {one["suite"]: one for one in json.loads(RECORD.read_text())} if RECORD.exists() else {}
    failed = False
    for suite in SUITES:
        if given.suites and suite.name not in given.suites:
            continue
        try:
            result = run(suite, given.into, quick=given.quick)
        except UnavailableError as error:  # the others are run all the same
            print(f"{suite.name}: {error}")
            failed = True
            continue
        known[suite.name] = result.as_json()
        failed |= bool(result.failed)
        print(
            f"{suite.name}: {result.passed} passed, {len(result.failed)} failed", *result.failed, sep="\n  "
        )
    if not given.quick and not failed:
        results = [known[suite.name] for suite in SUITES if suite.name in known]
        RECORD.write_text(json.dumps(results, indent=2) + "\n")
        RECORD.with_suffix(".md").write_text(page(results))
    return int(failed)


sys.exit(main())
