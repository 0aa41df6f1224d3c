"""Waiting for memory pressure that is really there: a child process presses against its own small limit."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mvolatile.errors import UnsupportedError
from mvolatile.kernel import psi
from mvolatile.kernel.cgroup import ChildCgroup, MemoryCgroup
from mvolatile.kernel.pressure import PressureEvent, PressureMonitor
from support.leaks import assert_no_growth
from support.processes import run_python

LIMIT = 32 << 20
THRASH = """
import mmap, sys
with open(sys.argv[1], "w+b") as file:
    for _ in range(64):
        file.write(bytes(1 << 20))
    file.flush()
    map = mmap.mmap(file.fileno(), 0)
    while True:
        for offset in range(0, len(map), 4096):
            map[offset]
"""
"""Writes and reads twice its limit of file pages: only those it brings in itself are charged to it."""


@pytest.fixture
def pressed(needs_cgroup: None, tmp_path: Path) -> Iterator[ChildCgroup]:
    """A small cgroup, without anybody inside until `pressing`."""
    with ChildCgroup(LIMIT) as cgroup:
        yield cgroup


@pytest.fixture
def telling(pressed: ChildCgroup) -> ChildCgroup:
    """One that tells us of its pressure: on Linux 6.1 version 1 lets nobody but root listen."""
    with PressureMonitor(pressed.cgroup, stall_ms=1900, environ={}) as monitor:
        if not any(str(pressed.path) in name for name in monitor.sources):
            assert monitor.refused == {"memory.pressure_level": "Permission denied"}
            pytest.skip("memory.pressure_level is for root alone: Permission denied")
    return pressed


@contextlib.contextmanager
def pressing(cgroup: ChildCgroup, directory: Path) -> Iterator[Callable[[], bool]]:
    """Yields what tells whether it still presses: it does until the kernel kills it, which finds nothing to write out
    where the directory lies in memory.
    """
    data = directory / "data"
    process = subprocess.Popen(cgroup.wrap([sys.executable, "-c", THRASH, str(data)]))
    try:
        yield lambda: process.poll() is None
    finally:
        process.kill()
        process.wait()
        data.unlink(missing_ok=True)


def press_until(came: threading.Event, cgroup: ChildCgroup, directory: Path) -> None:
    """Again and again: where the directory lies in memory, one that presses may be killed before any event."""
    while not came.is_set():
        with pressing(cgroup, directory) as still:
            while not came.wait(1) and still():
                pass


def test_the_cgroups_reclaim_wakes_the_waiter(telling: ChildCgroup, tmp_path: Path) -> None:
    """So much stall within its window the machine's own trigger will not see: the cgroup's source speaks."""
    with PressureMonitor(telling.cgroup, stall_ms=1900, environ={}) as monitor:
        sources, event = monitor.sources, None
        while event is None:  # as in `press_until`
            with pressing(telling, tmp_path) as still:
                while (event := monitor.wait(1)) is None and still():
                    pass
    assert event.source in sources
    assert str(telling.path) in event.source


def test_a_psi_trigger_of_the_machine(pressed: ChildCgroup, tmp_path: Path) -> None:
    before = psi.read_psi()
    if before is None:
        pytest.skip("this kernel has no PSI")
    with PressureMonitor(MemoryCgroup(2, tmp_path, tmp_path), stall_ms=20, environ={}) as monitor:
        assert set(monitor.refused) == {"memory.pressure", "memory.events"}, "no such files in that directory"
        with pressing(pressed, tmp_path) as still:
            while (event := monitor.wait(1)) is None and still():
                pass
    if pressed.oom_kills():
        pytest.skip(f"{tmp_path} lies in memory: nothing there can be written out and read back")
    assert event is not None
    assert event.source == f"PSI trigger on {psi.SYSTEM}"
    # The file's total is brought up to date every two seconds. It need not grow by 20 ms: the trigger's window may
    # begin with somebody else's stall, which the file has counted before.
    while (after := psi.read_psi()) and after.some.total == before.some.total:
        time.sleep(0.1)


def test_no_pressure_times_out(pressed: ChildCgroup) -> None:
    with PressureMonitor(pressed.cgroup, stall_ms=1900, environ={}) as monitor:
        begin = time.monotonic()
        while monitor.wait(0.05) is not None:  # the machine's own, whose trigger speaks once in two seconds
            begin = time.monotonic()
        assert time.monotonic() - begin >= 0.05


def test_callbacks_come_in_a_thread_and_end_with_close(telling: ChildCgroup, tmp_path: Path) -> None:
    came = threading.Event()
    seen: list[tuple[PressureEvent, str]] = []

    def callback(event: PressureEvent) -> None:
        seen.append((event, threading.current_thread().name))
        came.set()

    with PressureMonitor(telling.cgroup, environ={}) as monitor:
        monitor.call(callback)
        with pytest.raises(ValueError, match="already calls back"):
            monitor.call(callback)
        press_until(came, telling, tmp_path)
    assert seen[0][1] == "mvolatile-pressure"
    assert not [thread for thread in threading.enumerate() if thread.name == "mvolatile-pressure"]


def test_a_callback_may_close(telling: ChildCgroup, tmp_path: Path) -> None:
    done = threading.Event()
    with PressureMonitor(telling.cgroup, environ={}) as monitor:

        def callback(_: PressureEvent) -> None:
            monitor.close()
            done.set()

        monitor.call(callback)
        press_until(done, telling, tmp_path)
        assert monitor.sources == ()


def test_close_wakes_a_waiter_in_another_thread(pressed: ChildCgroup) -> None:
    monitor = PressureMonitor(pressed.cgroup, stall_ms=1900, environ={})
    answers: list[PressureEvent | None] = []
    thread = threading.Thread(target=lambda: answers.append(monitor.wait()))
    thread.start()
    monitor.close()
    thread.join()
    assert answers == [None]
    assert list(monitor) == []


def test_a_forked_child_closes_without_waiting_for_the_thread_it_has_not(pressed: ChildCgroup) -> None:
    monitor = PressureMonitor(pressed.cgroup, stall_ms=1900, environ={})
    monitor.call(lambda event: None)
    if (pid := os.fork()) == 0:
        monitor.close()
        os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
    monitor.close()


def test_a_removed_cgroup_is_no_longer_listened_to(needs_cgroup: None) -> None:
    """On version 1 the removal signals once; on version 2 every poll would report it, for ever."""
    cgroup = ChildCgroup(LIMIT)
    with PressureMonitor(cgroup.cgroup, stall_ms=1900, environ={}) as monitor:
        cgroup.close()
        assert any(monitor.wait(1) is None for _ in range(3))


def test_systemd_names_a_fifo(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": str(path)}) as monitor:
        assert monitor.wait(0) is None
        path.write_bytes(b"now")
        event = monitor.wait(10)
        assert event is not None
        assert event.source == f"MEMORY_PRESSURE_WATCH={path}"
        assert monitor.wait(0) is None, "one message is one event"


def test_systemd_names_a_socket_and_what_to_write_there(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        hello = base64.b64encode(b"hello").decode()
        environ = {"MEMORY_PRESSURE_WATCH": str(path), "MEMORY_PRESSURE_WRITE": hello}
        with PressureMonitor(environ=environ) as monitor:
            server, _ = listener.accept()
            with server:
                assert server.recv(100) == b"hello"
                server.send(b"!")
                assert monitor.wait(10) is not None
            assert monitor.wait(0.05) is None
            assert monitor.sources == (), "the manager hung up"


def test_systemd_names_a_pressure_file() -> None:
    if psi.read_psi() is None:
        pytest.skip("this kernel has no PSI")
    trigger = base64.b64encode(b"some 1900000 2000000\0").decode()
    environ = {"MEMORY_PRESSURE_WATCH": psi.SYSTEM, "MEMORY_PRESSURE_WRITE": trigger}
    with PressureMonitor(environ=environ) as monitor:
        assert monitor.sources == (f"MEMORY_PRESSURE_WATCH={psi.SYSTEM}",)
        assert monitor.wait(0.01) is None


def test_systemd_asks_for_silence() -> None:
    with PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": "/dev/null"}) as monitor:
        assert (monitor.sources, monitor.wait(0.01)) == ((), None)


def test_nothing_to_listen_to_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        UnsupportedError, match=r"nothing tells of memory pressure here .*absent: No such file"
    ):
        PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": str(tmp_path / "absent")})


def test_monitors_leak_nothing() -> None:
    def once() -> None:
        before = os.listdir("/proc/self/task")
        PressureMonitor(stall_ms=1900, environ={}).close()
        while len(os.listdir("/proc/self/task")) > len(before):  # the watcher, which nobody waits for
            time.sleep(0.001)

    assert_no_growth(once)


def test_an_ordinary_user_has_the_machines_trigger() -> None:
    """Linux 6.5 lets everybody set triggers with windows of 2 s, which is what we ask for."""
    version = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if version < (6, 5) or psi.read_psi() is None:
        pytest.skip("needs Linux 6.5 with PSI")

    def as_anybody() -> None:
        import os

        from mvolatile.kernel.pressure import PressureMonitor

        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        with PressureMonitor(environ={}) as monitor:
            print(*monitor.sources, sep="\n")

    assert f"PSI trigger on {psi.SYSTEM}" in run_python(as_anybody).check().stdout.splitlines()
