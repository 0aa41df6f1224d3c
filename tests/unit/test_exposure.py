"""What others can reach: no file, socket or shared mapping of the library's, and no descriptor that a program run from
here would get.
"""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from mvolatile.kernel.cgroup import ChildCgroup
from support.processes import LONGEST, command, run_python

USE_EVERYTHING = """
import ctypes, mmap, os, sys, time
os.umask(0)
from pathlib import Path
import numpy as np
import mvolatile as mv
from mvolatile.kernel.smaps import mappings

def descriptors():
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try: found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
        except OSError: pass
    return found

from mvolatile.cache.engine import engine_of
before = descriptors()
shared = {(one.start, one.path) for one in mappings() if "sh" in one.flags}
memory = mv.VolatileMemory(1 << 20, "tiles"); memory.write(b"x" * (1 << 20)); memory.purge()
large = mv.VolatileMemory(4 << 20); large.write(b"x" * (4 << 20))
array = mv.array(np.arange(1000.0))
cache = mv.VolatileCache()
for i in range(1000): cache[i] = b"x" * 1000
cache["large"] = np.arange(100_000); engine_of(cache).change(engine_of(cache).store.seal_all); cache.set("one", 1)
area = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(area))
mv.mvolatile(address, 1 << 20, mv.MVOLATILE_VOLATILE)
mv.features(); mv.status()
"""

REPORT = """
for number, target in sorted(descriptors().items()):
    if before.get(number) == target: continue
    flags = int(Path(f"/proc/self/fdinfo/{number}").read_text().split("flags:")[1].split()[0], 8)
    print(number, int(bool(flags & os.O_CLOEXEC)), target)
assert not {(one.start, one.path) for one in mappings() if "sh" in one.flags} - shared
"""


def _files(*directories: Path) -> set[Path]:
    """Without multiprocessing's semaphores, which other programs make and remove; the library has none."""
    paths = (path for directory in directories for path in directory.rglob("*"))
    return {path for path in paths if not path.name.startswith("sem.mp-")}


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment in which a stray file would land in `tmp_path`."""
    place = str(tmp_path)
    return {"HOME": place, "TMPDIR": place, "XDG_CACHE_HOME": place, "XDG_RUNTIME_DIR": place}


def test_descriptors_are_closed_on_exec_and_only_ours(home: dict[str, str]) -> None:
    said = run_python(USE_EVERYTHING + REPORT, env=home).check().stdout.splitlines()
    assert said, "there are no descriptors, so this proves nothing"
    for line in said:
        _, closes, target = line.split(maxsplit=2)
        assert closes == "1", f"{target} would be inherited by every program run from here"
        assert "socket" not in target
        if target.startswith("/"):
            assert target.startswith(("/proc/", "/sys/")), target


def test_no_files_are_left_or_made(home: dict[str, str], tmp_path: Path) -> None:
    """Neither in the usual places nor in shared memory, even with a umask of 0."""
    before = _files(Path("/dev/shm"), tmp_path)
    here = f"import os; os.chdir({str(tmp_path)!r})\n"
    stay = "print('up', flush=True); input()"
    with subprocess.Popen(
        command(here + USE_EVERYTHING + stay),
        env={**os.environ, **home},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        made = _files(Path("/dev/shm"), tmp_path) - before
        process.communicate("\n", LONGEST)
    assert process.returncode == 0
    assert made == set()
    assert _files(tmp_path) == set()


def test_a_program_run_from_here_gets_nothing() -> None:
    show = "import os; print(*(os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')[:-1]))"
    code = (
        USE_EVERYTHING
        + f"import subprocess\nsubprocess.run([sys.executable, '-c', {show!r}], close_fds=False)"
    )
    said = run_python(code).check().stdout
    assert "userfaultfd" not in said
    assert "/proc/" not in said.replace(f"/proc/{os.getpid()}", "")


def test_a_child_cgroup_is_not_for_others(needs_cgroup: None) -> None:
    before = os.umask(0)
    try:
        with ChildCgroup(64 << 20) as cgroup:
            for path in [cgroup.path, *cgroup.path.iterdir()]:
                # The kernel lets anybody ask v1 for events; it checks the descriptors that are handed in.
                if path.name != "cgroup.event_control":
                    assert not path.stat().st_mode & stat.S_IWOTH, path
    finally:
        os.umask(before)
