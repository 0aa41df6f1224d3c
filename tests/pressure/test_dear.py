"""What is dear to make stays where the kernel evicts: the program's own memory grows at once, and a stream of values
that are stored once goes on past the limit. Values of segments, and large ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

import mvolatile as mv
from support.cgroups import Limited

MIB = 1 << 20
ONE_IN = 20
pytestmark = pytest.mark.skipif(
    mv.features().tier != "userfaultfd",
    reason="pages are read again where it is known whether they are there",
)


def store_and_lose(nbytes: int, mib: int, taken_mib: int, one_in: int) -> None:
    import json

    import mvolatile as mv

    count = (mib << 20) // nbytes
    cache = mv.VolatileCache()
    for key in range(count):
        cache.set(key, key.to_bytes(8, "little") * (nbytes // 8), cost=0.5 if key % one_in == 0 else 0.001)
    taken = [bytearray(b"x") * (1 << 20) for _ in range(taken_mib)]
    left = [key for key in range(count) if key in cache]
    assert all(cache[key][:8] == key.to_bytes(8, "little") for key in left[::97] if key in cache)
    dear = sum(key % one_in == 0 for key in left)
    print(json.dumps([dear, len(left) - dear, len(taken)]))


@pytest.mark.parametrize("nbytes", [4096, 128 << 10])
@pytest.mark.parametrize(("stored", "taken"), [(100, 45), (220, 0)], ids=["the program grows", "a stream"])
def test_the_kernel_takes_what_is_cheap(
    run_limited: Callable[..., Limited], nbytes: int, stored: int, taken: int
) -> None:
    """Without care the kernel takes of both the same part: what was stored first, a third of all or more."""
    done = run_limited(store_and_lose, 128 * MIB, nbytes, stored, taken, ONE_IN)
    dear, cheap, _ = json.loads(done.check().stdout)
    all_dear = stored * MIB // nbytes // ONE_IN
    all_cheap = stored * MIB // nbytes - all_dear
    assert cheap < 0.9 * all_cheap, "something had to go"
    assert dear > 0.9 * all_dear
