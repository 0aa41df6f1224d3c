"""docs/patch-executed.md: every function in its tables exists, every test too, and the races are as told."""

import importlib
import re
from pathlib import Path

import pytest

from mvolatile.model.races import LITMUS
from mvolatile.model.variants import VARIANTS

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "patch-executed.md").read_text(encoding="utf-8")
TESTS = {
    path.name: path.read_text(encoding="utf-8")
    for room in ("unit/model", "litmus")
    for path in (ROOT / "tests" / room).glob("test_*.py")
}

PATCH = [
    "purge_volatile_page",
    "vma_address",
    "handle_pte_fault",
    "is_purged_entry",
    "make_purged_entry",
    "VM_FAULT_SIGBUS",
    "try_to_purge_one",
    "PageLocked",
    "page_check_address",
    "VM_LOCKED",
    "flush_cache_page",
    "ptep_clear_flush",
    "update_hiwater_rss",
    "dec_mm_counter",
    "page_remove_rmap",
    "page_cache_release",
    "set_pte_at",
    "mmu_notifier_invalidate_page",
    "try_to_purge_vpage",
    "page_lock_anon_vma_read",
    "anon_vma_interval_tree_foreach",
    "VM_VOLATILE",
    "PageLRU",
    "PageAnon",
    "try_to_free_swap",
    "page_freeze_refs",
    "unlock_page",
    "page_referenced_one",
    "pra->mapcount",
    "pra->vm_flags",
    "SWAP_FAIL",
    "PAGEREF_PURGE",
    "page_check_references",
    "shrink_page_list",
    "sys_mvolatile",
    "do_mvolatile",
    "mvolatile_check_purged",
    "mvolatile_check_purged_pte",
    "madvise_volatile",
    "MVOLATILE_VALID_FLAGS",
    "SWP_MVOLATILE_PURGED",
]
"""Every function, hook and name that the mails bring or call."""


def rows(heading: str) -> list[list[str]]:
    section = TEXT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


LINES = rows("The patch, line by line")


@pytest.mark.parametrize("name", PATCH)
def test_nothing_of_the_patch_is_without_a_row(name):
    assert any(name in row[0] or name in row[1] for row in LINES)


@pytest.mark.parametrize("row", LINES, ids=[row[0] for row in LINES])
def test_rows_lead_somewhere(row):
    _, _, model, test = row
    if model.startswith("nothing"):
        return
    for module, name in re.findall(r"`(\w+)\.(\w+)`", model):
        assert hasattr(importlib.import_module(f"mvolatile.model.{module}"), name)
    file, name = re.fullmatch(r"`(test_\w+\.py)::(test_\w+)`", test).groups()
    assert f"def {name}(" in TESTS[file]


def test_the_races_are_as_told():
    from tests.litmus.test_races import CURED_BY_V14, POSTED

    told = rows("What was found")
    assert [row[0] for row in told] == list(POSTED) == list(dict.fromkeys(POSTED))
    assert set(POSTED) == set(LITMUS)
    for race, posted, v14, fixed in told:
        assert posted == (", ".join(sorted(POSTED[race])) or "nothing")
        assert v14 == ("nothing" if race in CURED_BY_V14 or not POSTED[race] else "as v13")
        assert fixed == "nothing"


def test_the_changes_are_as_told():
    from tests.litmus.test_cures import CURES

    mixtures = {"parent_and_child_and_kswapd", "two_threads_and_kswapd"}
    for change, cures in rows("Each change alone"):
        if change == "notify_before_clear":
            continue
        told = cures.replace("both mixtures", ", ".join(sorted(mixtures)))
        assert f"posted+{change}" in VARIANTS
        assert (set(told.split(", ")) if told != "nothing" else set()) == CURES[change]
