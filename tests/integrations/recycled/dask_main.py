"""1,200 tasks over 800 keys in two workers of 300 MiB; ends when all are done, or a worker is paused."""

from __future__ import annotations

import json
import os
import random
import signal
import time

from distributed import Client, LocalCluster

from integrations.recycled import recycled_tasks

if __name__ == "__main__":
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="300MiB", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        source = random.Random(1)
        keys = [source.randrange(800) for _ in range(1200)]
        futures = client.map(recycled_tasks.work, keys, [0.005] * len(keys), pure=False)
        paused = 0
        while not paused and any(future.status == "pending" for future in futures):
            time.sleep(0.1)
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            paused = sum(worker["status"] == "paused" for worker in workers)
        got = client.gather([future for future in futures if future.status == "finished"])
        told = {
            "paused": paused,
            "finished": len(got),
            "processes": len({pid for pid, _, _ in got}),
            "made": sum(made for _, made, _ in got),
            "held": max(held for _, _, held in got[-20:]) if got else 0,
            "keys": 800,
            "asked": 1200,
        }
        print(json.dumps(told), flush=True)
        for nanny in cluster.workers.values():  # a paused worker would be waited for
            os.kill(nanny.process.pid, signal.SIGKILL)
        os._exit(0)
