"""Bugs planted in the model: every property must be able to fail, and the explorer must find it."""

import pytest

from mvolatile.cli.searching import system_for
from mvolatile.explore import explore
from mvolatile.model import memory, purge, rmap, swap
from mvolatile.model.fork import fork
from mvolatile.model.mmap import do_mmap
from mvolatile.model.races import LITMUS
from mvolatile.model.steps import Op
from mvolatile.model.user import get_user_pages, load, store

from .machine import Machine


def nothing(*_: object) -> Op:
    return Op("left out", lambda world: (world, None))


def found(race: str, variant: str = "fixed") -> set[str]:
    return set(explore(system_for(LITMUS[race], variant), stop_at_first=False, max_states=100_000).properties)


@pytest.mark.parametrize(
    ("module", "left_out", "race", "violated"),
    [
        (purge, "page_remove_rmap", "touch_against_purge", "exact_accounting"),
        (purge, "page_cache_release", "touch_against_purge", "exact_accounting"),
        (purge, "add_mm_counters", "touch_against_purge", "exact_accounting"),
        (purge, "update_hiwater_rss", "touch_against_purge", "exact_accounting"),
        (purge, "mmu_notifier_invalidate_page", "secondary_mapping_outlives", "no_stale_secondary"),
        (rmap, "swap_duplicate", "shared_page_starves", "exact_accounting"),
        (swap, "page_cache_release", "swap_cache_page_purged", "exact_accounting"),
    ],
)
def test_a_step_left_out(module, left_out, race, violated, monkeypatch):
    assert found(race) == set()
    monkeypatch.setattr(module, left_out, nothing)
    assert violated in found(race)


def after_fork(*, swapped: bool) -> Machine:
    m = Machine()
    m(do_mmap, 0, 0, 1)
    m(store, 0, 0, 5)
    if swapped:
        m.age()
        m.scan()
    m(fork, 0, 1)
    return m


def test_a_copy_on_write_that_does_not_copy(monkeypatch):
    monkeypatch.setattr(memory, "copy_user_page", nothing)
    m = after_fork(swapped=False)
    m(get_user_pages, 1, 0)
    m(load, 1, 0)
    assert m.wrong().startswith("no_wrong_data")


def test_a_fork_that_does_not_count_the_swap_slot(monkeypatch):
    monkeypatch.setattr(memory, "swap_duplicate", nothing)
    assert after_fork(swapped=True).wrong().startswith("exact_accounting: slot 1")


def test_a_fault_without_pte_same(monkeypatch):
    """do_anonymous_page that does not look again puts a page over what another thread stored."""
    monkeypatch.setattr(memory, "pte_none", lambda pte: True)
    assert found("touch_against_purge")
