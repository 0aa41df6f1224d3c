"""How a memory begins and ends, and what it says of itself."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import threading
import time
import weakref

import pytest

from mvolatile import Purged, VolatileMemory, _core
from mvolatile.kernel.smaps import mappings
from support.memories import HUGE, LAYOUTS, PAGE, every_layout, filled, lose, pattern
from support.tiers import loses


@every_layout
def test_begins_as_zeros_and_never_lost(layout: str) -> None:
    with VolatileMemory(**LAYOUTS[layout]) as memory:
        assert memory.nbytes == len(memory) == LAYOUTS[layout]["nbytes"]
        assert memory.address % PAGE == 0
        assert memory.generation == 0
        assert not memory.closed
        assert memory.purged() == ()
        memory.purge()
        with memory.pin() as view:
            assert view.nbytes == memory.nbytes
            assert not any(view)
        memory.purge()
        assert memory.purged() == ()
        assert memory.read(0) == bytes(memory.nbytes)
        assert memory.generation == 0


@pytest.mark.parametrize("nbytes", [0, -1, -(2**62)])
def test_a_size_must_be_positive(nbytes: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        VolatileMemory(nbytes)


@pytest.mark.parametrize("nbytes", [2**62, sys.maxsize])
def test_no_address_space(nbytes: int) -> None:
    with pytest.raises(OSError, match=r"^\[Errno 12\] mmap: "):
        VolatileMemory(nbytes)


def test_the_size_is_an_integer() -> None:
    with pytest.raises(TypeError):
        VolatileMemory(1.5)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        VolatileMemory(2**64)


@pytest.mark.parametrize("fill", ["none", None, 0, b"zero"])
def test_fill_is_checked_before_anything_is_made(fill: object) -> None:
    with pytest.raises(ValueError, match="fill must be"):
        VolatileMemory(PAGE, fill=fill)  # type: ignore[arg-type]


def test_a_memory_is_opened_once() -> None:
    with filled("pooled") as memory:
        with pytest.raises(ValueError, match="open already"):
            memory.__init__(PAGE)  # type: ignore[misc]
        assert memory.read(0) == pattern(memory.nbytes)


# ---- close


@every_layout
def test_close_is_final_and_may_be_repeated(layout: str) -> None:
    memory = filled(layout)
    with memory as entered:
        assert entered is memory
    assert memory.closed
    memory.close()
    assert memory.nbytes == LAYOUTS[layout]["nbytes"]
    for use in (
        lambda: memory.address,
        lambda: memory.read(0, 1),
        lambda: memory.readinto(bytearray(1)),
        lambda: memory.write(b"x"),
        lambda: memory.pin().__enter__(),
        lambda: memory.peek().__enter__(),
        lambda: memoryview(memory),
        memory.purge,
        memory.purged,
        memory.resident,
        memory.__enter__,
    ):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert _core.is_valid(memory)


def test_close_refuses_while_a_pin_lives() -> None:
    memory = filled("pooled")
    with memory.pin() as view:
        with pytest.raises(BufferError, match="pinned"):
            memory.close()
        assert view[0] == pattern(1)[0]
    memory.close()
    assert memory.closed


def test_close_refuses_while_an_export_lives() -> None:
    memory = filled("pooled")
    view = memoryview(memory)
    part = view[PAGE : 2 * PAGE]
    view.release()
    with pytest.raises(BufferError):
        memory.close()
    part.release()
    memory.close()


def test_close_refuses_while_a_peek_lives() -> None:
    memory = filled("pooled")
    with memory.peek() as view:
        with pytest.raises(BufferError):
            memory.close()
        assert view[0] == pattern(1)[0]
    memory.close()


def test_close_refuses_inside_a_rebuild() -> None:
    memory = filled("pooled")
    with memory.pin(write=True) as view:
        with pytest.raises(BufferError):
            memory.close()
        view[:4] = b"made"
    assert memory.read(0, 4) == b"made"
    memory.close()


def test_leaving_a_block_that_holds_a_view_tells() -> None:
    memory = filled("pooled")
    kept = []
    with pytest.raises(BufferError):
        with memory:
            kept.append(memoryview(memory))
    assert not memory.closed
    kept.pop().release()
    memory.close()


def test_two_threads_close() -> None:
    for _ in range(200):
        memory = filled(PAGE)
        start = threading.Barrier(2)
        refused: list[BaseException] = []

        def close(
            memory: VolatileMemory = memory,
            start: threading.Barrier = start,
            refused: list[BaseException] = refused,
        ) -> None:
            start.wait()
            try:
                memory.close()
            except BaseException as error:
                refused.append(error)

        threads = [threading.Thread(target=close) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not refused
        assert memory.closed


# ---- the finalizer


def _is_mapped(address: int) -> bool:
    return any(one.start <= address < one.end for one in mappings())


def test_the_finalizer_gives_memory_back() -> None:
    memory = filled("huge")
    address, gone = memory.address, weakref.ref(memory)
    assert _is_mapped(address)
    del memory
    assert gone() is None
    assert not _is_mapped(address)


def test_a_cycle_is_collected() -> None:
    def rebuild(view: memoryview, extents: object) -> None:
        assert memory is not None

    memory = filled("base", fill=rebuild)
    address, gone = memory.address, weakref.ref(memory)
    memory = None  # type: ignore[assignment]
    del rebuild
    gc.collect()
    assert gone() is None
    assert not _is_mapped(address)


def test_views_keep_a_memory_alive() -> None:
    memory = filled("huge")
    gone = weakref.ref(memory)
    with memory.pin() as view:
        part = view[PAGE : PAGE + 10]
    del memory, view
    gc.collect()
    assert gone() is not None
    assert bytes(part) == pattern(2 * PAGE)[PAGE : PAGE + 10]
    part.release()
    gc.collect()
    assert gone() is None


def test_an_unfinished_open_leaves_nothing() -> None:
    before = len(mappings())
    for _ in range(100):
        with pytest.raises(OSError, match="mmap"):
            VolatileMemory(2**62)
    assert len(mappings()) <= before + 5


# ---- what it says


def test_repr_in_every_state(tier: str) -> None:
    memory = VolatileMemory(5 * PAGE, "tiles")
    assert repr(memory) == f"<VolatileMemory 'tiles' {5 * PAGE} bytes, not yet volatile>"
    memory.write(pattern(5 * PAGE))
    after = "not yet volatile" if tier == "unsupported" else "volatile"
    assert repr(memory) == f"<VolatileMemory 'tiles' {5 * PAGE} bytes, {after}>"
    with memory.pin(), memory.pin():
        assert repr(memory) == f"<VolatileMemory 'tiles' {5 * PAGE} bytes, pinned 2>"
    memory.close()
    assert repr(memory) == f"<VolatileMemory 'tiles' {5 * PAGE} bytes, closed>"
    with VolatileMemory(1) as nameless:
        assert repr(nameless) == "<VolatileMemory 1 bytes, not yet volatile>"


@loses
def test_repr_tells_what_is_lost() -> None:
    with filled("pooled", name="tiles") as memory:
        lose(memory, [(PAGE, 2 * PAGE)])
        assert memory.purged() == ((PAGE, 2 * PAGE),)
        assert repr(memory) == f"<VolatileMemory 'tiles' {9 * PAGE} bytes, volatile, {2 * PAGE} bytes lost>"
        with memory.pin(write=True, on_purge=lambda view, extents: None), memory.pin():
            assert repr(memory) == f"<VolatileMemory 'tiles' {9 * PAGE} bytes, pinned 2>"


def test_repr_of_a_subclass() -> None:
    class Tiles(VolatileMemory):
        pass

    with Tiles(PAGE) as memory:
        assert repr(memory).startswith(f"<Tiles {PAGE} bytes")


@loses
def test_purged_names_the_memory() -> None:
    with filled("pooled", name="tiles") as memory:
        lose(memory, [(0, PAGE), (3 * PAGE, PAGE)])
        with pytest.raises(
            Purged,
            match=re.escape(f"tiles: {2 * PAGE} bytes purged: [0, {PAGE}), [{3 * PAGE}, {4 * PAGE})"),
        ) as lost:
            memory.read(0)
        assert (lost.value.name, lost.value.nbytes) == ("tiles", 2 * PAGE)
        assert lost.value.generation == memory.generation == 1


def _named(memory: VolatileMemory) -> str | None:
    return next(one.anon_name for one in mappings() if one.start <= memory.address < one.end)


def test_names_in_maps() -> None:
    if _core.probe()["anon_name"]:
        pytest.skip("this kernel keeps no names of anonymous memory (CONFIG_ANON_VMA_NAME)")
    with VolatileMemory(HUGE, "tiles") as memory:
        assert _named(memory) == "mvolatile:tiles"
    with VolatileMemory(HUGE) as memory:
        assert _named(memory) == "mvolatile:unnamed"
    with VolatileMemory(HUGE, "[a]\\$`\n\u00fc" + "x" * 100) as memory:
        assert _named(memory) == "mvolatile:_a______" + "x" * 52
    with VolatileMemory(PAGE, "tiles") as memory:
        assert _named(memory) == "mvolatile:pool"


def test_core_dumps_may_be_declined() -> None:
    with VolatileMemory(HUGE, dump=False) as kept_out, VolatileMemory(HUGE) as dumped:
        flags = {one.start: one.flags for one in mappings()}
        assert "dd" in flags[kept_out.address]
        assert "dd" not in flags[dumped.address]


@loses
def test_what_a_closed_memory_still_tells() -> None:
    memory = filled("pooled", name="gone")
    lose(memory)
    assert memory.purged()
    memory.close()
    assert (memory.generation, memory.nbytes, memory.name, memory.closed) == (1, 9 * PAGE, "gone", True)
    with pytest.raises(ValueError, match="closed"):
        _ = memory.address


def test_a_large_memory_is_given_back_without_the_gil() -> None:
    """Unmapping takes milliseconds for each 100 MiB. The interval is so long that another thread gets no turn unless it
    is offered one.
    """
    turns, over, gate = 0, False, threading.Lock()
    gate.acquire()

    def other() -> None:
        nonlocal turns
        while not over:
            gate.acquire()
            turns += 1

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=other)
    thread.start()
    try:
        for _ in range(50):
            memory = VolatileMemory(32 << 20, huge=False)
            memory.write(bytes(range(256)) * (1 << 17))
            sys.setswitchinterval(100)
            before = turns
            gate.release()
            del memory
            ran = turns > before
            sys.setswitchinterval(interval)
            while turns == before:
                time.sleep(0.001)
            if ran:
                break
        else:
            pytest.fail("the other thread never ran while the memory was unmapped")
    finally:
        sys.setswitchinterval(interval)
        over = True
        gate.release()
        thread.join()


def test_attributes_are_read_only() -> None:
    with filled("pooled") as memory:
        for name in ("address", "nbytes", "name", "generation", "closed"):
            with pytest.raises(AttributeError):
                setattr(memory, name, 1)
        with pytest.raises(AttributeError):
            memory.colour = "red"  # type: ignore[attr-defined]


def test_the_address_is_where_the_bytes_are() -> None:
    with filled("pooled") as memory, memory.pin() as view:
        assert ctypes.string_at(memory.address, memory.nbytes) == bytes(view)


def test_resident_follows_what_is_written() -> None:
    with VolatileMemory(9 * PAGE) as memory:
        assert memory.resident() == 0
        memory.write(b"x", 3 * PAGE)
        assert memory.resident() == PAGE
        memory.write(b"xx", 5 * PAGE - 1)
        assert memory.resident() == 3 * PAGE
