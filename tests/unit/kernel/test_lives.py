"""Whether a process is still there: not one of its number, and not its corpse."""

from __future__ import annotations

import os
import subprocess
import sys

from mvolatile.kernel.lives import life_of, lives, namespace, stack_of
from support.processes import run_python


def test_living_ended_and_another_of_its_number() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        life = life_of(process.pid)
        assert life[1] > 0
        assert lives(life)
        assert lives((process.pid, 0))  # nobody said when it began
        assert not lives((process.pid, life[1] + 1))
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not lives(life)  # nobody has buried it yet
    assert not lives(life)
    assert life_of(process.pid) == (process.pid, 0)
    assert stack_of(process.pid) == 0
    assert not lives((0, 0))
    assert not lives((-1, 0))


def test_an_exec_moves_the_stack_and_nothing_else() -> None:
    def child() -> None:
        import os
        import sys
        from pathlib import Path

        from mvolatile.kernel.lives import life_of, namespace, stack_of

        now = (life_of(os.getpid()), namespace()), stack_of(os.getpid())
        if len(sys.argv) == 1:
            os.execv(sys.executable, [*sys.orig_argv, repr(now)])
        same, stack = eval(sys.argv[1])
        assert same == now[0]
        assert 0 not in (stack, now[1])
        if not int(Path("/proc/self/personality").read_text(), 16) & 0x0040000:  # ADDR_NO_RANDOMIZE
            assert stack != now[1]

    run_python(child).check()


def test_no_descriptor_is_no_death() -> None:
    def child() -> None:
        import os
        import resource

        from mvolatile.kernel.lives import life_of, lives

        life, dead = life_of(os.getpid()), os.fork()
        if not dead:
            os._exit(0)
        os.waitpid(dead, 0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 4096))
        assert lives(life)
        assert not lives((dead, 0))

    run_python(child).check()


def test_the_namespace_is_that_of_the_children() -> None:
    code = "from mvolatile.kernel.lives import namespace; print(namespace())"
    assert run_python(code).check().stdout.strip() == namespace() != "0"
