"""One thread that calls functions every second, and what becomes of it at a fork, an exec and the end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from mvolatile.errors import NoThreadWarning
from mvolatile.metrics import Ticker
from support.keepers import until
from support.processes import run_python


def test_a_ticker_calls_until_a_function_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_value))
    ticker, calls, other = Ticker(0.001), [], threading.Event()

    def fail() -> None:
        calls.append(1)
        raise ValueError("once")

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


def test_what_was_short_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that was full, a program that had no descriptor left: said once, and tried on."""
    told: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_value))
    ticker, calls = Ticker(0.001), []

    def fail_twice() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise OSError(24, "no descriptor")

    ticker.add(fail_twice)
    until(lambda: len(calls) > 4)
    ticker.close()
    assert [str(error) for error in told] == ["[Errno 24] no descriptor"]


def test_a_child_that_c_forked_ends_and_tells_nothing() -> None:
    """It has not the thread, which Python takes for alive; a lock may be held for ever; the counts are the parent's."""

    def child() -> None:
        import os
        import sys
        import threading

        from mvolatile.metrics import Ticker
        from support.c_fork import c_fork

        parent, inside, over = os.getpid(), threading.Event(), threading.Event()

        def tell() -> None:
            if os.getpid() != parent:
                os.write(1, b"told by the child")
            inside.set()
            over.wait()

        Ticker(0.001).add(tell)
        inside.wait()
        pid = c_fork()
        if not pid:
            sys.exit(0)
        status = os.waitpid(pid, 0)[1]
        over.set()
        sys.exit(os.waitstatus_to_exitcode(status))

    assert run_python(child).check().stdout == ""


def test_the_end_waits_for_who_tells_and_forks_and_threads_go_on() -> None:
    """The interpreter's end while the thread is at it; and what is added then is called, too."""

    def child() -> None:
        import atexit
        import os
        import threading

        from mvolatile.metrics import Ticker

        inside, calls = threading.Event(), []

        def tell() -> None:
            calls.append(threading.current_thread() is threading.main_thread())
            inside.set()
            os.write(1, b"b")
            os.write(1, b"e")

        ticker = Ticker(0.001)
        atexit.register(lambda: os.write(1, b"."))  # before the ticker's own, so called after it
        ticker.add(tell)
        inside.wait()
        assert not calls[0]
        pid = os.fork()
        if not pid:
            inside.clear()
            inside.wait()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0

    said = run_python(child).check().stdout
    assert said.endswith("be.")
