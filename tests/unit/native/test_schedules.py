"""The bad schedules of the protocol, each forced.

Threads are stopped between two steps, in ``schedules.c``; descriptors are closed between two, in ``closings.c``, and
between two system calls, in ``exchanges.c``; memory that one value had gets another, in ``stores.c``; signals come
between two steps, in ``signals.c``.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.core_program import core_program

SCHEDULES = [
    "repair_then_pin_then_note",
    "pin_while_a_trap_waits",
    "late_note",
    "a_real_page_among_the_lost",
    "a_real_page_purged_in_settling",
    "second_peek_reads_repaired_zeros",
    "peek_ends_between_repair_and_note",
    "lost_and_rebuilt_inside_a_peek",
    "written_inside_a_peek",
    "populate_fails_half_way",
    "fork_after_populate",
    "fork_inside_a_trap",
    "trap_while_the_gate_is_shut",
    "close_inside_a_trap",
    "close_inside_a_peek",
    "new_owner",
]
CLOSINGS = [
    "pin_while_the_other_closes",
    "fall_back_while_the_other_closes",
    "peek_while_the_other_closes",
    "closed_again_at_once",
    "asked_while_another_opens",
    "closed_inside_a_pin",
    "watched_again_by_another",
    "raw_memory_read_meanwhile",
    "sandboxed_inside_a_peek",
    "ends_before_the_stock_is_taken",
    "watched_again_inside_a_trap",
]
EXCHANGES = [
    "two_close_one",
    "exchanged_before_the_scan",
    "exchanged_around_the_scan",
]
STORES = [
    "stored_while_reclaim_works",
    "kept_while_a_peek_lives",
    "kept_over_a_fork",
    "stored_with_the_signal_blocked",
]
SIGNALS = [
    "jump_out_of_a_trap",
    "signal_inside_a_fork",
]

ONLY_POPULATING = (
    "a_real_page_among_the_lost",
    "a_real_page_purged_in_settling",
    "populate_fails_half_way",
)


@pytest.mark.parametrize(
    ("name", "pages"),
    [
        pytest.param(name, pages, id=f"{name}-{kind}")
        for name in SCHEDULES
        for pages, kind in ((16, "small"), (600, "touched"), (2100, "large"))
        if kind != "touched" or name not in ONLY_POPULATING
    ],
)
def test_schedule(name: str, pages: int) -> None:
    run_schedule("schedules", name, pages)


@pytest.mark.parametrize("name", CLOSINGS)
@pytest.mark.parametrize("pages", [pytest.param(16, id="small"), pytest.param(2100, id="large")])
def test_closing(name: str, pages: int) -> None:
    run_schedule("closings", name, pages)


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("pages", [pytest.param(16, id="small"), pytest.param(2100, id="large")])
def test_signal(name: str, pages: int) -> None:
    run_schedule("signals", name, pages)


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize(
    "pages", [pytest.param(16, id="small"), pytest.param(600, id="touched"), pytest.param(2100, id="large")]
)
def test_store(name: str, pages: int) -> None:
    run_schedule("stores", name, pages)


@pytest.mark.parametrize("name", EXCHANGES)
def test_exchange(name: str) -> None:
    run_schedule("exchanges", name, 16)


def program_of(source: str) -> Path:
    return core_program(source, scripted=True, defines=("SYSTEM_CALLS",) if source == "exchanges" else ())


def run_schedule(source: str, name: str, pages: int) -> None:
    program = program_of(source)
    done = subprocess.run(
        [program, name, str(pages)], capture_output=True, text=True, timeout=280, check=False
    )
    if done.returncode == 3:
        pytest.skip("userfaultfd cannot be had here")
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("schedules", SCHEDULES),
        ("closings", CLOSINGS),
        ("exchanges", EXCHANGES),
        ("signals", SIGNALS),
        ("stores", STORES),
    ],
)
def test_none_is_forgotten(source: str, names: list[str]) -> None:
    program = program_of(source)
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout.split() == names
