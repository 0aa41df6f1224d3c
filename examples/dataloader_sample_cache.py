"""A sample cache for a data loader with forked workers.

The usual ``cache="ram"`` of training scripts checks the free memory once and then caches all or nothing, in every
worker anew. Here a dataset keeps decoded samples in a `VolatileCache` made before the workers fork: what the parent
has cached, each worker has too, shared until somebody lets it go, and what memory cannot hold is decoded again.

    python examples/dataloader_sample_cache.py     (uses torch's DataLoader if it is installed, else multiprocessing)
"""

from __future__ import annotations

import multiprocessing
import sys
import zlib
from collections.abc import Iterator

import numpy as np

import mvolatile as mv


class Samples:
    """A map-style dataset: `len` and indexing are all a DataLoader needs."""

    def __init__(self, count: int) -> None:
        self.encoded = [zlib.compress(self.original(number).tobytes()) for number in range(count)]
        self.cache: mv.VolatileCache[int, np.ndarray] = mv.VolatileCache(name="samples")

    @staticmethod
    def original(number: int) -> np.ndarray:
        return (np.arange(128 * 128, dtype=np.int64) * (number + 1) % 251).astype(np.uint8).reshape(128, 128)

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, number: int) -> np.ndarray:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self.cache.get_or_set(number, lambda: self.decode(number))

    def decode(self, number: int) -> np.ndarray:
        return np.frombuffer(zlib.decompress(self.encoded[number]), np.uint8).reshape(128, 128)


samples: Samples


def checksums(numbers: range) -> tuple[list[int], int]:
    """Run in a worker: an epoch over some of the samples, and how many were decoded for it."""
    before = samples.cache.cache_info().misses
    sums = [zlib.crc32(samples[number]) for number in numbers]
    return sums, samples.cache.cache_info().misses - before


def epoch_with_multiprocessing(workers: int) -> Iterator[tuple[list[int], int]]:
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield from pool.map(checksums, [range(w, len(samples), workers) for w in range(workers)])


def main() -> int:
    global samples
    samples = Samples(200)
    right = [zlib.crc32(Samples.original(number)) for number in range(len(samples))]
    for number in range(0, len(samples), 2):
        samples[number]
    workers = 2
    for worker, (sums, decoded) in enumerate(epoch_with_multiprocessing(workers)):
        assert sums == right[worker::workers]
        print(f"worker {worker}: {len(sums)} samples, {decoded} decoded, the rest came with the fork")
    try:
        import torch
        from torch.utils.data import DataLoader
    except ImportError:
        print("torch is not installed: plain multiprocessing alone")
    else:
        loader = DataLoader(
            samples,
            batch_size=None,
            num_workers=workers,
            multiprocessing_context="fork",
            # What the cache gives is read-only, and a tensor is not: the copy that stacking a batch would make.
            collate_fn=lambda sample: torch.from_numpy(sample.copy()),
        )
        assert [zlib.crc32(sample.numpy()) for sample in loader] == right
        print(f"torch {torch.__version__}: {len(right)} samples through a DataLoader")
    print(samples.cache.cache_info())
    return 0


if __name__ == "__main__":
    sys.exit(main())
