"""A PyTorch `Dataset` whose decoded samples all `DataLoader` workers of the host share, in memory that the kernel may
take back.

::

    dataset = SharedDataset(ImageFolder(path, transform=decode), transform=augment)
    loader = DataLoader(dataset, batch_size=64, num_workers=8, shuffle=True)

Needs PyTorch, which ``pip install mvolatile[torch]`` installs.
"""

from __future__ import annotations

import operator
import uuid
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from torch.utils.data import Dataset, IterableDataset  # pyright: ignore[reportMissingImports] # large, so seldom there

from ..cache.statistics import CacheInfo
from ..shared import SharedCache

__all__ = ["SharedDataset"]

_NONE: Any = object()


class SharedDataset(Dataset):  # type: ignore[misc] # PyTorch may not be there
    """A map-style dataset over another, whose samples are made once for all processes.

    Parameters
    ----------
    dataset: what decodes: it has ``dataset[index]``, and ``len(dataset)`` where the sampler wants that. A random
        augmentation of its own would be kept as it came out first.
    transform: called with each sample, whether it was made or found; random augmentation belongs here. The sample is
        the caller's own, and may be changed.
    fingerprint: what the samples depend on, as a key: the data's version, the decoder's parameters. Programs that give
        equal ones share the samples, also one after the other. By default nobody but this object and its copies in
        workers does.
    name: of the `mvolatile.SharedCache` (1 to 64 letters, digits, ``.``, ``_``, ``-``); "torch" where there is a
        fingerprint. It needs one: without, the samples of two datasets would be one.
    max_bytes: a bound on the bytes of all samples; by default there is none, and the kernel takes what it needs.

    While one worker makes a sample, all others that want it wait for it, on the whole host. A sample may be what
    pickles: tensors, arrays, numbers, tuples and dictionaries of them. A tensor comes back as one of its own storage.
    What the kernel took is made again, and so is what a worker was making when it was killed. What cannot be stored
    is handed on, with a `VolatilityWarning`.

    Workers may be started by fork, spawn or forkserver, for each epoch or once (``persistent_workers``). It pickles, by
    the cache's name, with `dataset`. `TypeError` for an `IterableDataset`, whose samples have no index, and for what
    cannot be indexed.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        transform: Callable[[Any], Any] | None = None,
        fingerprint: Hashable = None,
        name: str | None = None,
        max_bytes: int | None = None,
    ) -> None:
        if isinstance(dataset, IterableDataset):
            raise TypeError(
                f"samples of {type(dataset).__name__}, an IterableDataset, have no index to be found by"
            )
        if not hasattr(dataset, "__getitem__"):
            raise TypeError(f"{type(dataset).__name__} is no map-style dataset: it cannot be indexed")
        if transform is not None and not callable(transform):
            raise TypeError(f"transform must be callable, not {transform!r}")
        if name is not None and fingerprint is None:
            raise TypeError(
                "name needs a fingerprint: samples of different datasets would have the same keys"
            )
        if fingerprint is None:
            name, fingerprint = f"torch-{uuid.uuid4().hex[:16]}", "samples"
        self.dataset, self.transform, self.fingerprint = dataset, transform, fingerprint
        self.volatile: SharedCache[Any, Any] = SharedCache(name or "torch", max_bytes=max_bytes)
        # Workers of an epoch go before those of the next come. As a client of the keeper this process keeps it there
        # meanwhile. A fingerprint that is no key is told here, too.
        self.volatile[self._key("open")] = True

    def _key(self, index: Any) -> tuple[Any, ...]:
        with suppress(TypeError):
            index = operator.index(index)  # a tensor, a number of NumPy's
        return "dataset", self.fingerprint, index

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        """The sample, made if it is not there, and transformed."""
        sample = self.volatile.get_or_set(self._key(index), partial(operator.getitem, self.dataset, index))
        return sample if self.transform is None else self.transform(sample)

    def __getitems__(self, indices: Iterable[Any]) -> list[Any]:
        """For `DataLoader`: a batch. Where `dataset` makes batches itself, it is asked for those that are missing."""
        make_many = getattr(self.dataset, "__getitems__", None)
        if not callable(make_many):
            return [self[index] for index in indices]
        indices = list(indices)
        found = [self.volatile.get(self._key(index), _NONE) for index in indices]
        missing = [n for n, sample in enumerate(found) if sample is _NONE]
        if missing:
            made: Any = make_many([indices[n] for n in missing])
            for n, sample in zip(missing, made, strict=True):
                found[n] = self.volatile.get_or_set(self._key(indices[n]), partial(_itself, sample))
        return found if self.transform is None else [self.transform(sample) for sample in found]

    def cache_info(self) -> CacheInfo:
        """Statistics of the cache behind it."""
        return self.volatile.cache_info()

    def close(self) -> None:
        """Let go of the cache here; afterwards samples are made each time."""
        self.volatile.close()

    def __enter__(self) -> SharedDataset:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def _itself(sample: Any) -> Any:
    return sample
