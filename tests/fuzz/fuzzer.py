"""Mutates programs, keeps those that reach something new, and has every one judged by the model."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from conformance.differences import Divergence, Tally
from conformance.processes import Nursery
from support.libc import has_swap

from .edges import Edges
from .encoding import COMMANDS, TARGETS, run, target_of

__all__ = ["CORPUS", "Fuzzer", "Judge", "SwapError", "load", "save"]

CORPUS = Path(__file__).with_name("corpus.txt")
LONGEST = 200
SWAP_SECONDS = 60
"""A test that turns one on for a moment may run beside."""


class SwapError(Exception):
    """A swap device is on: the kernel keeps what the model does not, and nothing can be judged."""


def _wait_for_no_swap() -> None:
    end = time.monotonic() + SWAP_SECONDS
    while has_swap():
        if time.monotonic() > end:
            raise SwapError(
                f"a swap device has been on for {SWAP_SECONDS} s (see /proc/swaps): turn it off, and again"
            )
        time.sleep(0.2)


def load(path: Path = CORPUS) -> list[bytes]:
    """The kept programs, one a line."""
    return [bytes.fromhex(line) for line in path.read_text().split()] if path.exists() else []


def save(programs: Iterable[bytes], path: Path = CORPUS) -> None:
    path.write_text("".join(f"{program.hex()}\n" for program in sorted(programs, key=lambda p: (len(p), p))))


class Judge:
    """Runs programs on both sides; a context manager. What a failure leaves of the real side is thrown away."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.outgrown = 0
        """Programs that the model's machine is too small for: half run, and judged up to there."""
        self._stack = ExitStack()
        self._nurseries: dict[str, Nursery] = {}

    def divergence(self, data: bytes) -> str | None:
        """What the two sides differ in, with the program as a test would write it; None if they agree.

        While a swap device is on the kernel keeps what the model does not; such a run says nothing.
        """
        try:
            run(data, self._nursery(data), self.tally)
        except (Divergence, TimeoutError, OSError, KeyError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "raise Config." in str(error):
                self.outgrown += 1
                return None
            self.close()
            return None if has_swap() else f"{error!r}" if not isinstance(error, Divergence) else str(error)
        return None

    def _nursery(self, data: bytes) -> Nursery:
        kind, _ = target_of(data)
        if kind not in self._nurseries:
            self._nurseries[kind] = self._stack.enter_context(Nursery(COMMANDS[kind]))
        return self._nurseries[kind]

    def close(self) -> None:
        self._stack.close()
        self._nurseries.clear()

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


@dataclass
class Fuzzer:
    """`divergences` holds what could be repeated, reduced to a short program; `unrepeated` what could not."""

    judge: Judge
    edges: Edges
    seed: int
    corpus: dict[bytes, frozenset[int]] = field(default_factory=dict)
    programs: int = 0
    divergences: list[str] = field(default_factory=list)
    unrepeated: list[str] = field(default_factory=list)

    @property
    def operations(self) -> int:
        """How many have been run and judged."""
        return self.judge.tally.operations.total()

    def fuzz(
        self,
        operations: int,
        minutes: float = float("inf"),
        progress: Callable[[Fuzzer], object] = lambda fuzzer: None,
    ) -> None:
        """The corpus, then mutations until so many operations are done, minutes gone, or a divergence is found."""
        source = random.Random(self.seed)
        for data in [*load(), *(bytes([target]) + bytes(range(0, 40, 3)) for target in range(len(TARGETS)))]:
            self.one(data, keep=True)
        end = time.monotonic() + minutes * 60
        while self.operations < operations and not self.divergences and time.monotonic() < end:
            self.one(self._mutated(source))
            progress(self)

    def one(self, data: bytes, *, keep: bool = False) -> None:
        """Run it, and keep it if it is news. Waits while a swap device is on, and raises SwapError when that stays."""
        _wait_for_no_swap()
        self.edges.clear()
        self.programs += 1
        told = self.judge.divergence(data)
        if told is not None:
            self._diverged(data, told)
        elif self.edges.news() or keep:
            self.corpus[data] = self.edges.taken()

    def minimised(self) -> list[bytes]:
        """A few programs, short ones first, that reach every edge the corpus reaches."""
        left = {key // 9 for taken in self.corpus.values() for key in taken}
        kept = []
        while left:
            gains = {data: len(left & {key // 9 for key in taken}) for data, taken in self.corpus.items()}
            best = max(gains, key=lambda data: (gains[data], -len(data), data))
            kept.append(best)
            left -= {key // 9 for key in self.corpus[best]}
        return kept

    def _mutated(self, source: random.Random) -> bytes:
        data = bytearray(source.choice(list(self.corpus)))
        for _ in range(1 << source.randrange(5)):
            at = source.randrange(len(data) + 1)
            match source.randrange(6):
                case 0 if at < len(data):
                    data[at] = source.randrange(256)
                case 1 if at < len(data):
                    data[at] ^= 1 << source.randrange(8)
                case 2:
                    data[at:at] = source.randbytes(source.randint(1, 8))
                case 3:
                    del data[at : at + source.randint(1, 8)]
                case 4:
                    data[at:at] = data[at : at + source.randint(1, 16)]
                case 5:
                    other = source.choice(list(self.corpus))
                    data[at:] = other[source.randrange(len(other)) :]
        return bytes(data[:LONGEST]) or b"\0"

    def _diverged(self, data: bytes, told: str) -> None:
        again = next((found for _ in range(5) if (found := self.judge.divergence(data))), None)
        if again is None:
            self.unrepeated.append(f"{data.hex()}: {told}")
            return
        for size in (32, 8, 4, 2, 1):
            at = 1
            while at < len(data):
                shorter = data[:at] + data[at + size :]
                found = self.judge.divergence(shorter)
                if found is None:
                    at += size
                else:
                    data, again = shorter, found
        self.divergences.append(f"{data.hex()}: {again}")
