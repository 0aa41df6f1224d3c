"""`mvolatile status`, seen from outside a process that really holds lazily freed memory."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mvolatile import cli
from mvolatile.kernel import smaps
from mvolatile.kernel.smaps import NamedUsage
from support.processes import LONGEST

HOLDER = """
import mmap
import mvolatile._core
memory = mmap.mmap(-1, 8 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
memory.write(b"x" * len(memory))
memory.madvise(mmap.MADV_FREE)
print("up", flush=True)
input()
"""


@contextlib.contextmanager
def holder(code: str = HOLDER) -> Iterator[int]:
    """A child that holds 8 MiB which the kernel may take; its pid."""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process.pid
        process.communicate("\n", LONGEST)


def test_one_process_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with holder() as pid:
        assert cli.main(["status", str(pid), "--json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    assert said["pid"] == pid
    assert sys.executable in said["command"]
    assert sum(usage["lazy_free"] for usage in said["memory"]) > 7 << 20


def test_every_process_of_this_user(capsys: pytest.CaptureFixture[str]) -> None:
    with holder() as first, holder() as second:
        assert cli.main(["status", "--json"]) == 0
        pids = {one["pid"] for one in json.loads(capsys.readouterr().out)}
        assert {first, second} <= pids
        assert os.getppid() not in pids
        assert cli.main(["status"]) == 0
        said = capsys.readouterr().out
    assert f"process {first}" in said
    assert f"process {second}" in said
    assert "MiB" in said


def test_a_process_without_volatile_memory(capsys: pytest.CaptureFixture[str]) -> None:
    with holder("print('up', flush=True); input()") as pid:
        assert cli.main(["status", str(pid)]) == 0
    assert "holds no volatile memory" in capsys.readouterr().out


def test_a_process_that_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    with holder() as pid:
        pass
    assert cli.main(["status", str(pid)]) == 1
    assert capsys.readouterr().err == f"mvolatile: no process {pid} (any more)\n"


@pytest.mark.parametrize("text", ["-1", "0", "self"])
def test_what_is_no_process_id(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["status", text])
    assert ended.value.code == 2
    assert "process id" in capsys.readouterr().err


def test_root_without_the_right(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> list[NamedUsage]:
        raise PermissionError(13, "it is shown to its own user and to root")

    monkeypatch.setattr(smaps, "usage_by_name", refuse)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert cli.main(["status", "1"]) == 1
    assert "not even by root: that takes CAP_SYS_PTRACE" in capsys.readouterr().err
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert cli.main(["status", "1"]) == 1
    assert "to its own user" in capsys.readouterr().err


def test_the_table_names_what_the_kernel_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = NamedUsage("tiles", 3, 64 << 20, 32 << 20, 16 << 20, 2 << 20, 0)
    monkeypatch.setattr(smaps, "usage_by_name", lambda pid: [usage])
    assert cli.main(["status", "1"]) == 0
    said = capsys.readouterr().out
    assert "What was lost only the process itself can tell: mvolatile.status()." in said
    assert said.split("tiles")[1].split("\n")[0].split() == [
        "3",
        "64.0",
        "MiB",
        "32.0",
        "MiB",
        "16.0",
        "MiB",
        "2.0",
        "MiB",
        "0",
        "B",
    ]
    assert "CONFIG_ANON_VMA_NAME" not in said
