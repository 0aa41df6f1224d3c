"""A system call that is handed a lost page answers EFAULT and does not trap. The peek tells on leaving, whatever became
of the error.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mvolatile import Purged, VolatileMemory, _core
from support.libc import PAGE
from support.losing import extents_of, lossy, stamped

pytestmark = pytest.mark.skipif(_core.tier() != "userfaultfd", reason="a peek is a pin in this tier")

LOST = (5, 6)
libc = ctypes.CDLL(None)


@contextlib.contextmanager
def pipe_end() -> Iterator[int]:
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


def _write(part: memoryview) -> None:
    with pipe_end() as end:
        os.write(end, part)


def _pwritev(part: memoryview) -> None:
    with tempfile.TemporaryFile() as file:
        os.pwritev(file.fileno(), [part[:100], part], 0)


def _send(part: memoryview) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.send(part)


def _buffered(part: memoryview) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(part)


def _tofile(part: memoryview) -> None:
    with tempfile.TemporaryFile() as file:
        np.frombuffer(part, np.uint8).tofile(file)


def _save(part: memoryview) -> None:
    with tempfile.TemporaryFile() as file:
        np.save(file, np.frombuffer(part, np.uint8))


def _savez(part: memoryview) -> None:
    with tempfile.TemporaryFile() as file:
        np.savez(file, a=np.frombuffer(part, np.uint8))


def _proc_mem(part: memoryview) -> None:
    with Path("/proc/self/mem").open("rb", 0) as file:
        file.seek(np.frombuffer(part, np.uint8).ctypes.data)
        file.read(PAGE)


def _in_c(part: memoryview) -> None:
    with pipe_end() as end:
        if (
            libc.write(end, ctypes.c_void_p(np.frombuffer(part, np.uint8).ctypes.data), ctypes.c_size_t(8))
            < 0
        ):
            raise ValueError("C says no more")


SINKS: dict[str, Callable[[memoryview], None]] = {
    "write": _write,
    "pwritev": _pwritev,
    "send": _send,
    "buffered": _buffered,
    "tofile": _tofile,
    "save": _save,
    "savez": _savez,
    "/proc/self/mem": _proc_mem,
    "in C": _in_c,
}
WHATEVER = pytest.mark.parametrize("sink", [name for name in SINKS if name != "savez"])


@pytest.mark.parametrize("sink", SINKS)
def test_an_error_of_any_kind_is_no_way_around_it(sink: str) -> None:
    memory = lossy(16, LOST)  # the error has frames that keep a view
    with pytest.raises(Purged) as lost:
        with memory.peek() as view:
            SINKS[sink](view[5 * PAGE : 7 * PAGE])
    assert lost.value.extents == extents_of(LOST)


def test_it_is_the_context_of_the_loss() -> None:
    """`tofile` says how many bytes went, without an errno; others raise an error of their own."""

    class FailedError(Exception):
        pass

    with lossy(16, LOST) as memory, tempfile.TemporaryFile() as file, pipe_end() as end:
        with pytest.raises(Purged) as lost:
            with memory.peek() as view:
                np.frombuffer(view, np.uint8).tofile(file)
        assert isinstance(lost.value.__context__, OSError)
        assert lost.value.__context__.errno is None
        memory.write(bytes(range(256)) * 16 * 16)
        assert _core.purge(memory, 5 * PAGE, PAGE) == PAGE
        with pytest.raises(Purged) as lost:
            with memory.peek() as view:
                try:
                    os.write(end, view[5 * PAGE :])
                except OSError:
                    raise FailedError from None
        assert isinstance(lost.value.__context__, FailedError)


@WHATEVER
def test_a_swallowed_error_is_told(sink: str) -> None:
    with lossy(16, LOST) as memory:
        with pytest.raises(Purged) as lost:
            with memory.peek() as view, contextlib.suppress(OSError, ValueError):
                SINKS[sink](view[5 * PAGE : 7 * PAGE])
        assert lost.value.extents == extents_of(LOST)


@WHATEVER
def test_a_peek_inside_does_not_hide_it(sink: str) -> None:
    with lossy(16, LOST) as memory, stamped(16) as other, pytest.raises(Purged):
        with memory.peek() as view:
            with contextlib.suppress(OSError, ValueError):
                SINKS[sink](view[5 * PAGE : 7 * PAGE])
            with other.peek() as inner:
                bytes(inner)


def test_asyncio_swallows_what_its_writer_met() -> None:
    """The transport closes, and nothing is said."""

    async def main(memory: VolatileMemory) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        try:
            with memory.peek() as view:
                writer.write(view[5 * PAGE :])
        finally:
            assert writer.is_closing()
            server.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    memory = lossy(16, LOST)  # the transport keeps its error for whoever waits for the end
    with pytest.raises(Purged):
        asyncio.run(main(memory))


@pytest.mark.parametrize("raised", [False, True])
def test_an_error_inside_a_whole_peek_stays_itself(raised: bool) -> None:
    with stamped(16) as memory:
        with contextlib.suppress(FileNotFoundError) if raised else contextlib.nullcontext():
            with memory.peek() as view:
                found = bytes(view[:4])
                with contextlib.suppress(FileNotFoundError) if not raised else contextlib.nullcontext():
                    os.stat("/nothing/of/that/name")
        assert found == bytes(4)
        assert not memory.purged()


def test_a_loss_elsewhere_stays_unseen() -> None:
    with lossy(16, LOST) as memory:
        with memory.peek(0, 4 * PAGE) as view:
            with contextlib.suppress(FileNotFoundError):
                os.stat("/nothing/of/that/name")
            assert view[0] == 0
        with memory.peek(8 * PAGE, PAGE) as view, contextlib.suppress(FileNotFoundError):
            os.stat("/nothing/of/that/name")
        assert memory.generation == 0
        assert memory.purged() == extents_of(LOST)


def test_an_interrupt_passes_all_the_same() -> None:
    with lossy(16, LOST) as memory, pytest.raises(KeyboardInterrupt):
        with memory.peek() as view:
            with contextlib.suppress(OSError):
                _send(view[5 * PAGE :])
            raise KeyboardInterrupt
