"""The errors of what is not whole: which is which, and that they travel."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from mvolatile import MvolatileError, NotWhole, Overwritten, Purged


def test_what_was_overwritten_is_not_purged() -> None:
    """A handler of losses would rebuild what is there, over what a writer is just writing."""
    assert not issubclass(Overwritten, Purged)
    assert not issubclass(Purged, Overwritten)
    for kind in (Overwritten, Purged):
        assert issubclass(kind, NotWhole)
    assert issubclass(NotWhole, MvolatileError)


@pytest.mark.parametrize(
    "error", [Purged("tiles", ((0, 4096), (8192, 4096)), 7), Purged(), Overwritten("tiles", 7), Overwritten()]
)
def test_it_is_copied_and_pickled(error: Any) -> None:
    for other in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is type(error)
        assert vars(other) == vars(error)
        assert other.args == error.args
        assert str(other) == str(error)
