"""What does a pin of 4 KiB cost beyond its system calls?

    python benchmarks/pin_overhead.py [--seconds S]

The bare calls run in C, in the same process and in turns with the pins: the userfaultfd handshake that shows the
descriptor is still ours, MADV_POPULATE_WRITE, MADV_FREE. The SIGBUS disposition is asked for once a tick of the
coarse clock and not counted.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

from harness import Goal, compile_c, finish, need_userfaultfd, parser, take_turns

import mvolatile as mv

PAGE = 4096
ROUNDS = 100  # inside one call into C

c = compile_c("baseline.c")
c.area_open.restype = ctypes.c_void_p
c.area_open.argtypes = [ctypes.c_size_t, ctypes.c_int]
c.bare_watch.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
c.bare_rounds.argtypes = c.bare_frees.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
c.bare_checks.argtypes = c.bare_sigactions.argtypes = [ctypes.c_long]
c.bare_rounds.restype = c.bare_frees.restype = c.bare_checks.restype = c.bare_sigactions.restype = (
    ctypes.c_double
)


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=10.0)
    seconds = arguments.parse_args().seconds
    need_userfaultfd()
    area = c.area_open(512 * PAGE, 0)
    if c.bare_watch(area, 512 * PAGE):
        raise SystemExit("userfaultfd refuses the memory")
    memory = mv.VolatileMemory(PAGE)
    memory.write(b"\x5a" * PAGE)

    def pin() -> None:
        for _ in range(ROUNDS):
            with memory.pin():
                pass

    def pin_to_write() -> None:
        for _ in range(ROUNDS):
            with memory.pin(write=True):
                pass

    def nested() -> None:
        with memory.pin():
            for _ in range(ROUNDS):
                with memory.pin():
                    pass

    def write() -> None:
        for _ in range(ROUNDS):
            memory.write(b"x")

    contestants: dict[str, Callable[[], object]] = {
        "its system calls": lambda: c.bare_rounds(area, PAGE, ROUNDS),
        "pin()": pin,
        "pin(write=True)": pin_to_write,
        "pin() inside a pin": nested,
        "write(b'x')": write,
        "MADV_FREE alone": lambda: c.bare_frees(area, PAGE, ROUNDS),
        "handshake alone": lambda: c.bare_checks(ROUNDS),
        "sigaction alone": lambda: c.bare_sigactions(ROUNDS),
    }
    found = take_turns(contestants, seconds=seconds)
    rows = [
        {"what": name, **{f"{which}, ns": times[which] / ROUNDS * 1e9 for which in ("least", "median")}}
        for name, times in found.items()
    ]
    beyond = (found["pin()"]["least"] - found["its system calls"]["least"]) / ROUNDS * 1e6
    goals = [Goal("a pin of 4 KiB beyond its system calls", beyond, 2, False, "us")]
    return finish(__file__, "What does a pin of 4 KiB cost beyond its system calls?", rows, goals)


if __name__ == "__main__":
    sys.exit(main())
