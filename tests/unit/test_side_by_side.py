"""What lets tests run side by side: turns, groups, builds; and that what was left out is told."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support import native
from support.processes import run_python
from support.turns import INSIDE, Turns

ROOT = Path(__file__).resolve().parents[2]


def wait_until(true: Callable[[], bool]) -> None:
    """The test's own timeout ends it."""
    while not true():
        time.sleep(0.005)


def waiting(file: Path) -> int:
    """How many wait for the lock on `file`."""
    lines = Path("/proc/locks").read_text().splitlines()
    return sum("->" in line and f":{file.stat().st_ino} " in line for line in lines)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[Turns]]:
    made = [Turns(tmp_path) for _ in range(3)]
    yield made
    for one in made:
        one.close()


def test_who_wants_to_be_alone_is_not_overtaken(three: list[Turns], tmp_path: Path) -> None:
    """It waits for those who are inside; who comes later waits for it."""
    inside, alone, late = three
    order: list[str] = []
    inside.take(alone=False)

    def be_alone() -> None:
        alone.take(alone=True)
        order.append("alone")
        alone.give()

    def come_late() -> None:
        late.take(alone=False)
        order.append("late")
        late.give()

    threads = [threading.Thread(target=be_alone), threading.Thread(target=come_late)]
    threads[0].start()
    wait_until(lambda: waiting(tmp_path / "room") == 1)
    threads[1].start()
    wait_until(lambda: waiting(tmp_path / "door") == 1)
    order.append("inside")
    inside.give()
    for thread in threads:
        thread.join()
    assert order == ["inside", "alone", "late"]


def test_ordinary_tests_share(three: list[Turns]) -> None:
    for one in three:
        one.take(alone=False)
    assert [one.give() for one in three] == [None] * 3


def test_two_who_are_inside_and_want_to_be_alone_do_not_wait_for_each_other(three: list[Turns]) -> None:
    first, second, _ = three
    for one in (first, second):
        one.take(alone=False)
    waits = threading.Thread(target=lambda: (second.take(alone=True), second.give()))
    waits.start()
    first.take(alone=True)
    first.give()
    waits.join()


def test_a_process_that_dies_leaves_the_room(three: list[Turns], tmp_path: Path) -> None:
    code = """
    import sys, time
    from pathlib import Path
    from support.turns import Turns
    Turns(Path(sys.argv[1])).take(alone=True)
    print("inside", flush=True)
    time.sleep(1000)
    """
    with subprocess.Popen(
        [sys.executable, "-c", "\n".join(line.strip() for line in code.splitlines()), tmp_path],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"inside\n"
        process.send_signal(signal.SIGKILL)
        three[0].take(alone=True)
        three[0].give()


def test_every_test_has_its_turn() -> None:
    """And so has this one; the pytests that it starts need none."""
    assert INSIDE in os.environ
    with closing(Turns(native.built_directory())):
        room = os.open(native.built_directory() / "room", os.O_RDWR)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(room, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(room)


def run_pytest(*arguments: str, cwd: Path) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_groups_are_kept_together(tmp_path: Path) -> None:
    """Not every pytest-xdist does so with every pytest: it is the lock that sees to it."""
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "@pytest.mark.xdist_group('together')\n"
        "@pytest.mark.parametrize('n', range(8))\n"
        "def test_it(n): pass\n"
    )
    lines = run_pytest("-n2", "--dist", "loadgroup", "-v", cwd=tmp_path)
    workers = {line.split()[0] for line in lines if "PASSED" in line}
    assert len(workers) == 1, lines


@pytest.mark.parametrize("workers", ["0", "1"])
def test_what_was_left_out_is_told_at_the_end(workers: str) -> None:
    some = ("-k", "leaks or minute", "tests/soak/test_soak.py")
    lines = run_pytest("-n", workers, "-m", "not stress and not slow", *some, cwd=ROOT)
    assert lines[-2] == "left to `make check`: 2 slow tests"
    assert " 1 passed" in lines[-1]


def test_what_is_built_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes while it is being built waits for it; what did not come to its end is not taken for built."""
    monkeypatch.setattr(native, "built_directory", lambda: tmp_path)
    begun, go_on, built = threading.Event(), threading.Event(), []

    def build(target: Path) -> None:
        begun.set()
        go_on.wait()
        target.write_text("built")
        built.append(target)

    threads = [threading.Thread(target=native.build_once, args=("it", build)) for _ in range(3)]
    threads[0].start()
    begun.wait()
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: waiting(tmp_path / "it.lock") == 2)
    assert not (tmp_path / "it").exists()
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert (tmp_path / "it").read_text() == "built"


def test_what_is_built_has_another_name_when_it_is_of_something_else(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("same")
    other.write_text("same")
    names = [
        native.digest([one]),
        native.digest([other]),
        native.digest([one, other]),
        native.digest([one], "-O2"),
    ]
    assert len(set(names)) == 4
    assert native.digest([one]) == names[0]
    one.write_text("changed")
    assert native.digest([one]) != names[0]


def test_a_child_has_its_parents_turn() -> None:
    assert run_python(f"import os; print({INSIDE!r} in os.environ)").check().stdout == "True\n"
