"""`VolatileMemory`: bytes that the kernel may take back, and what to do when it has.

The protocol is in C (`_core/protocol/range.h` argues why it never misses a loss). Here is the policy: a loss is
raised, zeroed or rebuilt.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal, NoReturn, TypeAlias

from . import _core
from ._core import Hold, Memory, Pin
from .errors import Extents, Overwritten, Purged, VolatilityWarning
from .kernel.unsupported import warn_if_unsupported
from .residence import before_more

__all__ = ["OnPurge", "Pin", "VolatileMemory", "live_memories"]

Rebuild: TypeAlias = Callable[[memoryview, Extents], object]
OnPurge: TypeAlias = Literal["raise", "zero"] | Rebuild

_live: set[weakref.ref[VolatileMemory]] = set()
"""A `WeakSet` would run Python code for each that comes and goes, which a store of a large value pays for."""
_forget = _live.discard


class _Rebuilding:
    """One thread at a time rebuilds a memory; `thread` is the one that does."""

    __slots__ = ("lock", "thread")

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal's handler may come between taking it and `thread`
        self.thread: int | None = None


def live_memories() -> list[VolatileMemory]:
    """Every open memory of this process, in no order."""
    # In one step: another thread that opens one meanwhile would end the iteration with an error.
    return [memory for known in _live.copy() if (memory := known()) is not None and not memory.closed]


def _label(name: str | None) -> str:
    """What may stand in ``/proc/PID/maps``: printable ASCII but ``[]\\$`` and the backquote, in 79 characters."""
    if name is None or name == "":
        return "unnamed"
    if not isinstance(name, str):
        raise TypeError(f"name must be a string or None, not {type(name).__name__}")
    return _printable(name)


@lru_cache(64)
def _printable(name: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() and c not in "[]\\$`" else "_" for c in name)[:60]


def stored_memory(parts: list[Any], name: str, *, dump: bool, inherit: bool) -> VolatileMemory:
    """A memory that holds the bytes of `parts`, contiguous buffers, one after another, and is volatile in a moment.

    It may be one that `close_and_keep` closed before: nobody sees what that held.
    """
    warn_if_unsupported()
    memory = stored_in_kept(parts, sum(map(len, parts)), name, dump, inherit, False)
    assert memory is not None
    return memory


def stored_in_kept(
    parts: list[Any], nbytes: int, name: str, dump: bool, inherit: bool, kept: bool = True
) -> VolatileMemory | None:
    """The same, `nbytes` in all, in memory that `close_and_keep` closed: it takes nothing that was not taken. None if
    there is none.
    """
    before_more(nbytes)
    memory = VolatileMemory.__new__(VolatileMemory)
    memory._begin("raise")  # noqa: SLF001 - of this module
    if not _core.open_stored(memory, parts, dump, inherit, name, _printable(name), kept):
        return None
    _live.add(weakref.ref(memory, _forget))
    return memory


class VolatileMemory(Memory):
    """`nbytes` of zeroed memory that the kernel may discard whenever nobody holds it.

    It begins as ordinary memory, and becomes volatile when the first pin or write ends. From then on the kernel may
    purge pages of it under memory pressure: 4 KiB at a time on x86-64, or 2 MiB at a time for memories of 2 MiB and
    more, which are on huge pages unless ``huge=False``. A loss is *sticky*: every pin reports it, nested or late, until
    somebody rebuilds, overwrites, or accepts zeros.

    Parameters
    ----------
    nbytes: the size in bytes; memory is used as it is written.
    name: any text; `repr` and `Purged` show it escaped. From 2 MiB on ``/proc/PID/maps`` and ``mvolatile status`` show
        it too, with ``_`` for characters that the kernel refuses.
    fill: what pins, reads and buffer exports do about a loss unless told otherwise: ``"raise"`` `Purged`, ``"zero"``
        (lost pages read as zeros and the loss is forgotten), or a callable ``rebuild(view, extents)``.
    huge: use huge pages, for 2 MiB and more.
    dump: with False its bytes stay out of core dumps (``MADV_DONTDUMP``).
    inherit: with False a forked child gets none of its bytes, nor do that child's children (``MADV_WIPEONFORK``). The
        child has the memory, but all that was written before the fork counts as lost there. A view that was held
        over the fork shows zeros in the child.

    Where this kernel can purge nothing, the first one warns (`UnsupportedKernelWarning`).
    Raises `ValueError` for a size that is not positive, `OSError` (``ENOMEM``, from mmap) when there is no address
    space.

    Threads: every method may be called from any thread. Fork: parent and child each have the memory, and go on
    independently (but see `inherit`). What was lost before the fork is lost in both. Pins of threads that the child
    does not have stay there, so the kernel cannot take that memory in the child.

    >>> memory = VolatileMemory(1 << 20, name="tiles")
    >>> with memory.pin(write=True) as view:
    ...     view[:5] = b"hello"
    >>> memory.purge() > 0  # as the kernel does under pressure
    True
    >>> memory.read(0, 5)
    Traceback (most recent call last):
    mvolatile.errors.Purged: tiles: 4096 bytes purged: [0, 4096)
    >>> def rebuild(view, extents):
    ...     view[:5] = b"hello"
    >>> with memory.pin(on_purge=rebuild) as view:
    ...     bytes(view[:5])
    b'hello'
    >>> memory.close()
    """

    __slots__ = ("_fill", "_rebuilding")

    def __init__(
        self,
        nbytes: int,
        name: str | None = None,
        *,
        fill: OnPurge = "raise",
        huge: bool = True,
        dump: bool = True,
        inherit: bool = True,
    ) -> None:
        warn_if_unsupported()
        before_more(nbytes)
        self._begin(_checked(fill))
        _core.open_memory(self, nbytes, huge, dump, inherit, name, _label(name))
        _live.add(weakref.ref(self, _forget))

    def _begin(self, fill: OnPurge) -> None:
        self._fill: OnPurge = fill
        # By forks deep: a child may not have the thread that would let go, and libc's fork tells the core alone.
        self._rebuilding: dict[int, _Rebuilding] = {}

    # ---- holding

    def pin(self, *, write: bool = False, on_purge: OnPurge | None = None) -> Pin:
        """Hold the memory non-volatile inside a ``with`` block; its view is a `memoryview`, writable with
        ``write=True``.

        `on_purge` (default: the memory's `fill`) says what happens if data was lost: ``"raise"`` raises
        `Purged` and holds nothing; ``"zero"`` gives zeros for the lost pages; a callable ``rebuild(view,
        extents)`` gets a writable view of the whole memory and the lost byte ranges ``((offset, length),
        ...)`` first, and if it raises, the loss stays. One thread at a time rebuilds. While it does, its own
        ``pin(write=True)`` holds the memory as it is, without rebuilding it again, and its own reads of what is still
        lost raise `Purged`.

        Pins are counted. The memory stays held as long as a view made inside the block (a slice, an array) lives.
        """
        return _core.pin(self, write, on_purge if on_purge is None else _checked(on_purge))

    def _settle(self, on_purge: OnPurge | None, write: bool) -> None:
        """The memory is held by the caller (to `write` it) and has a loss: raise, or make it go."""
        on_purge = self._fill if on_purge is None else on_purge
        rebuilding = self._rebuilding.setdefault(_core.forks(), _Rebuilding())
        ours = rebuilding.thread == threading.get_ident()
        if ours and write:
            return
        if on_purge == "zero":
            _core.forgive(self)
            return
        if ours or on_purge == "raise":
            _check_held(self)
            return
        assert callable(on_purge)
        with rebuilding.lock:
            extents, _ = _core.lost(self, False)
            if not extents:  # another thread has rebuilt it while we waited
                return
            view = memoryview(_core.hold(self, True))
            outer = rebuilding.thread
            try:  # an interrupt must not leave `thread` behind: this thread's later write pins would settle nothing
                rebuilding.thread = threading.get_ident()
                on_purge(view, extents)
            finally:
                rebuilding.thread = outer
                with suppress(BufferError):  # something was made of it, and holds the memory as a pin's would
                    view.release()
            _core.forgive(self)

    def _settle_export(self) -> None:
        self._settle(self._fill, False)

    # ---- losses

    def _raise_purged(self, overwritten: bool) -> NoReturn:
        """For what was read without a hold."""
        extents, generation = _core.lost(self, not overwritten and _core.is_volatile(self))
        if overwritten or not extents:  # rebuilt by now, or written to
            raise Overwritten(self.name, generation)
        raise Purged(self.name, extents, generation)

    def _read_lost(self, offset: int, n: int) -> bytes:
        if self._fill == "raise":
            self._raise_purged(False)
        with self.pin() as view:
            return bytes(view[offset : offset + n])

    def _readinto_lost(self, buffer: Any, offset: int) -> int:
        target = memoryview(buffer).cast("B")
        data = self._read_lost(offset, target.nbytes)
        target[:] = data
        return len(data)

    def _warn_refusal(self, code: int) -> None:
        why = _REFUSALS.get(code, os.strerror(code))
        warnings.warn(
            f"{self!r}: the kernel refuses to make it volatile ({why}); its data is safe, and stays",
            VolatilityWarning,
            stacklevel=callers_level(),
        )

    def purged(self) -> Extents:
        """The byte ranges lost up to now, ``((offset, length), ...)``, without a pin; exact in tier ``userfaultfd``."""
        return _core.lost(self, True)[0]

    def purge(self) -> int:
        """Have the kernel reclaim the whole memory now, by its own reclaim; returns how many bytes went.

        `BufferError` while it is pinned or exported; `OSError` naming ``MADV_FREE`` and the cause if the kernel refuses
        to make it volatile, because it is locked, or another userfaultfd watches it. The kernel may leave pages that
        are in use elsewhere, such as those shared with a forked process that has not marked them.
        """
        try:
            return _core.purge(self)
        except OSError as error:
            refusal = _core.refusal(self)
            if refusal and refusal == error.errno:
                error.strerror = f"{error.strerror}: {_REFUSALS.get(refusal, 'it is not volatile')}"
            raise

    def resident(self) -> int:
        """How many bytes of it are in RAM."""
        return _core.resident(self)

    # ---- closing

    def close(self) -> None:
        """Give the memory back; `BufferError` while a pin, a peek or a buffer export lives. Closing twice is fine."""
        _core.close_memory(self)
        _live.discard(weakref.ref(self))

    def __enter__(self) -> VolatileMemory:
        if self.closed:
            raise ValueError("the memory is closed")
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.nbytes

    def __repr__(self) -> str:
        if self.closed:
            state = "closed"
        else:
            pins, marked = _core.pins(self), "volatile" if _core.is_volatile(self) else "not yet volatile"
            state = f"pinned {pins}" if pins else "not volatile (refused)" if _core.refusal(self) else marked
            if _core.is_lossy(self):
                state += f", {sum(n for _, n in _core.lost(self, False)[0])} bytes lost"
        label = f" {self.name!r}" if self.name else ""
        return f"<{type(self).__name__}{label} {self.nbytes} bytes, {state}>"


def whole_hold(memory: Memory) -> Hold:
    """A hold to read by, without a block; `Purged` and no hold if anything is lost."""
    hold = _core.hold(memory, False)
    try:
        _check_held(memory)
    except Purged:
        del hold  # the traceback would keep it
        raise
    return hold


def _check_held(memory: Memory) -> None:
    """`Purged` if anything is lost of what is held. What another thread has rebuilt by now is whole: `Overwritten`
    would be wrong.
    """
    if _core.is_lossy(memory):
        extents, generation = _core.lost(memory, False)
        if extents:
            raise Purged(memory.name, extents, generation)


_REFUSALS = {
    errno.EINVAL: "its memory is locked, by mlock or mlockall",
    errno.EBUSY: "another userfaultfd of this process watches it",
    errno.ENOMEM: "out of memory, or the process has as many mappings as vm.max_map_count allows",
}


def callers_level() -> int:
    """The `stacklevel`, from the function that asks, of the nearest line that is not the library's."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        frame, level = frame.f_back, level + 1
    return level


def _checked(on_purge: OnPurge) -> OnPurge:
    if on_purge in ("raise", "zero") or callable(on_purge):
        return on_purge
    raise ValueError(f"on_purge and fill must be 'raise', 'zero' or a callable, not {on_purge!r}")
