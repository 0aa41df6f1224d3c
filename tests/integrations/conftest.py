"""What the tests of integrations share: a directory of keepers, caches closed, servers."""

from __future__ import annotations

import gc
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import mvolatile as mv
from support.keepers import end_keepers, entries


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the test's keepers are, all gone when it ends."""
    with tempfile.TemporaryDirectory(prefix="mv") as directory:
        monkeypatch.setenv("MVOLATILE_RUNTIME_DIR", directory)
        monkeypatch.setenv("MVOLATILE_KEEPER_LOG", str(Path(directory, "log")))
        path = Path(directory)
        yield path
        end_keepers(path)
        assert entries(path / "log") == [], "a keeper met an error"


@pytest.fixture
def closing(runtime: Path, _leaves_nothing: None) -> Iterator[None]:
    """Closes what the test opened: frameworks keep their backends for as long as the process lives."""
    yield
    gc.collect()
    for found in gc.get_objects():
        if isinstance(found, (mv.VolatileCache, mv.SharedCache)):
            found.close()
    del found
    for thread in threading.enumerate():
        if thread.name.startswith("mvolatile-"):
            thread.join(60)
