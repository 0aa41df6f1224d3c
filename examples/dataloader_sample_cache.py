"""A sample cache for a data loader with forked workers.

The usual ``cache="ram"`` of training scripts checks the free memory once and then caches all or nothing, in every
worker anew. Here a dataset keeps decoded samples in a `VolatileCache`, and what memory cannot hold is decoded again.
Three ways to use it, the gain of each printed:

- workers started for each epoch: what a worker decoded goes with it;
- workers that stay (``persistent_workers=True``): each keeps what it decoded itself;
- samples decoded before the workers start: a forked worker has the parent's cache from the first epoch on. A large
  array's pages are shared until a worker reads it, which makes them its own.

    python examples/dataloader_sample_cache.py     (uses torch's DataLoader too if it is installed)
"""

from __future__ import annotations

import bz2
import multiprocessing
import random
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import numpy as np

import mvolatile as mv

COUNT, WORKERS, EPOCHS = 120, 2, 3
SHAPE = (160, 160, 3)

fork = multiprocessing.get_context("fork")


class Samples:
    """A map-style dataset: `len` and indexing are all a DataLoader needs."""

    def __init__(self) -> None:
        self.encoded = [bz2.compress(self.original(number).tobytes()) for number in range(COUNT)]
        self.cache: mv.VolatileCache[int, np.ndarray] = mv.VolatileCache(name="samples")
        self.decoded = 0

    @staticmethod
    def original(number: int) -> np.ndarray:
        return np.random.default_rng(number).integers(0, 16, SHAPE, np.uint8)

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, number: int) -> np.ndarray:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self.cache.get_or_set(number, lambda: self.decode(number))

    def decode(self, number: int) -> np.ndarray:
        self.decoded += 1
        return np.frombuffer(bz2.decompress(self.encoded[number]), np.uint8).reshape(SHAPE)


def work(samples: Samples, pipe: Connection) -> None:
    """A worker: answers each part of an epoch with its samples' checksums, and how many it had to decode."""
    for numbers in iter(pipe.recv, None):
        before = samples.decoded
        pipe.send(([zlib.crc32(samples[number].data) for number in numbers], samples.decoded - before))


@contextmanager
def workers(samples: Samples) -> Iterator[list[Connection]]:
    pipes = [fork.Pipe() for _ in range(WORKERS)]
    processes = [fork.Process(target=work, args=(samples, its)) for _, its in pipes]
    for process in processes:
        process.start()
    try:
        yield [ours for ours, _ in pipes]
    finally:
        for (ours, its), process in zip(pipes, processes, strict=True):
            ours.send(None)
            process.join()
            ours.close()
            its.close()


def epoch(pipes: list[Connection], number: int, right: list[int]) -> str:
    """All samples in a new order, dealt to the workers as a DataLoader does."""
    order = random.Random(number).sample(range(COUNT), COUNT)
    start = time.perf_counter()
    for worker, pipe in enumerate(pipes):
        pipe.send(order[worker::WORKERS])
    decoded = 0
    for worker, pipe in enumerate(pipes):
        sums, its = pipe.recv()
        assert sums == [right[n] for n in order[worker::WORKERS]]
        decoded += its
    return f"{decoded:5} in {(time.perf_counter() - start) * 1e3:4.0f} ms"


def main() -> int:
    right = [zlib.crc32(Samples.original(number).data) for number in range(COUNT)]
    print(f"decoded in each of {EPOCHS} epochs of {COUNT} samples, by {WORKERS} workers:")
    row = "{:<36}" + "{}  " * EPOCHS

    samples = Samples()
    cells = []
    for number in range(EPOCHS):
        with workers(samples) as pipes:
            cells.append(epoch(pipes, number, right))
    print(row.format("workers started for each epoch", *cells))

    with workers(samples) as pipes:
        print(row.format("workers that stay", *(epoch(pipes, number, right) for number in range(EPOCHS))))

    for number in range(COUNT):
        samples[number]
    with workers(samples) as pipes:
        cells = [epoch(pipes, number, right) for number in range(EPOCHS)]
    print(row.format("decoded before the workers start", *cells))
    with_torch(samples, right)
    info = samples.cache.cache_info()
    print(
        f"the parent's cache: {info.currsize} samples, {info.bytes >> 20} MiB, {info.purged} lost to the kernel"
    )
    return 0


def with_torch(samples: Samples, right: list[int]) -> None:
    try:
        import torch
        from torch.utils.data import DataLoader
    except ImportError:
        print("torch is not installed: plain processes alone")
        return
    loader = DataLoader(
        samples,
        batch_size=None,
        num_workers=WORKERS,
        multiprocessing_context="fork",
        persistent_workers=True,
        # What the cache gives is read-only, and a tensor is not: the copy that stacking a batch would make.
        collate_fn=lambda sample: torch.from_numpy(sample.copy()),
    )
    for _ in range(EPOCHS):
        start = time.perf_counter()
        assert [zlib.crc32(sample.numpy()) for sample in loader] == right
        print(f"torch {torch.__version__}: an epoch in {(time.perf_counter() - start) * 1e3:.0f} ms")


if __name__ == "__main__":
    sys.exit(main())
