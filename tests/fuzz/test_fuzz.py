"""The fuzzer's short form: the kept corpus once, and a minute of mutation. `make fuzz` runs a million operations."""

from __future__ import annotations

import os

import pytest

from conformance.differences import Divergence
from conformance.memory import MemoryProgram
from fuzz import fuzzer as fuzzing
from fuzz.edges import counting_core
from fuzz.fuzzer import Fuzzer, Judge, SwapError
from support.libc import has_swap


@pytest.fixture(autouse=True)
def _no_swap() -> None:
    if has_swap():
        pytest.skip("a swap device is on (/proc/swaps): the kernel keeps what the model does not")


@pytest.mark.slow
def test_the_corpus_and_some_more() -> None:
    seed = int(os.environ.get("MVOLATILE_SEED", 1))  # `make fuzz` draws anew
    with counting_core() as edges, Judge() as judge:
        fuzzer = Fuzzer(judge, edges, seed)
        try:
            fuzzer.fuzz(8000, minutes=1)
        except SwapError as error:
            pytest.skip(str(error))
        print(f"{judge.outgrown} of {fuzzer.programs} programs outgrew the model's machine")
        assert not fuzzer.divergences, f"MVOLATILE_SEED={seed}: {fuzzer.divergences}"
        assert edges.total() > 1000, "few edges were counted: is the core instrumented?"


@pytest.mark.parametrize(
    ("said", "outgrown"), [("it needs more: raise Config.vmas", 1), ("blocked for ever", 0)]
)
def test_only_what_is_too_large_is_let_go(monkeypatch: pytest.MonkeyPatch, said: str, outgrown: int) -> None:
    def fail(*unused: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(fuzzing, "run", fail)
    with Judge() as judge:
        told = judge.divergence(b"\0")
        assert (told is None) == bool(outgrown)
        assert judge.outgrown == outgrown


def test_swap_that_stays_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "has_swap", lambda: True)
    monkeypatch.setattr(fuzzing, "SWAP_SECONDS", 0)
    with counting_core() as edges, Judge() as judge:
        with pytest.raises(SwapError, match="turn it off"):
            Fuzzer(judge, edges, 1).one(b"\0")


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
