"""What does it cost to mark memory volatile and unmark it, when nothing was lost?

    python benchmarks/mark_unmark.py [--seconds S]

Against `memcpy` of the same bytes, the bare system calls, and the per-page compare-and-swap way (Chromium's
MadvFreeDiscardableMemory, from its description), on its own layout (base pages) and given huge pages.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from harness import MIB, Goal, compile_c, finish, need_userfaultfd, parser, take_turns

import mvolatile as mv

SIZES = {"2 MiB": 2 * MIB, "64 MiB": 64 * MIB, "1 GiB": 1024 * MIB}
BARE = 20  # rounds of the bare calls inside one call into C, so that the call into C does not count

c = compile_c("baseline.c")
c.area_open.restype = c.crf_open.restype = ctypes.c_void_p
c.area_open.argtypes = c.crf_open.argtypes = [ctypes.c_size_t, ctypes.c_int]
c.area_close.argtypes = c.bare_watch.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
c.crf_close.argtypes = c.crf_round.argtypes = [ctypes.c_void_p]
c.crf_round.restype = ctypes.c_size_t
c.bare_rounds.restype = ctypes.c_double
c.bare_rounds.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]


@contextmanager
def ours(nbytes: int, huge: bool) -> Iterator[Callable[[], None]]:
    with mv.VolatileMemory(nbytes, huge=huge) as memory:
        with memory.pin(write=True) as view:
            ctypes.memset(memory.address, 0x5A, nbytes)
            del view

        def round_() -> None:
            with memory.pin():
                pass

        yield round_
        if memory.generation:
            raise SystemExit("the kernel purged the memory meanwhile: more free memory is needed")


@contextmanager
def compare_and_swap(nbytes: int, huge: bool) -> Iterator[Callable[[], None]]:
    crf, pages, swap = c.crf_open(nbytes, huge), nbytes // 4096, c.crf_round

    def round_() -> None:
        if swap(crf) != pages:
            raise SystemExit("the kernel purged the memory meanwhile: more free memory is needed")

    try:
        yield round_
    finally:
        c.crf_close(crf)


@contextmanager
def bare(nbytes: int, huge: bool) -> Iterator[Callable[[], None]]:
    area, rounds = c.area_open(nbytes, huge), c.bare_rounds
    if c.bare_watch(area, nbytes):
        raise SystemExit("userfaultfd refuses the memory")

    def round_() -> None:
        if rounds(area, nbytes, BARE) < 0:
            raise SystemExit("the kernel purged the memory meanwhile: more free memory is needed")

    try:
        yield round_
    finally:
        c.area_close(area, nbytes)


@contextmanager
def memcpy(nbytes: int) -> Iterator[Callable[[], object]]:
    source, target, copy = c.area_open(nbytes, 1), c.area_open(nbytes, 1), ctypes.memmove
    try:
        yield lambda: copy(target, source, nbytes)
    finally:
        c.area_close(source, nbytes)
        c.area_close(target, nbytes)


def measure(size: str, seconds: float) -> dict[str, Any]:
    nbytes = SIZES[size]
    with ExitStack() as stack:
        contestants: dict[str, Callable[[], object]] = {
            "ours huge": stack.enter_context(ours(nbytes, True)),
            "ours base": stack.enter_context(ours(nbytes, False)),
            "cas base": stack.enter_context(compare_and_swap(nbytes, False)),
            "cas huge": stack.enter_context(compare_and_swap(nbytes, True)),
            "bare huge": stack.enter_context(bare(nbytes, True)),
            "bare base": stack.enter_context(bare(nbytes, False)),
            "memcpy": stack.enter_context(memcpy(nbytes)),
        }
        found = take_turns(contestants, seconds=seconds)
    for name in ("bare huge", "bare base"):
        found[name] |= {which: found[name][which] / BARE for which in ("least", "median")}
    return found


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=8.0, help="for each size")
    seconds = arguments.parse_args().seconds
    need_userfaultfd()
    rows, goals, raw, floors = [], [], {}, {}
    for size in SIZES:
        found = raw[size] = measure(size, seconds)
        least = {name: times["least"] for name, times in found.items()}
        rows.append({"size": size, **{f"{name}, us": time * 1e6 for name, time in least.items()}})
        goals += [
            Goal(
                f"{size}: default layout against CAS on base pages",
                least["cas base"] / least["ours huge"],
                50,
                True,
            ),
            Goal(f"{size}: against CAS given huge pages", least["cas huge"] / least["ours huge"], 10, True),
            Goal(
                f"{size}: both on base pages, time of ours to CAS",
                least["ours base"] / least["cas base"],
                1.1,
                False,
            ),
        ]
        floors[size] = {
            "CAS on base pages to the bare calls": least["cas base"] / least["bare huge"],
            "CAS given huge pages to the bare calls": least["cas huge"] / least["bare huge"],
        }
        print(f"{size}: {', '.join(f'{name} {ratio:.3g}' for name, ratio in floors[size].items())}")
    return finish(
        __file__,
        "What does it cost to mark and unmark, when nothing was lost?",
        rows,
        goals,
        most_that_system_calls_can_reach=floors,
        seconds=raw,
    )


if __name__ == "__main__":
    sys.exit(main())
