"""Where the limit comes from, who looks at it, and when that ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mvolatile import _core
from mvolatile.kernel.smaps import usage_by_name
from support.processes import run_python

pytestmark = pytest.mark.skipif(_core.tier() != "userfaultfd", reason="this kernel has one tier at most")


def test_the_environment_sets_it_and_a_wrong_one_is_told() -> None:
    program = """
        import mvolatile as mv
        mv.VolatileMemory(4096)
        print(mv.memory_usage().limit)
    """
    assert run_python(program, env={"MVOLATILE_RESIDENT_LIMIT": "64MiB"}).check().stdout == f"{64 << 20}\n"
    assert run_python(program, env={"MVOLATILE_RESIDENT_LIMIT": "none"}).check().stdout == "None\n"
    wrong = run_python(program, env={"MVOLATILE_RESIDENT_LIMIT": "a lot"})
    assert wrong.returncode == 1
    assert "ValueError: MVOLATILE_RESIDENT_LIMIT must be a size" in wrong.stderr


def test_it_is_told_before_anything_is_stored() -> None:
    program = "import mvolatile as mv; print(mv.memory_usage().limit)"
    assert run_python(program, env={"MVOLATILE_RESIDENT_LIMIT": "64MiB"}).check().stdout == f"{64 << 20}\n"


def test_what_is_set_holds_at_once_and_more_than_there_can_be_is_any() -> None:
    """A share, right after another. And an error changes nothing: no store fails for it."""

    def child() -> None:
        import pytest

        import mvolatile as mv

        limits = []
        for share in ("80%", "20%", "100%"):
            mv.set_resident_limit(share)
            limits.append(mv.memory_usage().limit or 0)
        assert limits[1] * 4 in range(limits[0] - 8, limits[0] + 8)
        assert limits[1] < limits[0] < limits[2]
        with pytest.raises(ValueError, match="the limit must be"):
            mv.set_resident_limit("a lot")
        assert mv.memory_usage().limit == limits[2]
        for most in (1 << 70, "99999999T"):
            mv.set_resident_limit(most)
            cache: mv.VolatileCache[int, bytes] = mv.VolatileCache(max_resident=most)
            cache[1] = b"x"
            assert cache[1] == b"x"

    run_python(child).check()


def test_a_share_is_of_the_container_and_follows_it() -> None:
    from mvolatile.kernel.cgroup import ChildCgroup
    from support.cgroups import why_not

    if why := why_not():
        pytest.skip(why)

    def child() -> None:
        import sys

        import mvolatile as mv

        mv.set_resident_limit("25%")
        cache: mv.VolatileCache[int, bytes] = mv.VolatileCache()
        for key in range(100):
            cache[key] = b"c" * 1_000_000
        print(mv.memory_usage().limit, flush=True)
        sys.stdin.readline()
        while mv.memory_usage().limit != 16 << 20 or mv.memory_usage().volatile > 16 << 20:
            pass  # a thread looks, and nothing is stored
        print("followed", flush=True)

    from support.processes import command

    with ChildCgroup(128 << 20) as cgroup:
        process = subprocess.Popen(
            cgroup.wrap(command(child)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ},
        )
        with process:
            assert process.stdout is not None
            assert process.stdin is not None
            try:
                assert process.stdout.readline() == f"{32 << 20}\n"
                cgroup.set_limit(64 << 20)
                process.stdin.write("\n")
                process.stdin.flush()
                assert process.stdout.readline() == "followed\n"
            finally:
                process.stdin.close()
                process.kill()


def test_where_no_thread_is_to_be_had_a_warning_says_so() -> None:
    def child() -> None:
        import threading
        import warnings

        import mvolatile as mv

        def refuse(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        threading.Thread.start = refuse  # type: ignore[method-assign]
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            mv.set_resident_limit(1 << 20)
            mv.set_resident_limit(2 << 20)
        assert [one.category for one in told] == [mv.NoThreadWarning], told

    run_python(child).check()


def test_the_thread_ends_with_the_limit() -> None:
    def child() -> None:
        import threading
        import time

        import mvolatile as mv

        def threads() -> list[str]:
            return [thread.name for thread in threading.enumerate() if thread.name == "mvolatile-residence"]

        mv.set_resident_limit(1 << 20)
        assert len(threads()) == 1
        mv.set_resident_limit(2 << 20)
        assert len(threads()) == 1
        mv.set_resident_limit(None)
        while threads():
            time.sleep(0.01)
        mv.set_resident_limit(1 << 20)
        assert len(threads()) == 1

    run_python(child).check()


@pytest.mark.skipif(sys.flags.optimize > 0, reason="asserts in the child")
def test_many_opened_and_closed_leave_nothing_counted() -> None:
    def child() -> None:
        import gc

        import mvolatile as mv
        from mvolatile import _core

        for size in (100, 4096, 100_000, 3 << 20):
            for _ in range(20):
                memory = mv.VolatileMemory(size)
                memory.write(b"x" * size)
                with memory.pin(write=True):
                    pass
                memory.close()
        cache: mv.VolatileCache[int, bytes] = mv.VolatileCache()
        for key in range(200):
            cache[key % 50] = b"v" * (key * 2_000)
        cache.close()
        del cache, memory
        gc.collect()
        _core.give_back_kept()
        assert _core.residence()[0] == 0, _core.residence()

    run_python(child).check()


def test_a_keeper_has_one(tmp_path: Path) -> None:
    from mvolatile import SharedCache

    argv = [sys.executable, "-m", "mvolatile", "keep", "limited", "--max-resident", "16MB"]
    environment = {**os.environ, "MVOLATILE_RUNTIME_DIR": str(tmp_path)}
    with subprocess.Popen(argv, env=environment) as process:
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MVOLATILE_RUNTIME_DIR", str(tmp_path))
                while not list(tmp_path.glob("limited.*.sock")):
                    assert process.poll() is None
                with SharedCache[int, bytes]("limited") as cache:
                    for key in range(60):
                        cache[key] = bytes([key]) * 1_000_000
                        there = sum(usage.resident for usage in usage_by_name(process.pid))
                        assert there <= 16_000_000
                    got = [cache.get(key) for key in range(60)]
                    assert cache.keeper_info()["pid"] == process.pid
        finally:
            process.terminate()
    assert [key for key in range(60) if got[key] not in (None, bytes([key]) * 1_000_000)] == []
    assert 4 <= sum(value is not None for value in got) <= 16
