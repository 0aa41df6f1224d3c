"""fork while other threads are anywhere (schedule 6): in a populate, with a pin, in a peek, in the trap. The child has
one thread, must wait for nobody, and is lied to about nothing.
"""

from __future__ import annotations

import json

import pytest

from support.processes import run_python


def storm(nbytes: int, huge: bool, times: int, raw: bool) -> None:
    import faulthandler
    import json
    import os
    import signal
    import sys
    import threading
    import traceback

    import mvolatile as mv
    from mvolatile import Overwritten, Purged, _core
    from support.crowd import Crowd
    from support.libc import Anonymous
    from support.processes import LONGEST

    faulthandler.dump_traceback_later(LONGEST - 10, exit=True)
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
                assert _core.pins(memory)
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
        crowd.failures += [] if _core.is_valid(memory) else ["invalid"]
        fresh = mv.VolatileMemory(nbytes)
        fresh.write(crowd.data(0))
        fresh.close()
        if raw:
            mv.mvolatile(area.address, area.length, mv.MVOLATILE_VOLATILE)
            mv.mvolatile(area.address, area.length, mv.MVOLATILE_NONVOLATILE)
        assert not crowd.failures, crowd.failures

    statuses: list[int] = []

    def fork_on() -> None:
        while len(statuses) < times and not any(statuses):
            pid = os.fork()
            if pid == 0:
                signal.alarm(LONGEST)
                status = 1
                try:
                    child()
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stderr.flush()
                    os._exit(status)
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    marker = threading.Thread(target=mark_raw)
    if raw:
        marker.start()
    forker = threading.Thread(target=fork_on)
    forker.start()
    crowd.run(until=lambda: not forker.is_alive())
    forker.join()
    if raw:
        marker.join()
    print(json.dumps({"statuses": statuses, "counts": dict(crowd.counts)}))
    assert not crowd.failures, crowd.failures
    os._exit(0)


@pytest.mark.parametrize(
    ("tier", "nbytes", "huge", "times", "raw"),
    [
        ("userfaultfd", 64 << 10, False, 50, True),
        ("userfaultfd", 2 << 20, True, 20, False),
        ("faultcount", 64 << 10, False, 50, True),
    ],
)
def test_forks_in_the_middle_of_everything(tier: str, nbytes: int, huge: bool, times: int, raw: bool) -> None:
    done = run_python(storm, nbytes, huge, times, raw, env={"MVOLATILE_TIER": tier}).check()
    assert json.loads(done.stdout)["statuses"] == [0] * times, f"{done}"


def fork_beside_a_reader(times: int) -> None:
    import os
    import threading

    import mvolatile as mv

    memory = mv.VolatileMemory(32 << 20)
    memory.write(b"x" * memory.nbytes)
    over = threading.Event()

    def read_on() -> None:
        while not over.is_set():
            memory.read(0)

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        for _ in range(times):
            pid = os.fork()
            if pid == 0:
                try:
                    memory.close()
                except BufferError:
                    os._exit(1)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, (
                "a thread that is not there holds it"
            )
    finally:
        over.set()
        reader.join()


def test_a_read_of_another_thread_holds_nothing_in_the_child() -> None:
    run_python(fork_beside_a_reader, 30).check()
