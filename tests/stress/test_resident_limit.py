"""20 GB pass through a cache under a limit on what it adds to RSS."""

from __future__ import annotations

import pytest

from mvolatile import _core
from support.polling import LIMIT, OWN, poll_while_passing


@pytest.mark.stress
@pytest.mark.skipif(_core.tier() == "unsupported", reason="nothing is volatile here")
def test_a_poller_sees_it_above_in_no_look_of_a_thousand() -> None:
    looks = poll_while_passing(20_000_000_000)
    print(looks)
    assert looks.above * 1000 <= looks.all, looks
    assert looks.peak <= LIMIT + OWN, looks
