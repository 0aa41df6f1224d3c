"""Reading pressure stall information."""

from __future__ import annotations

from pathlib import Path

import pytest

from mvolatile.kernel.psi import SYSTEM, PsiReading, Stall, parse_psi, read_psi


def test_both_lines() -> None:
    some = "some avg10=1.50 avg60=0.25 avg300=0.05 total=123456\n"
    full = "full avg10=0.90 avg60=0.10 avg300=0.01 total=654\n"
    assert parse_psi(some + full) == PsiReading(Stall(1.5, 0.25, 0.05, 123456), Stall(0.9, 0.1, 0.01, 654))


def test_a_kernel_without_the_full_line() -> None:
    reading = parse_psi("some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n")
    assert (reading.some.total, reading.full) == (7, None)


def test_another_file() -> None:
    with pytest.raises(ValueError):
        parse_psi("MemTotal: 12 kB\n")


def test_this_machine() -> None:
    reading = read_psi()
    if not Path(SYSTEM).exists():
        assert reading is None
    else:
        assert reading is not None
        assert reading.some.total >= (reading.full.total if reading.full else 0) >= 0


def test_absent(tmp_path: Path) -> None:
    assert read_psi(tmp_path / "memory.pressure") is None
