"""Runs one contender with its neighbour under the limit, and samples both.

Each contender gets a memory cgroup of its own and the same stream; they run one after the other, so that none
disturbs another's time. The neighbour lives in the same cgroup. What it holds is a function of the requests
served, so every contender meets it at the same place of the stream.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mvolatile.demo import neighbour
from mvolatile.demo.contenders import Contender
from mvolatile.demo.outcome import End, Outcome, Sample
from mvolatile.demo.server import Tally, Task, anonymous_bytes
from mvolatile.demo.workers import Workers, started
from mvolatile.errors import UnsupportedError
from mvolatile.kernel.cgroup import ChildCgroup

__all__ = ["Course", "run", "why_no_cgroup"]

_ARRIVES, _HOLDS, _LEAVES, _GONE = 0.40, 0.46, 0.64, 0.66


@dataclass(frozen=True, slots=True)
class Course:
    """What is the same for every contender. `directory` holds the tile store and the stream; sizes in bytes.

    `in_cgroup` False: nothing limits the processes, and the server itself sheds what is over the limit. The stream is
    shared by so many `workers`.
    """

    directory: Path
    requests: int
    limit: int
    neighbour: int
    in_cgroup: bool
    workers: int = 1

    def neighbour_at(self, requests: int) -> int:
        """What the neighbour holds when so many requests were served: it grows, stays, and goes."""
        done = requests / self.requests
        rise = (done - _ARRIVES) / (_HOLDS - _ARRIVES)
        fall = (_GONE - done) / (_GONE - _LEAVES)
        return int(self.neighbour * max(min(rise, fall, 1.0), 0.0))

    @property
    def neighbour_requests(self) -> tuple[int, int]:
        """The request numbers at which the neighbour arrives and is gone again."""
        return int(_ARRIVES * self.requests), int(_GONE * self.requests)


def why_no_cgroup(limit: int) -> str | None:
    """Why no child cgroup with this limit can be made here, or None if one can."""
    try:
        with ChildCgroup(limit):
            return None
    except UnsupportedError as error:
        return str(error)


def run(course: Course, contender: Contender, on_sample: Callable[[Sample], None]) -> Outcome:
    """Run `contender` to its end. A contender that the kernel kills is an outcome, not an error."""
    with contextlib.ExitStack() as stack:
        cgroup = stack.enter_context(ChildCgroup(course.limit)) if course.in_cgroup else None
        beside = stack.enter_context(started(_NEIGHBOUR, cgroup, stdin=subprocess.PIPE))
        task = Task(
            contender.name,
            str(course.directory),
            contender.cap_bytes(course.limit),
            limit=None if cgroup else course.limit,
            beside=[] if cgroup else [beside.pid],
            workers=course.workers,
        )
        servers = stack.enter_context(Workers(task, cgroup))
        samples: list[Sample] = []
        tally = Tally()
        for tally in servers.tallies():
            _hold(beside, course.neighbour_at(tally.requests))
            sample = _sample(tally, servers.cache_bytes(), beside.pid, cgroup)
            # A server that was killed after its report has no memory left to look at.
            if sample.cache_bytes:
                samples.append(sample)
                on_sample(sample)
        status, complaint = servers.end()
        killed = cgroup is not None and status == -signal.SIGKILL and cgroup.oom_kills() > 0
        end = _end(tally, status, killed)
        if end is End.FAILED and not complaint:
            complaint = f"the server ended with status {status} after {tally.requests} requests"
        peak = cgroup.peak() if cgroup else None
        return Outcome(
            name=contender.name,
            label=contender.label(course.limit),
            cap=contender.cap_bytes(course.limit),
            end=end,
            requests=tally.requests,
            hits=tally.hit,
            built=tally.built,
            rebuilt=tally.rebuilt,
            wrong=tally.wrong,
            seconds=tally.seconds,
            peak_bytes=peak or max((s.cache_bytes + s.neighbour_bytes for s in samples), default=0),
            samples=tuple(samples),
            said=complaint or None,
        )


# Without site and the environment: a light process whose own weight does not matter.
_NEIGHBOUR = [sys.executable, "-I", "-S", str(Path(neighbour.__file__))]


def _hold(beside: subprocess.Popen[bytes], nbytes: int) -> None:
    pipe: IO[bytes] | None = beside.stdin
    assert pipe is not None
    # The kernel may have killed the neighbour too: then it holds nothing, and the samples say so.
    with contextlib.suppress(BrokenPipeError):
        pipe.write(b"%d\n" % nbytes)
        pipe.flush()


def _sample(tally: Tally, cache_bytes: int, beside: int, cgroup: ChildCgroup | None) -> Sample:
    return Sample(
        seconds=round(tally.seconds, 4),
        requests=tally.requests,
        hits=tally.hit,
        rebuilt=tally.rebuilt,
        cache_bytes=cache_bytes,
        neighbour_bytes=anonymous_bytes(beside),
        charged_bytes=cgroup.usage() if cgroup else None,
    )


def _end(tally: Tally, status: int, killed: bool) -> End:
    if killed:
        return End.KILLED
    if status != 0:
        return End.FAILED
    return End.OVER if tally.over else End.SERVED
