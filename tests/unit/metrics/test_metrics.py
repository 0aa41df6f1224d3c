"""Figures by name, their file for others, and the thread that writes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import mvolatile as mv
from mvolatile.errors import NoThreadWarning
from mvolatile.metrics import METRICS, CacheFigures, Ticker, figures, published, value
from support.keepers import until
from support.processes import run_python

LIVING = """
import os, sys
os.environ["MVOLATILE_METRICS"] = "1"
import mvolatile as mv
cache = mv.VolatileCache(name="tiles")
cache["a"] = b"x"
print("up", flush=True)
input()
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "runtime"
    path.mkdir(0o700)
    monkeypatch.setenv("MVOLATILE_RUNTIME_DIR", str(path))
    return path


def of(name: str) -> CacheFigures:
    (found,) = (one for one in figures() if one.name == name)
    return found


def test_caches_of_one_name_are_one() -> None:
    with (
        mv.VolatileCache[int, bytes](name="twins") as one,
        mv.VolatileCache[int, bytes](name="twins") as other,
    ):
        one[1] = b"x" * 10
        other[1] = b"y" * 20
        assert other[1]
        assert one.get(2) is None
        told = of("twins")
        assert (told.hits, told.stores, told.entries, told.bytes) == (1, 2, 2, 30)
        assert told.misses == one.cache_info().misses + other.cache_info().misses
    assert not [told for told in figures() if told.name == "twins"], "closed ones are none"


def test_counts_go_on_where_a_cache_is_cleared() -> None:
    """A counter that falls is taken for one that began anew, and what it had not told yet is lost."""
    with mv.VolatileCache[int, bytes](name="cleared", maxsize=2) as cache:
        for key in range(3):
            cache.get_or_set(key, lambda: b"x")
        assert cache[2] == b"x"
        before = of("cleared")
        assert (before.hits, before.misses, before.stores, before.evicted) == (1, 3, 3, 1)
        cache.clear()
        assert cache.cache_info()[:2] == (0, 0)
        now = of("cleared")
        assert (now.hits, now.misses, now.stores, now.evicted, now.entries) == (1, 3, 3, 1, 0)
        assert now.saved_seconds == before.saved_seconds > 0
        assert now.spent_seconds == before.spent_seconds > 0
        cache[3] = b"y"
        cache.clear()
        cache[4] = b"z"
        assert of("cleared").stores == 5


def test_counts_never_fall_beside_a_thread_that_clears() -> None:
    with mv.VolatileCache[int, bytes](name="watched") as cache:
        over = threading.Event()

        def clear() -> None:
            for key in range(300):
                cache[key] = b"x"
                cache.clear()
            over.set()

        thread = threading.Thread(target=clear)
        thread.start()
        told = [0]
        while not over.is_set():
            told.append(of("watched").stores)
        thread.join()
        assert told == sorted(told)
        assert of("watched").stores == 300


def test_every_metric_has_its_figure() -> None:
    told = CacheFigures("a", "volatile")
    for metric in METRICS:
        if metric.kind == "histogram":
            assert isinstance(getattr(told, metric.field), tuple)
        else:
            assert value(metric, told) == 0
    json.dumps(told.as_dict())


def test_others_see_it_and_no_more_when_it_ends(directory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LIVING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        (told,) = until(lambda: [one for one in published() if one["figures"]])
        assert told["pid"] == process.pid
        assert [(one["name"], one["stores"]) for one in told["figures"]] == [("tiles", 1)]
        process.communicate("\n")
    assert process.returncode == 0
    assert list(directory.iterdir()) == []


def test_who_was_killed_is_removed_by_who_reads(directory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LIVING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert len(list(directory.glob("*.figures"))) == 1
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert published() == []
    assert list(directory.glob("*.figures")) == []


def test_a_half_written_file_and_a_later_process_of_that_number(directory: Path) -> None:
    (directory / "1.figures").write_text('{"pid": 1, "st')
    later = directory / f"{os.getpid()}.figures"
    later.write_text(json.dumps({"pid": os.getpid(), "start": "1", "time": 0, "figures": []}))
    assert published() == []
    assert not later.exists()


def test_a_forked_child_tells_of_itself(directory: Path) -> None:
    def child() -> None:
        import os
        import time

        import mvolatile as mv
        from mvolatile.metrics import publish, published

        cache: mv.VolatileCache[int, bytes] = mv.VolatileCache(name="forked")
        publish()
        publish()
        ours, its = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(its)
            cache[1] = b"child"
            os.read(ours, 1)
            os._exit(0)

        def told() -> list[int]:
            return [
                one["stores"]
                for process in published()
                if process["pid"] == pid
                for one in process["figures"]
            ]

        end = time.monotonic() + 100
        while told() != [1]:
            assert time.monotonic() < end
            time.sleep(0.01)
        os.close(its)
        os.waitpid(pid, 0)
        assert [process["pid"] for process in published()] == [os.getpid()]

    run_python(child, env={"MVOLATILE_RUNTIME_DIR": str(directory)}).check()


def test_nothing_is_raised_where_it_cannot_be_written(directory: Path) -> None:
    def child() -> None:
        import os
        import resource
        import signal

        from mvolatile.metrics import publish, published

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        publish()
        assert published() == []
        assert os.listdir(os.environ["MVOLATILE_RUNTIME_DIR"]) in ([], [f"{os.getpid()}.new"])

    run_python(child, env={"MVOLATILE_RUNTIME_DIR": str(directory)}).check()


def test_others_directories_are_refused(directory: Path) -> None:
    directory.chmod(0o755)
    done = run_python(
        "import mvolatile.metrics as m; m.publish()", env={"MVOLATILE_RUNTIME_DIR": str(directory)}
    )
    assert "others may enter it" in done.stderr
    assert done.returncode == 1


def test_a_ticker_calls_until_a_function_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_value))
    ticker, calls, other = Ticker(0.001), [], threading.Event()

    def fail() -> None:
        calls.append(1)
        raise OSError("once")

    ticker.add(fail)
    ticker.add(other.set)
    assert other.wait(100)
    until(lambda: told)
    ticker.close()
    assert len(calls) == 1
    assert [str(error) for error in told] == ["once"]


def test_no_thread_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    ticker = Ticker()
    with pytest.warns(NoThreadWarning, match="at the program's end alone"):
        ticker.add(print)
    ticker.remove(print)


def test_it_is_told_once_more_at_the_end(tmp_path: Path) -> None:
    def child(path: str) -> None:
        from pathlib import Path

        from mvolatile.metrics import Ticker

        Ticker(3600).add(lambda: Path(path).write_text("told"))

    run_python(child, str(tmp_path / "file")).check()
    assert (tmp_path / "file").read_text() == "told"
