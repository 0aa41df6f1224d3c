"""The pressure: the cgroup's limit goes up and down, and swap comes and goes."""

from __future__ import annotations

import contextlib
import random
import subprocess
import threading
from collections import Counter

from mvolatile.kernel.cgroup import ChildCgroup
from support.zram import Unavailable, zram_swap

__all__ = ["Squeeze"]

SWAP_BYTES = 256 << 20


class Squeeze(threading.Thread):
    """Runs until `stop`; what it did is in `counts`, why there is no swap in `no_swap`, what failed in `error`.

    The lowest limit must hold what the workers cannot give, or the kernel kills one of them.
    """

    def __init__(self, cgroup: ChildCgroup, low: int, high: int, seed: int, *, swap: bool) -> None:
        super().__init__(name="squeeze")
        self.counts: Counter[str] = Counter()
        self.no_swap: str | None = None if swap else "not wanted"
        self.error: BaseException | None = None
        self._cgroup, self._low, self._high = cgroup, low, high
        self._source = random.Random(seed)
        self._over = threading.Event()
        self._swap = contextlib.ExitStack()
        self._swapping = False

    def stop(self) -> None:
        """Wait for the last change; swap is off then."""
        self._over.set()
        self.join()

    def run(self) -> None:
        try:
            with contextlib.closing(self):
                while not self._over.wait(self._source.uniform(0.2, 2)):
                    if self.no_swap is None and self._source.random() < 0.15:
                        self._turn_swap()
                    else:
                        self._set_limit(self._source.randint(self._low >> 20, self._high >> 20) << 20)
        except BaseException as error:  # for `Soak`, which looks
            self.error = error

    def close(self) -> None:
        """Swap off, and room for all."""
        self._set_limit(self._high)
        if self._swapping:
            self._turn_swap()

    def _set_limit(self, nbytes: int) -> None:
        try:
            self._cgroup.set_limit(nbytes)
            self.counts["limit moved"] += 1
        except OSError:
            self.counts["limit refused"] += 1  # EBUSY: what is pinned now does not fit

    def _turn_swap(self) -> None:
        if self._swapping:
            self._set_limit(self._high)  # what comes back from swap needs room
            for last in (False, False, True):
                try:
                    self._swap.close()
                    break
                except subprocess.CalledProcessError:
                    if last:
                        raise
            self._swapping = False
        else:
            try:
                self._swap.enter_context(zram_swap(SWAP_BYTES))
            except Unavailable as error:
                self.no_swap = str(error)
                return
            self._swapping = True
            self.counts["swap on"] += 1
