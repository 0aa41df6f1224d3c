"""Memory that is used again for the next large value, under a real limit."""

from __future__ import annotations

import json

import pytest

import mvolatile as mv
from support.cgroups import run_limited

MIB = 1 << 20
pytestmark = [
    pytest.mark.usefixtures("needs_cgroup"),
    pytest.mark.skipif(mv.features().tier != "userfaultfd", reason="memory is kept where it is watched"),
]


def replace_a_third(reuse: bool) -> None:
    import json

    from mvolatile import _core
    from mvolatile.memory import stored_memory

    data = bytes(range(256)) * 4096
    old, middle, newest = (
        [stored_memory([data], "value", dump=True, inherit=True) for _ in range(24)] for _ in range(3)
    )
    for memory in newest:
        memory.close()
    newest = []
    for memory in old:
        if not (reuse and _core.close_and_keep(memory)):
            memory.close()
        newest.append(stored_memory([data], "value", dump=True, inherit=True))
    taken = [bytearray(b"x") * (1 << 20) for _ in range(40)]
    whole = [sum(not memory.purged() for memory in each) for each in (middle, newest)]
    print(json.dumps([*whole, len(taken)]))


@pytest.mark.parametrize("reuse", [True, False])
def test_the_newest_values_go_last(reuse: bool) -> None:
    """The kernel takes what is volatile in the order in which it was first marked. What is stored in memory that was
    marked long ago must not count as that old.
    """
    middle, newest, _ = json.loads(run_limited(replace_a_third, 84 * MIB, reuse).check().stdout)
    assert newest > middle, "what was stored last is what the kernel takes last"


def store_and_check() -> None:
    import random
    import threading
    import zlib

    import mvolatile as mv

    cache = mv.VolatileCache(40 << 20)
    pieces = [random.Random(n).randbytes(4096) for n in range(100)]
    hits = [0] * 3
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(1500):
                key = chance.randrange(300)
                found = cache.get(key)
                if found is not None:
                    assert found[:8] == b"%08d" % key
                    assert zlib.crc32(found[8:-4]).to_bytes(4, "little") == found[-4:]
                    hits[seed] += 1
                    continue
                body = chance.choice(pieces) * chance.randrange(20, 400)
                cache[key] = b"%08d" % key + body + zlib.crc32(body).to_bytes(4, "little")
                if chance.random() < 0.05:
                    taken = bytearray(b"x") * (chance.randrange(1, 12) << 20)
                    del taken
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    assert all(hits), hits


def test_nothing_is_mixed_under_a_limit() -> None:
    """A cache that is larger than the limit lets it be, values of every size, and neighbours that take and release."""
    run_limited(store_and_check, 64 * MIB).check()
