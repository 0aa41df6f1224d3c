"""For the tests of programs that use mvolatile: lose memory on purpose, through the kernel's own reclaim,
without privilege.

`purge` loses chosen bytes now; under `purging` every memory loses pages as soon as it becomes volatile. In a test
suite, make that a fixture; the seed is what to print when a test fails.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from . import _core
from .errors import UnsupportedError
from .kernel.features import features
from .memory import VolatileMemory

if TYPE_CHECKING:
    from .arrays import VolatileArray

__all__ = ["purge", "purging"]


def purge(memory: VolatileMemory | VolatileArray, extents: Iterable[tuple[int, int]] | None = None) -> int:
    """Have the kernel reclaim the pages under `extents` (``[(offset, length), ...]`` in bytes; default: all) now.

    Returns how many bytes went. `BufferError` while the memory is pinned. Not all may go: see `VolatileMemory.purge`.
    """
    target = memory if isinstance(memory, VolatileMemory) else memory.memory
    if extents is None:
        return target.purge()
    return sum(_core.purge(target, offset, length) for offset, length in extents)


@contextmanager
def purging(seed: int = 0, *, rate: float = 1.0, whole: float = 0.5) -> Iterator[random.Random]:
    """While the block runs, every memory of this process loses pages at the moment it becomes volatile.

    With probability `rate` it loses anything; then with probability `whole` all of it, else
    one random run of pages. All choices come from `seed`, in the order in which memories become volatile.
    Blocks do not nest (`RuntimeError`). Memory that is already volatile loses no more while it is peeked at.

    Raises `TypeError` or `ValueError` for a share that is no number from 0 to 1, and `UnsupportedError`, naming the
    reason, where nothing can be purged: a test that asks for losses must not pass without any.

    >>> with purging(seed=7):
    ...     memory = VolatileMemory(8192)
    ...     written = memory.write(b"x" * 8192)
    ...     lost = memory.purged()
    >>> sum(length for _, length in lost) in (4096, 8192)
    True
    """
    for name, share in (("rate", rate), ("whole", whole)):
        if not isinstance(share, int | float):
            raise TypeError(f"{name} must be a number from 0 to 1, not {share!r}")
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be a number from 0 to 1, not {share!r}")
    if _core.tier() == "unsupported":
        raise UnsupportedError(f"purging() can lose nothing here: {features().reason}")
    source = random.Random(seed)
    locks: dict[
        int, threading.Lock
    ] = {}  # by process: another thread of the parent may have held it at a fork
    page, _ = _core.sizes()

    def lose(memory: _core.Memory) -> None:
        with locks.setdefault(_core.forks(), threading.Lock()):
            if source.random() >= rate:
                return
            pages = -(-memory.nbytes // page)
            first, count = 0, pages
            if source.random() >= whole:
                first = source.randrange(pages)
                count = source.randint(1, pages - first)
        with suppress(BufferError):  # pinned again already, by another thread
            _core.purge(memory, first * page, min(count * page, memory.nbytes - first * page))

    if not _purging.acquire(blocking=False):
        raise RuntimeError("mvolatile.testing.purging() is active already")
    _core.set_unpin_hook(lose)
    try:
        yield source
    finally:
        _core.set_unpin_hook(None)
        _purging.release()


_purging = threading.Lock()
