"""SIGBUS of memory that is not ours: each story ends as it does without the library, told by running it without."""

from __future__ import annotations

import functools
import platform

import pytest

from mvolatile import _core
from support.processes import Finished, run_python

pytestmark = [
    pytest.mark.skipif(_core.tier() != "userfaultfd", reason="the library has no handler in this tier"),
    pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="moves the program counter"),
]

CHILD = """
import ctypes, faulthandler, os, signal, sys, time
from support import native
c = native.load("chains")
c.beyond_the_end.restype = ctypes.c_void_p
c.what_it_was_told.restype = ctypes.c_char_p
pointer, ONSTACK, NODEFER, RESETHAND = ctypes.c_void_p, 0x08000000, 0x40000000, 0x80000000 - (1 << 32)
MOVE, JUMP, PLAIN_JUMP, MEND, RAISE_AGAIN = range(5)
page, other = pointer(c.beyond_the_end()), pointer(c.beyond_the_end())
def install(which=0, page=None, way=MOVE, flags=0, shrugs=0, full=0):
    c.install(which, page, way, flags, shrugs, full)
def told():
    print(c.what_it_was_told().decode(), flush=True)

# What the library does meanwhile: it goes in front, and repairs.
def library():
    if "without" in sys.argv: return
    global mv, lossy
    import mvolatile as mv
    from support.losing import lossy
    now = time.clock_gettime(6)     # the coarse clock, by which it looks who is in front
    while time.clock_gettime(6) == now: pass
    memory = lossy(16, lost=(1,))
    try:
        with memory.peek() as view: bytes(view)
    except mv.Purged as lost: assert lost.extents == ((4096, 4096),)
    else: raise SystemExit("a loss was not told")
{story}
"""
MASKS = "BLOCKED = 1 << signal.SIGUSR1 | 1 << signal.SIGTERM\n"
STORIES = {
    "the program counter is moved": (
        "install()",
        "print([c.moved(page) for _ in range(50)], [c.moved(other) for _ in range(50)])",
    ),
    "a jump, from ever deeper frames": (
        "install(way=JUMP)",
        "print([c.jumped(page, depth) for depth in (0, 1, 2, 5, 0, 10, 100, 1000, *range(40))])",
    ),
    "a jump, from ever less deep frames": (
        "install(way=JUMP)",
        "print([c.jumped(page, depth) for depth in range(40, 0, -1)])",
    ),
    "a jump that does not restore the mask": (
        "install(way=PLAIN_JUMP)",
        "print(c.jumped_plainly(page), flush=True); print(c.jumped_plainly(page), flush=True)",
    ),
    "the same, where the signal is not blocked": (
        "install(way=PLAIN_JUMP, flags=NODEFER)",
        "print([c.jumped_plainly(page) for _ in range(30)])",
    ),
    "it mends": ("install(way=MEND, page=page)", "print(c.moved(page), c.moved(page))"),
    "it mends after some tries": (
        "install(way=MEND, page=page, shrugs=40)",
        "print(c.moved(page), c.moved(page))",
    ),
    "one that works once": (
        "install(flags=RESETHAND)",
        "print(c.moved(page), flush=True); library(); print(c.moved(page), flush=True)",
    ),
    "a touch of a handler's": (
        "c.touch_inside(other); install(page=page)",
        "print(c.moved(page), flush=True)",
    ),
    "a touch of a handler's that may": (
        "c.touch_inside(other); install(page=page, flags=NODEFER)",
        "print([c.moved(page) for _ in range(30)], flush=True)",
    ),
    "everything blocked, on an alternate stack, as runtimes do": (
        "install(flags=ONSTACK, full=1)",
        "print([c.moved(page) for _ in range(30)]); c.touch_with_altstack(page)",
    ),
    "nobody's memory": ("install(page=page)", "print(c.moved(page), flush=True); c.moved(other)"),
    "no handler": ("", "c.moved(page)"),
    "ignored": ("signal.signal(signal.SIGBUS, signal.SIG_IGN)", "c.moved(page)"),
    "ignored, and sent": (
        "signal.signal(signal.SIGBUS, signal.SIG_IGN)",
        "os.kill(os.getpid(), signal.SIGBUS); c.send_as(5, page)",
    ),
    "sent to nobody": ("", "os.kill(os.getpid(), signal.SIGBUS)"),
    "an error of the memory's, not to be acted on": ("", "c.send_as(5, page)"),
    "faulthandler": ("faulthandler.enable()", "c.moved(page)"),
    "a handler like faulthandler, over one that recovers": (
        "install(0); install(1, way=RAISE_AGAIN)",
        "print(c.moved(page), c.moved(page))",
    ),
    "Python's handler, which returns for ever": (
        "signal.signal(signal.SIGBUS, print)",
        "signal.setitimer(signal.ITIMER_PROF, 0.5); c.moved(page)",
    ),
    "Python's handler, sent": (
        "signal.signal(signal.SIGBUS, lambda *a: print('python ran', flush=True))",
        "os.kill(os.getpid(), signal.SIGBUS); print('and on')",
    ),
    "with its mask": (
        MASKS + "c.install_telling(0, BLOCKED)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]); c.moved(page); told()",
    ),
    "with its mask, not deferred": (
        MASKS + "c.install_telling(NODEFER, BLOCKED)",
        "c.moved(page); told(); print(signal.pthread_sigmask(signal.SIG_BLOCK, []))",
    ),
    "on the alternate stack": ("c.install_telling(ONSTACK, 0)", "c.touch_with_altstack(page); told()"),
    "not on the alternate stack": ("c.install_telling(0, 0)", "c.touch_with_altstack(page); told()"),
    "for all reasons": (
        "c.install_telling(0, 0)",
        "for code in (-1, -6, 1, 3, 4, 5):\n    c.send_as(code, page); told()\n"
        "os.kill(os.getpid(), signal.SIGBUS); told(); print(c.handler_runs())",
    ),
    "one hands on to the other": (
        "install(0, page=page); library(); install(1, page=other)",
        "print([(c.moved(page), c.moved(other)) for _ in range(30)], c.handler_runs())",
    ),
    "one hands on to the other, and nobody takes it": (
        "install(0, page=page); library(); install(1, page=other)",
        "print(c.moved(page), c.moved(other), flush=True); c.moved(pointer(c.beyond_the_end()))",
    ),
    "one hands on to the other, with everything blocked": (
        "install(0, page=page, full=1); library(); install(1, page=other, full=1, flags=ONSTACK)",
        "print([(c.moved(page), c.moved(other)) for _ in range(30)], c.handler_runs())",
    ),
    "they come and go": (
        "install(0, page=page)",
        "for _ in range(40):\n"
        "    install(1, page=other); library()\n    print(c.moved(page), c.moved(other), flush=True)\n"
        "    c.uninstall(1); library()\nc.moved(page); print(flush=True); c.moved(other)",
    ),
    "they come anew in turn": (
        "install(0, page=page)",
        "for i in range(40):\n"
        "    install(i % 2, page=other if i % 2 else page); library()\n"
        "    print(c.moved(page), i == 0 or c.moved(other), flush=True)",
    ),
    "they come in turn, others between them": (
        "install(0, page=page)",
        "for i in range(40):\n"
        "    signal.signal(signal.SIGBUS, (signal.SIG_DFL, print)[i % 2]); library()\n"
        "    install(0, page=page); library(); print(c.moved(page), flush=True)",
    ),
    "in many threads at once": (
        "install(0, page=page); library(); install(1, page=other)",
        "import threading\nsums = []\n"
        "def work(): sums.append(sum(c.moved(page) + c.moved(other) for _ in range(500)))\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "for thread in threads: thread.start()\n"
        "for _ in range(5): library()\n"
        "for thread in threads: thread.join()\nprint(sums)",
    ),
    "one that is put back over the default": (
        "install(0, page=page); library(); install(1, page=other)",
        "library(); c.uninstall(1); library(); print(c.moved(page), flush=True); c.moved(other)",
    ),
}


def ending(done: Finished) -> tuple[int, str, bool]:
    return done.returncode, done.stdout, "Bus error" in done.stderr


@functools.cache
def without(story: str) -> tuple[int, str, bool]:
    setup, then = STORIES[story]
    return ending(run_python(CHILD.format(story=f"{setup}\n{then}"), "without", timeout=60))


@pytest.mark.parametrize("when", ["before", "after", "unseen"])
@pytest.mark.parametrize("story", STORIES)
def test_it_ends_as_without_the_library(story: str, when: str) -> None:
    """`when` the handler is there: before the library, after it, or since the library last looked."""
    setup, then = STORIES[story]
    parts = {
        "before": (setup, "library()"),
        "after": ("library()", setup, "library()"),
        "unseen": ("library()", setup),
    }
    done = run_python(CHILD.format(story="\n".join([*parts[when], then])), timeout=60)
    assert ending(done) == without(story), f"{without(story)}\n{done}"


def test_the_stories_differ() -> None:
    endings = {without(story) for story in STORIES}
    assert {code for code, _, _ in endings} == {0, -7, -27}
    assert len(endings) > len(STORIES) / 2
