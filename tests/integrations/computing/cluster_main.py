"""What must hold in workers of a real cluster, one function each; prints what failed, by name, as JSON.

In a process of its own: distributed keeps threads and sockets for as long as its process lives.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client, LocalCluster

import mvolatile as mv
from integrations.computing import tasks
from integrations.computing.notes import made, note
from mvolatile.integrations.dask import SharedCachePlugin, shared_cache
from support.keepers import until


@contextmanager
def registered(client: Client, *given: Any, **parameters: Any) -> Iterator[SharedCachePlugin]:
    plugin = SharedCachePlugin(*given, **parameters)
    client.register_plugin(plugin)
    try:
        yield plugin
    finally:
        client.unregister_worker_plugin(plugin.name)


def workers(client: Client) -> dict[str, int]:
    """Their addresses and processes."""
    cluster: Any = client.cluster
    return {nanny.worker_address: nanny.pid for nanny in cluster.workers.values()}


def all_are_new(client: Client, gone: set[int]) -> bool:
    """Both are there again, and none of those is."""
    now, known = workers(client), client.scheduler_info(n_workers=-1)["workers"]
    return len(now) == 2 and now.keys() == known.keys() and not gone & set(now.values())


def paused(client: Client) -> bool:
    told = client.scheduler_info(n_workers=-1)["workers"].values()
    return any(worker["status"] == "paused" for worker in told)


def asked(client: Client, log: str, keys: Any, size: int = 1000, **how: Any) -> list[int]:
    """The values are right; in which processes they were asked for."""
    keys = list(keys)
    n = len(keys)
    got = client.gather(client.map(tasks.from_shared, keys, [log] * n, [size] * n, pure=False, **how))
    assert [value for _, value in got] == [key.to_bytes(4, "little") * (size // 4) for key in keys]
    return [pid for pid, _ in got]


# ---- what must hold


def all_workers_share_what_one_made(client: Client, log: str) -> None:
    with registered(client):
        first, second = workers(client)
        assert asked(client, log, [1], workers=[first]) != asked(client, log, [1], workers=[second])
        assert made(log) == 1
        asked(client, log, list(range(20)) * 5)
        assert made(log) == 20


def a_killed_worker_comes_back_and_finds_all(client: Client, log: str) -> None:
    with registered(client):
        asked(client, log, range(10))
        killed = min(workers(client).values())
        os.kill(killed, signal.SIGKILL)
        until(lambda: all_are_new(client, {killed}), patience=100)
        for address in workers(client):
            asked(client, log, range(10), workers=[address])
        assert made(log) == 10


def restarting_all_workers(client: Client, log: str) -> None:
    with registered(client):
        asked(client, log, range(10))
        before = set(workers(client).values())
        client.restart()
        # What nannies tell of themselves comes after it.
        until(lambda: all_are_new(client, before), patience=100)
        asked(client, log, range(10))
        assert made(log) == 10


def what_the_kernel_took_is_made_again(client: Client, log: str) -> None:
    with registered(client):
        asked(client, log, range(10), 100_000)
        lost = client.submit(tasks.purged, pure=False).result()
        asked(client, log, range(10), 100_000)
        assert (made(log) > 10) == (lost > 0)


def a_full_cache_pauses_nobody(client: Client, log: str) -> None:
    """Workers are paused beyond 240 MiB each, and killed beyond 285."""
    with registered(client):
        before = set(workers(client).values())
        futures = client.map(tasks.fill, range(400), pure=False)
        until(lambda: all(future.done() for future in futures) or paused(client))
        assert not paused(client)
        held = max(client.gather(futures))
        assert set(workers(client).values()) == before
        assert held > 360 << 20, held


def decorated_functions(client: Client, log: str) -> None:
    """By name, and by value, as those of a notebook."""

    @mv.volatile_cache(shared=tasks.NAME)
    def by_value(key: int) -> bytes:
        note(log)
        return bytes([key]) * 5000

    for address in workers(client):
        for key in range(5):
            got = client.submit(tasks.decorated, key, log, workers=[address], pure=False).result()
            assert got == key.to_bytes(4, "little") * 1000
            got = client.submit(by_value, key, workers=[address], pure=False).result()
            assert got == bytes([key]) * 5000
    assert made(log) == 10


def names_and_what_is_wrong(client: Client, log: str) -> None:
    with registered(client), registered(client, "named", max_bytes=1 << 20, ttl=60):
        assert client.submit(lambda: shared_cache("named").name, pure=False).result() == "named"
        assert "several, and needs a name" in failure(client, None)
    assert "'named'" in failure(client, "named")
    assert "client.register_plugin(SharedCachePlugin())" in failure(client, None)


def failure(client: Client, name: str | None) -> str:
    return str(client.submit(shared_cache, name, pure=False).exception())


def workers_without_the_library_say_so(client: Client, log: str) -> None:
    client.run(tasks.forget_the_library)
    plugin = SharedCachePlugin()
    try:
        client.register_plugin(plugin)
    except Exception as error:
        said = repr(error)  # distributed hands on the text alone
    else:
        said = "nothing"
    assert "ModuleNotFoundError" in said, said
    assert "mvolatile" in said, said


SCENARIOS = [
    all_workers_share_what_one_made,
    a_killed_worker_comes_back_and_finds_all,
    restarting_all_workers,
    what_the_kernel_took_is_made_again,
    a_full_cache_pauses_nobody,
    decorated_functions,
    names_and_what_is_wrong,
    workers_without_the_library_say_so,  # last: these workers are of no use any more
]

if __name__ == "__main__":
    where = sys.argv[1]
    failed = {}
    with (
        tempfile.TemporaryDirectory(prefix="mv") as scratch,
        LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            processes=True,
            memory_limit="300MiB",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            local_directory=scratch,
        ) as cluster,
        Client(cluster) as client,
    ):
        for scenario in SCENARIOS:
            try:
                scenario(client, f"{where}/{scenario.__name__}")
            except Exception:
                failed[scenario.__name__] = traceback.format_exc()
    print(json.dumps(failed))
