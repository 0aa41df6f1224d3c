"""The command itself: help, misuse, refusals, a reader that goes away."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from mvolatile import cli
from mvolatile.cli import doctor
from mvolatile.errors import UnsupportedError
from support.processes import run_python


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "doctor" in said
    assert "status" in said


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["doctor", "--nonsense"],
        ["doctor", "--fix", "--json"],
        ["status", "pid"],
        ["status", "1", "--shared"],
    ],
)
def test_misuse_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "usage: mvolatile" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (UnsupportedError("needs Linux 5.14"), "mvolatile: needs Linux 5.14\n", 1),
        (PermissionError(13, "not yours"), "mvolatile: not yours\n", 1),
        (PermissionError(13, "not yours", "/root/x"), "mvolatile: /root/x: not yours\n", 1),
        (KeyboardInterrupt(), "", 130),
    ],
)
def test_refusals_are_one_line(
    error: BaseException,
    said: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        def refuse(_: argparse.Namespace) -> int:
            raise error

        subparsers.add_parser("doctor").set_defaults(func=refuse)

    monkeypatch.setattr(doctor, "add_parser", add_parser)
    assert cli.main(["doctor"]) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("command", [["doctor"], ["status"], ["demo", "--json"]], ids=lambda words: words[0])
def test_an_unknown_tier_is_misuse(command: list[str]) -> None:
    program = "import sys; from mvolatile import cli; sys.exit(cli.main(sys.argv[1:]))"
    done = run_python(program, *command, env={"MVOLATILE_TIER": "foo"})
    said = "mvolatile: MVOLATILE_TIER=foo: must be userfaultfd, faultcount or unsupported\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_only_the_wanted_module_is_imported() -> None:
    def child() -> None:
        import sys

        from mvolatile.cli import main

        main(["status"])
        print("mvolatile.cli.doctor" in sys.modules)

    assert run_python(child).check().stdout.splitlines()[-1] == "False"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "mvolatile", "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(200) == 1


@pytest.mark.parametrize("buffered", [False, True])
def test_a_disk_that_is_full_is_one_line(buffered: bool) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, *([] if buffered else ["-u"]), "-m", "mvolatile", "doctor"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (1, "mvolatile: No space left on device\n")


@pytest.mark.parametrize("command", ["doctor", "status", "top --once"])
def test_nobody_listens(command: str) -> None:
    if command.startswith("top"):
        pytest.importorskip("rich")
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m mvolatile {command} >&-', sys.executable],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith("mvolatile ")
