"""fork while other threads are anywhere (schedule 6): in a populate, with a pin, in a peek, in the trap. The child has
one thread, must wait for nobody, and is lied to about nothing.
"""

from __future__ import annotations

import json

import pytest

from support.processes import run_python


def storm(nbytes: int, huge: bool, seconds: float, raw: bool) -> None:
    import faulthandler
    import json
    import os
    import signal
    import sys
    import threading
    import time
    import traceback

    import mvolatile as mv
    from mvolatile import Overwritten, Purged
    from support.crowd import Crowd
    from support.libc import Anonymous

    faulthandler.dump_traceback_later(seconds * 10 + 30, exit=True)
    crowd = Crowd(nbytes, huge, seed=3)
    memory = crowd.memory
    area = Anonymous(16 * 4096)

    def mark_raw() -> None:
        while not crowd.over.is_set():
            area.fill()
            mv.mvolatile(area.address, area.length, mv.MVOLATILE_VOLATILE)
            mv.mvolatile(area.address, area.length, mv.MVOLATILE_NONVOLATILE)

    def child() -> None:
        # Held by a thread we do not have, perhaps: then it cannot be purged here, and must be whole or known as lost.
        for _ in range(3):
            try:
                with memory.pin() as view:
                    data = bytes(view)
                if not crowd.lock.locked():  # no writer was half way
                    crowd.check(data, "child")
            except Purged as lost:
                crowd.failures += [] if lost.extents else ["no extents"]
            try:
                memory.purge()
            except BufferError:
                assert memory._pins
        memory.pin(on_purge="zero").__enter__()
        crowd.version += 1
        memory.write(crowd.data(crowd.version))
        with memory.pin() as view:
            crowd.check(bytes(view), "child")
        try:
            crowd.check(memory.read(0), "child")
        except Overwritten:
            if not crowd.lock.locked():  # else: the write pin of a thread that is not here
                raise
        memory.purged()
        crowd.failures += [] if memory._is_valid() else ["invalid"]
        fresh = mv.VolatileMemory(nbytes)
        fresh.write(crowd.data(0))
        fresh.close()
        if raw:
            mv.mvolatile(area.address, area.length, mv.MVOLATILE_VOLATILE)
            mv.mvolatile(area.address, area.length, mv.MVOLATILE_NONVOLATILE)
        assert not crowd.failures, crowd.failures

    forks, statuses = 0, set()

    def fork_on() -> None:
        nonlocal forks
        end = time.monotonic() + seconds
        while time.monotonic() < end and not statuses - {0}:
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                status = 1
                try:
                    child()
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stderr.flush()
                    os._exit(status)
            statuses.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            forks += 1

    marker = threading.Thread(target=mark_raw)
    if raw:
        marker.start()
    forker = threading.Thread(target=fork_on)
    forker.start()
    crowd.run(seconds, after=forker.join)
    if raw:
        marker.join()
    print(json.dumps({"forks": forks, "statuses": sorted(statuses), "counts": dict(crowd.counts)}))
    assert not crowd.failures, crowd.failures
    os._exit(0)


@pytest.mark.parametrize(
    ("tier", "nbytes", "huge", "raw"),
    [
        ("userfaultfd", 64 << 10, False, True),
        ("userfaultfd", 2 << 20, True, False),
        ("faultcount", 64 << 10, False, True),
    ],
)
def test_forks_in_the_middle_of_everything(tier: str, nbytes: int, huge: bool, raw: bool) -> None:
    done = run_python(storm, nbytes, huge, 2.0, raw, env={"MVOLATILE_TIER": tier}, timeout=100).check()
    found = json.loads(done.stdout)
    assert found["statuses"] == [0], f"{done}"
    assert found["forks"] >= 2, found
