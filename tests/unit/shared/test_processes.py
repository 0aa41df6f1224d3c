"""Several processes: forked, spawned, killed; keepers that start, linger, hang and die."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from mvolatile import SharedCache
from mvolatile.shared.place import Place
from support import sharing as workers
from support.keepers import in_child, keeper_pid, kill_keeper, until
from support.processes import run_python

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
        enough = cache.keeper_info()["stores"] + 50
        until(lambda enough=enough: cache.keeper_info()["stores"] > enough)  # type: ignore[misc]
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
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)  # else each store waits twice for the reader to have had its 5 ms
    try:
        thread.start()
        for i in range(1, 3300):  # it moves at 3072
            cache["hot"] = str(i)
            newest[0] = i
            cache[i] = i
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert not wrong
    assert other._access.connections.attachment is not None
    assert other["hot"] == "3299"
    assert all(other[i] == i for i in range(1, 3300, 97))


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
                    assert cache.get_or_set(("m", i), partial(int, i)) == i
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
