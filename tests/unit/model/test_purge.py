"""The hooks in reclaim, each by itself."""

from typing import Any

import pytest

from mvolatile.model.fork import fork
from mvolatile.model.litmus import mark
from mvolatile.model.mmap import do_mmap
from mvolatile.model.page import alloc_page, isolate_lru_page, lru_cache_add
from mvolatile.model.purge import purge_volatile_page
from mvolatile.model.rmap import page_referenced
from mvolatile.model.state import (
    ACTIVE_ANON,
    INACTIVE_ANON,
    INACTIVE_FILE,
    VM_LOCKED,
    VM_VOLATILE,
    VM_WRITE,
    Kernel,
    KernelBug,
    PG_lru,
)
from mvolatile.model.steps import Op, Steps, put, trylock_page
from mvolatile.model.user import load, store
from mvolatile.model.vmscan import page_check_references, shrink_active_list, shrink_page_list

from .machine import Machine


def one(op: Op) -> Steps[Any]:
    return (yield op)


def with_page(variant: str = "posted", volatile: bool = True) -> Machine:
    m = Machine(variant)
    m(do_mmap, 0, 0, 1)
    m(store, 0, 0, 5)
    m.age()
    if volatile:
        m(mark, 0)
    return m


def test_a_page_must_be_locked_and_off_the_lru() -> None:
    m = with_page()
    with pytest.raises(KernelBug, match="PageLocked"):
        m(purge_volatile_page, 1)
    m(lambda k: one(trylock_page(k, 1)))
    assert m.world[m.k.flags(1)] & PG_lru
    with pytest.raises(KernelBug, match="PageLRU"):
        m(purge_volatile_page, 1)


def test_a_file_page_is_left_alone() -> None:
    m = Machine("posted")
    page = m(lambda k: one(alloc_page(k, 0)))
    m(lambda k: one(lru_cache_add(k, page, 0)))
    assert m.world[m.k.lru(INACTIVE_FILE)] == (page,)
    m(lambda k: one(isolate_lru_page(k, INACTIVE_FILE)))
    m(lambda k: one(trylock_page(k, page)))
    assert m(purge_volatile_page, page) == -1
    assert m.world[m.k.page_lock(page)] == 1


@pytest.mark.parametrize(
    ("flags", "used", "answer"),
    [
        (VM_VOLATILE, False, "PAGEREF_PURGE"),
        (VM_VOLATILE, True, "PAGEREF_PURGE"),
        (VM_VOLATILE | VM_LOCKED, True, "PAGEREF_RECLAIM"),
        (0, True, "PAGEREF_ACTIVATE"),
        (0, False, "PAGEREF_RECLAIM"),
    ],
)
@pytest.mark.parametrize("variant", ["posted", "fixed"])
def test_volatile_comes_before_referenced_and_after_locked(
    variant: str, flags: int, used: bool, answer: str
) -> None:
    m = with_page(variant, volatile=False)
    m.world = put(m.world, m.k.vm_flags(0), VM_WRITE | flags)
    if used:
        m(load, 0, 0)
    assert m(page_check_references, 1)[0] == answer


@pytest.mark.parametrize(("variant", "referenced"), [("posted", 0), ("posted+referenced_returns_early", 1)])
def test_the_first_volatile_vma_ends_the_walk(variant: str, referenced: int) -> None:
    """The parent's is volatile; the child behind it has used the page, which is seen only if the walk goes on."""
    m = with_page(variant)
    m(fork, 0, 1)
    m.age()
    m(load, 1, 0)
    found = m(page_referenced, 1)
    assert (found.referenced, found.mapcount) == (referenced, 0)
    assert found.vm_flags & VM_VOLATILE


def test_the_walk_ends_when_every_mapping_was_asked() -> None:
    """3.14 counts `pra->mapcount` down: a VMA behind the last that maps the page is not looked at."""
    m = with_page("fixed", volatile=False)
    m(fork, 0, 1)
    m(store, 1, 0, 9)
    before = m.world
    m.world = put(m.world, m.k.vm_flags(1), VM_WRITE | VM_LOCKED)
    assert m(page_referenced, 1).vm_flags & VM_LOCKED == 0
    m.world = put(before, m.k.mapcount(1), 2)
    assert m(page_referenced, 1).mapcount == 1


@pytest.mark.parametrize("variant", ["posted", "v14"])
def test_a_failed_purge_falls_through_to_keep(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    m = with_page(variant)
    monkeypatch.setattr("mvolatile.model.vmscan.purge_volatile_page", refuse)
    m(lambda k: one(isolate_lru_page(k, INACTIVE_ANON)))
    assert m(shrink_page_list, 1) == 0
    assert m.pte(0, 0).startswith("page 1")
    assert m.world[m.k.lru(INACTIVE_ANON)] == (1,)
    assert m.world[m.k.page_lock(1)] == 0


def test_a_failed_purge_is_reclaimed_when_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    m = with_page("fixed")
    monkeypatch.setattr("mvolatile.model.vmscan.purge_volatile_page", refuse)
    m(lambda k: one(isolate_lru_page(k, INACTIVE_ANON)))
    assert m(shrink_page_list, 1) == 1
    assert m.pte(0, 0) == "swap 1"


def refuse(k: Kernel, page: int) -> Steps[int]:
    return -1
    yield


def test_without_swap_a_page_that_is_not_volatile_stays_and_a_volatile_one_goes() -> None:
    for volatile in (False, True):
        m = Machine("fixed", slots=0)
        m(do_mmap, 0, 0, 1)
        m(store, 0, 0, 5)
        m.age()
        if volatile:
            m(mark, 0)
        assert m.scan() == int(volatile)
        assert m.wrong() is None


def test_ageing_brings_pages_to_the_tail() -> None:
    m = Machine("fixed")
    m(do_mmap, 0, 0, 1)
    m(store, 0, 0, 5)
    assert m.world[m.k.lru(ACTIVE_ANON)] == (1,)
    m(shrink_active_list)
    assert m.world[m.k.lru(INACTIVE_ANON)] == (1,)
