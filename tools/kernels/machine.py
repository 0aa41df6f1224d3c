"""Running one cell: a virtual machine under QEMU for a foreign kernel, a process for the running one."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import json
import os
import platform
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from mvolatile import features

from .code import today
from .debian import Kernel, UnavailableError
from .matrix import Cell
from .results import RUNNING, Result

__all__ = ["MEGABYTES", "ROOT", "boot", "check_room", "end_all", "run_here"]

ROOT = Path(__file__).resolve().parents[2]
MEGABYTES = 1024
"""The memory of a virtual machine, of which the initramfs takes its part."""
BOOTS = 3
"""How often a machine is started whose kernel panics before any test: under emulation by several threads, a processor
may run into code that another is patching (`int3` in a jump label; seen with 7.3 under QEMU 7.2 on a busy machine).
"""
_PR_SET_PDEATHSIG = 1
_alive: set[subprocess.Popen[bytes]] = set()

Progress = Callable[[Result], object]


def check_room(machines: int) -> None:
    """Raises UnavailableError where so many virtual machines would not fit, or would starve what else runs."""
    found = features()
    available = found.ram_available or 0
    free = min(available, found.cgroup_limit or available) >> 20
    processors = len(os.sched_getaffinity(0))
    if processors < 2 or free < 2 * machines * MEGABYTES:
        raise UnavailableError(
            f"a virtual machine wants 2 processors and {2 * MEGABYTES} MiB of free memory; here are {processors} "
            f"and {free} MiB"
        )


def boot(
    series: str, kernel: Kernel, image: Path, cell: Cell, log: Path, timeout: float, progress: Progress
) -> Result:
    """Boot `kernel` with the conditions of `cell`, and take the results from its second serial port.

    The console goes to `log`. After `timeout` seconds the machine is ended, whatever it does.
    """
    hierarchy = "cgroup_no_v1=all" if cell.cgroup == "v2" else "swapaccount=1"
    # What mitigations guard against is not there under emulation, and walking five levels of page tables takes time.
    words = ["console=ttyS0", "panic=-1", "quiet", "mitigations=off", hierarchy]
    words += [f"CELL_{name.upper()}={value}" for name, value in cell.as_dict().items()]
    if "CELL_TESTS" in os.environ:
        words.append(f"CELL_TESTS={os.environ['CELL_TESTS']}")
    command = [
        "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2",
        "-m", str(MEGABYTES), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-serial", f"file:{log}", "-serial", "file:/dev/fd/{results}", "-kernel", str(kernel.image),
        "-initrd", str(image), "-append", " ".join(words),
    ]  # fmt: skip
    for _ in range(BOOTS):
        result = _begun(series, cell.as_dict(), kernel.release)
        _run(command, {}, log.with_suffix(".qemu"), timeout, result, progress)
        if result.collected or not log.exists() or b"Kernel panic" not in log.read_bytes():
            break
    return result


def run_here(root: Path, user: str, tier: str, log: Path, timeout: float, progress: Progress) -> Result:
    """The same tests on the running kernel, in the conditions that it happens to be in; `root` is an unpacked image."""
    result = _begun(RUNNING, {"tier": tier, "user": user}, platform.release())
    command = [str(root / "py/bin/python3"), str(root / "project/run.py")]
    environment = {
        "PYTHONHOME": str(root / "py"),
        "LD_LIBRARY_PATH": str(root / "py/lib"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(root / user),
        "TMPDIR": str(root / user),
        "CELL_USER": user,
        "CELL_TIER": tier,
        "CELL_RESULTS": "/dev/fd/{results}",
        "MVOLATILE_TIER": tier,
    }
    _run(command, environment, log, timeout, result, progress)
    return result


def end_all() -> None:
    """End what runs, in whatever thread."""
    for process in list(_alive):
        _kill(process)


def _run(
    command: list[str],
    environment: Mapping[str, str],
    log: Path,
    timeout: float,
    result: Result,
    progress: Progress,
) -> None:
    """Run `command` to its end, or to `timeout`, and take its lines; ``{results}`` becomes their descriptor."""
    reading, writing = os.pipe()
    words = [word.replace("{results}", str(writing)) for word in command]
    added = {name: value.replace("{results}", str(writing)) for name, value in environment.items()}
    with (
        log.open("wb") as output,
        log.with_suffix(".jsonl").open("w", buffering=1) as kept,
        open(reading) as lines,
    ):
        try:
            process = subprocess.Popen(
                words, cwd=ROOT, env={**os.environ, **added}, pass_fds=[writing], start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent,
            )  # fmt: skip
        finally:
            os.close(writing)
        _alive.add(process)
        timer = threading.Timer(timeout, lambda: _kill(process))
        timer.start()
        try:
            for line in lines:
                kept.write(line)
                with contextlib.suppress(json.JSONDecodeError):  # cut off at the end of the machine
                    result.take(json.loads(line))
                progress(result)
            process.wait()
        finally:
            if not timer.is_alive():
                result.error = f"not done within {timeout:.0f} s"
            timer.cancel()
            _kill(process)
            process.wait()
            _alive.discard(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The process and what it started: it leads a process group of its own."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _begun(series: str, cell: dict[str, str], kernel: str) -> Result:
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Result(series, cell, date, kernel, today().release, today().commit)
