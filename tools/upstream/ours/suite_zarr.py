# mypy: ignore-errors
"""zarr's `StoreTests` with our wrapper, as its own tests have them for `WrapperStore`, around a `LocalStore`."""

import os

import pytest
from zarr.core.buffer.cpu import Buffer
from zarr.core.sync import sync
from zarr.storage import LocalStore
from zarr.testing.store import StoreTests

from mvolatile.integrations.zarr import VolatileStore


@pytest.fixture(scope="session")
def anyio_backend():
    """That of zarr."""
    return "asyncio"


class TestProcess(StoreTests[VolatileStore, Buffer]):
    """A cache of the store's own."""

    store_cls = VolatileStore
    buffer_cls = Buffer
    options = ()

    @pytest.fixture
    def store_kwargs(self, tmp_path):
        """A new directory each."""
        return {"store": LocalStore(tmp_path), **dict(self.options)}

    @pytest.fixture
    def open_kwargs(self, tmp_path):
        """As `open` wants it: it hands none of ours on."""
        return {"store_cls": LocalStore, "root": tmp_path}

    # Not coroutines, as they are in the suite: its tests that are none ask for them as well, which anyio does not give.
    @pytest.fixture
    def store(self, store_not_open):
        """An open one."""
        sync(store_not_open._open())  # noqa: SLF001 - zarr has no other word for it
        return store_not_open

    @pytest.fixture
    def store_not_open(self, store_kwargs):
        """Another."""
        made = self.store_cls(**store_kwargs)
        yield made
        made.volatile.close()

    async def get(self, store, key):
        """Past the wrapper."""
        return self.buffer_cls.from_bytes((store.inner.root / key).read_bytes())

    async def set(self, store, key, value):
        """Past the wrapper."""
        parent = (store.inner.root / key).parent
        parent.mkdir(parents=True, exist_ok=True)
        (store.inner.root / key).write_bytes(value.to_bytes())

    def test_store_repr(self, store):
        """It names the other."""
        assert repr(store).startswith("VolatileStore(LocalStore(")

    def test_store_supports_writes(self, store):
        """As the other does."""
        assert store.supports_writes

    def test_store_supports_listing(self, store):
        """As the other does."""
        assert store.supports_listing


class TestShared(TestProcess):
    """One of the host."""

    options = (("shared", f"zarr-{os.getpid()}"),)
