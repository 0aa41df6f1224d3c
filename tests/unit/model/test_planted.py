"""Bugs planted in the model: every property must be able to fail, and the explorer must find it."""

from types import ModuleType
from typing import Any

import pytest

from mvolatile.cli.searching import system_for
from mvolatile.explore import explore
from mvolatile.model import memory, purge, rmap, swap
from mvolatile.model.fork import fork
from mvolatile.model.mmap import do_mmap
from mvolatile.model.pgtable import pte_present, swp_offset
from mvolatile.model.ptes import pte_under_lock
from mvolatile.model.races import LITMUS
from mvolatile.model.state import SWAP_HAS_CACHE, Kernel, World
from mvolatile.model.steps import Op, Steps, anon_vma_lock_read, pte_unmap_unlock, read, spin_lock
from mvolatile.model.swap import read_swap_cache_async
from mvolatile.model.user import get_user_pages, load, store
from mvolatile.model.vma import anon_vma_interval_tree, read_root

from .machine import Machine


def nothing(*_: object) -> Op:
    return Op("left out", lambda world: (world, None))


def no_steps(*_: object) -> Steps[None]:
    return
    yield


def any_anon_vma(k: Kernel, page: int) -> Steps[tuple[int, int]]:
    """page_lock_anon_vma_read, which never asks whether the page is mapped."""
    anon_vma = yield read("page->mapping", k.mapping(page))
    if anon_vma < 0:
        return -1, -1
    root = yield read_root(k, anon_vma)
    yield anon_vma_lock_read(k, root)
    return anon_vma, root


def without_comparing(k: Kernel, page: int, mm: int, address: int) -> Steps[int]:
    """page_check_address, which takes any present pte for the page's."""
    yield spin_lock(k, mm)
    pte = yield pte_under_lock(k, mm, address)
    if pte_present(pte):
        return pte
    yield pte_unmap_unlock(k, mm)
    return 0


def all_but_the_last(k: Kernel, anon_vma: int, page: int) -> Op:
    whole = anon_vma_interval_tree(k, anon_vma, page)

    def perform(world: World) -> tuple[World, Any]:
        world, sharers = whole.perform(world)
        return world, sharers[:-1]

    return Op(whole.label, perform, footprint=whole.footprint)


def gives_up(k: Kernel, entry: int) -> Steps[int]:
    """read_swap_cache_async, which takes a slot that is being freed for one that is free."""
    usage = yield read("swap_map", k.swap_map(swp_offset(entry)))
    if usage == SWAP_HAS_CACHE + 1:
        return 0
    return (yield from read_swap_cache_async(k, entry))


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
def test_a_step_left_out(
    module: ModuleType, left_out: str, race: str, violated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(race) == set()
    monkeypatch.setattr(module, left_out, nothing)
    assert violated in found(race)


@pytest.mark.parametrize("variant", ["posted", "fixed"])
@pytest.mark.parametrize(
    ("unlock", "race"),
    [("pte_unmap_unlock", "touch_against_purge"), ("anon_vma_unlock_read", "munmap_against_purge")],
)
def test_a_lock_that_is_kept(unlock: str, race: str, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(race, variant) == set()
    monkeypatch.setattr(purge, unlock, nothing)
    assert "deadlock" in found(race, variant)


def test_a_pte_that_maps_another_page(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("copy_on_write_against_purge") == set()
    monkeypatch.setattr(purge, "page_check_address", without_comparing)
    assert "exact_accounting" in found("copy_on_write_against_purge")


@pytest.mark.parametrize("variant", ["posted", "fixed"])
def test_a_walk_that_forgets_the_last(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("copy_on_write_against_purge", variant) == set()
    monkeypatch.setattr(purge, "anon_vma_interval_tree", all_but_the_last)
    assert "all_sharers_or_none" in found("copy_on_write_against_purge", variant)


@pytest.mark.parametrize("variant", ["posted", "fixed"])
def test_a_purge_that_keeps_the_swap_slot(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("swap_cache_page_purged", variant) == set()
    monkeypatch.setattr(purge, "try_to_free_swap", no_steps)
    assert found("swap_cache_page_purged", variant) == {"no_wasted_purge"}


@pytest.mark.parametrize("variant", ["posted", "fixed"])
@pytest.mark.parametrize("module", [rmap, purge])
def test_a_walk_that_does_not_ask_whether_the_page_is_mapped(
    module: ModuleType, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is unmapped and its anon_vma freed while reclaim is on its way there."""
    assert found("munmap_against_purge", variant) == set()
    monkeypatch.setattr(module, "page_lock_anon_vma_read", any_anon_vma)
    assert "no_kernel_bug" in found("munmap_against_purge", variant)


def test_a_fault_that_invents_an_oom(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("unmark_against_purge") == set()
    monkeypatch.setattr(memory, "read_swap_cache_async", gives_up)
    assert found("unmark_against_purge") == {"no_false_oom"}


def after_fork(*, swapped: bool) -> Machine:
    m = Machine()
    m(do_mmap, 0, 0, 1)
    m(store, 0, 0, 5)
    if swapped:
        m.age()
        m.scan()
    m(fork, 0, 1)
    return m


def test_a_copy_on_write_that_does_not_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "copy_user_page", nothing)
    m = after_fork(swapped=False)
    m(get_user_pages, 1, 0)
    m(load, 1, 0)
    assert (m.wrong() or "").startswith("no_wrong_data")


def test_a_fork_that_does_not_count_the_swap_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "swap_duplicate", nothing)
    assert (after_fork(swapped=True).wrong() or "").startswith("exact_accounting: slot 1")


def test_a_fault_without_pte_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """do_anonymous_page that does not look again puts a page over what another thread stored."""
    monkeypatch.setattr(memory, "pte_none", lambda pte: True)
    assert found("touch_against_purge")
