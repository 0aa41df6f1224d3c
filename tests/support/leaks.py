"""Checks that a piece of code leaves no descriptor, thread, mapping or cgroup behind."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mvolatile.kernel.cgroup import memory_cgroup

__all__ = ["Holdings", "assert_no_growth", "holdings", "join_threads", "leaves_nothing", "stop_listening"]

_ONCE_PER_PROCESS = re.compile(r"anon_inode:\[userfaultfd\]|/proc/\d+/(pagemap|maps)")
"""What the core opens at first use and keeps for the life of the process."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What this process holds now. Counting mappings takes longest; there are none where they are not asked for."""

    descriptors: Counter[str]
    threads: frozenset[str]
    mappings: int
    cgroups: frozenset[Path]


def _descriptors() -> Counter[str]:
    targets: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd"):
        # The listing's own descriptor is closed by now.
        with contextlib.suppress(FileNotFoundError):
            targets[os.readlink(f"/proc/self/fd/{fd}")] += 1
    return targets


def _child_cgroups() -> frozenset[Path]:
    own = memory_cgroup()
    if own is None:
        return frozenset()
    pattern = f"*-{os.getpid()}-*"
    return frozenset(found for directory in own.lineage()[:2] for found in directory.glob(pattern))


def _mappings() -> int:
    """But for the stacks of threads, and the arenas that malloc makes for threads and keeps: each is a mapping that
    nobody may touch, and one beside it.
    """
    modes = [line.split()[1] for line in Path("/proc/self/maps").read_text().splitlines()]
    return len(modes) - 2 * modes.count("---p")


def _tasks() -> int:
    """Threads as the kernel counts them, those of the core too."""
    return len(os.listdir("/proc/self/task"))


def holdings(*, mappings: bool = True) -> Holdings:
    """Count. What only the garbage collector would give back counts as held: run it first if that is no leak."""
    return Holdings(
        descriptors=_descriptors(),
        threads=frozenset(
            f"{thread.name} ({thread.native_id})"
            for thread in threading.enumerate()
            if not thread.name.startswith("Trio thread")  # it keeps those that are done for 10 seconds
        ),
        mappings=_mappings() if mappings else 0,
        cgroups=_child_cgroups(),
    )


def _left(before: Holdings) -> list[str]:
    after = holdings(mappings=False)
    opened = after.descriptors - before.descriptors
    for target, count in list(opened.items()):
        if _ONCE_PER_PROCESS.fullmatch(target) and count == 1 and target not in before.descriptors:
            del opened[target]
    return [
        *(f"{count} descriptors of {target}" for target, count in opened.items()),
        *(f"thread {name}" for name in after.threads - before.threads),
        *(f"cgroup {path}" for path in after.cgroups - before.cgroups),
    ]


def stop_listening() -> None:
    """Of caches that a module keeps: they listen again when they store."""
    from mvolatile.cache import pressure

    for engine in list(pressure.listeners.values()):
        engine.listening = False  # type: ignore[attr-defined]
        pressure.ignore(engine)


def join_threads() -> None:
    """Those of the library that were told to end have ended."""
    for thread in threading.enumerate():
        if thread.name.startswith("mvolatile-"):
            thread.join(60)


@contextlib.contextmanager
def leaves_nothing(patience: float = 60) -> Iterator[None]:
    """Fails if the block leaves descriptors, threads or child cgroups behind, after `patience` seconds still; mappings
    need `assert_no_growth`.
    """
    before = holdings(mappings=False)
    yield
    if _left(before):
        # A collection at every test would cost more than the tests: only what it cannot free is a leak.
        gc.collect()
        # A finalizer tells its thread to end and does not wait for it.
        deadline = time.monotonic() + patience
        while (left := _left(before)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not left, f"left behind: {left}"


def assert_no_growth(action: Callable[[], object], rounds: int = 50, warmup: int = 10) -> None:
    """Repeat `action` and fail if descriptors, threads or mappings grow with the number of rounds.

    One call proves nothing about mappings: the allocator makes and merges its own. A leak grows with every
    round; up to a fifth of the rounds is taken for the allocator's doing.
    """
    for _ in range(warmup):
        action()
    gc.collect()
    before, tasks = holdings(), _tasks()
    for _ in range(rounds):
        action()
    gc.collect()
    end = time.monotonic() + 60
    # A thread of the core is told to end, and not waited for.
    while _tasks() > tasks and time.monotonic() < end:
        time.sleep(0.01)
    after = holdings()
    opened = after.descriptors - before.descriptors
    assert not opened, f"descriptors grew in {rounds} rounds: {dict(opened)}"
    assert len(after.threads) <= len(before.threads), (
        f"threads grew: {sorted(after.threads - before.threads)}"
    )
    grown = after.mappings - before.mappings
    assert grown <= rounds // 5, f"mappings grew by {grown} in {rounds} rounds"
