"""A real limit: what is volatile gives way, the oldest first; what is not stays; nobody is killed."""

from __future__ import annotations

import json
import signal
import statistics

import pytest

from support.cgroups import run_limited

pytestmark = pytest.mark.usefixtures("needs_cgroup")

LIMIT = 256 << 20


def keep(tier: str, nbytes: int, count: int, marked: bool) -> None:
    import json

    import numpy as np

    from mvolatile import Purged, VolatileMemory, _core
    from mvolatile.kernel.smaps import __name__ as _loaded  # noqa: F401 - before memory is short

    assert _core.tier() == tier
    unmarked = np.arange(4 << 20, dtype=np.uint64)  # 32 MiB
    pinned = VolatileMemory(16 << 20)
    hold = pinned.pin(write=True).__enter__()
    hold[:] = b"p" * len(hold)
    memories, holds = [], []
    for number in range(count):
        memory = VolatileMemory(nbytes)
        data = np.full(nbytes // 4, number + 1, np.uint32)
        memory.write(data)
        memories.append(memory)
        if not marked:
            holds.append(memory.pin().__enter__())
    whole, lost = [], 0
    for number, memory in enumerate(memories):
        try:
            with memory.pin() as view:
                assert (np.frombuffer(view, np.uint32) == number + 1).all(), number
                whole.append(number)
        except Purged as error:
            lost += error.nbytes
    assert (unmarked == np.arange(4 << 20, dtype=np.uint64)).all()
    assert bytes(hold) == b"p" * len(hold)
    print(json.dumps({"whole": whole, "lost": lost}))


@pytest.mark.parametrize(
    ("tier", "nbytes"),
    [("userfaultfd", 4 << 20), ("userfaultfd", 256 << 10), ("faultcount", 4 << 20)],
)
def test_a_gibibyte_volatile_under_a_quarter_of_it(tier: str, nbytes: int) -> None:
    """The kernel takes the oldest first, but for what it met on its way from one list to the next: so most of what
    stays is newer than most of what went. How much stays is the kernel's affair.
    """
    count = (1 << 30) // nbytes
    done = run_limited(keep, LIMIT, tier, nbytes, count, True, env={"MVOLATILE_TIER": tier})
    assert done.returncode == 0, f"{done}"
    assert done.oom_kills == 0
    assert done.peak is None or done.peak <= LIMIT + (1 << 20)  # some charges must not fail
    found = json.loads(done.stdout)
    whole = found["whole"]
    assert found["lost"] >= (1 << 30) - LIMIT - len(whole) * nbytes
    assert whole, "the newest stay"
    assert whole[-1] == count - 1
    assert statistics.median(whole) > statistics.median(set(range(count)) - set(whole)), (
        f"the newest, not {whole}"
    )


@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
def test_the_same_without_marking_is_killed(tier: str) -> None:
    done = run_limited(keep, LIMIT, tier, 4 << 20, 256, False, env={"MVOLATILE_TIER": tier})
    assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), f"{done}"
    assert done.oom_kills >= 1
    assert done.stdout == ""
