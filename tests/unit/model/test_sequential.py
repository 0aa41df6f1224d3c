"""The machine with one processor: what its calls answer, and that nothing is left behind."""

import pytest

from mvolatile.model.mvolatile import MVOLATILE_NONVOLATILE, MVOLATILE_VOLATILE
from mvolatile.model.sequential import Machine


def test_a_purged_page_traps_and_is_reported() -> None:
    machine = Machine()
    machine.mmap(0, 0, 4)
    assert machine.write(0, 2, 7) == 7
    assert machine.mvolatile(0, 0, 4, MVOLATILE_VOLATILE) == (4, 0)
    assert machine.volatile(0) == {0, 1, 2, 3}
    assert machine.may_purge(0, 2)
    assert machine.read(0, 2) == 7
    assert machine.purge(0, 2)
    assert machine.lost(0) == {2}
    assert (machine.load(0, 2), machine.read(0, 2), machine.write(0, 2, 1)) == ("SIGBUS", "EFAULT", "EFAULT")
    assert machine.mvolatile(0, 0, 4, MVOLATILE_NONVOLATILE) == (4, 1)
    assert machine.load(0, 2) == 0
    assert machine.wrong() is None


def test_a_shared_page_goes_from_all_or_none() -> None:
    machine = Machine()
    machine.mmap(0, 0, 1)
    machine.write(0, 0, 7)
    machine.fork(0, 1)
    machine.mvolatile(0, 0, 1, MVOLATILE_VOLATILE)
    assert machine.sharers(0, 0) == 2
    assert not machine.purge(0, 0)
    machine.mvolatile(1, 0, 1, MVOLATILE_VOLATILE)
    assert machine.purge(1, 0)
    assert machine.lost(0) == machine.lost(1) == {0}


def test_populating_unshares() -> None:
    machine = Machine()
    machine.mmap(0, 0, 1)
    machine.write(0, 0, 7)
    machine.fork(0, 1)
    assert machine.populate(1, 0) == 0
    assert (machine.sharers(0, 0), machine.sharers(1, 0)) == (1, 1)
    assert machine.load(1, 0) == 7


def test_an_empty_range_changes_nothing() -> None:
    machine = Machine()
    machine.mmap(0, 0, 3)
    assert machine.mvolatile(0, 1, 0, MVOLATILE_VOLATILE) == (0, 0)
    assert machine.volatile(0) == frozenset()


def test_errors() -> None:
    machine = Machine()
    machine.mmap(0, 0, 2)
    machine.munmap(0, 1, 1)
    assert machine.mapped(0) == ((0, 1),)
    assert machine.mvolatile(0, 0, 2, MVOLATILE_VOLATILE) == (-12, 0)
    assert machine.mvolatile(0, 0, 1, 7) == (-22, 0)
    assert machine.mlock(0, 0, 1) == 0
    assert machine.mvolatile(0, 0, 1, MVOLATILE_VOLATILE) == (-22, 0)
    assert (machine.load(0, 1), machine.read(0, 1)) == ("SIGSEGV", "EFAULT")


@pytest.mark.parametrize("touched", [False, True])
def test_it_can_go_on_for_ever(touched: str) -> None:
    """Processes that end give back their anon_vmas, of which the machine has a hundred."""
    machine = Machine()
    machine.mmap(0, 0, 6)
    for page in range(6):
        machine.write(0, page, 1)
        machine.mvolatile(0, page, 1, page % 2)
    for _ in range(40):
        machine.fork(0, 1)
        if touched:
            machine.write(1, 3, 9)
        machine.exit(1)
    assert machine.dontneed(0, 0, 6) == 0
    assert [machine.load(0, page) for page in range(6)] == [0] * 6
    assert machine.wrong() is None
