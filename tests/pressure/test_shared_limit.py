"""A shared cache that fills a cgroup: what goes is chosen, and not what the kernel finds."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from support.cgroups import Limited

MIB = 1 << 20


def fill_twice() -> None:
    import os
    import signal
    import tempfile

    import mvolatile as mv
    from mvolatile.shared.place import Place

    with tempfile.TemporaryDirectory() as directory:
        os.environ["MVOLATILE_RUNTIME_DIR"] = directory
        with mv.SharedCache("values", linger=0.1) as cache:
            for number in range(1200):
                cache[number] = bytes([number % 251]) * 200_000
                for hot in range(min(number, 10)):
                    assert cache[hot][:1] == bytes([hot])
            info = cache.cache_info()
            channel = Place("values").connect()
            assert channel is not None
            os.kill(channel.pid, signal.SIGTERM)
            while Place("values").is_kept():
                pass
    print(info)
    assert info.purged < 40, info
    assert info.evicted > 300, info
    assert info.bytes > 100 << 20, info


def test_the_first_that_everybody_asks_for_stay(run_limited: Callable[..., Limited]) -> None:
    done = run_limited(inspect.getsource(fill_twice) + "\nfill_twice()", 192 * MIB)
    print(done.stdout, done.stderr)
    done.check()
    assert done.oom_kills == 0
