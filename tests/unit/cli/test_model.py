import json
import subprocess
import sys

import pytest

from mvolatile.cli import main

KEYS = {"race", "variant", "property", "holds", "schedule", "states", "bound"}


def run(capsys, *arguments):
    status = main(["model", *arguments])
    return status, capsys.readouterr()


def test_check_says_that_it_holds(capsys):
    status, said = run(capsys, "check", "--race", "stale_marker", "--jobs", "1", "--json")
    (row,) = json.loads(said.out)
    assert status == 0
    assert set(row) == KEYS
    assert (row["race"], row["variant"], row["holds"], row["schedule"]) == (
        "stale_marker",
        "fixed",
        True,
        None,
    )
    assert row["states"] > 10
    assert "2 processes" in row["bound"]


def test_check_finds_and_replay_shows(capsys, tmp_path):
    arguments = ("--variant", "posted", "--race", "purge_stops_half_way", "--jobs", "1")
    status, said = run(capsys, "check", *arguments, "--json")
    (row,) = json.loads(said.out)
    assert status == 1
    assert (row["property"], row["holds"]) == ("all_sharers_or_none", False)
    svg, html = tmp_path / "a.svg", tmp_path / "a.html"
    status, said = run(capsys, "replay", row["schedule"], "--svg", str(svg), "--html", str(html))
    assert status == 1
    assert "violated: all_sharers_or_none" in said.out
    assert svg.read_text().startswith("<svg")
    assert "purge_stops_half_way" in html.read_text()
    status, said = run(capsys, "replay", row["schedule"], "--json")
    assert json.loads(said.out)[-1]["wrong"].startswith("all_sharers_or_none")


def test_check_for_one_property(capsys):
    arguments = ("--variant", "posted", "--race", "unmark_against_purge", "--jobs", "1")
    status, said = run(capsys, "check", *arguments, "--property", "no_starvation")
    assert status == 0
    assert said.out.startswith("holds      posted   unmark_against_purge: no_starvation")


def test_check_within_a_bound(capsys):
    arguments = ("--variant", "posted", "--race", "unmark_against_purge", "--jobs", "1", "--json")
    assert run(capsys, "check", *arguments, "--bound", "0")[0] == 0
    status, said = run(capsys, "check", *arguments, "--bound", "1")
    assert status == 1
    assert "at most 1 preemptions" in json.loads(said.out)[0]["bound"]


def test_a_search_that_is_cut_short_proves_nothing(capsys):
    arguments = ("--race", "two_reclaimers", "--jobs", "1", "--max-states", "50")
    status, said = run(capsys, "check", *arguments, "--json")
    (row,) = json.loads(said.out)
    assert status == 1
    assert (row["holds"], row["schedule"]) == (False, None)
    assert row["bound"].startswith("cut short")


def test_races_prints_the_table_and_a_schedule():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mvolatile",
            "model",
            "races",
            "--race",
            "generated-4",
            "--race",
            "stale_marker",
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    assert done.stdout.splitlines()[0].split() == ["race", "posted", "v14", "fixed"]
    assert "again: mvolatile model replay 'posted/generated-4: " in done.stdout


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ("nonsense", "no variant 'nonsense'"),
        ("posted/nowhere: cpu0", "no race 'nowhere'"),
        ("posted/stale_marker: cpu0*9999", "cpu0 has ended"),
        ("posted/stale_marker: *", "not a move"),
    ],
)
def test_replay_of_what_is_no_schedule(capsys, schedule, why):
    status, said = run(capsys, "replay", schedule)
    assert status == 2
    assert why in said.err
