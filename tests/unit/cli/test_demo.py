"""`mvolatile demo` on a small form; what it shows under a real limit is in `tests/pressure/test_demo.py`."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mvolatile import cli
from mvolatile.cli.demo import _writable
from mvolatile.demo import race
from mvolatile.demo.imagery import TILE_BYTES
from mvolatile.kernel.cgroup import ChildCgroup
from support import fonts
from support.processes import run_on_terminal


@pytest.fixture(scope="module", autouse=True)
def _fonts_are_open() -> None:
    fonts.open_all()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--limit", "12X"], "not a size"),
        (["--limit", "32M"], "at least 64M"),
        (["--requests", "10"], "at least 1000"),
        (["--requests", "many"], "not a number of requests: many"),
        (["--limit", "infG"], "not a size such as 192M or 1G: infG"),
        (["--limit", "nan"], "not a size"),
        (["--workers", "0"], "not a number of workers, 1 to 64: 0"),
        (["--workers", "-1"], "not a number of workers"),
        (["--out", "/proc/x"], "no picture can be written into /proc/x: No such file or directory"),
        (["--out", "/proc"], "no picture can be written into /proc: "),
        (["--json", "--out", __file__], f"no picture can be written into {__file__}: File exists"),
    ],
)
def test_misuse_is_told(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["demo", *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith("mvolatile demo: error: argument --")
    assert complaint in said.err
    assert said.out == "", "nothing was begun"


def test_a_directory_of_ones_own_stays(tmp_path: Path) -> None:
    """What the demo made and left empty goes, and nothing else."""
    kept = tmp_path / "kept"
    kept.mkdir()
    for directory in (kept, tmp_path / "new" / "deep", kept / "new"):
        with pytest.raises(KeyError), _writable(directory, pytest.fail):
            assert directory.is_dir()
            raise KeyError
        assert list(tmp_path.rglob("*")) == [kept]
    with _writable(tmp_path / "new" / "deep", pytest.fail):
        (tmp_path / "new" / "deep" / "demo.png").touch()
    assert (tmp_path / "new" / "deep" / "demo.png").exists()


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "PIL" else find(name))
    assert cli.main(["demo"]) == 1
    said = capsys.readouterr().err
    assert "PIL" in said
    assert "pip install 'mvolatile[demo]'" in said


@pytest.mark.slow
def test_where_no_cgroup_may_be_made_it_says_so_and_purges_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(race, "why_no_cgroup", lambda limit: "cgroupfs is mounted read-only")
    arguments = ["--quick", "--requests", "1500", "--limit", "64M", "--out", str(tmp_path)]
    assert cli.main(["demo", *arguments]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "(cgroupfs is mounted read-only): tiles are purged through MADV_PAGEOUT instead" in said
    assert "over limit" in said
    assert "killed" not in said

    assert cli.main(["demo", *arguments[:-2], "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["enforced_by"] == "MADV_PAGEOUT"
    volatile = report["outcomes"][-1]
    assert volatile["rebuilt"] > 0
    assert volatile["wrong"] == 0
    # Between two checks, 64 requests apart, the server may decode 64 tiles more.
    slack = 64 * TILE_BYTES
    arrives, gone = report["neighbour_requests"]
    steady = [s for s in volatile["samples"] if not arrives < s["requests"] < gone]
    assert max(s["cache_bytes"] + s["neighbour_bytes"] for s in steady) <= report["limit"] + slack


@pytest.mark.usefixtures("needs_cgroup")
@pytest.mark.slow
def test_a_terminal_sees_it_live(tmp_path: Path) -> None:
    code = """
        import os, sys
        os.environ["TERM"] = "xterm"
        from mvolatile import cli
        sys.exit(cli.main(["demo", "--quick", "--requests", "1500", "--out", sys.argv[1]]))
    """
    shown = run_on_terminal(code, tmp_path)
    for word in ("cutting the maps into tiles", "waits", "runs", "▒", "peak", "picture:"):
        assert word in shown


@pytest.mark.usefixtures("needs_cgroup")
def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    """The children are in sessions of their own, so Ctrl-C does not reach them: ending them is ours to do."""
    command = [sys.executable, "-m", "mvolatile", "demo", "--quick", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "every contender runs" in line:
                break
        demo.send_signal(signal.SIGINT)
        assert demo.wait(200) == 130
    assert list(tmp_path.iterdir()) == []
    own = ChildCgroup(64 << 20)
    with own:
        siblings = [path.name for path in own.path.parent.glob(f"*-{demo.pid}-*")]
    assert siblings == []
