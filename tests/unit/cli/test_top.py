"""`mvolatile top`, over a program that really loses values; and as a person sees it, in a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvolatile import cli
from mvolatile.cli.scene import History, key_of
from mvolatile.cli.top import picture, sparkline
from support.keepers import end_keepers

PROGRAM = """
import mvolatile as mv
from mvolatile.cache.engine import engine_of
kept = mv.VolatileMemory(4096)  # a cache that has lost all may give its memory back
tiles, pages = mv.VolatileCache(name="tiles"), mv.SharedCache("pages")
for key in range(40):
    tiles.get_or_set(key, lambda: b"x" * 10_000)
    pages.get_or_set(key, lambda: b"y" * 10_000)
engine_of(tiles).change(engine_of(tiles).store.seal_all)
tiles.purge()
assert tiles.cache_info().purged == 40
from mvolatile.metrics import publish
publish()
print("up", flush=True)
input()
"""
RECORDING = Path(__file__).parents[3] / "docs" / "howto" / "watching.md"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    runtime = tmp_path / "r"
    runtime.mkdir(0o700)
    monkeypatch.setenv("MVOLATILE_RUNTIME_DIR", str(runtime))
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "up\n"
            yield process.pid
        finally:
            process.communicate("\n")
            end_keepers(runtime)


def test_one_look_as_json(program: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["top", "--once", "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    caches = {(one["name"], one["kind"]): one for one in seen["caches"]}
    tiles, pages = caches["tiles", "volatile"], caches["pages", "shared"]
    assert (tiles["pid"], tiles["stores"], tiles["lost"], tiles["entries"]) == (program, 40, 40, 0)
    assert (pages["pid"], pages["misses"], pages["entries"]) == (program, 40, 40)
    assert [keeper["name"] for keeper in seen["keepers"]] == ["pages"]
    assert program in {one["pid"] for one in seen["processes"]}
    assert seen["container"]["usage"] is None or seen["container"]["usage"] > 0


def test_it_is_seen_in_a_terminal(program: int) -> None:
    """Until Ctrl-C; and the columns are those that the docs show."""
    pytest.importorskip("rich")
    ours, its = pty.openpty()
    command = "import sys; from mvolatile.cli import main; sys.exit(main(['top', '--interval', '0.1']))"
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150", "LINES": "50", "NO_COLOR": "1"}
    try:
        with subprocess.Popen(
            [sys.executable, "-c", command],
            stdin=its,
            stdout=its,
            stderr=its,
            env=environment,
            start_new_session=True,
        ) as process:
            os.close(its)
            written = b""
            while written.count(b"rebuild pressure") < 3:  # it looked again
                written += os.read(ours, 65536)
            process.send_signal(signal.SIGINT)
            try:
                while os.read(ours, 65536):
                    pass
            except OSError:  # Linux tells the end of a terminal by EIO
                pass
            assert process.wait() == 130
    finally:
        os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode(errors="replace"))
    for what in ("tiles", "pages", str(program), "lost/s", "clients", "lazily freed"):
        assert what in text
    recorded = RECORDING.read_text()
    for columns in re.findall(
        r"^ *((?:cache|name|command)  +\w.*?)\s*$", text.replace("\r", ""), re.MULTILINE
    )[:3]:
        assert re.sub(r" +", " ", columns) in re.sub(r" +", " ", recorded)


def test_a_pipe_gets_one_look_below_the_other(program: int) -> None:
    pytest.importorskip("rich")
    command = "import sys; from mvolatile.cli import main; sys.exit(main(['top', '--interval', '0.1']))"
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with subprocess.Popen(
        [sys.executable, "-c", command], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        looks = 0
        while looks < 3:
            line = process.stdout.readline()
            assert line
            looks += "rebuild pressure" in line
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait() == 130


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_no_number_is_cut_where_the_terminal_is_narrow(width: int) -> None:
    console = pytest.importorskip("rich.console").Console(width=width, record=True, file=io.StringIO())
    numbers = {
        "entries": 123456,
        "bytes": 5 << 30,
        "resident_bytes": 5 << 30,
        "hits": 9,
        "misses": 1,
        "lost": 0,
    }
    cache = {"pid": 4194304, "name": "n" * 40, "kind": "volatile", **numbers, "rebuild": {"avg10": 1.0}}
    seen = {
        "time": 0.0,
        "container": {
            "limit": None,
            "usage": None,
            "oom_kills": 2,
            "psi_some_avg10": None,
            "psi_full_avg10": None,
        },
        "caches": [cache],
        "keepers": [],
        "processes": [
            {"pid": 4194304, "command": "c" * 80, "size": 1, "resident": 2 << 30, "lazy_free": 3 << 30}
        ],
    }
    history = History()
    for _ in range(40):
        history.add(seen)
    console.print(picture(seen, history, width))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for whole in ("4194304", "5.0 GiB", " 90%", "100%", "2.0 GiB", "3.0 GiB"):
        assert whole in text, text


def test_sparkline() -> None:
    assert (
        sparkline([0, 0.01, 0.5, 1])
        == " \N{LOWER ONE EIGHTH BLOCK}\N{LOWER FIVE EIGHTHS BLOCK}\N{FULL BLOCK}"
    )


def test_history_forgets_and_counts_between_looks() -> None:
    def seen(time: float, hits: int, misses: int, lost: int) -> dict[str, object]:
        cache = {"pid": 1, "name": "a", "kind": "volatile", "hits": hits, "misses": misses, "lost": lost}
        return {"time": time, "caches": [{**cache, "rebuild": {"avg10": 0.25}}]}

    history, key = History(), (1, "a", "volatile")
    history.add(seen(0, 8, 2, 100))
    history.add(seen(2, 9, 5, 140))
    assert list(history.hit_rates[key]) == [0.8, 0.25]
    assert history.lost[key] == 20
    assert list(history.pressures[key]) == [0.25, 0.25]
    assert key_of(seen(0, 0, 0, 0)["caches"][0]) == key  # type: ignore[index]
    history.add({"time": 3.0, "caches": []})
    assert not history.hit_rates
    assert not history.lost


@pytest.mark.parametrize("interval", ["0", "nan", "1e9", "x"])
def test_an_interval_that_is_none(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["top", "--interval", interval])
    assert "seconds" in capsys.readouterr().err
