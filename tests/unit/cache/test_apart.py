"""A cache that listens for pressure, beside programs that close all descriptors, have no thread to give, or end."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.processes import run_python


@pytest.fixture
def fifo() -> Iterator[str]:
    """What stands for the kernel: a service manager's FIFO. In a directory that anybody may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        os.mkfifo(f"{directory}/fifo")
        os.chmod(f"{directory}/fifo", 0o666)
        yield f"{directory}/fifo"


@pytest.mark.parametrize("how", ["close", "drop", "fork", "c_fork", "pressure", "exit"])
def test_the_programs_files_on_our_numbers(fifo: str, how: str) -> None:
    """The bad schedule: all descriptors are closed, the program's files get their numbers, and the library then writes
    to, reads from or closes what it takes for its own.
    """

    def child(fifo: str, how: str) -> None:
        import gc
        import os
        import threading

        import mvolatile as mv
        from mvolatile.cache.engine import engine_of
        from support.c_fork import c_fork

        told = threading.Event()
        cache = mv.VolatileCache(name="c")
        engine = engine_of(cache)
        give_way = engine.under_pressure
        engine.under_pressure = lambda: (give_way(), told.set())  # type: ignore[method-assign, assignment]
        del engine
        cache["k"] = b"v" * 1000
        os.closerange(3, 4096)
        mine = [os.open(f"{fifo}.{i}", os.O_CREAT | os.O_RDWR) for i in range(40)]
        for fd in mine:
            os.write(fd, b"precious")
        assert cache.get("k") == b"v" * 1000

        def check() -> None:
            for fd in mine:
                assert os.lseek(fd, 0, os.SEEK_CUR) == 8
                assert os.pread(fd, 100, 0) == b"precious"

        if how == "close":
            cache.close()
        elif how == "drop":
            del cache
            gc.collect()
        elif how in ("fork", "c_fork"):
            if (pid := c_fork() if how == "c_fork" else os.fork()) == 0:
                check()
                cache["child"] = b"w" * 1000
                cache.close()
                check()
                os._exit(0)
            assert os.waitpid(pid, 0) == (pid, 0)
        elif how == "pressure":
            writer = os.open(fifo, os.O_WRONLY)
            for _ in range(3):
                told.clear()
                while not told.wait(0.1):
                    os.write(writer, b"now")
        check()
        if how != "drop":
            cache["after"] = b"a" * 1000
            assert cache.get("after", b"a" * 1000) == b"a" * 1000 if how != "close" else True
        check()

    code = run_python(child, fifo, how, env={"MEMORY_PRESSURE_WATCH": fifo})
    if how == "close":
        assert "nothing can be stored" in code.stderr
    else:
        code.check()
    for path in Path(fifo).parent.glob("fifo.*"):
        assert path.read_bytes() == b"precious"


def test_no_thread_to_be_had(fifo: str) -> None:
    """What was made is returned and stored; a warning says once what goes without; and when there are threads again, it
    listens.
    """

    def child(fifo: str) -> None:
        import os
        import resource
        import threading
        import warnings

        import mvolatile as mv
        from mvolatile.cache import decorated, pressure  # who is nobody may not be able to load it afterwards
        from mvolatile.cache.engine import engine_of

        assert decorated
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))

        @mv.volatile_cache()
        def double(x: int) -> bytes:
            return bytes(2 * x)

        lost: list[Any] = []
        cache = mv.VolatileCache(on_lost=lost.extend)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert double(50) == bytes(100)
            cache["k"] = b"v"
            assert cache["k"] == b"v"
            assert double(50) == bytes(100)
            assert double.cache_info().hits == 1
        assert [warning.category for warning in said] == [mv.NoThreadWarning], said
        assert "not told of memory pressure" in str(said[0].message)

        if mv.features().can_purge:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                engine_of(cache).change(engine_of(cache).store.seal_all)
                cache.purge()
                assert cache.get("k") is None
                assert cache.get("k") is None
            assert ["on_lost" in str(warning.message) for warning in said] == [True], said
        assert threading.enumerate() == [threading.main_thread()]

        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
        cache["l"] = b"v"
        assert threading.enumerate() == [threading.main_thread()], "at once is not after a while"
        pressure._refused_until = engine_of(cache).notices._refused_until = 0  # type: ignore[union-attr]
        cache["m"] = b"v"
        names = {thread.name for thread in threading.enumerate()}
        assert "mvolatile-cache" in names, names
        while mv.features().can_purge and lost != ["k"]:
            pass
        cache.close()

    run_python(child, fifo, env={"MEMORY_PRESSURE_WATCH": fifo}).check()


def test_where_warnings_are_errors_the_value_is_returned_and_stored(fifo: str) -> None:
    def child() -> None:
        import _thread
        import warnings

        import mvolatile as mv

        warnings.simplefilter("error")
        _thread.start_new_thread = lambda function, args: None  # type: ignore[assignment]
        cache = mv.VolatileCache()
        assert cache.get_or_set("k", lambda: b"v") == b"v"
        assert cache["k"] == b"v"

    run_python(child, env={"MEMORY_PRESSURE_WATCH": fifo}).check()


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_green_threads(fifo: str, library: str) -> None:
    """One that waited in the core would have all of them wait, and eventlet takes `select.poll` away."""
    if (
        importlib.util.find_spec(library) is None
    ):  # to import eventlet here would have every fork after it warn
        pytest.skip(f"pip install 'mvolatile[libraries]' for {library}")
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("greenlets copy parts of the stack, which the address sanitizer takes for faults")

    def child(library: str) -> None:
        import warnings

        warnings.simplefilter("ignore")
        if library == "gevent":
            from gevent import monkey, sleep, spawn

            monkey.patch_all()
        else:
            from eventlet import monkey_patch, sleep, spawn

            monkey_patch()
        import mvolatile as mv

        warnings.simplefilter("always", mv.NoThreadWarning)
        made = []

        @mv.volatile_cache()
        def double(x: int) -> bytes:
            made.append(x)
            sleep(0.01)
            return bytes(2 * x)

        green = [spawn(double, 50) for _ in range(5)]
        assert [(one.get if library == "gevent" else one.wait)() for one in green] == [bytes(100)] * 5
        assert made == [50]
        cache = mv.VolatileCache()
        cache["k"] = b"v"
        assert cache["k"] == b"v"
        cache.close()

    done = run_python(child, library, env={"MEMORY_PRESSURE_WATCH": fifo}).check()
    assert done.stderr.count("NoThreadWarning") == 1, done


@pytest.mark.parametrize("where", ["atexit", "a thread that outlives main", "a finalizer of the module"])
def test_a_store_at_the_interpreters_end(fifo: str, where: str) -> None:
    """Python 3.12 and later start no thread then."""

    def child(where: str) -> None:
        import atexit
        import builtins
        import threading

        import mvolatile as mv

        @mv.volatile_cache()
        def double(x: int) -> bytes:
            return bytes(2 * x)

        cache = mv.VolatileCache()

        def last() -> None:
            assert double(50) == bytes(100)
            assert double(50) == bytes(100)
            cache["k"] = b"v"
            assert cache["k"] == b"v"
            cache.close()
            print("stored", flush=True)

        if where == "atexit":
            atexit.register(last)
        elif where == "a finalizer of the module":

            class Late:
                def __del__(self, last=last) -> None:  # type: ignore[no-untyped-def]
                    last()

            builtins.late = Late()  # type: ignore[attr-defined]
        else:
            main = threading.main_thread()
            threading.Thread(target=lambda: (main.join(), last())).start()

    done = run_python(child, where, env={"MEMORY_PRESSURE_WATCH": fifo}).check()
    assert done.stdout == "stored\n", done
    assert done.stderr == "", done


def test_a_cache_that_goes_after_the_names_of_its_module() -> None:
    """As at the end of an interpreter without a GIL, which clears modules first."""

    def child() -> None:
        import mvolatile as mv
        from mvolatile.cache import cache as module

        cache = mv.VolatileCache()
        cache["k"] = b"v"
        for name in [name for name in vars(module) if not name.startswith("__")]:
            if name not in ("pressure", "give_back_kept"):  # before the end these are asked
                vars(module)[name] = None
        del cache

    assert run_python(child).check().stderr == ""


def test_what_one_cache_raises_is_not_the_others_affair(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from mvolatile.cache import pressure

    told: list[Any] = []
    raised: list[Any] = []

    class Good:
        def under_pressure(self) -> None:
            told.append(self)

    class Bad:
        def under_pressure(self) -> None:
            raise MemoryError

    listeners = [Good(), Bad(), Good()]
    monkeypatch.setattr(threading, "excepthook", raised.append)
    monkeypatch.setattr(pressure, "listeners", dict(enumerate(listeners)))
    pressure.tell_all()
    assert len(told) == 2
    assert [args.exc_type for args in raised] == [MemoryError]
