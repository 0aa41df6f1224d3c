"""The fault path, one processor at a time."""

import pytest

from mvolatile.model.fork import fork
from mvolatile.model.litmus import mark, unmark
from mvolatile.model.mmap import do_mmap, do_munmap, exit_mmap, madvise_dontneed, mincore, mlock
from mvolatile.model.pgtable import swp_entry
from mvolatile.model.state import KernelBug
from mvolatile.model.steps import put
from mvolatile.model.swap import lookup_swap_cache
from mvolatile.model.user import copy_from_user, copy_to_user, get_user_pages, load, put_user_page, store

from .machine import Machine


@pytest.fixture(params=["posted", "v14", "fixed"])
def machine(request: pytest.FixtureRequest) -> Machine:
    m = Machine(request.param, frames=4)
    m(do_mmap, 0, 0, 2)
    return m


def test_a_read_maps_the_zero_page(machine: Machine) -> None:
    assert machine(load, 0, 0) == 0
    assert machine.pte(0, 0).startswith("page 0")
    assert machine.rss(0) == 0


def test_a_write_takes_a_page(machine: Machine) -> None:
    assert machine(store, 0, 0, 5) == 5
    assert machine.pte(0, 0) == "page 1 wyd"
    assert machine.rss(0) == 1
    assert machine(load, 0, 0) == 5


def test_a_write_after_a_read_leaves_the_zero_page(machine: Machine) -> None:
    machine(load, 0, 0)
    assert machine(store, 0, 0, 5) == 5
    assert machine.rss(0) == 1
    assert machine.wrong() is None


def test_outside_of_every_vma(machine: Machine) -> None:
    machine(do_munmap, 0, 1, 2)
    assert machine(load, 0, 1) == "SIGSEGV"


def test_copy_on_write(machine: Machine) -> None:
    machine(store, 0, 0, 5)
    machine(fork, 0, 1)
    assert machine.pte(0, 0) == "page 1 yd"
    assert machine(store, 1, 0, 6) == 6
    assert (machine(load, 0, 0), machine(load, 1, 0)) == (5, 6)
    assert machine.wrong() is None


def test_the_last_sharer_keeps_the_page(machine: Machine) -> None:
    machine(store, 0, 0, 5)
    machine(fork, 0, 1)
    machine(exit_mmap, 1)
    machine(store, 0, 0, 6)
    assert machine.pte(0, 0).startswith("page 1 ")
    assert machine.free_pages() == 3


def test_out_to_swap_and_back(machine: Machine) -> None:
    machine(store, 0, 0, 5)
    machine.age()
    assert machine.scan() == 1
    assert machine.pte(0, 0) == "swap 1"
    assert machine(mincore, 0, 0) == 0
    assert machine(load, 0, 0) == 5
    assert machine(mincore, 0, 0) == 1
    assert machine.wrong() is None


def test_a_used_page_gets_a_second_chance(machine: Machine) -> None:
    machine(store, 0, 0, 5)
    machine.age()
    machine(load, 0, 0)
    assert machine.scan() == 0
    assert machine.pte(0, 0).startswith("page")


def test_a_volatile_page_at_the_tail_goes_however_recently_it_was_used(machine: Machine) -> None:
    machine(store, 0, 0, 5)
    machine.age()
    machine(mark, 0)
    machine(load, 0, 0)
    assert machine.scan() == 1
    assert machine.pte(0, 0) == "purged"
    assert (machine.rss(0), machine.free_pages()) == (0, 4)


@pytest.fixture
def purged(machine: Machine) -> Machine:
    machine(store, 0, 0, 5)
    machine(store, 0, 1, 6)
    machine.age()
    machine(mark, 0)
    machine.scan(2)
    assert machine.pte(0, 0) == "purged"
    return machine


def test_touching_a_purged_page(purged: Machine) -> None:
    assert purged(load, 0, 0) == "SIGBUS"
    assert purged(store, 0, 0, 1) == "SIGBUS"
    assert purged(copy_from_user, 0, 0) == "EFAULT"
    assert purged(copy_to_user, 0, 0, 1) == "EFAULT"
    assert purged(get_user_pages, 0, 0) == 0
    assert purged.wrong() is None


def test_unmark_reports_once_and_the_page_is_zeros(purged: Machine) -> None:
    assert purged(unmark, 0) == (1, 1)
    assert purged(load, 0, 0) == 0
    assert purged(unmark, 0) == (1, 0)
    assert purged.wrong() is None


def test_a_marker_is_inherited(purged: Machine) -> None:
    purged(fork, 0, 1)
    assert purged(load, 1, 0) == "SIGBUS"
    assert purged(unmark, 0) == (1, 1)
    assert purged(load, 1, 0) == "SIGBUS"
    assert purged(unmark, 1) == (1, 1)
    assert purged(load, 1, 1) == 6
    assert purged.wrong() is None


def test_munmap_and_dontneed_forget_the_marker(purged: Machine) -> None:
    purged(madvise_dontneed, 0, 0, 1)
    assert purged(load, 0, 0) == 0
    assert purged(unmark, 0) == (1, 0)
    purged(exit_mmap, 0)
    assert purged.free_pages() == 4
    assert purged.wrong() is None


def test_mincore_of_a_purged_page() -> None:
    for variant in ("posted", "v14"):
        m = Machine(variant)
        m(do_mmap, 0, 0, 1)
        m(store, 0, 0, 5)
        m.age()
        m(mark, 0)
        m.scan()
        with pytest.raises(KernelBug, match=r"swapper_spaces\[SWP_MVOLATILE_PURGED\]"):
            m(mincore, 0, 0)


def test_mlock_keeps_pages(machine: Machine) -> None:
    machine(store, 0, 0, 5)
    assert machine(mlock, 0, 0, 1) == 0
    machine.age()
    assert machine.scan(2) == 0
    assert machine(load, 0, 0) == 5
    assert machine.wrong() is None


def test_mlock_of_a_purged_page_fails(purged: Machine) -> None:
    assert purged(mlock, 0, 0, 1) == -12
    assert purged.pte(0, 0) == "purged"


def test_a_pinned_page_is_purged_and_its_frame_outlives(machine: Machine) -> None:
    machine(store, 0, 0, 5)
    page = machine(get_user_pages, 0, 0)
    machine.age()
    machine(mark, 0)
    assert machine.scan() == 0
    assert machine.pte(0, 0) == "purged"
    assert machine.wrong() is None
    machine(put_user_page, page)
    assert machine.free_pages() == 4
    assert machine.wrong() is None


def test_a_purge_gives_the_swap_slot_back(machine: Machine) -> None:
    machine(store, 0, 0, 5)
    machine.age()
    machine.scan()
    machine(load, 0, 0)
    machine(mark, 0)
    machine.age()
    assert machine.scan() == 1
    assert machine.pte(0, 0) == "purged"
    assert not any(machine.world[machine.k.swap_map(slot)] for slot in (1, 2))
    assert machine.wrong() is None


def test_hiwater_remembers_the_peak(machine: Machine) -> None:
    machine(store, 0, 0, 5)
    machine(store, 0, 1, 5)
    machine.age()
    machine(mark, 0, 0, 2)
    machine.scan(2)
    assert machine.rss(0) == 0
    assert machine.world[machine.k.hiwater(0)] == 2


def test_a_lookup_in_the_swap_cache_waits_for_a_frozen_page(machine: Machine) -> None:
    """3.14 looks again until `__remove_mapping` has taken the page out; to call it gone would end in an OOM."""
    machine(store, 0, 0, 5)
    machine.age()
    machine.scan()
    machine(load, 0, 0)
    k, world = machine.k, machine.world
    page = world[k.swap_page(1)]
    lookup = lookup_swap_cache(k, swp_entry(0, 1))
    assert lookup.ready(world)
    assert not lookup.ready(put(world, k.count(page), 0))
    assert lookup.ready(put(world, k.swap_page(1), 0))
    assert lookup.perform(world) == (put(world, k.count(page), world[k.count(page)] + 1), page)
