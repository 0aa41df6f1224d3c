"""The schedules themselves: what the explorer shows is what the documents tell."""

from typing import Any

import pytest

from mvolatile.cli.searching import examine, search
from mvolatile.explore import parse_schedule
from mvolatile.model.litmus import Litmus, reclaimer, unmark, volatile_pages
from mvolatile.model.mmap import mlock
from mvolatile.model.races import LITMUS
from mvolatile.model.state import Kernel
from mvolatile.model.steps import Steps
from mvolatile.model.trace import Event, follow


def shown(race: str, violated: str, variant: str = "posted") -> list[Event]:
    row = next(row for row in examine(race, variant) if row.property == violated)
    assert row.schedule is not None
    moves = parse_schedule(row.schedule.partition(":")[2])
    return follow(LITMUS[race], variant, [actor for actor, _ in moves])


def where(events: list[Event], function: str, label: str = "") -> int:
    return next(
        at for at, event in enumerate(events) if function in event.functions and event.label.startswith(label)
    )


def test_unmark_against_purge() -> None:
    """VM_VOLATILE is read, then cleared; the unmark returns 0; the purge goes on with what it read."""
    events = shown("unmark_against_purge", "no_lost_report")
    looked = where(events, "try_to_purge_vpage", "vm_flags")
    cleared = where(events, "do_mvolatile", "vma0->vm_flags")
    returned = where(events, "mvolatile", "mvolatile returns 1, purged 0")
    taken = where(events, "try_to_purge_one", "mm0 loses page 0")
    assert looked < cleared < returned < taken == len(events) - 1
    assert events[-1].wrong == "no_lost_report: mm0 page 0: purged while the program held it non-volatile"


def test_mlock_against_purge() -> None:
    """VM_LOCKED is set between the look at the references and the one in try_to_purge_one."""
    events = shown("mlock_against_purge", "no_kernel_bug")
    assert where(events, "page_referenced_one") < where(events, "mlock", "vma0->vm_flags") < len(events) - 1
    assert "BUG_ON(vma->vm_flags & VM_LOCKED) in try_to_purge_one" in (events[-1].wrong or "")


def test_purge_stops_half_way() -> None:
    events = shown("purge_stops_half_way", "all_sharers_or_none")
    assert {event.cpu for event in events} == {"kswapd"}, "no other processor is needed"
    assert any(
        change.startswith("mm0 page 0: none -> purged") for event in events for change in event.changes
    )
    assert not any(change.startswith("mm1") for event in events for change in event.changes)


def test_torn_read_of_high_memory() -> None:
    """The low half is read before the other processor writes it, the high half afterwards: it is a swap entry."""
    events = shown("marker_check_torn_high_memory", "no_false_sigbus")
    assert events[-1].label.startswith("SIGBUS")
    reader = events[-1].cpu
    low, high = (
        max(at for at, event in enumerate(events) if event.cpu == reader and event.label.startswith(half))
        for half in ("pte_low unlocked", "pte_high unlocked")
    )
    written = [at for at, event in enumerate(events) if event.cpu != reader and "set pte_high" in event.label]
    assert written
    assert written[0] < high
    assert not any(event.cpu != reader and "set pte_low" in event.label for event in events[:low])


def test_mark_next_to_volatile_makes_the_rest_volatile() -> None:
    """vma_merge moves the border of the volatile VMA; the flag is written to what is left of the other one."""
    events = shown("mark_next_to_volatile", "no_lost_report")
    assert events[-1].label == "mm0 loses page 2", "the program marked pages 0 and 1"


def test_secondary_mapping_outlives() -> None:
    """The pte lock is dropped; unmark and refill; only then does the notifier run."""
    events = shown("secondary_mapping_outlives", "no_stale_secondary")
    assert events[-1].cpu == "cpu0"
    assert "page 2" in events[-1].changes[0]
    assert not any("mmu_notifier_invalidate_page" in event.label for event in events)


def test_a_schedule_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"step 2 of the schedule: no processor 'nobody'"):
        follow(LITMUS["stale_marker"], "posted", ["cpu0", "nobody"])


def _unmark_then_mlock(k: Kernel) -> Steps[Any]:
    yield from unmark(k, 0)
    return (yield from mlock(k, 0, 0, 1))


def test_a_violation_is_told_although_the_machine_can_crash_too() -> None:
    """What is found first may come after a crash, and then stands for nothing; there is one without."""
    race = Litmus(
        "crash", "no_lost_report", "", volatile_pages, {"cpu0": _unmark_then_mlock, "kswapd": reclaimer}
    )
    found = {violation.violated: violation for violation in search(race, "posted").violations}
    assert set(found) == {"no_lost_report", "no_kernel_bug"}
    events = follow(race, "posted", [actor for actor, _ in found["no_lost_report"].moves])
    assert not any("no_kernel_bug" in (event.wrong or "") for event in events)
