"""To a program that keeps to the contract, the library on a stock kernel is the patched kernel.

Both are explored in full over small programs, generated and picked, and every outcome of `stock` with the library must
be one of `fixed`. Bounds: one or two pages, one or two threads, one child, as many purges of a page as `scans` says.

One difference is the kernel's and is told here: unmarking writes to pages (MADV_POPULATE_WRITE), which makes shared
ones the process' own. So after a fork each process loses its pages by itself, where `fixed` takes a page from all
sharers or from none; and lost pages that were accepted as zeros may be pages of zeros, and can be purged again. With a
write after each of its unmarks `fixed` has those outcomes too (`owns`).
"""

from __future__ import annotations

import re

import pytest

from litmus.refinement.lab import Program, unexplained, words

TRAPPING = ["userfaultfd", pytest.param("large", marks=pytest.mark.slow)]

BESIDE_A_READER = [Program(word, ("p0",)) for word in words(3) if "U" in word]
TWO_PAGES = [
    Program(("U", "r0", "r1", "M"), pages=2),
    Program(("U", "w1", "M", "p0", "p1"), pages=2),
    Program(("p1", "U", "r0", "M"), pages=2),
]
FORKS = [
    Program(("F", "p0"), child=("U", "r0")),
    Program(("F", "U", "r0"), child=("p0",)),
    Program(("U", "F", "M"), child=("r0", "M")),
    Program(("U", "F", "w0"), child=("r0", "M")),
]
FORKS_AND_BOTH_UNMARK = Program(("F", "U", "r0"), child=("U", "r0"))


def settles_twice(word: tuple[str, ...]) -> bool:
    """It reads what is lost, which settles it, and unmarks it, which settles it again, to mark it once more."""
    return re.search("p0.*U.*M", " ".join(word)) is not None


@pytest.mark.parametrize("word", words(4), ids=" ".join)
def test_one_thread(word: tuple[str, ...]) -> None:
    assert not unexplained(Program(word), "userfaultfd", scans=2, owns=settles_twice(word))


@pytest.mark.parametrize("word", words(3), ids=" ".join)
def test_one_thread_and_a_large_range(word: tuple[str, ...]) -> None:
    assert not unexplained(Program(word), "large", scans=2)


@pytest.mark.parametrize("word", words(3), ids=" ".join)
def test_one_thread_that_counts_faults(word: tuple[str, ...]) -> None:
    assert not unexplained(Program(word), "faultcount", scans=2, owns=True)


@pytest.mark.parametrize("tier", TRAPPING)
@pytest.mark.parametrize("program", BESIDE_A_READER, ids=str)
def test_beside_a_reader(program: Program, tier: str) -> None:
    assert not unexplained(program, tier, scans=1)


@pytest.mark.parametrize("tier", TRAPPING)
@pytest.mark.parametrize("program", TWO_PAGES, ids=str)
def test_two_pages(program: Program, tier: str) -> None:
    assert not unexplained(program, tier, purges=1, scans=2)


@pytest.mark.parametrize("tier", TRAPPING)
@pytest.mark.parametrize("program", FORKS, ids=str)
def test_fork(program: Program, tier: str) -> None:
    assert not unexplained(program, tier, scans=1, owns=True)


def test_without_a_write_the_patch_purges_sharers_together() -> None:
    different = unexplained(FORKS_AND_BOTH_UNMARK, "userfaultfd", scans=1)
    assert different == {((None, 0, 1), (1, 0)), ((None, 1, 0), (0, 1))}


@pytest.mark.stress
@pytest.mark.parametrize("tier", TRAPPING)
def test_fork_and_both_unmark(tier: str) -> None:
    assert not unexplained(FORKS_AND_BOTH_UNMARK, tier, scans=1, owns=True, max_states=5_000_000)


@pytest.mark.stress
@pytest.mark.parametrize("tier", TRAPPING)
@pytest.mark.parametrize("word", words(5), ids=" ".join)
def test_longer_words(word: tuple[str, ...], tier: str) -> None:
    assert not unexplained(Program(word), tier, scans=2, owns=settles_twice(word))


@pytest.mark.stress
@pytest.mark.parametrize("word", words(5), ids=" ".join)
def test_longer_words_that_count_faults(word: tuple[str, ...]) -> None:
    assert not unexplained(Program(word), "faultcount", scans=2, owns=True)


@pytest.mark.stress
@pytest.mark.parametrize("tier", TRAPPING)
@pytest.mark.parametrize("word", [word for word in words(3) if "U" in word], ids=" ".join)
def test_beside_a_reader_that_reads_twice(word: tuple[str, ...], tier: str) -> None:
    marks_again = "M" in word
    assert not unexplained(Program(word, ("p0", "p0")), tier, scans=2, owns=marks_again, max_states=3_000_000)
