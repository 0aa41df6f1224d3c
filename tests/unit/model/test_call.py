"""The call: v13's partial counts and quirks, v14's all or nothing."""

import pytest

from mvolatile.model.litmus import mark, unmark
from mvolatile.model.mmap import do_mmap, mlock
from mvolatile.model.mvolatile import MVOLATILE_NONVOLATILE, MVOLATILE_VOLATILE, mvolatile
from mvolatile.model.state import VM_FILE, VM_LOCKED, VM_VOLATILE, VM_WRITE, KernelBug
from mvolatile.model.user import load, store

from .machine import Machine

EFAULT, EINVAL, ENOMEM = -14, -22, -12
SIZES = {"addresses": 6, "frames": 6, "vmas": 8}


def with_vmas(variant: str, *vmas: tuple[int, ...], **sizes: int) -> Machine:
    m = Machine(variant, **{**SIZES, **sizes})
    for start, end, *flags in vmas:
        m(do_mmap, 0, start, end, VM_WRITE | (flags[0] if flags else 0))
    return m


def volatile(m: Machine) -> list[tuple[int, int]]:
    return [(start, end) for start, end, flags in m.vmas(0) if flags & VM_VOLATILE]


@pytest.mark.parametrize("variant", ["v14", "fixed"])
def test_mark_splits_and_unmark_merges(variant: str) -> None:
    m = with_vmas(variant, (0, 4))
    assert m(mark, 0, 1, 2) == (2, 0)
    assert m.vmas(0) == [(0, 1, VM_WRITE), (1, 3, VM_WRITE | VM_VOLATILE), (3, 4, VM_WRITE)]
    assert m(unmark, 0, 1, 2) == (2, 0)
    assert m.vmas(0) == [(0, 4, VM_WRITE)]


@pytest.mark.parametrize("variant", ["v14", "fixed"])
def test_neighbours_merge(variant: str) -> None:
    m = with_vmas(variant, (0, 6))
    for page in (1, 3, 2):
        m(mark, 0, page, 1)
    assert volatile(m) == [(1, 4)]
    assert len(m.vmas(0)) == 3


def test_v13_marks_what_lies_behind_a_moved_border() -> None:
    m = with_vmas("posted", (0, 4))
    m(mark, 0, 0, 1)
    m(mark, 0, 1, 1)
    assert (2, 4) in volatile(m), "nobody asked for pages 2 and 3"


def test_v13_writes_to_a_freed_vma() -> None:
    m = with_vmas("posted", (0, 2))
    m(mark, 0, 0, 1)
    with pytest.raises(KernelBug, match="use after free"):
        m(mark, 0, 1, 1)


def test_v13_writes_to_a_freed_vma_when_a_middle_is_unmarked() -> None:
    m = with_vmas("posted", (0, 4))
    m(mark, 0, 1, 2)
    assert volatile(m) == [(1, 3)]
    with pytest.raises(KernelBug, match="use after free"):
        m(unmark, 0, 1, 2)


# Ranges that are not all right: (what is mapped, what is asked, v13's answer, v14's, the fixed call's).
AWKWARD = [
    ("hole first", [(2, 4)], (0, 4), ENOMEM, ENOMEM, ENOMEM),
    ("hole later", [(0, 2), (3, 4)], (0, 4), 2, ENOMEM, ENOMEM),
    ("nothing at all", [(0, 1)], (3, 1), 0, ENOMEM, ENOMEM),
    ("past the last", [(0, 2)], (0, 4), 2, "oops", ENOMEM),
    ("locked first", [(0, 2, VM_LOCKED)], (0, 2), 0, EINVAL, EINVAL),
    ("locked later", [(0, 1), (1, 2, VM_LOCKED)], (0, 2), 1, EINVAL, EINVAL),
    ("file first", [(0, 2, VM_FILE)], (0, 2), EINVAL, EINVAL, EINVAL),
    ("file later", [(0, 1), (1, 2, VM_FILE)], (0, 2), 1, EINVAL, EINVAL),
]


@pytest.mark.parametrize(
    ("vmas", "asked", "v13", "v14", "fixed"), [row[1:] for row in AWKWARD], ids=[r[0] for r in AWKWARD]
)
def test_awkward_ranges(
    vmas: list[tuple[int, ...]], asked: tuple[int, int], v13: int, v14: int | str, fixed: int
) -> None:
    for variant, answer in (("posted", v13), ("v14", v14), ("fixed", fixed)):
        m = with_vmas(variant, *vmas)
        if answer == "oops":
            with pytest.raises(KernelBug, match="NULL dereference"):
                m(mark, 0, *asked)
            continue
        assert m(mark, 0, *asked)[0] == answer, variant
        marked = sum(end - start for start, end in volatile(m))
        assert marked == max(answer, 0), f"{variant}: an error changes nothing, a count is what was done"


def test_v13_unmark_past_the_last_vma_is_a_null_dereference() -> None:
    m = with_vmas("posted", (0, 2))
    with pytest.raises(KernelBug, match="mvolatile_check_purged"):
        m(unmark, 0, 0, 4)


def test_a_bad_mode() -> None:
    assert with_vmas("posted", (0, 2))(mvolatile, 0, 0, 2, 7) == (2, 0), "v13 has no default in its switch"
    assert with_vmas("v14", (0, 2))(mvolatile, 0, 0, 2, 7) == (EINVAL, 0)
    assert with_vmas("fixed", (0, 2))(mvolatile, 0, 0, 2, 7) == (EINVAL, 0)


@pytest.mark.parametrize("arguments", [{"flags": 1}, {"length": -1}, {"start": 100}])
def test_bad_arguments(arguments: dict[str, int]) -> None:
    for variant in ("posted", "fixed"):
        m = with_vmas(variant, (0, 2))
        given = {"mm": 0, "start": 0, "length": 1, "mode": MVOLATILE_VOLATILE} | arguments
        assert m(mvolatile, **given)[0] == EINVAL


def test_a_bad_pointer_before_and_after() -> None:
    m = with_vmas("posted", (0, 1))
    assert m(mvolatile, 0, 0, 1, MVOLATILE_VOLATILE, fault=1) == (EFAULT, 0)
    assert volatile(m) == []
    m(mark, 0)
    assert m(mvolatile, 0, 0, 1, MVOLATILE_NONVOLATILE, fault=2) == (EFAULT, 0)
    assert volatile(m) == [], "EFAULT, and yet it was done"


def test_a_split_that_fails_changes_no_flags() -> None:
    for variant, vmas in (("posted", 2), ("v14", 2), ("fixed", 2)):
        m = with_vmas(variant, (0, 4), vmas=vmas)
        assert m(mark, 0, 1, 2) == (ENOMEM, 0), variant
        assert volatile(m) == []
    assert with_vmas("fixed", (0, 4), vmas=2).vmas(0) == [(0, 4, VM_WRITE)]


def test_v14_merges_again_what_a_failed_split_left() -> None:
    m = with_vmas("v14", (0, 4), vmas=2)
    m(mark, 0, 1, 2)
    assert m.vmas(0) == [(0, 4, VM_WRITE)]


def test_a_short_unmark_reports_for_its_part_alone() -> None:
    m = with_vmas("posted", (0, 3))
    for page in range(3):
        m(store, 0, page, page + 1)
    m.age()
    m(mark, 0, 0, 3)
    m(mlock, 0, 1, 2)
    m.scan(3)
    assert (m.pte(0, 0), m.pte(0, 2)) == ("purged", "purged")
    assert m(unmark, 0, 0, 3) == (1, 1)
    assert m(load, 0, 2) == "SIGBUS"
    assert m(load, 0, 1) == 2
