"""A container's limit lowered to half while a cache is filled and read: it is accepted, and nobody is killed."""

from __future__ import annotations

import pytest

from mvolatile import _core
from support.cgroups import why_not
from support.lowering import FULL, lower_to_half

pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.skipif(_core.tier() == "unsupported", reason="nothing is volatile here"),
]


@pytest.mark.parametrize("share", [None, "60%"])
def test_it_is_accepted_and_nobody_is_killed(share: str | None) -> None:
    done = lower_to_half(share)
    print(f"accepted after {done.seconds:.2f} s")
    assert done.usage <= done.limit
    assert done.stored > FULL
    assert done.killed == 0
