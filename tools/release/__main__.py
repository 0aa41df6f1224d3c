"""Build what would be uploaded, twice, look at it with the tools that judge wheels, and use it where nothing else is.

``python -m tools.release [DIRECTORY]`` leaves the checked files in DIRECTORY, by default dist/.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

from . import build, clean, judge
from .run import ROOT, ReleaseError, step, version


def main() -> int:
    """0 if all of it could be uploaded; else 1, with what is wrong on standard error."""
    parser = argparse.ArgumentParser(prog="tools.release", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", nargs="?", type=Path, default=ROOT / "dist", help="default: dist/")
    directory: Path = parser.parse_args().directory
    try:
        with tempfile.TemporaryDirectory(prefix="mvolatile-release-") as scratch:
            files = _check(Path(scratch))
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            kept = [Path(shutil.copy(file, directory)) for file in files]
    except ReleaseError as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    print(f"\nmvolatile {version()}, in {directory}:")
    for file in kept:
        print(f"  {hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}")
    return 0


def _check(scratch: Path) -> list[Path]:
    step("the version", judge.version_is_told)
    step("the workflows", judge.workflows)
    step("the commit", judge.committed)
    first = step("build", lambda: build.built(scratch / "first"))
    second = step("build again, elsewhere and later", lambda: build.built(scratch / "second" / "deeper"))
    step("the same bytes", lambda: judge.same_bytes(first, second))
    step("the sdist is complete", lambda: judge.complete(first.sdist))
    step("the sdist's and the wheel's descriptions", lambda: judge.descriptions(first))
    step("the limited API", lambda: judge.limited_api(first.wheel))
    step(
        "a clean environment without a compiler: the README", lambda: clean.readme_runs(first.wheel, scratch)
    )
    step("the sdist there: one clear sentence", lambda: clean.sdist_is_refused(first.sdist, scratch))
    return [first.sdist, first.wheel]


if __name__ == "__main__":
    sys.exit(main())
