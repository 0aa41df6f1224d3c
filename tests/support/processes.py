"""Running a snippet of Python in a process of its own: the one way to test what kills a process."""

from __future__ import annotations

import contextlib
import inspect
import os
import pty
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["LONGEST", "Finished", "command", "run_on_terminal", "run_python"]

LONGEST = 280
"""Seconds for a child that hangs; a slow machine's children are given all the time that their test has."""

_PATH = os.pathsep.join(
    [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
)
"""Lets every child import `support` too."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a child ended: `returncode` as subprocess gives it (-7 is death by SIGBUS), and what it wrote."""

    returncode: int
    stdout: str
    stderr: str

    def check(self) -> Finished:
        """Itself, or an assertion error that shows everything the child said."""
        assert self.returncode == 0, f"{self}"
        return self

    def __str__(self) -> str:
        return f"child ended with {self.returncode}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


def command(code: str | Callable[..., object], *args: Any) -> list[str]:
    """The command line that runs `code` in a fresh interpreter.

    A string is a program (`args` come as strings in ``sys.argv[1:]``). A function is taken by its source, so
    it must import what it uses and close over nothing; `args` must be literals.
    """
    if isinstance(code, str):
        return [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    source = textwrap.dedent(inspect.getsource(code))
    call = f"{code.__name__}({', '.join(map(repr, args))})"
    return [sys.executable, "-c", f"from __future__ import annotations\n{source}\n{call}\n"]


def run_python(
    code: str | Callable[..., object],
    *args: Any,
    env: Mapping[str, str] | None = None,
    timeout: float = LONGEST,
    wrap: Callable[[Sequence[str]], list[str]] | None = None,
) -> Finished:
    """Run `code` (see `command`) to its end, within `timeout` seconds; `env` adds to the environment, `wrap` changes
    the command.
    """
    argv = command(code, *args)
    done = subprocess.run(
        wrap(argv) if wrap else argv,
        env={**os.environ, "PYTHONPATH": _PATH, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def run_on_terminal(code: str | Callable[..., object], *args: Any, columns: int = 200) -> str:
    """What a child (see `command`) writes to a terminal without colours; it must end well."""
    ours, its = pty.openpty()
    try:
        with subprocess.Popen(
            command(code, *args),
            stdin=subprocess.DEVNULL,
            stdout=its,
            stderr=its,
            env={**os.environ, "PYTHONPATH": _PATH, "TERM": "dumb", "COLUMNS": str(columns)},
        ) as process:
            os.close(its)
            written = b""
            # Linux tells the end of a terminal by EIO.
            with contextlib.suppress(OSError):
                while piece := os.read(ours, 65536):
                    written += piece
        text = written.decode().replace("\r\n", "\n")
        return Finished(process.returncode, text, "").check().stdout
    finally:
        os.close(ours)
