import contextlib
import importlib.util
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from _pytest.capture import CaptureResult

from mvolatile.cli import main
from mvolatile.cli.searching import EVERY_PROPERTY

KEYS = {"race", "variant", "property", "holds", "schedule", "states", "bound"}
REST = [name for name in EVERY_PROPERTY if name != "no_false_report"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, CaptureResult[str]]:
    status = main(["model", *arguments])
    return status, capsys.readouterr()


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    status, said = run(capsys, *arguments, "--jobs", "1", "--json")
    found = json.loads(said.out)
    assert all(set(row) == KEYS for row in found)
    return status, found


def test_check_has_a_row_for_each_property(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = rows(capsys, "check", "--race", "stale_marker")
    assert status == 0
    assert [row["property"] for row in found] == ["no_false_report", *REST]
    for row in found:
        assert (row["race"], row["variant"], row["holds"], row["schedule"]) == (
            "stale_marker",
            "fixed",
            True,
            None,
        )
        assert row["states"] > 10
        assert "2 processes" in row["bound"]


def test_check_finds_and_replay_shows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, found = rows(capsys, "check", "--variant", "posted", "--race", "purge_stops_half_way")
    assert status == 1
    assert [row["property"] for row in found if not row["holds"]] == ["all_sharers_or_none"]
    schedule = found[0]["schedule"]
    assert [row["schedule"] for row in found] == [schedule, *[None] * (len(found) - 1)]
    svg, html = tmp_path / "a.svg", tmp_path / "a.html"
    status, said = run(capsys, "replay", schedule, "--svg", str(svg), "--html", str(html))
    assert status == 1
    assert "violated: all_sharers_or_none" in said.out
    assert svg.read_text().startswith("<svg")
    assert "purge_stops_half_way" in html.read_text()
    status, said = run(capsys, "replay", schedule, "--json")
    assert json.loads(said.out)[-1]["wrong"].startswith("all_sharers_or_none")


def test_check_for_one_property(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--variant", "posted", "--race", "unmark_against_purge", "--jobs", "1")
    status, said = run(capsys, "check", *arguments, "--property", "no_starvation")
    assert status == 0
    assert said.out.startswith("holds      posted   unmark_against_purge: no_starvation")


def test_check_within_a_bound(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--variant", "posted", "--race", "unmark_against_purge")
    assert rows(capsys, "check", *arguments, "--bound", "0")[0] == 0
    status, found = rows(capsys, "check", *arguments, "--bound", "1")
    assert status == 1
    assert "at most 1 preemptions" in found[0]["bound"]


@pytest.mark.parametrize("command", ["check", "races"])
def test_a_search_that_is_cut_short_proves_nothing(capsys: pytest.CaptureFixture[str], command: str) -> None:
    arguments = ("--race", "two_reclaimers", "--variant", "fixed", "--max-states", "50")
    status, found = rows(capsys, command, *arguments)
    assert status == 3
    for row in found:
        assert (row["holds"], row["schedule"]) == (False, None)
        assert row["bound"].startswith("cut short")
    status, said = run(capsys, command, *arguments, "--jobs", "1")
    assert status == 3
    assert "undecided" in said.out
    assert "holds" not in said.out


def test_what_is_wrong_after_a_crash_alone_is_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """The purge crashes with the pte lock held, and whoever wants it then waits for ever."""
    arguments = ("--variant", "posted", "--race", "mlock_against_purge")
    _, found = rows(capsys, "check", *arguments)
    assert [row["property"] for row in found if not row["holds"]] == ["no_kernel_bug"]


def test_the_status_of_races_is_that_of_fixed_if_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    race = ("races", "--race", "purge_stops_half_way")
    assert rows(capsys, *race, "--variant", "posted")[0] == 1
    assert rows(capsys, *race, "--variant", "posted", "--variant", "fixed")[0] == 0


def test_the_table_names_what_is_violated_and_within_which_bound(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = run(capsys, "races", "--race", "unmark_against_purge", "--jobs", "1")
    lines = [line.split() for line in said.out.splitlines()]
    assert status == 0
    assert lines[0] == ["race", "posted", "v14", "fixed", "bound"]
    assert lines[1][:6] == ["unmark_against_purge", "not", "no_lost_report", "not", "no_lost_report", "holds"]
    assert lines[1][-1] == "[1]"
    assert lines[2] == ["not", "no_false_sigbus", "not", "no_false_sigbus"]
    assert "[1] 2 threads, 2 processes, 3 frames, 2 slots" in said.out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("check", "--race", "nowhere"), "no race 'nowhere'"),
        (("races", "--race", "stale_marker", "--race", "nowhere"), "no race 'nowhere'"),
        (("check", "--jobs", "0"), "'0' is no number of 1 or more"),
        (("check", "--bound", "-1"), "'-1' is no number of 0 or more"),
        (("races", "--max-states", "0"), "'0' is no number of 1 or more"),
        (("check", "--property", "nothing"), "invalid choice: 'nothing'"),
    ],
)
def test_misuse_is_told_before_any_search(
    capsys: pytest.CaptureFixture[str], arguments: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvolatile.cli.model.examine_all", None)
    with pytest.raises(SystemExit) as ended:
        run(capsys, *arguments)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


LARGE = [sys.executable, "-m", "mvolatile", "model", "races", "--race", "generated-1"]


@pytest.mark.parametrize("group", [True, False], ids=["at the terminal", "to the command alone"])
def test_an_interrupt_ends_it_and_its_workers(group: bool) -> None:
    with subprocess.Popen(LARGE, stderr=subprocess.PIPE, start_new_session=True) as command:
        children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
        deadline = time.monotonic() + 200
        # Two workers and the tracker of multiprocessing; one that is still being started would complain.
        while len(workers := children.read_text().split()) < 3 or not all(map(ignores_interrupts, workers)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (os.killpg if group else os.kill)(command.pid, signal.SIGINT)
        _, said = command.communicate(timeout=200)
        assert (command.returncode, said) == (130, b"")
        while any(map(alive, workers)) and time.monotonic() < deadline + 60:
            time.sleep(0.05)
        assert not any(map(alive, workers))


def ignores_interrupts(pid: str) -> int:
    mask = re.search(r"^SigIgn:\t(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert mask is not None
    return int(mask[1], 16) & 1 << signal.SIGINT - 1


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


AT_A_TERMINAL = """
import importlib.util, sys
from mvolatile.cli import main, workers
workers.EVERY = 0.01 if sys.argv[3] == "2" else 0  # a search here may be over in 10 ms, a process is not
there = importlib.util.find_spec
if sys.argv[1] == "plain":
    importlib.util.find_spec = lambda name: None if name == "rich" else there(name)
sys.exit(main(["model", "check", "--race", "two_reclaimers", "--race", "stale_marker", *sys.argv[2:]]))
"""


@pytest.mark.parametrize("how", ["rich", "plain"])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_progress_at_a_terminal(how: str, jobs: str) -> None:
    if importlib.util.find_spec(how) is None and how == "rich":
        pytest.skip("rich is not installed")
    terminal, stderr = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, how, "--jobs", jobs], stdout=subprocess.DEVNULL, stderr=stderr
    ) as command:
        os.close(stderr)
        said = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while chunk := os.read(terminal, 4096):
                said += chunk
        os.close(terminal)
        assert command.wait() == 0, said
    assert b"states/s" in said
    if how == "plain":
        assert len(re.findall(rb"[01] of 2, [\d,]+ states, [\d,]+ states/s", said)) > 2
        assert said.endswith(b"\r\x1b[K")


@pytest.mark.timeout(1800)
def test_races_prints_the_table_and_a_schedule() -> None:
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
        timeout=1700,
        check=True,
    )
    assert done.stdout.splitlines()[0].split() == ["race", "posted", "v14", "fixed", "bound"]
    assert "again: mvolatile model replay 'posted/generated-4: " in done.stdout


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ("nonsense", "no variant 'nonsense'"),
        ("posted/nowhere: cpu0", "no race 'nowhere'"),
        ("posted/stale_marker: cpu0*9999", "cpu0 has ended"),
        ("posted/stale_marker: *", "not a move"),
        ("posted/stale_marker: cpu0*99999999999", "at most 1,000,000 moves"),
        ("posted/stale_marker: cpu0*1000000 cpu0", "at most 1,000,000 moves"),
        ("posted/stale_marker: nobody", "no processor 'nobody'; there are cpu0"),
        ("posted/stale_marker: cpu0.1", "cpu0.1: a processor has one next step"),
        ("posted: cpu0", "the race is missing"),
        ("posted/: cpu0", "the race is missing"),
    ],
)
def test_replay_of_what_is_no_schedule(capsys: pytest.CaptureFixture[str], schedule: str, why: str) -> None:
    status, said = run(capsys, "replay", schedule)
    assert status == 2
    assert why in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("option", ["--svg", "--html"])
def test_a_drawing_that_cannot_be_written(capsys: pytest.CaptureFixture[str], option: str) -> None:
    status, said = run(capsys, "replay", "posted/stale_marker: cpu0", option, "/nowhere/a")
    assert status == 2
    assert said.err == "mvolatile model replay: /nowhere/a: No such file or directory\n"
