"""Several processes: forked, spawned, killed; keepers that start, linger, hang and die."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mvolatile.shared.connection as connection
from mvolatile import SharedCache
from mvolatile.shared.place import Place
from support import sharing as workers
from support.keepers import in_child, is_free, keeper_pid, kill_keeper, until
from support.processes import command, run_python

Cache = SharedCache[Any, Any]
Make = Callable[..., Cache]


@pytest.fixture
def marks() -> Iterator[tuple[int, ...]]:
    """Two pipes, as descriptors that children inherit: what they tell, and what lets them go on."""
    ends = (*os.pipe(), *os.pipe())
    for one in ends:
        os.set_inheritable(one, True)
    yield ends
    for one in ends:
        os.close(one)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_every_kind(cache: Cache, method: str) -> None:
    cache["a"] = {"some": "value"}

    def program(method: str) -> None:
        import multiprocessing

        from mvolatile import SharedCache
        from support import sharing

        with SharedCache("test") as cache, multiprocessing.get_context(method).Pool(2) as pool:
            got = pool.starmap(sharing.get, [(cache, "a")] * 6, chunksize=1)
            assert got == [{"some": "value"}] * 6
            pool.close()
            pool.join()

    run_python(program, method).check()
    assert sum(value == b"was here" for value in cache.values()) >= 1


def test_a_program_of_its_own(cache: Cache) -> None:
    cache["a"] = 1

    def program() -> None:
        from mvolatile import SharedCache

        with SharedCache("test") as cache:
            assert cache["a"] == 1
            cache["b"] = [cache.keeper_info()["clients"]]

    run_python(program).check()
    assert cache["b"] == [2]
    assert until(lambda: cache.keeper_info()["clients"] == 1)


def test_forked_inside_everything(cache: Cache) -> None:
    """19: the child closes all, has a connection of its own, and the parent's goes on."""
    cache["a"] = b"x" * 200_000
    stop = threading.Event()
    errors: list[object] = []

    def read() -> None:
        while not stop.is_set():
            if cache.get("a") != b"x" * 200_000:
                errors.append("lost")
            cache.incr("n", default=0)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()

    def child() -> None:
        assert cache["a"] == b"x" * 200_000
        cache["child"] = cache.incr("children", default=0)
        os.closerange(3, 4096)
        assert cache["a"] == b"x" * 200_000
        cache["child"] = 2
        assert cache["child"] == 2

    def grandchildren() -> None:
        in_child(lambda: cache.set("grandchild", os.getppid()))
        assert cache["grandchild"] == os.getpid()

    for _ in range(10):
        in_child(child)
    in_child(grandchildren)
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert cache["children"] == 10
    assert cache["n"] > 0


def test_all_descriptors_are_closed_and_taken(cache: Cache) -> None:
    """20: by the program, whose own files have the numbers then."""
    cache["a"] = b"value"
    cache["large"] = bytes(100_000)

    def child() -> None:
        import socket

        kept = []  # their finalizers would close what has their numbers by then
        for _ in range(3):
            os.closerange(3, 256)
            taken = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(20)]
            kept.append(taken)
            for one in taken:
                for end in one:
                    end.setblocking(False)
            assert cache["a"] == b"value"
            cache["b"] = 1
            cache["large"] = bytes(100_000)
            assert cache["b"] == 1
            for one in taken:
                for end in one:
                    with pytest.raises(BlockingIOError):
                        end.recv(10)

    in_child(child)


def test_a_killed_maker_has_an_heir_at_once(cache: Cache, marks: Any) -> None:
    """28: also where a child of the maker's has its sockets."""
    context = multiprocessing.get_context("fork")
    maker = context.Process(target=workers.fork_and_die, args=("test", marks))
    maker.start()
    assert os.read(marks[0], 5) == b"began"
    assert cache.get_or_set("k", lambda: "made here") == "made here"
    assert cache["k"] == "made here"
    maker.join()
    assert maker.exitcode == -signal.SIGKILL
    os.write(marks[3], b"1")
    assert cache.keeper_info()["making"] == 0


def test_once_on_a_host(cache: Cache, marks: Any) -> None:
    cache["x"] = 1
    context = multiprocessing.get_context("fork")
    with context.Pool(4) as pool:
        waiting = [pool.apply_async(workers.make_slowly, ("test", marks)) for _ in range(4)]
        assert os.read(marks[0], 5) == b"began"
        until(lambda: cache.keeper_info()["connections"] >= 2 + 2 + 3)
        os.write(marks[3], b"1")
        made = {one.get(200) for one in waiting}
        assert len(made) == 1
        os.set_blocking(marks[0], False)
        with pytest.raises(BlockingIOError):
            os.read(marks[0], 5)
        pool.close()
        pool.join()
    assert cache["k"] in made


def test_clients_that_are_killed_leave_nothing(cache: Cache) -> None:
    """15."""
    cache["a"] = 1
    context = multiprocessing.get_context("fork")
    before = None
    for round_ in range(12):
        writers = [
            context.Process(target=workers.write_for_ever, args=("test", round_ * 10 + i)) for i in range(2)
        ]
        for one in writers:
            one.start()
        stores = cache.keeper_info()["stores"]
        until(lambda stores=stores: cache.keeper_info()["stores"] > stores + 50)
        for one in writers:
            one.kill()
            one.join()
            one.close()
        until(lambda: cache.keeper_info()["clients"] == 1)
        told = cache.keeper_info()
        assert told["making"] == 0
        descriptors = len(os.listdir(f"/proc/{told['pid']}/fd"))
        before = before or descriptors
        assert descriptors <= before
    for key, value in cache.items():
        if isinstance(key, int):
            assert value[0] == key
    assert cache["a"] == 1


def test_a_thousand_connections_that_end(cache: Cache) -> None:
    cache["a"] = 1
    place = Place("test")
    channels = [place.connect() for _ in range(300)]
    assert cache["a"] == 1
    assert until(lambda: cache.keeper_info()["connections"] == 302)
    channels.clear()
    assert until(lambda: cache.keeper_info()["connections"] == 2)


def test_it_lingers_and_ends(make: Make, runtime: Path) -> None:
    cache = make(linger=0.2)
    cache["a"] = 1
    cache.close()
    again = make(linger=0.2)
    assert again["a"] == 1
    again.close()
    until(lambda: is_free(Place("test").path("lock")))
    assert not Place("test").path("sock").exists()
    new = make()
    assert new.get("a") is None
    assert keeper_pid("test") is None
    new["a"] = 2
    assert new["a"] == 2


def test_many_first_clients_start_one_keeper(runtime: Path) -> None:
    """16."""
    program = """
    import sys
    from mvolatile import SharedCache
    cache = SharedCache("test")
    cache[sys.argv[1]] = 1
    print(cache.keeper_info()["pid"])
    """
    first = [
        subprocess.Popen([*command(program), str(i)], stdout=subprocess.PIPE, text=True) for i in range(6)
    ]
    said = {one.communicate(timeout=200)[0].strip() for one in first}
    assert said == {str(keeper_pid("test"))}


def test_a_keeper_that_ends_while_clients_connect(make: Make) -> None:
    """16, the other half: none of the stores is lost on the way, whichever keeper hears it."""
    for _ in range(15):
        cache = make(linger=0)
        cache["a"] = 1
        assert cache.get("a") == 1
        pid = keeper_pid("test")
        cache.close()
        other = make(linger=0)
        other["b"] = 2
        assert other["b"] == 2
        assert pid is not None
        other.close()


def test_a_stopped_keeper_is_killed(cache: Cache, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """32: what it cannot be told to forget is forgotten."""
    monkeypatch.setattr(connection, "PATIENCE", 300)
    other = make()
    cache["a"] = b"old"
    assert other["a"] == b"old"
    pid = keeper_pid("test")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert other["a"] == b"old"  # nobody changed it
    assert not cache.delete_many(["a"])
    assert other.get("a") is None
    cache["a"] = b"new"
    assert other["a"] == b"new"
    assert keeper_pid("test") != pid


def test_a_stopped_keeper_that_may_not_be_killed(
    cache: Cache, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """32: another pid namespace's. What it cannot be told is no success: others read the old value still."""
    monkeypatch.setattr(connection, "PATIENCE", 50)
    monkeypatch.setattr(connection, "ENDING", 0.2)
    monkeypatch.setattr(connection, "end_hung", lambda channel: None)
    other = make()
    cache["a"] = b"old"
    assert other["a"] == b"old"
    pid = keeper_pid("test")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    for change in (
        lambda: cache.set("a", b"new"),
        lambda: cache.delete_many(["a"]),
        cache.clear,
        lambda: cache.touch("a", 5),
    ):
        with pytest.raises(TimeoutError):
            change()
    assert other["a"] == b"old"
    os.kill(pid, signal.SIGCONT)
    until(lambda: other.get("a") in (None, b"new"))  # it hears then what it was told


def test_a_store_that_was_given_up_comes_before_the_next(
    cache: Cache, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """33: it waits at the keeper still, in a connection that is closed, when the next one comes in another."""
    monkeypatch.setattr(connection, "ENDING", 0.0)
    monkeypatch.setattr(connection, "end_hung", lambda channel: None)
    other = make()
    for i in range(10):
        cache["a"] = b"old"
        pid = keeper_pid("test")
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(connection, "PATIENCE", 20)
        with pytest.raises(TimeoutError):
            cache["a"] = b"given up"
        monkeypatch.setattr(connection, "PATIENCE", 100_000)
        thread = threading.Thread(target=cache.set, args=("a", b"new %d" % i))
        thread.start()
        os.kill(pid, signal.SIGCONT)
        thread.join(100)
        assert other["a"] == b"new %d" % i
    assert until(lambda: cache.keeper_info()["connections"] <= 5)
    assert other["a"] == b"new 9"


def test_sigterm_ends_it_cleanly(cache: Cache) -> None:
    cache["a"] = 1
    pid = keeper_pid("test")
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    until(lambda: is_free(Place("test").path("lock")))
    assert not Place("test").path("sock").exists()
    assert cache.get("a") is None
    cache["a"] = 2
    assert cache["a"] == 2


def test_a_keeper_whose_directory_was_emptied_ends(cache: Cache, runtime: Path) -> None:
    cache["a"] = 1
    pid = keeper_pid("test")
    process = os.pidfd_open(pid)
    for path in runtime.glob("test.*"):
        path.unlink()
    import select

    assert select.select([process], [], [], 200)[0]
    os.close(process)
    cache["a"] = 2
    assert cache["a"] == 2


def test_the_keeper_inherits_nothing(cache: Cache, tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file:
        os.set_inheritable(file.fileno(), True)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            cache["a"] = 1
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        pid = keeper_pid("test")
        files = [os.readlink(f"/proc/{pid}/fd/{one}") for one in os.listdir(f"/proc/{pid}/fd")]
        assert not any(str(tmp_path) in one for one in files)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.getsid(pid) not in (os.getsid(0), 0)
        status = Path(f"/proc/{pid}/status").read_text()
        assert "SigBlk:\t0000000000000000" in status


def test_writers_and_readers_while_the_table_moves(cache: Cache, make: Make) -> None:
    """24: a reader never has what was overwritten before it began."""
    other = make()
    newest = [0]
    stop = threading.Event()
    wrong: list[Any] = []

    def read() -> None:
        while not stop.is_set():
            least = newest[0]
            value = other.get("hot")
            if value is None or int(value) < least:
                wrong.append((least, value))

    cache["hot"] = "0"
    thread = threading.Thread(target=read)
    thread.start()
    for i in range(1, 9000):
        cache["hot"] = str(i)
        newest[0] = i
        cache[i] = i
    stop.set()
    thread.join()
    assert not wrong
    assert other._access.connections.attachment is not None
    assert other["hot"] == "8999"
    assert all(other[i] == i for i in range(1, 9000, 97))


def test_interrupted_requests(cache: Cache) -> None:
    """The answer to one request is never taken for that of the next."""
    cache["a"] = 0

    def child() -> None:
        class StopError(Exception):
            pass

        working = False

        def handler(*_: Any) -> None:
            if working:
                raise StopError

        signal.signal(signal.SIGALRM, handler)
        stopped = 0
        for i in range(1000):
            try:
                working = True
                signal.setitimer(
                    signal.ITIMER_REAL, 0.0001 + (i % 50) * 0.00001, 0.001
                )  # one may come in a finalizer
                while True:
                    cache[i] = i
                    assert cache[i] == i
                    assert cache.get_or_set(("m", i), lambda i=i: i) == i
            except StopError:
                working = False
                stopped += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
        assert stopped == 1000
        cache["a"] = 1
        assert cache["a"] == 1

    in_child(child)
    assert cache["a"] == 1
    until(lambda: cache.keeper_info()["making"] == 0)


def test_cancelled_tasks(cache: Cache) -> None:
    import asyncio

    async def body() -> None:
        began = asyncio.Event()

        async def slow() -> int:
            began.set()
            await asyncio.sleep(1000)
            return 1

        other = pickle.loads(pickle.dumps(cache))
        maker = asyncio.create_task(cache.aget_or_set("k", slow))
        await began.wait()
        waiting = [asyncio.create_task(one.aget_or_set("k", lambda: 2)) for one in (cache, other)]
        stopped = asyncio.create_task(other.aget_or_set("k", lambda: 3))
        await asyncio.sleep(0.05)
        stopped.cancel()
        maker.cancel()
        assert await asyncio.gather(*waiting) == [2, 2]
        assert await other.aget_or_set("k", slow) == 2
        other.close()

    asyncio.run(body())
    assert cache["k"] == 2
    assert cache.keeper_info()["making"] == 0


def test_under_trio(cache: Cache) -> None:
    trio = pytest.importorskip("trio")

    async def body() -> None:
        got: list[int] = []
        made: list[int] = []

        async def factory() -> int:
            made.append(1)
            await trio.sleep(0.05)
            return 5

        other = pickle.loads(pickle.dumps(cache))

        async def one(which: Cache) -> None:
            got.append(await which.aget_or_set("k", factory))

        async with trio.open_nursery() as nursery:
            for which in (cache, other, cache, other):
                nursery.start_soon(one, which)
        assert got == [5] * 4
        assert made == [1]
        other.close()

    trio.run(body)


def test_no_wrong_value_while_the_keeper_is_killed(cache: Cache, make: Make) -> None:
    """14, 29: and no exception."""
    other = make()
    stop = threading.Event()
    wrong: list[Any] = []

    def work(one: Cache, seed: int) -> None:
        from random import Random

        random = Random(seed)
        try:
            while not stop.is_set():
                key = random.randrange(20)
                value = one.get(key)
                if value is not None and (value[0] != key or value[1] != bytes([key]) * value[2]):
                    wrong.append(value)
                size = random.choice([10, 5000, 70_000])
                one[key] = (key, bytes([key]) * size, size)
        except BaseException as error:
            wrong.append(error)
            raise

    threads = [threading.Thread(target=work, args=(one, i)) for i, one in enumerate((cache, other))]
    for thread in threads:
        thread.start()
    for _ in range(6):
        until(lambda: keeper_pid("test"))
        time.sleep(0.1)
        kill_keeper(cache)
    until(lambda: cache.get(0) is not None and other.get(1) is not None)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert sys.getrefcount(cache)
