"""The soak itself: workers in a cgroup, killed and replaced, under a moving limit, and the audit at the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from mvolatile.kernel import files
from mvolatile.kernel.cgroup import ChildCgroup
from support.leaks import holdings

from .squeeze import SWAP_BYTES, Squeeze
from .tally import Tally

__all__ = ["Report", "soak"]

MIB = 1 << 20
LOW, HIGH = 120 * MIB, 208 * MIB
"""The limit, for each process. What a worker cannot give (its interpreter, its pins, the oracle's copies, a forked
child's pages) comes to some 60 MiB, at moments to near 90; with less the kernel would kill, and be right. On a machine
of many processors all workers have their moment at once, and a killed worker's child stays for a while beside them.
"""

STALLED = 180.0
"""Seconds without a single step: the worker hangs."""

_TESTS = Path(__file__).resolve().parents[1]


@dataclass
class Report:
    """What was done, and what went wrong; `seed` makes the same random choices again."""

    seed: int
    processes: int
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    no_swap: str | None = None
    peak: int | None = None
    failures: list[str] = field(default_factory=list)


class Worker:
    """One process, its tally and what it complained of."""

    def __init__(self, directory: Path, number: int, seed: int, cgroup: ChildCgroup) -> None:
        self.seed = seed
        self.file, self.complaints = directory / f"{number}.tally", directory / f"{number}.err"
        self.tally = Tally(self.file, create=True)
        command = cgroup.wrap([sys.executable, "-m", "soak.worker", str(seed), str(self.file)])
        path = os.pathsep.join([str(_TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        with self.complaints.open("wb") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=errors, env={**os.environ, "PYTHONPATH": path}
            )
        self.moved, self.seen = time.monotonic(), 0

    def stalled(self) -> bool:
        total = self.tally.totals().total()
        if total != self.seen:
            self.seen, self.moved = total, time.monotonic()
        return time.monotonic() - self.moved > STALLED

    def end(self, ending: str, report: Report, timeout: float = 120) -> None:
        """Kill it, or ask it to check its leaks and leave; then look at how it went."""
        expected = 0
        if ending == "kill":
            self.process.kill()
            expected = -signal.SIGKILL
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            status: int | str = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            status = self.dump()
        self.judge(status, expected, report)
        report.counts[f"workers ended: {ending}"] += 1

    def dump(self) -> str:
        """It hangs: have it print its stacks, and kill it."""
        self.process.send_signal(signal.SIGUSR1)
        time.sleep(1)
        self.process.kill()
        self.process.wait()
        return "a hang"

    def judge(self, status: int | str, expected: int, report: Report) -> None:
        report.counts.update(self.tally.totals())
        self.tally.close()
        said = self.complaints.read_text(errors="replace")
        if said or status not in (0, expected):
            report.failures.append(
                f"a worker (seed {self.seed}) ended with {status}: {said or 'without a word'}"
            )


def soak(
    seconds: float,
    processes: int,
    seed: int,
    *,
    swap: bool = True,
    progress: Callable[[float, Report], object] = lambda done, report: None,
) -> Report:
    """Run it; the first failure ends it. `progress` is called several times a second with the seconds done.

    Raises `UnsupportedError` where no memory cgroup may be made.
    """
    source = random.Random(seed)
    report = Report(seed, processes)
    before, swaps = holdings(), Path("/proc/swaps").read_text()
    start = time.monotonic()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mvolatile-soak-")))
        cgroup = stack.enter_context(ChildCgroup(HIGH * processes, SWAP_BYTES if swap else 0, name="soak"))
        squeeze = Squeeze(cgroup, LOW * processes, HIGH * processes, source.randrange(1 << 30), swap=swap)
        numbers = iter(range(1 << 30))

        def another() -> Worker:
            return Worker(directory, next(numbers), source.randrange(1 << 30), cgroup)

        workers = [another() for _ in range(processes)]
        stack.callback(_kill, workers)
        squeeze.start()
        stack.callback(squeeze.stop)
        change = time.monotonic() + source.uniform(2, 6)
        while (done := time.monotonic() - start) < seconds and not report.failures and not squeeze.error:
            time.sleep(0.2)
            progress(done, report)
            for i, worker in enumerate(workers):
                status: int | str | None = worker.process.poll()
                if status is not None or worker.stalled():
                    report.failures.append("a worker ended unasked, or hung")
                    worker.judge(worker.dump() if status is None else status, 0, report)
                    workers[i] = another()
            if time.monotonic() > change:
                i = source.randrange(processes)
                workers[i].end("kill" if source.random() < 0.7 else "asked", report)
                workers[i] = another()
                change = time.monotonic() + source.uniform(1, 6)
        squeeze.stop()
        for worker in workers:
            worker.end("asked", report)
        _audit(report, cgroup, squeeze)
    report.seconds = time.monotonic() - start
    left = holdings()
    for what, more in (
        ("descriptors", left.descriptors - before.descriptors),
        ("threads", left.threads - before.threads),
        ("cgroups", left.cgroups - before.cgroups),
    ):
        if more:
            report.failures.append(f"left behind by the soak itself: {what}: {more}")
    if cgroup.path.exists():
        report.failures.append(f"the cgroup {cgroup.path} is still there")
    if swap and (
        on := _devices(Path("/proc/swaps").read_text()) - _devices(swaps)
    ):  # else it is somebody's own
        report.failures.append(f"swap is still on: {on}")
    return report


def _kill(workers: list[Worker]) -> None:
    for worker in workers:
        worker.process.kill()
        worker.process.wait()


def _devices(swaps: str) -> set[str]:
    return {line.split()[0] for line in swaps.splitlines()[1:]}


def _anonymous(cgroup: ChildCgroup) -> int:
    return files.read_table(cgroup.path / "memory.stat").get("rss" if cgroup.version == 1 else "anon", 0)


def _audit(report: Report, cgroup: ChildCgroup, squeeze: Squeeze) -> None:
    """While the cgroup is still there: nobody was killed in it, nobody is in it, and nothing of theirs is charged."""
    report.counts.update(squeeze.counts)
    report.no_swap = squeeze.no_swap
    if squeeze.error is not None:
        report.failures.append(f"the limit or the swap could not be changed: {squeeze.error!r}")
    if killed := cgroup.oom_kills():
        report.failures.append(f"the kernel killed {killed} processes for the limit")
    deadline = time.monotonic() + 120
    while (
        pids := cgroup.pids()
    ) and time.monotonic() < deadline:  # a killed worker's children, on their way out
        time.sleep(0.1)
    if pids:
        report.failures.append(f"processes are still there: {pids}")
    report.peak = cgroup.peak()
    deadline = time.monotonic() + 10
    while (anonymous := _anonymous(cgroup)) > 4 * MIB and time.monotonic() < deadline:
        time.sleep(0.1)  # the kernel counts per CPU, in batches, and sums them up every two seconds
    report.counts["anonymous bytes still charged"] = anonymous
    if anonymous > 4 * MIB:
        report.failures.append(f"{anonymous} bytes of anonymous memory are charged to nobody")
