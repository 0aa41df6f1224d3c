"""A touch of a lost page outside of a pin and a peek: SIGBUS, death by default, and whoever handled it before
otherwise.
"""

from __future__ import annotations

import signal

import pytest

from mvolatile import _core
from support.processes import Finished, run_python

pytestmark = pytest.mark.skipif(_core.tier() != "userfaultfd", reason="nothing traps in this tier")

BUS = -signal.SIGBUS

CHILD = """
import ctypes, faulthandler, os, signal, sys, time
from support import native
def next_tick():    # of the coarse clock, when what foreign code did to the handler is seen
    now = time.clock_gettime(6)
    while time.clock_gettime(6) == now: pass
foreign = native.load("handlers")
{before}
from mvolatile import Purged
from support.losing import lossy, raw_read
memory = lossy(16, lost=(1, 2))
{after}
next_tick()
with memory.peek(0, 16) as view:    # the library's next call
    assert bytes(view[4:8]) == bytes(4)
print("before the touch", flush=True)
{touch}
print("after the touch", flush=True)
"""
READ = "print(raw_read(memory, 1).hex())"


def child(before: str = "", after: str = "", touch: str = READ) -> Finished:
    done = run_python(CHILD.format(before=before, after=after, touch=touch))
    assert done.stdout.startswith("before the touch\n"), done
    return done


@pytest.mark.parametrize(
    "touch",
    [
        READ,
        "ctypes.memset(memory.address + 4096, 1, 1)",
        "ctypes.memmove(memory.address + 8192, b'x', 1)",
        "ctypes.c_char.from_address(memory.address + 4096 * 2 + 4095).value",
        "foreign.read_on_altstack(ctypes.c_void_p(memory.address), ctypes.c_size_t(16))",
        "foreign.read_inside_a_handler(ctypes.c_void_p(memory.address), ctypes.c_size_t(16), 1)",
        "foreign.read_inside_a_handler(ctypes.c_void_p(memory.address), ctypes.c_size_t(16), 0)",
    ],
)
def test_a_touch_kills(touch: str) -> None:
    done = child(touch=touch)
    assert done.returncode == BUS, done
    assert "after" not in done.stdout


def test_pages_that_are_there_do_not_trap() -> None:
    touch = "print(raw_read(memory, 0).hex(), raw_read(memory, 3).hex())"
    assert "after the touch" in child(touch=touch).check().stdout


def test_a_touch_after_the_pin_that_accepted_zeros_reads_zeros() -> None:
    touch = "memory.pin(on_purge='zero').__enter__(); assert raw_read(memory, 1) == bytes(8)"
    child(touch=touch).check()


@pytest.mark.parametrize("address", ["memory.address", "0"])
def test_a_signal_that_was_sent_is_not_taken_for_a_touch(address: str) -> None:
    done = child(touch="os.kill(os.getpid(), signal.SIGBUS)")
    assert done.returncode == BUS, done


FAULTHANDLER = "faulthandler.enable()"
PYTHON = "signal.signal(signal.SIGBUS, lambda *a: print('python ran', flush=True))"
RAISING = """
def handler(*a):
    raise InterruptedError("python ran")
signal.signal(signal.SIGBUS, handler)
"""


@pytest.mark.parametrize("when", ["before", "after"])
class TestEarlierHandlers:
    def test_faulthandler_dumps_and_the_process_dies(self, when: str) -> None:
        done = child(**{when: FAULTHANDLER})
        assert done.returncode == BUS, done
        assert done.stderr.count("Fatal Python error: Bus error") == 1
        assert "raw_read" in done.stderr

    def test_pythons_handler_runs_and_nothing_hangs(self, when: str) -> None:
        """It runs when the touching code returns to the interpreter, so that code must get past the touch."""
        done = child(**{when: PYTHON}).check()
        assert done.stdout.count("python ran") == 1
        assert "after the touch" in done.stdout

    def test_what_pythons_handler_raises_is_raised(self, when: str) -> None:
        touch = f"try:\n    {READ}\nexcept InterruptedError as error:\n    print(error)\n"
        assert "python ran" in child(**{when: RAISING}, touch=touch).check().stdout

    def test_pythons_handler_runs_for_every_loss_again(self, when: str) -> None:
        touch = (
            f"{READ}\nfor _ in range(3):\n"
            "    with memory.pin(on_purge='zero', write=True) as view:\n        view[:] = b'x' * len(view)\n"
            f"    memory.purge()\n    {READ}\n    raw_read(memory, 5)\n"
        )
        done = child(**{when: PYTHON}, touch=touch).check()
        assert done.stdout.count("python ran") == 7

    def test_the_loss_that_pythons_handler_was_called_for_is_reported(self, when: str) -> None:
        touch = (
            f"{READ}\ntry:\n    memory.pin().__enter__()\nexcept Purged as lost:\n    print(lost.extents)\n"
        )
        assert "((4096, 8192),)" in child(**{when: PYTHON}, touch=touch).check().stdout

    def test_faulthandler_over_pythons_handler(self, when: str) -> None:
        done = child(**{when: f"{PYTHON}\n{FAULTHANDLER}"})
        assert "Fatal Python error: Bus error" in done.stderr, done

    def test_a_foreign_handler_gets_the_address_and_the_code(self, when: str) -> None:
        done = child(**{when: "foreign.install_leaving()"})
        assert done.returncode == 42, f"BUS_ADRERR is 2: {done}"

    @pytest.mark.parametrize("how", ["install_leaving_on_altstack", "install_leaving"])
    def test_a_foreign_handler_and_a_touch_on_another_stack(self, when: str, how: str) -> None:
        touch = "foreign.read_on_altstack(ctypes.c_void_p(memory.address), ctypes.c_size_t(16))"
        assert child(**{when: f"foreign.{how}()"}, touch=touch).returncode == 42

    def test_a_foreign_handler_without_siginfo(self, when: str) -> None:
        assert child(**{when: "foreign.install_plain()"}).returncode == 60 + signal.SIGBUS

    def test_a_foreign_handler_that_returns_without_mending_does_not_hang(self, when: str) -> None:
        assert child(**{when: "foreign.install_shrugging()"}).returncode == BUS

    def test_a_foreign_handler_that_jumps_out_may_do_so_again(self, when: str) -> None:
        read = "foreign.guarded_read(ctypes.c_void_p(memory.address + {}), {})"
        touch = f"print([{read.format(4096, 0)}, {read.format(4096, 0)}, {read.format(8192, 9000)}, "
        touch += f"{read.format(4096, 30000)}, {read.format(0, 0)}, {read.format(12288, 0)}])"
        done = child(**{when: "foreign.install_jumping()"}, touch=touch).check()
        assert "[-1, -1, -1, -1, 0, 3]" in done.stdout

    def test_a_foreign_handler_that_moves_the_program_counter_may_do_so_again(self, when: str) -> None:
        touch = "chains = native.load('chains')\nchains.install(0, None, 0, 0, 0, 0)\n"
        touch += "print([chains.moved(ctypes.c_void_p(memory.address + 4096)) for _ in range(20)])"
        done = child(**{when: "foreign.install_leaving()"}, touch=touch + "\nos._exit(0)").check()
        assert str([-1] * 20) in done.stdout

    def test_what_is_no_purge_goes_to_the_foreign_handler(self, when: str) -> None:
        """BUS_MCEERR_AR: the memory itself is broken, and nothing of the peek's is repaired."""
        touch = """
chains = native.load("chains")
chains.what_it_was_told.restype = ctypes.c_char_p
chains.install_telling(0, 0)
next_tick()
with memory.peek(0, 16):
    chains.send_as(4, ctypes.c_void_p(memory.address + 4096))
    print(chains.what_it_was_told().decode())
assert memory.purged() == ((4096, 8192),)
"""
        assert "7 code 4 address 1 " in child(touch=touch).check().stdout

    def test_ignoring_the_signal_does_not_help_against_a_touch(self, when: str) -> None:
        done = child(**{when: "signal.signal(signal.SIGBUS, signal.SIG_IGN)"})
        assert done.returncode == BUS, done

    def test_an_ignored_signal_that_was_sent_stays_ignored(self, when: str) -> None:
        touch = "os.kill(os.getpid(), signal.SIGBUS)"
        child(**{when: "signal.signal(signal.SIGBUS, signal.SIG_IGN)"}, touch=touch).check()

    def test_a_sent_signal_reaches_pythons_handler(self, when: str) -> None:
        done = child(**{when: PYTHON}, touch="os.kill(os.getpid(), signal.SIGBUS)").check()
        assert done.stdout.count("python ran") == 1

    def test_what_is_not_ours_goes_to_whom_it_belongs(self, when: str) -> None:
        """A foreign handler that mends its own truncated file mapping goes on doing so."""
        touch = """
import mmap, tempfile
with tempfile.TemporaryFile() as file:
    file.truncate(8192)
    mapping = mmap.mmap(file.fileno(), 8192)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    file.truncate(4096)
    print(ctypes.string_at(address + 4096, 4), flush=True)
    assert foreign.handler_runs() == 1
    foreign.handler_address.restype = ctypes.c_size_t
    assert foreign.handler_address() == address + 4096
    os._exit(0)
"""
        assert "b'mmmm'" in child(**{when: "foreign.install_mending()"}, touch=touch).check().stdout


def test_raw_memory_of_the_call_traps_too() -> None:
    program = """
import ctypes, faulthandler, sys
import mvolatile as mv
from support.libc import Anonymous
with Anonymous(16 * 4096) as memory:
    memory.fill()
    mv.mvolatile(memory.address, memory.length, mv.MVOLATILE_VOLATILE)
    assert len(memory.purge()) == 16
    print("before", flush=True)
    ctypes.string_at(memory.address + 4096 * 3, 1)
"""
    done = run_python(program)
    assert (done.returncode, done.stdout) == (BUS, "before\n"), done


def test_raw_memory_with_pythons_handler_is_still_reported_as_purged() -> None:
    program = """
import ctypes, signal
import mvolatile as mv
from support.libc import Anonymous
signal.signal(signal.SIGBUS, lambda *a: print("python ran"))
with Anonymous(16 * 4096) as memory:
    memory.fill()
    mv.mvolatile(memory.address, memory.length, mv.MVOLATILE_VOLATILE)
    assert len(memory.purge()) == 16
    for page in range(16):
        assert memory.read(page) == bytes(8)
    print(mv.mvolatile(memory.address, memory.length, mv.MVOLATILE_NONVOLATILE)[1])
    memory.fill()
    mv.mvolatile(memory.address, memory.length, mv.MVOLATILE_VOLATILE)
    print(mv.mvolatile(memory.address, memory.length, mv.MVOLATILE_NONVOLATILE)[1])
"""
    done = run_python(program).check()
    assert done.stdout.count("python ran") == 16
    assert done.stdout.split()[-2:] == ["1", "0"]
