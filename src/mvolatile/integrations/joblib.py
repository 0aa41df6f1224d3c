"""A store for `joblib.Memory`: results in memory that the kernel may take back, instead of files.

::

    import mvolatile.integrations.joblib  # which registers it

    memory = joblib.Memory("features", backend="volatile")  # a name: all processes of the host share the results
    memory = joblib.Memory("", backend="volatile")  # none: each process has its own

Needs what ``pip install mvolatile[joblib]`` installs.
"""

from __future__ import annotations

import hashlib
import io
import sys
import threading
import time
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, NoReturn

import joblib
from joblib._store_backends import CacheItemInfo, CacheWarning, StoreBackendBase, StoreBackendMixin
from joblib.disk import memstr_to_bytes
from joblib.memory import extract_first_line

from ..shared import SharedCache
from . import backing

__all__ = ["VolatileStoreBackend"]

_NONE: Any = object()
OPTIONS = {"max_bytes"}

_told: dict[tuple[str, str], str] = {}
"""A digest of the code that joblib named last in this process, by location and function."""


class Compressed(NamedTuple):
    """A result as joblib compresses it."""

    data: bytes


class Kept(NamedTuple):
    """A result that was found, for the `load_item` that follows."""

    call: tuple[str, ...]
    value: Any
    metadata: dict[str, Any] | None


class Here(threading.local):
    """What a thread was just told, and is about to ask for."""

    found: Kept | None = None
    stored: tuple[tuple[str, ...], Callable[[], Any]] | None = None
    missed: tuple[tuple[str, ...], float] | None = None
    code: tuple[str, str] | None = None

    def forget(self) -> None:
        """Before the next call."""
        self.found = self.stored = self.missed = self.code = None


class VolatileStoreBackend(StoreBackendMixin, StoreBackendBase):  # type: ignore[misc] # joblib has no types
    """``Memory(location, backend="volatile")``.

    ``location``: the name of a `mvolatile.SharedCache` (1 to 64 letters, digits, ``.``, ``_``, ``-``), which all
    processes of this user on this host have in common, so those of ``Parallel(n_jobs=...)`` too; empty for a cache of
    each process. `ValueError` for what is neither, a path for example.

    ``mmap_mode="r"``: arrays come back read-only, in a cache of the process without a copy. With other modes, and by
    default, a result is the caller's own; nothing is written back. ``compress`` is joblib's, and costs a
    decompression at each hit. ``backend_options``: ``max_bytes``, a bound on the bytes of all results; by default there
    is none, and the kernel takes what it needs.

    A result that is gone is computed again, also if it went between two of joblib's questions. When the code of
    a function changes, its results are found no more, whoever has which version of it. What cannot be stored is
    returned, with joblib's `CacheWarning`. ``call_and_shelve``: a reference keeps nothing, and its ``get()`` raises
    `KeyError` when the result is gone, as for files that were deleted.

    ``reduce_size(bytes_limit=...)`` gives up what is worth least, by use and by what it took to compute, until the
    cache is so small, be it joblib's or another's in a shared one; the other limits go by the time of computation.
    ``clear`` leaves what is others'.

    Threads, fork, spawn: as the caches. It pickles, by its location and options.
    """

    def configure(
        self, location: str, verbose: int = 1, backend_options: dict[str, Any] | None = None
    ) -> None:
        """For joblib: what `joblib.Memory` was given."""
        options = dict(backend_options or {})
        self.compress = options.pop("compress", False)
        self.mmap_mode = options.pop("mmap_mode", None)
        if unknown := options.keys() - OPTIONS:
            raise TypeError(f"backend_options may be {', '.join(OPTIONS)}, not {', '.join(sorted(unknown))}")
        self.location, self.verbose, self._max_bytes = location, verbose, options.get("max_bytes")
        self._known: dict[str, str] = {}
        self._unknown = uuid.uuid4().hex
        self._open()

    def _open(self) -> None:
        # joblib adds its own name to what a program gives as a string, and not to a `pathlib.Path`.
        name = None if self.location == "joblib" else self.location.removesuffix("/joblib")
        self._here = Here()
        self.volatile = backing.one_of_process("joblib", name, self._max_bytes, copy=self.mmap_mode != "r")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("volatile", "_here")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._open()

    # ---- the code of functions

    # The bad schedule: the kernel takes the record of a function's code and leaves results. The code changes; joblib
    # finds no record, writes the new one and trusts the results that are there, which are the old code's. Another: a
    # process that runs the old code for days stores beside one that runs the new. So a result's key has a digest of
    # the code that made it, as joblib told it here. It asks once for each function of a process, perhaps by another
    # object of this location; or in another store, and tells nothing: then the results are this object's alone.
    # What `get_cached_func_code` finds counts for nothing until joblib goes on with it: it may be another program's,
    # and other threads' questions come in between.

    def _know(self, function: str, code: str) -> None:
        text, _ = extract_first_line(code)  # a function that only moved is the same
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        self._known[function] = _told[self.location, function] = digest

    def _key(self, call: Sequence[str], what: str) -> tuple[str, ...]:
        function, arguments = call
        version = self._known.get(function) or _told.get((self.location, function), self._unknown)
        return "joblib", function, arguments, what, version

    def store_cached_func_code(self, call_id: Sequence[str], func_code: str | None = None) -> None:
        """For joblib: the function's code is this, from now on."""
        if func_code is not None:
            self._know(call_id[0], func_code)
            self._put(("joblib", call_id[0], "", "code"), func_code)

    def get_cached_func_code(self, call_id: Sequence[str]) -> str:
        """For joblib: the code as it was; `OSError` if nobody knows."""
        code = self.volatile.get(("joblib", call_id[0], "", "code"))
        if not isinstance(code, str):
            raise FileNotFoundError(f"the code of {call_id[0]} is not there")
        self._here.code = call_id[0], code
        return code

    # ---- results

    def contains_item(self, call_id: Sequence[str]) -> bool:
        """Whether a result is there. It is read at once and kept for the `load_item` that follows, since the kernel may
        take it between the two.
        """
        call, here = tuple(call_id), self._here
        if here.code is not None and here.code[0] == call[0]:
            self._know(*here.code)
        here.forget()
        value = self.volatile.get(self._key(call, "result"), _NONE)
        # Without it no `cache_validation_callback` could judge the result.
        metadata = None if value is _NONE else self.volatile.get(self._key(call, "metadata"))
        if metadata is None:
            here.missed = call, time.monotonic()
            return False
        here.found = Kept(call, value, metadata)
        return True

    def get_metadata(self, call_id: Sequence[str]) -> dict[str, Any]:
        """For joblib: when a result was computed, of what, and for how long; empty if that is not known."""
        call, here = tuple(call_id), self._here
        if here.found is not None and here.found.call == call:
            metadata = here.found.metadata
            # Who asks twice makes a reference, and loads nothing now.
            here.found = None if metadata is None else here.found._replace(metadata=None)
            if metadata is not None:
                return metadata
        return self.volatile.get(self._key(call, "metadata")) or {}

    def load_item(
        self, call_id: Sequence[str], verbose: int = 1, timestamp: float | None = None, metadata: Any = None
    ) -> Any:
        """For joblib: the result; `KeyError` if it is not there."""
        call, here = tuple(call_id), self._here
        if verbose > 1:
            print(f"[Memory]: Loading {call[0]} from {self!r}")
        if here.found is not None and here.found.call == call:
            value = here.found.value
        else:
            value = self.volatile.get(self._key(call, "result"), _NONE)
            if value is _NONE and here.stored is not None and here.stored[0] == call:
                value = here.stored[1]()
        here.forget()
        if value is _NONE:
            raise KeyError(f"the result of {call[0]} is not there any more")
        return joblib.load(io.BytesIO(value.data)) if isinstance(value, Compressed) else value

    def dump_item(self, call_id: Sequence[str], item: Any, verbose: int = 1) -> None:
        """For joblib: store a result."""
        call, here = tuple(call_id), self._here
        duration = 0.0
        if here.missed is not None and here.missed[0] == call:
            duration = time.monotonic() - here.missed[1]
        here.forget()
        metadata = {"duration": duration, "time": time.time(), "input_args": {}}  # until joblib tells it
        is_stored = self._put(self._key(call, "result"), item, duration or None)
        is_stored = is_stored and self._put(self._key(call, "metadata"), metadata)
        # With an `mmap_mode` joblib loads what it just stored, and would fail if that is gone.
        here.stored = call, _reference(item, strong=not is_stored or self.mmap_mode is not None)

    def store_metadata(self, call_id: Sequence[str], metadata: dict[str, Any]) -> None:
        """For joblib: when a result was computed, of what, and for how long."""
        self._put(self._key(call_id, "metadata"), metadata)

    def _put(self, key: tuple[str, ...], value: Any, cost: float | None = None) -> bool:
        try:
            if self.compress and key[3] == "result":
                packed = io.BytesIO()
                joblib.dump(value, packed, compress=self.compress)
                value = Compressed(packed.getvalue())
            if isinstance(self.volatile, SharedCache):
                self.volatile.set(key, value)
            else:
                self.volatile.set(key, value, cost=cost)
        except Exception as error:  # objects raise what they like when they are pickled
            warnings.warn(f"of {key[1]} the {key[3]} is not stored: {error}", CacheWarning, stacklevel=4)
            return False
        return True

    # ---- clearing

    def clear_item(self, call_id: Sequence[str]) -> None:
        """Forget a result."""
        self._here.forget()
        self.volatile.delete_many([self._key(call_id, "result"), self._key(call_id, "metadata")])

    def clear_path(self, call_id: Sequence[str]) -> None:
        """Forget all results of a function, and its code."""
        self.clear_location("/".join((self.location, *call_id)))

    def clear_location(self, location: str) -> None:
        """Forget all that is at or below it: of a call, of a function or of all."""
        self._here.forget()
        below = f"{location.rstrip('/')}/"
        self.volatile.delete_many([key for key in self._keys() if f"{self._path(key)}/".startswith(below)])

    def enforce_store_limits(
        self,
        bytes_limit: int | str | None,
        items_limit: int | None = None,
        age_limit: timedelta | None = None,
    ) -> None:
        """For ``reduce_size``."""
        super().enforce_store_limits(None, items_limit, age_limit)
        if bytes_limit is not None:
            most = self._max_bytes
            if isinstance(self.volatile, SharedCache):
                most = self.volatile.keeper_info().get("max_bytes", most)
            self.volatile.resize(
                memstr_to_bytes(bytes_limit) if isinstance(bytes_limit, str) else int(bytes_limit)
            )
            self.volatile.resize(most)

    # ---- what there is

    def _keys(self) -> Iterator[tuple[str, ...]]:
        """Of what joblib has there: others may use the shared cache, too."""
        for key in self.volatile:
            if isinstance(key, tuple) and len(key) >= 4 and key[0] == "joblib":
                yield key

    def _path(self, key: tuple[str, ...]) -> str:
        return "/".join(filter(None, (self.location, *key[1:3])))

    def get_items(self) -> list[CacheItemInfo]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """For joblib: all results, with an estimate of their size and when they were computed."""
        items = []
        for key in self._keys():
            if key[3] == "result":
                value = self.volatile.get(key, _NONE)
                metadata = self.volatile.get((*key[:3], "metadata", *key[4:]))
                if value is not _NONE and metadata is not None:
                    when = datetime.fromtimestamp(metadata["time"])
                    items.append(CacheItemInfo(self._path(key), _size(value), when))
        return items

    def get_item_info(self, call_id: Sequence[str]) -> dict[str, Any]:
        """For joblib: where something is."""
        return {"location": "/".join((self.location, *call_id))}

    get_cached_func_info = get_item_info

    def contains_path(self, call_id: Sequence[str]) -> bool:
        """Whether there is something of this function."""
        return self._item_exists("/".join((self.location, *call_id)))

    def _item_exists(self, location: str) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        return any(f"{self._path(key)}/".startswith(f"{location}/") for key in self._keys())

    def create_location(self, location: str) -> None:
        """For joblib: nothing, there are no folders."""

    def _open_item(self, f: str, mode: str) -> NoReturn:
        raise io.UnsupportedOperation("there are no files")

    def _move_item(self, src: str, dst: str) -> NoReturn:
        raise io.UnsupportedOperation("there are no files")


def _reference(value: Any, strong: bool) -> Callable[[], Any]:
    """What gives the value, or `_NONE` if nobody has it any more."""
    if not strong:
        try:
            reference = weakref.ref(value)
        except TypeError:
            return lambda: _NONE
        return lambda: _NONE if (there := reference()) is None else there
    return lambda: value


def _size(value: Any) -> int:
    if isinstance(value, Compressed):
        return len(value.data)
    return int(getattr(value, "nbytes", 0)) or sys.getsizeof(value)


joblib.register_store_backend("volatile", VolatileStoreBackend)
