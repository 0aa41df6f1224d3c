import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvolatile.model import pgtable as pt


def test_the_marker_is_the_first_type_that_is_no_swap_area() -> None:
    """v13 3/4: one of the 32 types goes to purged pages, beside two for migration and one for poison."""
    assert pt.MAX_SWAPFILES == 28
    assert pt.swp_type(pt.make_purged_entry()) == 28
    assert pt.swp_offset(pt.make_purged_entry()) == 0
    assert pt.non_swap_entry(pt.make_purged_entry())
    assert pt.describe(pt.PTE_PURGED) == "purged"


@given(st.integers(0, 31), st.integers(0, 2**20))
def test_a_swap_entry_survives_the_pte(swap_type: int, offset: int) -> None:
    pte = pt.swp_entry_to_pte(pt.swp_entry(swap_type, offset))
    entry = pt.pte_to_swp_entry(pte)
    assert (pt.swp_type(entry), pt.swp_offset(entry)) == (swap_type, offset)
    assert not pt.pte_present(pte)
    assert pt.is_purged_entry(entry) == (swap_type == 28)
    assert pt.non_swap_entry(entry) == (swap_type >= 28)


@given(st.integers(0, 2**40 - 1), st.booleans(), st.booleans(), st.booleans())
def test_a_present_pte_keeps_its_page_and_its_bits(pfn: int, write: bool, dirty: bool, young: bool) -> None:
    pte = pt.mk_pte(pfn, write=write, dirty=dirty, young=young)
    assert pt.pte_present(pte)
    assert pt.pte_pfn(pte) == pfn
    assert (pt.pte_write(pte), pt.pte_dirty(pte), pt.pte_young(pte)) == (write, dirty, young)
    assert pt.pte_pfn(pt.pte_wrprotect(pt.pte_mkold(pte))) == pfn


@pytest.mark.parametrize(
    ("gib", "looks_purged"), [(4, False), (64, False), (111, False), (112, True), (115, True)]
)
def test_when_the_high_half_of_a_present_pte_looks_like_the_marker(gib: int, looks_purged: bool) -> None:
    """The type is bits 32 to 36 of the physical address: 28 first at 112 GiB; 32-bit x86 ends at 64 GiB."""
    high_half = pt.mk_pte(gib << 18) & ~pt.LOW
    assert pt.is_purged_entry(pt.pte_to_swp_entry(high_half)) == looks_purged
