"""Values too large for the memory there is: a clear error, nobody killed, and nothing else lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import mvolatile as mv
from support.cgroups import Limited

MIB = 1 << 20
pytestmark = pytest.mark.skipif(not mv.features().can_purge, reason="nothing is purged here")


def store_too_much(nbytes: int, through_factory: bool) -> None:
    import mmap

    import numpy as np
    import pytest

    import mvolatile as mv

    cache = mv.VolatileCache()
    cache.update({i: b"%d." % i * 1000 for i in range(5000)})
    cache["large"] = b"an older value"
    value = np.frombuffer(
        mmap.mmap(-1, nbytes, mmap.MAP_PRIVATE), np.uint8
    )  # not written: takes no memory itself
    if through_factory:
        assert cache.get_or_set("made", lambda: value) is value
        assert "made" not in cache
    else:
        with pytest.raises(mv.NoRoomError, match="there is room for") as caught:
            cache["large"] = value
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, MemoryError)
        assert "large" not in cache
    assert all(cache[i] == b"%d." % i * 1000 for i in range(5000))


@pytest.mark.parametrize("through_factory", [False, True])
@pytest.mark.parametrize("mib", [200, 2000], ids=["more than is free", "more than the limit"])
def test_a_value_larger_than_the_memory_left(
    mib: int, through_factory: bool, run_limited: Callable[..., Limited]
) -> None:
    done = run_limited(store_too_much, 220 * MIB, mib * MIB, through_factory)
    done.check()
    assert done.oom_kills == 0


def store_much() -> None:
    import numpy as np

    import mvolatile as mv

    cache = mv.VolatileCache()
    for i in range(400):
        cache[i] = bytes([i % 251]) * MIB
    for fill in range(4):
        for _ in range(5):  # what is newest stays, as a rule; which pages go is for the kernel to choose
            cache["large"] = np.full(60 * MIB, fill, np.uint8)
            found = cache.get("large")
            if found is not None:
                break
        assert found is not None
        assert found[::4096].min() == found[::4096].max() == fill
        del found
        for i in range(400):
            assert cache.get(i, bytes([i % 251]) * MIB) == bytes([i % 251]) * MIB


def test_what_is_volatile_makes_room(run_limited: Callable[..., Limited]) -> None:
    """The limit is met many times over; each large value fits once others go."""
    import inspect

    done = run_limited(f"MIB = {MIB}\n" + inspect.getsource(store_much) + "\nstore_much()", 220 * MIB)
    done.check()
    assert done.oom_kills == 0
