"""Figures in a file for others: there for as long as who told them, and nobody else's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mvolatile.kernel.lives import namespace
from mvolatile.metrics import published
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
    (directory / f"1.{namespace()}.figures").write_text('{"pid": 1, "st')
    later = directory / f"{os.getpid()}.{namespace()}.figures"
    later.write_text(json.dumps({"pid": os.getpid(), "began": 1, "stack": 0, "time": 0, "figures": []}))
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
        assert [
            name for name in os.listdir(os.environ["MVOLATILE_RUNTIME_DIR"]) if not name.endswith(".new")
        ] == []

    run_python(child, env={"MVOLATILE_RUNTIME_DIR": str(directory)}).check()


def test_others_directories_are_refused(directory: Path) -> None:
    directory.chmod(0o755)
    done = run_python(
        "import mvolatile.metrics as m; m.publish()", env={"MVOLATILE_RUNTIME_DIR": str(directory)}
    )
    assert "others may enter it" in done.stderr
    assert done.returncode == 1


@contextmanager
def program(code: str, *wrap: str) -> Iterator[subprocess.Popen[str]]:
    """One that says that it is up, and waits for a line."""
    with subprocess.Popen(
        [*wrap, sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.communicate("\n")


def test_a_program_that_gave_its_place_to_another_is_over(directory: Path) -> None:
    """Number and time of start stay over an exec."""
    code = """
import os
from mvolatile.metrics import publish
publish()
os.execlp("sh", "sh", "-c", "echo up; read line")
"""
    with program(code) as process:
        assert [path.name.split(".")[0] for path in directory.iterdir()] == [str(process.pid)]
        assert published() == []
        assert list(directory.iterdir()) == []


def test_a_program_in_its_own_place_tells_of_itself(directory: Path) -> None:
    code = """
import os, sys
import mvolatile as mv
from mvolatile.metrics import publish
cache = mv.VolatileCache(name=os.environ.get("AGAIN", "first"))
publish()
if "AGAIN" not in os.environ:
    os.environ["AGAIN"] = "again"
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], sys.argv[1]])
print("up", flush=True)
input()
"""
    with program(f"import sys; code = {code!r}; sys.argv = ['', code]; exec(code)") as process:
        (told,) = published()
        assert (told["pid"], [one["name"] for one in told["figures"]]) == (process.pid, ["again"])


def test_who_begins_removes_what_the_dead_left(directory: Path) -> None:
    """Children that end by `os._exit` leave a file each: as many as process numbers, where nobody reads."""
    run_python("import os; from mvolatile.metrics import publish; publish(); os._exit(0)").check()
    (left,) = directory.iterdir()
    run_python(
        f"import os; from mvolatile.metrics import publish; publish(); assert not os.path.exists({str(left)!r})"
    ).check()


def test_who_is_of_another_pid_namespace_is_let_be(directory: Path) -> None:
    """Containers that share the directory: process 1 of one is not process 1 of the other."""
    wrap = ["unshare", "--fork", "--pid", "--mount-proc"]
    if subprocess.run([*wrap, "true"], capture_output=True).returncode:
        pytest.skip("no pid namespace is to be had")
    with program(LIVING, *wrap), program(LIVING, *wrap):
        assert published() == []
        names = sorted(path.name for path in directory.iterdir() if path.suffix != ".new")
        assert [name.split(".")[0] for name in names] == ["1", "1"], names
        old = time.time() - 7200
        os.utime(directory / names[0], (old, old))
        published()  # who is there writes it again within a second
    (directory / "1.1.figures").touch()
    os.utime(directory / "1.1.figures", (old, old))
    published()
    assert not (directory / "1.1.figures").exists()


def test_no_descriptor_is_no_death(directory: Path) -> None:
    """Neither is anything raised, nor is the file of somebody who lives removed."""

    def child() -> None:
        import contextlib
        import os
        import resource

        from mvolatile.metrics import publish, published

        directory = os.environ["MVOLATILE_RUNTIME_DIR"]
        publish()
        before = os.listdir(directory)
        for spare in range(4):
            resource.setrlimit(resource.RLIMIT_NOFILE, (3 + spare, 4096))
            with contextlib.suppress(OSError):
                published()
            publish()
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
            assert [name for name in os.listdir(directory) if not name.endswith(".new")] == before
        (told,) = published()
        assert told["pid"] == os.getpid()

    run_python(child).check()
