"""The fuzzer's short form: the kept corpus once, and a minute of mutation. `make fuzz` runs a million operations."""

from __future__ import annotations

import os
import time

import pytest

from conformance.differences import Divergence
from conformance.memory import MemoryProgram
from fuzz.edges import counting_core
from fuzz.fuzzer import Fuzzer, Judge
from support.libc import has_swap


@pytest.fixture(autouse=True)
def _no_swap() -> None:
    if has_swap():
        pytest.skip("a swap device is on: the kernel keeps what the model does not")


def test_the_corpus_and_some_more() -> None:
    seed = int(os.environ.get("MVOLATILE_SEED", time.time_ns() % 10**6))
    with counting_core() as edges, Judge() as judge:
        fuzzer = Fuzzer(judge, edges, seed)
        fuzzer.fuzz(8000, minutes=1)
        assert not fuzzer.divergences, f"MVOLATILE_SEED={seed}: {fuzzer.divergences}"
        assert edges.total() > 1000, "few edges were counted: is the core instrumented?"


def test_a_wrong_answer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that expects another value of what was written must diverge."""
    wrong = MemoryProgram._values
    monkeypatch.setattr(
        MemoryProgram, "_values", lambda self, p, pages: tuple(0 for _ in wrong(self, p, pages))
    )
    write_and_pin = bytes([1, 3, 0, 6, 0, 0, 10, 0, 0, 0, 0])
    with Judge() as judge:
        told = judge.divergence(write_and_pin)
    assert told is not None
    assert "the model says" in told
    assert issubclass(Divergence, AssertionError)
