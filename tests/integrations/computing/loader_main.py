"""Epochs of a DataLoader whose workers share what they decode: prints how often each way decoded, as JSON."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from torch.utils.data import DataLoader

from integrations.computing.notes import made
from integrations.computing.samples import Killed, Samples, augmented, is_right
from mvolatile.integrations.torch import SharedDataset


def epochs(dataset: SharedDataset, log: str, n: int = 3, **how: Any) -> list[int]:
    """Samples that each epoch decoded."""
    loader = DataLoader(dataset, batch_size=4, shuffle=True, num_workers=2, timeout=100, **how)
    counts = []
    for _ in range(n):
        before = made(log)
        batches = list(loader)
        assert sum(len(batch["image"]) for batch in batches) == len(dataset)
        assert all(map(is_right, batches))
        counts.append(made(log) - before)
    return counts


if __name__ == "__main__":
    where = sys.argv[1]
    told: dict[str, Any] = {}
    for method in ("fork", "spawn", "forkserver"):
        log = f"{where}/{method}"
        with SharedDataset(Samples(log), transform=augmented) as dataset:
            stay = method != "fork"  # to import PyTorch takes a worker seconds
            told[method] = epochs(dataset, log, 2, multiprocessing_context=method, persistent_workers=stay)
    log = f"{where}/persistent"
    with SharedDataset(Samples(log), transform=augmented) as dataset:
        told["persistent"] = epochs(dataset, log, persistent_workers=True)
        purged = dataset.volatile.purge()
        told["purged"] = [purged > 0, *epochs(dataset, log, 1)]
    log = f"{where}/fingerprint"
    for name in ("first", "second"):
        with SharedDataset(Samples(log), transform=augmented, fingerprint=("version", 1)) as dataset:
            told[name] = epochs(dataset, log, 1)
    with SharedDataset(Samples(log), transform=augmented, fingerprint=("version", 2)) as dataset:
        told["other"] = epochs(dataset, log, 1)
    log = f"{where}/killed"
    with SharedDataset(Killed(log), transform=augmented) as dataset:
        try:
            epochs(dataset, log, 1)
            told["killed"] = False
        except (RuntimeError, OSError):  # by what PyTorch was doing with it
            told["killed"] = True
        epochs(dataset, log, 1)
        told["after"] = [made(log), epochs(dataset, log, 1)[0]]
    print(json.dumps(told), flush=True)
    os._exit(0)  # what a loader leaves of a killed worker may raise at the interpreter's end
