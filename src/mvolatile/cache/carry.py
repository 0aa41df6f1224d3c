"""What of a cache goes to another process, or into a copy: its parameters. The values stay in this process."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

__all__ = ["packed", "unpacked"]


class ByName(NamedTuple):
    """A module as codec (`json`, `marshal`), which does not pickle."""

    module: str


def packed(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a cache, as they can be pickled."""
    codec = parameters["codec"]
    return {**parameters, "codec": ByName(codec.__name__)} if isinstance(codec, ModuleType) else parameters


def unpacked(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters again."""
    codec = parameters["codec"]
    return {**parameters, "codec": import_module(codec.module)} if isinstance(codec, ByName) else parameters
