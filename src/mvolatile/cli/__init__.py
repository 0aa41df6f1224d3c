"""The command line: one module per subcommand.

Each has ``add_parser(subparsers)``, which sets ``func`` (parsed arguments -> exit code) as a default of its
parser.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Sequence

from .. import _core
from ..errors import MvolatileError

__all__ = ["COMMANDS", "main"]

COMMANDS = ("doctor", "status", "top", "trim", "keep", "demo", "model")
"""The modules of this package that are subcommands, in the order of the help."""


def make_parser(wanted: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mvolatile", description="Memory that the kernel may take back, and tells exactly what was lost."
    )
    version = importlib.metadata.version("mvolatile")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in wanted:
        module = f"mvolatile.cli.{name}"
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module).add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code: 0, 1 for a refusal that is told on stderr, 2 for misuse.

    Only the module of the subcommand in question is imported, all of them for the help alone.
    """
    if sys.stdout is None:  # closed by who started us
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as we run
    arguments = list(sys.argv[1:] if argv is None else argv)
    wanted = arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS
    parsed = make_parser(wanted).parse_args(arguments)
    if complaint := _wrong_environment():
        print(f"mvolatile: {complaint}", file=sys.stderr)
        return 2
    try:
        code = int(parsed.func(parsed))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output (head, a pager) has seen enough
        _give_up_output()
        return 1
    except (MvolatileError, OSError) as error:
        try:
            sys.stdout.flush()
        except OSError:
            _give_up_output()
        print(f"mvolatile: {_said(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _give_up_output() -> None:
    """The flush at exit would complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _wrong_environment() -> str | None:
    """What is wrong with ``MVOLATILE_TIER`` or ``MVOLATILE_RESIDENT_LIMIT``; a tier that is only not to be had here is
    left to the command.
    """
    try:
        if os.environ.get("MVOLATILE_RESIDENT_LIMIT"):
            from ..residence import told_limit

            told_limit()
        if os.environ.get("MVOLATILE_TIER"):
            _core.tier()
    except ValueError as error:
        return str(error)
    except MvolatileError:
        pass
    return None


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
