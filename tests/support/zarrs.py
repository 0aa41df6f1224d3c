"""A store that notes what it is asked, and what tests ask of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import WrapperStore

__all__ = ["DATA", "PROTOTYPE", "Counted", "buffer", "got", "new_array"]

PROTOTYPE = default_buffer_prototype()
DATA = (np.add.outer(np.arange(600), 7 * np.arange(500)) % 251).astype("i4")


class Counted(WrapperStore[Any]):
    """Notes what it is asked, and can wait before and after it answers."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.asked: list[Any] = []
        self.before: Any = None
        self.after: Any = None

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        if not key.endswith("zarr.json"):
            self.asked.append(key if byte_range is None else (key, byte_range))
        found = await super().get(key, prototype, byte_range)
        if self.after is not None:
            await self.after()
        return found


def buffer(data: bytes) -> Any:
    return PROTOTYPE.buffer.from_bytes(data)


def got(store: Any, key: str, part: Any = None) -> bytes | None:
    found = sync(store.get(key, PROTOTYPE, part))
    return None if found is None else found.to_bytes()


def new_array(store: Any, name: str = "a", **how: Any) -> Any:
    array = zarr.create_array(
        store, name=name, shape=DATA.shape, dtype=DATA.dtype, **{"chunks": (100, 100)} | how
    )
    array[:] = DATA
    return array
