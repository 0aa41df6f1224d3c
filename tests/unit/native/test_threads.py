"""Threads in the core at once, under ThreadSanitizer and under AddressSanitizer; `make tsan` runs the long form."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.core_program import core_program
from support.native import SOURCES
from unit.native.test_schedules import CLOSINGS, ONLY_POPULATING, SCHEDULES, STORES

STRESS = os.environ.get("MVOLATILE_STRESS") == "full"
ENVIRONMENT = {"thread": {"TSAN_OPTIONS": f"suppressions={SOURCES / 'tsan.supp'}:exitcode=66"}}


def run(program: Path, *args: object, env: Mapping[str, str] | None = None) -> None:
    """A report of the sanitizer, or a check that does not hold, fails the test."""
    done = subprocess.run(
        [program, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, **(env or {})},
        check=False,
    )
    if done.returncode == 3:
        pytest.skip(f"cannot be had here: {args[0]}")
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("this ThreadSanitizer cannot bear the kernel's vm.mmap_rnd_bits")
    assert "WARNING: ThreadSanitizer" not in done.stderr, done.stderr
    assert done.returncode == 0, f"{args}: {done.returncode}: {done.stderr}"


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
@pytest.mark.parametrize(
    ("pages", "huge", "rounds"),
    [
        pytest.param(9, 0, 400, id="small"),
        pytest.param(70, 0, 150, id="touched"),
        pytest.param(1024, 1, 15, id="huge"),
    ],
)
def test_threads(tier: str, pages: int, huge: int, rounds: int, sanitizer: str) -> None:
    program = core_program("threads", sanitize=sanitizer)
    for seed in range(1, 10 if STRESS else 2):
        times = rounds * (4 if STRESS else 1)
        run(program, tier, pages, huge, seed, times, env=ENVIRONMENT.get(sanitizer))


@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
@pytest.mark.parametrize(
    ("pages", "huge", "rounds"),
    [
        pytest.param(9, 0, 300, id="small"),
        pytest.param(70, 0, 150, id="touched"),
        pytest.param(1024, 1, 15, id="huge"),
    ],
)
def test_descriptors_closed_meanwhile(tier: str, pages: int, huge: int, rounds: int) -> None:
    program = core_program("threads", sanitize="thread")
    for seed in range(1, 10 if STRESS else 2):
        run(program, tier, pages, huge, seed, rounds, "closing", env=ENVIRONMENT["thread"])


@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
def test_no_lock_is_held_in_a_forked_child(tier: str) -> None:
    """A lock that is taken outside the fork gate is copied held, and the child waits for it for ever."""
    run(core_program("threads"), tier, 9, 0, 1, 1000, "asking")


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_race_nowhere(name: str) -> None:
    program = core_program("schedules", scripted=True, sanitize="thread")
    large = (2100,) if name in ONLY_POPULATING else (600, 2100)
    for pages in (16, *(large if STRESS else ())):
        run(program, name, pages, env=ENVIRONMENT["thread"])


@pytest.mark.parametrize(
    ("source", "name"),
    [
        *(("closings", name) for name in CLOSINGS),
        *(("stores", name) for name in STORES),
        ("signals", "jump_out_of_a_trap"),
    ],
)
def test_closings_and_signals_race_nowhere(source: str, name: str) -> None:
    """The sanitizer blocks every signal while it runs a handler that was sent one, so none may touch what is lost."""
    run(core_program(source, scripted=True, sanitize="thread"), name, 16, env=ENVIRONMENT["thread"])


def test_the_sanitizer_sees_the_races_that_there_are() -> None:
    """The reads of the data in a peek, which are hidden from it above. Without end but for the first race."""
    program = core_program("threads", sanitize="thread", defines=("SHOW_PEEKS",))
    options = ENVIRONMENT["thread"]["TSAN_OPTIONS"] + ":halt_on_error=1"
    with pytest.raises(AssertionError, match="data race"):
        run(program, "userfaultfd", 9, 0, 1, 1 << 40, env={"TSAN_OPTIONS": options})
