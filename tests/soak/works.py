"""What a worker's threads do to the library, each with an oracle: any answer that is not so raises `Wrong`."""

from __future__ import annotations

import contextlib
import mmap
import random
import threading
import zlib
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import mvolatile as mv
from mvolatile import Overwritten, Purged, VolatileArray, VolatileCache, _core

from .tally import Row, Wrong

__all__ = ["ArrayWork", "CacheWork", "RawWork", "Work"]

PAGE = mmap.PAGESIZE


class Work(Protocol):
    """One way of using the library. `thread` numbers the threads of the worker from 0."""

    def step(self, source: random.Random, thread: int, row: Row) -> None:
        """Do one thing and check it."""

    def check_in_child(self, source: random.Random) -> None:
        """In a forked child, whose parent has gone on: no lock of the parent's may be waited for."""

    def close(self) -> None:
        """Give everything back."""


class CacheWork:
    """Each key is written by one thread, which knows its latest value; all read all. A value tells whose it is."""

    KEYS = 3000

    def __init__(self, threads: int, max_bytes: int | None) -> None:
        self._cache: VolatileCache[int, Any] = VolatileCache(max_bytes, name="soak")
        self._latest: list[dict[int, int]] = [{} for _ in range(threads)]
        self._threads = threads
        self._kept: list[list[Any]] = [[] for _ in range(threads)]

    @staticmethod
    def _make(key: int, version: int) -> Any:
        head = b"%d:%d;" % (key, version)
        if key % 20 == 7:
            large = np.resize(np.frombuffer(head, np.uint8), 70_000 + 200 * key)
            large[-4:] = np.frombuffer(zlib.crc32(large[:-4].data).to_bytes(4, "little"), np.uint8)
            return large
        body = (head * 100)[: len(head) + key * 7919 % 3000]
        return body + zlib.crc32(body).to_bytes(4, "little")

    @staticmethod
    def _version(key: int, value: Any) -> int:
        data = memoryview(value).cast("B")
        head = bytes(data[:40]).split(b";")[0].split(b":")
        if len(data) < 8 or zlib.crc32(data[:-4]).to_bytes(4, "little") != data[-4:] or int(head[0]) != key:
            raise Wrong(f"cache: key {key} holds {bytes(data[:40])!r}... ({len(data)} bytes)")
        return int(head[1])

    def step(self, source: random.Random, thread: int, row: Row) -> None:
        share = self.KEYS // self._threads
        own = int(share * source.random() ** 2) * self._threads + thread  # some keys more often than others
        roll, latest, kept = source.random(), self._latest[thread], self._kept[thread]
        if roll < 0.3:
            latest[own] = latest.get(own, 0) + 1
            self._cache[own] = self._make(own, latest[own])
            row.count("cache writes")
        elif roll < 0.33:
            latest[own] = latest.get(own, 0) + 1  # what comes next must be newer
            self._cache.pop(own, None)
        else:
            key = own if roll < 0.6 else int(self.KEYS * source.random() ** 2)
            value = self._cache.get(key)
            row.count("cache misses" if value is None else "cache hits")
            if value is not None and self._version(key, value) != latest.get(key, 0) and key == own:
                raise Wrong(
                    f"cache: key {key} has version {self._version(key, value)}, not {latest.get(key, 0)}"
                )
            if isinstance(value, np.ndarray):
                kept.append((key, self._version(key, value), value))  # pinned as long as it lives
        if len(kept) > 3 or (kept and source.random() < 0.1):
            key, version, value = kept.pop(source.randrange(len(kept)))
            if self._version(key, value) != version:
                raise Wrong(f"cache: the array of key {key} changed while it was held")

    def check_in_child(self, source: random.Random) -> None:
        for key in source.sample(range(self.KEYS), 100):
            value = self._cache.get(key)
            if value is not None:
                self._version(key, value)
            self._cache[key] = self._make(key, 1_000_000)
            value = self._cache.get(key)
            if value is not None and self._version(key, value) != 1_000_000:
                raise Wrong(f"cache: in the child key {key} is not what the child stored")

    def close(self) -> None:
        self._kept.clear()
        self._cache.close()


class _Versioned:
    """An array all of one version; its writer changes it under the lock."""

    def __init__(self, nbytes: int) -> None:
        self.array: VolatileArray = mv.empty(nbytes // 8, np.uint64, name="soak")
        self.lock = threading.Lock()
        self.writing = False
        self.version = self.settled = 1
        self.array.write(self.data(1))

    def data(self, version: int) -> NDArray[np.uint64]:
        return np.arange(version << 32, (version << 32) + self.array.size, dtype=np.uint64)

    def version_of(self, found: NDArray[np.uint64], what: str, oldest: int, newest: int) -> None:
        version = int(found[0]) >> 32
        if not oldest <= version <= newest or not (found == self.data(version)).all():
            versions = np.unique(found >> np.uint64(32))[:6]
            raise Wrong(
                f"{what}: versions {versions} where {oldest} to {newest} may be; {(found == 0).sum()} zeros"
            )


class ArrayWork:
    """Arrays under peeks, reads, pins, exports and rebuilds by several threads."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self._arrays = [_Versioned(nbytes) for nbytes in sizes]

    def step(self, source: random.Random, thread: int, row: Row) -> None:
        one = source.choice(self._arrays)
        action = source.choice((self._peek, self._read, self._pin, self._rebuild, self._write, self._export))
        try:
            action(one, row)
            row.count("arrays whole")
        except Overwritten:
            row.count("arrays overwritten meanwhile")
        except Purged as lost:
            if not lost.extents or lost.nbytes <= 0:
                raise Wrong(f"{action.__name__}: Purged without extents") from lost
            row.count("arrays lost")
        if source.random() < 0.02:
            with contextlib.suppress(BufferError):
                one.array.purge()

    def _peek(self, one: _Versioned, row: Row) -> None:
        oldest, copy = one.settled, np.empty(one.array.size, np.uint64)
        with one.array.peek() as view:
            np.copyto(copy, view)
            del view
        one.version_of(copy, "peek", oldest, one.version)

    def _read(self, one: _Versioned, row: Row) -> None:
        oldest = one.settled
        one.version_of(one.array.read(), "read", oldest, one.version)

    def _pin(self, one: _Versioned, row: Row) -> None:
        with one.lock, one.array.pin() as view:
            one.version_of(view, "pin", one.version, one.version)
            del view

    def _export(self, one: _Versioned, row: Row) -> None:
        with one.lock:
            held = np.asarray(one.array)
            one.version_of(held, "export", one.version, one.version)
            del held

    def _rebuild(self, one: _Versioned, row: Row) -> None:
        def again(view: NDArray[np.uint64], extents: object) -> None:
            row.count("arrays lost")
            view[:] = one.data(one.version)

        with one.lock, one.array.pin(on_purge=again) as view:
            one.version_of(view, "rebuild", one.version, one.version)
            del view

    def _write(self, one: _Versioned, row: Row) -> None:
        with one.lock:
            one.writing = True
            one.version += 1
            with one.array.pin(write=True, on_purge="zero") as view:
                view[:] = one.data(one.version)
                del view
            one.settled = one.version
            one.writing = False
        row.count("arrays written")

    def check_in_child(self, source: random.Random) -> None:
        for one in self._arrays:
            if one.writing:
                continue  # the writer is not in the child, and its array is half written by right
            with contextlib.suppress(Purged, Overwritten):
                one.version_of(one.array.read(), "read in the child", one.version, one.version)
            one.version += 1000
            with contextlib.suppress(BufferError):
                one.array.write(one.data(one.version))
                with contextlib.suppress(Purged, Overwritten):
                    one.version_of(one.array.read(), "written in the child", one.version, one.version)

    def close(self) -> None:
        for one in self._arrays:
            one.array.close()


class RawWork:
    """Marks and unmarks parts of memory of its own with `mvolatile()`; one area a thread, as raw memory has no pins."""

    PAGES = 512

    def __init__(self, threads: int) -> None:
        self._areas = [
            mmap.mmap(-1, self.PAGES * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(threads)
        ]
        self._bytes = [np.frombuffer(area, np.uint8).reshape(self.PAGES, PAGE) for area in self._areas]
        self._stamps = [[0] * self.PAGES for _ in range(threads)]
        self._marked = [[False] * self.PAGES for _ in range(threads)]
        self._traps = _core.tier() == "userfaultfd"

    def step(self, source: random.Random, thread: int, row: Row) -> None:
        first = source.randrange(self.PAGES)
        last = source.randint(first + 1, self.PAGES)
        if source.random() < 0.5:
            self._unmark(thread, first, last, row)  # writing to purged memory would trap
            stamp = source.randrange(1, 256)
            self._bytes[thread][first:last] = stamp
            self._stamps[thread][first:last] = [stamp] * (last - first)
            self._call(thread, first, last, mv.MVOLATILE_VOLATILE)
            self._marked[thread][first:last] = [True] * (last - first)
        else:
            self._unmark(thread, first, last, row)

    def _call(self, thread: int, first: int, last: int, mode: int) -> int:
        address = self._bytes[thread].ctypes.data + first * PAGE
        return mv.mvolatile(address, (last - first) * PAGE, mode)[1]

    def _unmark(self, thread: int, first: int, last: int, row: Row | None) -> None:
        purged = self._call(thread, first, last, mv.MVOLATILE_NONVOLATILE)
        stamps, gone = self._stamps[thread], []
        for page in range(first, last):
            found = self._bytes[thread][page]
            if (found == stamps[page]).all():
                continue
            if found.any() or not self._marked[thread][page]:
                marked = self._marked[thread][page]
                raise Wrong(f"raw: page {page} holds {found[:8]}, not {stamps[page]}; {marked=}")
            gone.append(page)
            stamps[page] = 0
        if bool(gone) > bool(purged) or (self._traps and purged and not gone):
            raise Wrong(f"raw: pages {gone} of {first} to {last} are gone, and the call said purged={purged}")
        self._marked[thread][first:last] = [False] * (last - first)
        if row is not None:
            row.count("raw ranges lost" if gone else "raw ranges whole")

    def check_in_child(self, source: random.Random) -> None:
        self._unmark(
            0, 0, self.PAGES, None
        )  # the fork was made by thread 0, so none of its calls is under way

    def close(self) -> None:
        for thread in range(len(self._areas)):
            self._call(thread, 0, self.PAGES, mv.MVOLATILE_NONVOLATILE)
        self._bytes.clear()
        for area in self._areas:
            area.close()
