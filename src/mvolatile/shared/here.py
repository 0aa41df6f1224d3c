"""The shared caches that this process is a client of, and what it alone knows of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .values import Known, RebuildPressure

if TYPE_CHECKING:
    from .client import SharedCache

__all__ = ["Here", "enter", "shared_caches"]

_known: Known[SharedCache[Any, Any]] = Known()
enter, shared_caches = _known.enter, _known.open


class Here(NamedTuple):
    """`lost`: values that this process asked for and that the kernel had taken; `rebuild`: of what it makes itself;
    `refused`: calls that met no keeper since this process could not reach or start one, of which it was warned.
    """

    lost: int
    rebuild: RebuildPressure
    refused: int
