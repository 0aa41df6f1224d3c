"""A monitor has no descriptor that the program could meet, whatever the program does to its own."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mvolatile.errors import UnsupportedError
from mvolatile.kernel.pressure import PressureEvent, PressureMonitor
from support.c_fork import in_c_child
from support.processes import run_python


@pytest.fixture
def fifo() -> Iterator[Path]:
    """What stands for the kernel: a service manager's FIFO, which tells of pressure when we write to it. In a directory
    that anybody may enter, unlike pytest's.
    """
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        os.mkfifo(f"{directory}/fifo")
        os.chmod(f"{directory}/fifo", 0o666)
        yield Path(directory, "fifo")


@pytest.fixture
def monitor(fifo: Path) -> Iterator[PressureMonitor]:
    with PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": str(fifo)}) as monitor:
        yield monitor


def descriptors() -> dict[int, str]:
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
    return found


def tasks() -> set[int]:
    return set(map(int, os.listdir("/proc/self/task")))


def watcher_of(fifo: Path) -> int:
    """The thread that has it open."""
    for task in tasks():
        with contextlib.suppress(FileNotFoundError):  # one that ends now, as an earlier test's may
            for fd in os.listdir(f"/proc/self/task/{task}/fd"):
                with contextlib.suppress(FileNotFoundError):
                    if os.readlink(f"/proc/self/task/{task}/fd/{fd}") == str(fifo):
                        return task
    raise AssertionError("nobody watches")


def test_nothing_is_open_in_the_program(fifo: Path) -> None:
    before = descriptors()
    with PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": str(fifo)}) as monitor:
        assert descriptors() == before
        monitor.call(lambda event: None)
        assert descriptors() == before
    with PressureMonitor(environ={}, stall_ms=1900):
        assert descriptors() == before
    assert descriptors() == before


def test_the_watcher_has_nothing_of_the_programs(fifo: Path, tmp_path: Path) -> None:
    """A copy of a pipe's end would keep the pipe open, and one of a file its lock."""
    read, write = os.pipe()
    with open(tmp_path / "locked", "w") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        with PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": str(fifo)}):
            watcher = watcher_of(fifo)
            assert len(os.listdir(f"/proc/self/task/{watcher}/fd")) == 1
            os.close(write)
            assert os.read(read, 1) == b""
            locked.close()
            with open(tmp_path / "locked", "w") as again:
                fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(read)


def test_a_lock_of_the_programs_stays(fifo: Path, tmp_path: Path) -> None:
    """POSIX locks go when any descriptor of the file is closed by the process that has them."""
    path = tmp_path / "locked"
    with open(path, "w") as locked:
        fcntl.lockf(locked, fcntl.LOCK_EX)
        with PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": str(fifo)}):
            watcher = watcher_of(fifo)
        while watcher in tasks():
            time.sleep(0.01)
        tries = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        other = subprocess.run([sys.executable, "-c", tries, str(path)], capture_output=True, text=True)
        assert "BlockingIOError" in other.stderr


def test_the_watcher_takes_none_of_the_programs_signals(monitor: PressureMonitor, fifo: Path) -> None:
    for line in Path(f"/proc/self/task/{watcher_of(fifo)}/status").read_text().splitlines():
        if line.startswith("SigBlk:"):
            blocked = int(line.split()[1], 16)
    # All but SIGKILL, SIGSTOP and the two that glibc keeps for itself (setuid goes to all threads by one).
    left = {number for number in range(1, 65) if not blocked >> (number - 1) & 1}
    assert left <= {9, 19, 32, 33, 34}, left


def test_it_goes_on_when_all_descriptors_are_closed(fifo: Path) -> None:
    def child(fifo: str) -> None:
        import os
        import pathlib
        import threading

        from mvolatile.kernel.pressure import PressureMonitor

        monitor = PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": fifo})
        came = []
        said = threading.Event()
        monitor.call(lambda event: (came.append(event), said.set()))
        os.closerange(3, 4096)
        mine = [os.open(f"{fifo}.{i}", os.O_CREAT | os.O_RDWR) for i in range(30)]
        for fd in mine:
            os.write(fd, b"precious")
        writer = os.open(fifo, os.O_WRONLY)
        for _ in range(3):
            said.clear()
            os.write(writer, b"now")
            said.wait()
        pid = os.fork()
        if pid == 0:
            monitor.close()
            for fd in mine:
                os.fstat(fd)
            os._exit(0)
        assert os.waitpid(pid, 0) == (pid, 0)
        monitor.close()
        monitor.close()
        del monitor
        for i, fd in enumerate(mine):
            assert os.lseek(fd, 0, os.SEEK_CUR) == 8
            assert os.pread(fd, 100, 0) == b"precious"
            os.close(fd)
            assert pathlib.Path(f"{fifo}.{i}").read_text() == "precious"
        assert len(came) == 3

    run_python(child, str(fifo)).check()


@pytest.mark.own_process
def test_a_child_forked_in_c_has_a_closed_one(monitor: PressureMonitor, fifo: Path) -> None:
    monitor.call(lambda event: None)

    def child() -> None:
        assert monitor.wait() is None
        assert list(monitor) == []
        assert monitor.sources == ()
        monitor.close()

    in_c_child(child)


@pytest.mark.own_process
def test_what_was_told_before_a_fork_is_the_parents(fifo: Path) -> None:
    with PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": str(fifo)}) as monitor:
        fifo.write_bytes(b"now")
        while not monitor._listener.wait(-1):  # noqa: SLF001
            pass
        fifo.write_bytes(b"again")
        in_c_child(lambda: None if monitor.wait() is None else os._exit(3))
        assert monitor.wait() is not None


def test_events_between_two_waits_are_one(monitor: PressureMonitor, fifo: Path) -> None:
    begin = time.monotonic()
    with open(fifo, "wb", buffering=0) as writer:
        for _ in range(3):
            writer.write(b"now")
            time.sleep(0.05)
    end = time.monotonic()
    event = monitor.wait()
    assert event is not None
    assert begin <= event.when <= end + 60
    assert monitor.wait(0) is None


def test_each_event_is_for_one_of_those_who_wait(monitor: PressureMonitor, fifo: Path) -> None:
    told: list[PressureEvent] = []
    threads = [threading.Thread(target=lambda: told.extend(monitor)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for count in range(1, 4):
        fifo.write_bytes(b"now")
        while len(told) < count:
            time.sleep(0.001)
    monitor.close()
    for thread in threads:
        thread.join()
    assert len(told) == 3


def test_an_interrupt_ends_a_wait(fifo: Path) -> None:
    def child(fifo: str) -> None:
        import os
        import signal
        import threading

        from mvolatile.kernel.pressure import PressureMonitor

        signal.signal(signal.SIGINT, signal.default_int_handler)
        with PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": fifo}) as monitor:
            beats = []
            signal.signal(signal.SIGUSR1, lambda *_: beats.append(1))
            over = threading.Event()

            def send() -> None:
                while len(beats) < 3:  # a handler that returns ends nothing
                    os.kill(os.getpid(), signal.SIGUSR1)
                    over.wait(0.01)
                while not over.wait(0.01):
                    os.kill(os.getpid(), signal.SIGINT)

            threading.Thread(target=send).start()
            try:
                monitor.wait()
            except KeyboardInterrupt:
                over.set()
            assert over.is_set()

    run_python(child, str(fifo)).check()


def test_the_watcher_goes_when_its_monitor_is_dropped(fifo: Path) -> None:
    monitor = PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": str(fifo)})
    watcher = watcher_of(fifo)
    del monitor
    gc.collect()
    while watcher in tasks():
        time.sleep(0.01)


def test_the_interpreter_ends_beside_one_that_calls_back(fifo: Path) -> None:
    def child(fifo: str) -> None:
        import atexit
        import builtins

        from mvolatile.kernel.pressure import PressureMonitor

        builtins.kept = monitor = PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": fifo})  # type: ignore[attr-defined]
        monitor.call(lambda event: None)
        another = PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": fifo})
        another.call(lambda event: None)
        atexit.register(another.close)

        # Told while the interpreter is on its way out: whoever is woken then finds no GIL to be had.
        class Late:
            def __del__(self, open: Any = open, fifo: Any = fifo) -> None:
                with open(fifo, "w") as writer:
                    writer.write("now")

        builtins.late = Late()  # type: ignore[attr-defined]

    run_python(child, str(fifo)).check()


def test_no_thread_to_be_had(fifo: Path) -> None:
    def child(fifo: str) -> None:
        import os
        import resource

        import pytest

        from mvolatile.errors import UnsupportedError
        from mvolatile.kernel.pressure import PressureMonitor

        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        monitor = PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": fifo})
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        with pytest.raises(UnsupportedError, match="no thread to watch"):
            PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": fifo})
        with pytest.raises(RuntimeError):
            monitor.call(print)
        monitor.close()

    run_python(child, str(fifo)).check()


def test_green_threads_do_not_call_back(monitor: PressureMonitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("_thread.start_new_thread", lambda function, args: None)
    with pytest.raises(RuntimeError, match="green"):
        monitor.call(print)


def test_a_socket_that_takes_no_more_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    import socket

    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(str(path))
        with pytest.raises(UnsupportedError, match="temporarily unavailable"):
            PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": str(path)})
        for one in waiting:
            one.close()
