"""What the library takes for granted about this kernel, without the library: userfaultfd and fork."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.libc import MADV_FREE, MADV_NOHUGEPAGE, PAGE, Anonymous, Userfaultfd, libc, missing, smaps_field
from support.processes import run_python

HUGE = 2 << 20


@pytest.fixture(autouse=True)
def _uffd_works() -> None:
    try:
        Userfaultfd().close()
    except OSError as error:
        pytest.skip(f"userfaultfd is refused here: {error}")


def watched(uffd: Userfaultfd, pages: int = 16) -> Anonymous:
    memory = Anonymous(pages * PAGE)
    memory.advise(MADV_NOHUGEPAGE)
    memory.fill()
    uffd.register(memory.address, memory.length)
    return memory


def test_an_ordinary_user_may_have_it() -> None:
    def as_nobody() -> None:
        import os
        from pathlib import Path

        from support.libc import Userfaultfd

        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        with Userfaultfd():
            print(Path("/proc/sys/vm/unprivileged_userfaultfd").read_text().strip())

    assert run_python(as_nobody).check().stdout in ("0\n", "1\n")


def test_a_seccomp_filter_can_refuse_it() -> None:
    def refused() -> None:
        from support import seccomp
        from support.libc import Userfaultfd

        seccomp.refuse(seccomp.USERFAULTFD)
        try:
            Userfaultfd()
        except PermissionError:
            print("refused")

    assert run_python(refused).check().stdout == "refused\n"


@pytest.mark.parametrize("access", ["read", "write"])
def test_a_touch_of_a_purged_page_traps_with_its_exact_address(access: str) -> None:
    program = f"""
import ctypes, os
from support import native
from support.libc import *
from support.libc import Anonymous, Userfaultfd
foreign = native.load("handlers")
foreign.handler_address.restype = ctypes.c_size_t
foreign.install_jumping()
uffd = Userfaultfd()
memory = Anonymous(16 * PAGE)
memory.fill()
uffd.register(memory.address, memory.length)
memory.advise(MADV_FREE)
assert len(memory.purge()) == 16
at = memory.address + 5 * PAGE + 123
read = foreign.guarded_{access}
assert read(ctypes.c_void_p(at), 0) == -1
assert foreign.handler_address() == at
assert foreign.handler_code() == 2      # BUS_ADRERR
uffd.zero(memory.address + 5 * PAGE, PAGE)
assert read(ctypes.c_void_p(at), 0) == 0
print("good")
"""
    assert run_python(program).check().stdout == "good\n"


def test_a_system_call_gets_efault_and_no_signal() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "wb"), Userfaultfd() as uffd, watched(uffd) as memory:
        memory.advise(MADV_FREE)
        memory.purge()
        assert libc.write(writing, ctypes.c_void_p(memory.address), ctypes.c_size_t(8)) == -1
        assert ctypes.get_errno() == errno.EFAULT
        assert libc.write(writing, ctypes.c_char_p(b"x"), ctypes.c_size_t(1)) == 1


def test_zeropage_fills_what_is_missing_and_never_what_is_there() -> None:
    with Userfaultfd() as uffd, watched(uffd) as memory:
        with pytest.raises(FileExistsError):
            uffd.zero(memory.address, PAGE)
        memory.advise(MADV_FREE)
        memory.purge()
        uffd.zero(memory.address, 2 * PAGE)
        uffd.copy(memory.address + 2 * PAGE, b"c" * PAGE)
        assert (memory.read(0), memory.read(2)) == (bytes(8), b"c" * 8)
        assert missing(memory.address, memory.length) == list(range(3, 16))
    with Userfaultfd() as uffd, Anonymous(PAGE) as memory:
        with pytest.raises(FileNotFoundError):
            uffd.zero(memory.address, PAGE)


def test_copy_takes_any_source_and_stops_at_a_page_that_is_there() -> None:
    with Userfaultfd() as uffd, watched(uffd) as memory, Anonymous(8 * PAGE) as source:
        memory.advise(MADV_FREE)
        memory.purge()
        uffd.zero(memory.address + 2 * PAGE, PAGE)
        source.fill()
        with pytest.raises(BlockingIOError):  # EAGAIN: a part is done
            uffd.copy_from(memory.address, source.address + 7, 4 * PAGE)
        assert missing(memory.address, memory.length) == list(range(3, 16))
        with pytest.raises(FileExistsError):
            uffd.copy_from(memory.address + 2 * PAGE, source.address + 7, PAGE)
        uffd.register(source.address, source.length)
        source.advise(MADV_FREE)
        source.purge()
        with pytest.raises(OSError, match="Bad address"):
            uffd.copy_from(memory.address + 3 * PAGE, source.address, PAGE)
        assert missing(memory.address, memory.length) == list(range(3, 16))


def test_a_page_that_was_copied_in_is_volatile_once_it_is_marked() -> None:
    with Userfaultfd() as uffd, watched(uffd) as memory:
        for _ in range(3):
            memory.advise(MADV_FREE)
            memory.purge()
            assert missing(memory.address, memory.length) == list(range(16))
            uffd.copy(memory.address, b"c" * 16 * PAGE)
            memory.purge()
            assert missing(memory.address, memory.length) == []


def test_filling_before_registering_gets_huge_pages_and_filling_after_does_not() -> None:
    with Userfaultfd() as uffd, Anonymous(2 * HUGE, align=HUGE, huge=True) as memory:
        memory.fill()
        uffd.register(memory.address, memory.length)
        if smaps_field(memory.address, "AnonHugePages") < 2 * HUGE:
            pytest.skip("no huge pages to be had")
        memory.advise(MADV_FREE)
        assert len(memory.purge()) == 1024
        uffd.zero(memory.address, memory.length)
        assert smaps_field(memory.address, "AnonHugePages") == 0
        for page in (0, 700):  # not all: khugepaged puts pages together where each holds something
            memory.write(page, b"full")
        assert smaps_field(memory.address, "AnonHugePages") == 0
        assert memory.read(700)[:4] == b"full"


def test_registered_mappings_that_hold_pages_do_not_merge() -> None:
    with Userfaultfd() as uffd, ExitStack() as stack:
        memories = [stack.enter_context(watched(uffd)) for _ in range(50)]
        lines = Path("/proc/self/maps").read_text().splitlines()
        starts = {int(line.split("-")[0], 16) for line in lines}
        apart = sum(memory.address in starts for memory in memories)
        assert apart > 25, "many small ranges must share a mapping"


def test_a_child_inherits_the_mapping_and_not_the_watch() -> None:
    with Userfaultfd() as uffd, watched(uffd) as memory:
        memory.advise(MADV_FREE, 0, 8)
        assert memory.purge() == list(range(8))
        if (pid := os.fork()) == 0:
            status = 3
            try:
                # Zeros, silently. And the inherited descriptor acts on the parent's memory.
                status = 0 if memory.read(1) == bytes(8) and memory.read(9)[:4] == b"full" else 1
                uffd.zero(memory.address + 2 * PAGE, PAGE)
                with Userfaultfd() as own:
                    own.register(memory.address, memory.length)
                    if libc.write(1, ctypes.c_void_p(memory.address + 3 * PAGE), ctypes.c_size_t(1)) != -1:
                        status = 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert missing(memory.address, memory.length) == [0, 1, 3, 4, 5, 6, 7], (
            "the child filled page 2 of ours"
        )


def test_a_shared_page_goes_once_the_sharer_is_gone() -> None:
    with Userfaultfd() as uffd, watched(uffd, 64) as memory:
        ready, go = os.pipe(), os.pipe()
        if (pid := os.fork()) == 0:
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            os._exit(0 if all(memory.read(page)[:4] == b"full" for page in range(64)) else 1)
        os.read(ready[0], 1)
        memory.advise(MADV_FREE)
        assert memory.purge() == []
        os.write(go[1], b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        for end in (*ready, *go):
            os.close(end)
        memory.advise(MADV_FREE)
        assert len(memory.purge()) == 64


def test_droppable_memory_cannot_be_watched() -> None:
    try:
        memory = Anonymous(16 * PAGE, flags=0x28)
    except OSError as error:
        pytest.skip(f"MAP_DROPPABLE came with Linux 6.11: {error}")
    with memory, Userfaultfd() as uffd:
        if platform.release().startswith("6.12."):
            uffd.register(memory.address, memory.length)
            pytest.skip("Linux 6.12 lets it be watched; 6.18 refuses")
        with pytest.raises(OSError, match="UFFDIO_REGISTER"):
            uffd.register(memory.address, memory.length)


def test_blocked_sigbus_is_death_all_the_same() -> None:
    """So no handler can help code that touches lost memory with the signal blocked."""
    program = """
import signal
from support.libc import *
from support.libc import Anonymous, Userfaultfd
signal.signal(signal.SIGBUS, lambda *a: None)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGBUS])
uffd = Userfaultfd()
memory = Anonymous(16 * PAGE)
uffd.register(memory.address, memory.length)
memory.read(0)
"""
    assert run_python(program).returncode == -signal.SIGBUS
