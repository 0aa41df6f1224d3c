"""A file of the library's, written beside a program that closes all descriptors and opens files of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mvolatile.kernel import files
from support.processes import run_python


def test_it_is_written_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for text in ("one", "", "ä" * 300_000, "two"):
        files.replace(path, text)
        assert path.read_text() == text
    assert [name.name for name in tmp_path.iterdir()] == ["file"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_where_it_cannot_be_all_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        files.replace(tmp_path / "none" / "file", "text")
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        files.replace(path, "text")
    assert [name.name for name in tmp_path.iterdir()] == ["file"]
    path.rmdir()
    target = tmp_path / "program's"
    target.write_text("own")
    (tmp_path / "file.new").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        files.replace(path, "text")
    assert target.read_text() == "own"


def test_a_full_disk_leaves_no_half(tmp_path: Path) -> None:
    def child(path: str) -> None:
        import pytest

        from mvolatile.kernel import files

        files.replace(path, "whole")
        with open(f"{path}.fill", "wb", 0) as file, pytest.raises(OSError):
            while True:
                file.write(bytes(4096))
        with pytest.raises(OSError, match="No space"):
            files.replace(path, "x" * 10_000)
        assert files.read(path) == "whole"
        assert not files.read(f"{path}.new")

    own = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    own += [f'mount -t tmpfs -o size=64k none {tmp_path} && exec "$@"', "sh"]
    if subprocess.run([*own, "true"], capture_output=True).returncode:
        pytest.skip("no file system of 64 KiB is to be had")
    run_python(child, str(tmp_path / "file"), wrap=lambda argv: [*own, *argv]).check()


def test_no_descriptor_of_the_program_is_met(tmp_path: Path) -> None:
    """It closes all that there are and opens files of its own, again and again; none of them is written into or closed.
    Nor is one wanted, where it has no more.
    """

    def child(directory: str) -> None:
        import os
        import resource
        import threading

        from mvolatile.kernel import files

        over = threading.Event()

        def write() -> None:
            while not over.is_set():
                files.replace(f"{directory}/ours", "o" * 5000)

        thread = threading.Thread(target=write)
        thread.start()
        for turn in range(3000):
            os.closerange(3, 20)
            opened = [
                os.open(f"{directory}/{turn % 2}{number}", os.O_CREAT | os.O_RDWR) for number in range(6)
            ]
            for number, fd in enumerate(opened):
                assert os.fstat(fd).st_ino == os.stat(f"{directory}/{turn % 2}{number}").st_ino
                assert os.fstat(fd).st_size == 0
        over.set()
        thread.join()
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 4096))
        files.replace(f"{directory}/ours", "last")
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        assert files.read(f"{directory}/ours") == "last"

    run_python(child, str(tmp_path)).check()


def test_in_a_sandbox_that_does_not_know_the_call(tmp_path: Path) -> None:
    def child(path: str) -> None:
        import errno

        from mvolatile.kernel import files
        from support.seccomp import refuse

        refuse(436, errno.ENOSYS)  # close_range
        files.replace(path, "text")
        assert files.read(path) == "text"

    run_python(child, str(tmp_path / "file")).check()
    assert os.listdir(tmp_path) == ["file"]
