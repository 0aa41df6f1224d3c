"""Mappings to stand behind a private cache, and until what is due there was tried."""

from __future__ import annotations

from typing import Any

from mvolatile import VolatileCache
from mvolatile.cache.engine import engine_of
from support.mappings import Behind, kinds

__all__ = ["Behind", "kinds", "written"]


def written(cache: VolatileCache[Any, Any]) -> None:
    """Until what is due was tried."""
    tier = engine_of(cache).tier
    assert tier is not None
    tier.writer.flush()
