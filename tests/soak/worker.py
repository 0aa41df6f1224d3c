"""One worker: threads that use the library and verify it, and forks, until its standard input ends.

Then it must leave nothing behind.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import random
import signal
import sys
import threading
import traceback
from pathlib import Path

import mvolatile as mv
from mvolatile.kernel.smaps import rollup
from support.leaks import Holdings, holdings

from .misuse import misuse
from .tally import WRONG, Row, Tally, Wrong
from .works import ArrayWork, CacheWork, RawWork, Work

THREADS = 4
MEMORY_SLACK = 32 << 20
"""What the allocator may keep of what is long freed."""


def say_wrong(seed: int) -> None:
    """The evidence, and the end: another thread must not go on and cover it."""
    sys.stderr.write(f"--- worker {os.getpid()}, seed {seed}\n{traceback.format_exc()}")
    sys.stderr.flush()
    os._exit(WRONG)


def works() -> list[Work]:
    """What this worker's threads share."""
    # No larger ones: each thread holds one, a copy and what it should be, all of which the kernel cannot take.
    arrays = ArrayWork((64 << 10, 512 << 10, *([2 << 20] * 32)))
    return [CacheWork(THREADS, None), CacheWork(THREADS, 8 << 20), arrays, RawWork(THREADS)]


def live(
    shared: list[Work], tally: Tally, seed: int, over: threading.Event, steps: int | None = None
) -> None:
    """Threads at work until `over`, or for so many `steps` each."""

    def work(number: int) -> None:
        source, row, done = random.Random(seed * 100 + number), tally.row(number), 0
        try:
            while not over.is_set() and (steps is None or done < steps):
                source.choice(shared).step(source, number, row)
                done += 1
                if number == 0 and source.random() < 0.02:
                    fork(shared, source, row, seed)
                if number == 0 and source.random() < 0.002:
                    misuse(source, row)
        except BaseException:  # whatever it is, it must be seen
            say_wrong(seed)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def fork(shared: list[Work], source: random.Random, row: Row, seed: int) -> None:
    """A child that checks everything once; one in four is killed on the way."""
    row.count("forks")
    kill, child_seed = source.random() < 0.25, source.randrange(1 << 30)
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(120)
            own = random.Random(child_seed)
            for work in shared:
                work.check_in_child(own)
            os._exit(0)
        except BaseException:  # as above
            say_wrong(seed)
    if kill:
        threading.Event().wait(source.random() * 0.05)
        os.kill(child, signal.SIGKILL)
        row.count("children killed")
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code and not (kill and code == -signal.SIGKILL):
        raise Wrong(f"a forked child ended with {code}")


def settle() -> tuple[Holdings, int]:
    """What the process holds once the garbage is collected, and its anonymous memory in bytes."""
    gc.collect()
    usage = rollup()
    return holdings(), usage.anonymous + usage.swap


def check_leaks(before: tuple[Holdings, int], after: tuple[Holdings, int]) -> None:
    """Raises `Wrong` with what grew over the worker's life."""
    (old, old_memory), (new, new_memory) = before, after
    status = mv.status()
    left = [
        *(
            f"{count} descriptors of {target}"
            for target, count in (new.descriptors - old.descriptors).items()
        ),
        *(f"thread {name}" for name in sorted(new.threads - old.threads)),
        *([f"{new.mappings - old.mappings} mappings"] if new.mappings > old.mappings + 40 else []),
        *([f"{new_memory - old_memory} bytes of memory"] if new_memory > old_memory + MEMORY_SLACK else []),
        *([f"{status}"] if status.nbytes or status.raw else []),
    ]
    if left:
        raise Wrong(f"left behind at the end: {left}")


def _until_the_end(over: threading.Event) -> None:
    sys.stdin.buffer.read()
    over.set()


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(prog="python -m soak.worker", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("tally", type=Path)
    options = parser.parse_args()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    tally = Tally(options.tally)
    over = threading.Event()
    try:
        first = works()
        live(first, tally, options.seed, threading.Event(), steps=60)  # once-only things are opened now
        for work in first:
            work.close()
        del first
        before = settle()
        end = threading.Thread(target=_until_the_end, args=(over,), daemon=True)
        end.start()
        shared = works()
        live(shared, tally, options.seed + 1, over)
        end.join()
        for work in shared:
            work.close()
        del shared
        check_leaks(before, settle())
    except BaseException:  # as above
        say_wrong(options.seed)


if __name__ == "__main__":
    main()
