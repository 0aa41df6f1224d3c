from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from mvolatile.demo.contenders import CONTENDERS
from mvolatile.demo.live import Board, closing_table
from mvolatile.demo.outcome import End, Outcome, Report, Sample
from mvolatile.demo.picture import draw
from support import fonts

Image = pytest.importorskip("PIL.Image")

MIB = 1 << 20
SAMPLES = tuple(
    Sample(
        seconds=number / 10,
        requests=number * 100,
        hits=number * 80,
        rebuilt=number * 5,
        cache_bytes=number * 10 * MIB,
        neighbour_bytes=20 * MIB if 4 <= number <= 6 else 0,
        charged_bytes=number * 12 * MIB,
    )
    for number in range(11)
)
SERVED = Outcome(
    "volatile", "VolatileCache", None, End.SERVED, 1000, 800, 150, 50, 0, 1.0, 128 * MIB, SAMPLES
)
KILLED = replace(
    SERVED, name="dict", label="dict, unbounded", end=End.KILLED, requests=300, hits=240, samples=SAMPLES[:4]
)
STILLBORN = replace(KILLED, end=End.FAILED, requests=0, hits=0, samples=(), said="out of paper")


def report(*outcomes: Outcome) -> Report:
    return Report(
        7,
        1000,
        128 * MIB,
        500,
        96 * MIB,
        20 * MIB,
        (400, 660),
        "userfaultfd",
        "memory cgroup",
        None,
        list(outcomes),
    )


def shown(thing: object, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(thing)
    return out.getvalue()


@pytest.fixture(scope="module", autouse=True)
def _fonts_are_open() -> None:
    fonts.open_all()


def test_recent_hit_rates_look_back_one_window() -> None:
    late = replace(SAMPLES[10], hits=800 + 100 - 80)
    outcome = replace(SERVED, samples=(*SAMPLES[:10], late))
    rates = dict(outcome.recent_hit_rates(200))
    assert rates[100] == rates[200] == rates[900] == pytest.approx(0.8)
    assert rates[1000] == pytest.approx((820 - 640) / 200)
    assert list(STILLBORN.recent_hit_rates(200)) == []


def test_json_holds_everything() -> None:
    plain = json.loads(json.dumps(report(KILLED, SERVED).as_json()))
    assert plain["limit"] == 128 * MIB
    assert [row["end"] for row in plain["outcomes"]] == ["killed", "served"]
    assert plain["outcomes"][1]["hit_rate"] == 0.8
    assert plain["outcomes"][1]["samples"][5]["neighbour_bytes"] == 20 * MIB


def test_the_table_fits_80_columns() -> None:
    large = replace(
        SERVED, requests=1_000_000, hits=812_345, rebuilt=98_765, seconds=123.4, peak_bytes=1024 * MIB
    )
    text = shown(closing_table(report(KILLED, replace(large, label="LRU of 1365 MiB"))))
    assert "…" not in text
    for word in ("killed", "served", "812,345", "98,765", "123.4", "1024", "80%", "81%"):
        assert word in text


def test_the_picture_is_drawn_in_both_formats(tmp_path: Path) -> None:
    png, svg = draw(report(KILLED, STILLBORN, SERVED), tmp_path / "new")
    with Image.open(png) as image:
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(1 << 24)) > 10
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")


def test_the_picture_of_workers_has_another_name(tmp_path: Path) -> None:
    two = report(replace(SERVED, name="private"), replace(SERVED, name="shared"))
    paths = draw(replace(two, workers=4), tmp_path)
    assert [path.name for path in paths] == ["demo_workers.png", "demo_workers.svg"]
    assert all(path.stat().st_size > 10_000 for path in paths)
    assert two.as_json()["workers"] == 1


def test_the_same_run_gives_the_same_drawing(tmp_path: Path) -> None:
    drawings = [draw(report(KILLED, SERVED), tmp_path / name)[1].read_bytes() for name in ("a", "b")]
    assert drawings[0] == drawings[1]


def test_the_board_shows_each_contender_where_there_is_a_terminal() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=140)
    with Board(console, CONTENDERS, 1000, 128 * MIB) as board:
        board.cutting(500, 500)
        board.sampled(CONTENDERS[0], SAMPLES[3])
        board.finished(KILLED)
        board.sampled(CONTENDERS[-1], SAMPLES[5])
        board.refresh()
    text = out.getvalue()
    for word in ("dict, unbounded", "killed", "LRU of 85 MiB", "waits", "VolatileCache", "80%", "500", "▒"):
        assert word in text


def test_the_board_is_silent_where_there_is_none() -> None:
    out = io.StringIO()
    with Board(Console(file=out), CONTENDERS, 1000, 128 * MIB) as board:
        board.cutting(500, 500)
        board.sampled(CONTENDERS[0], SAMPLES[3])
    assert out.getvalue() == ""
