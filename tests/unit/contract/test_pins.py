"""Pins: counted, nested, by any thread, and what keeps them."""

from __future__ import annotations

import gc
import hashlib
import io
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest

from mvolatile import Purged, VolatileMemory, _core
from support.memories import HUGE, LAYOUTS, PAGE, every_layout, filled, lose, page_out, pattern
from support.tiers import loses


@every_layout
def test_what_is_written_under_a_pin_stays(layout: str, tier: str) -> None:
    with VolatileMemory(**LAYOUTS[layout]) as memory:
        data = pattern(memory.nbytes)
        with memory.pin(write=True) as view:
            view[:] = data
        assert _core.is_volatile(memory) == (tier != "unsupported")
        with memory.pin() as view:
            assert bytes(view) == data
            assert not _core.is_volatile(memory)
        assert memory.generation == 0
        assert _core.is_valid(memory)


def test_a_view_is_bytes_of_the_whole() -> None:
    with filled("ragged") as memory, memory.pin() as view:
        assert (view.format, view.itemsize, view.ndim, view.contiguous) == ("B", 1, 1, True)
        assert view.nbytes == memory.nbytes


def test_only_a_write_pin_is_writable() -> None:
    with filled("pooled") as memory:
        with memory.pin() as view:
            assert view.readonly
            with pytest.raises(TypeError):
                view[0] = 1
        with memory.pin(write=True) as view:
            assert not view.readonly
            view[0] = 77
        assert memory.read(0, 1) == bytes([77])


def test_the_view_dies_with_the_block() -> None:
    with filled("pooled") as memory:
        with memory.pin() as view:
            pass
        with pytest.raises(ValueError, match="released"):
            view[0]


@every_layout
@loses
def test_pinned_memory_is_never_purged(layout: str) -> None:
    with filled(layout) as memory:
        with memory.pin() as outer:
            with pytest.raises(BufferError, match="pinned"):
                memory.purge()
            _reclaim(memory)
            with memory.pin() as inner:
                _reclaim(memory)
                assert bytes(inner) == pattern(memory.nbytes)
            # The inner pin's end must not have made it volatile.
            assert not _core.is_volatile(memory)
            _reclaim(memory)
            assert bytes(outer) == pattern(memory.nbytes)
        assert memory.purged() == ()
        lose(memory)
        assert memory.purged() == ((0, memory.nbytes),)


def _reclaim(memory: VolatileMemory) -> None:
    """Straight to the kernel, past the library, which refuses."""
    page_out(memory.address, -(-memory.nbytes // PAGE) * PAGE)


@loses
@pytest.mark.usefixtures("_one_cpu")
def test_the_same_reclaim_takes_it_unpinned() -> None:
    """Else the test above proves nothing."""
    with filled("base") as memory:
        for _ in range(20):
            _reclaim(memory)
            if not memory.resident():
                break
        assert memory.purged() == ((0, memory.nbytes),)


def test_a_pin_may_be_entered_again_but_not_twice_at_once() -> None:
    with filled("pooled") as memory:
        pin = memory.pin()
        for _ in range(3):
            with pin as view:
                assert view[0] == pattern(1)[0]
                with pytest.raises(RuntimeError, match="entered already"):
                    pin.__enter__()
                assert _core.pins(memory) == 1
            assert _core.pins(memory) == 0


def test_leaving_a_pin_that_was_not_entered_does_nothing() -> None:
    with filled("pooled") as memory:
        memory.pin().__exit__(None, None, None)
        assert _core.pins(memory) == 0
        assert _core.is_valid(memory)


def test_pins_end_in_any_order() -> None:
    with filled("pooled") as memory:
        first, second = memory.pin(), memory.pin(write=True)
        first.__enter__()
        view = second.__enter__()
        first.__exit__(None, None, None)
        view[0] = 9
        assert _core.pins(memory) == 1
        second.__exit__(None, None, None)
        assert _core.pins(memory) == 0
        assert memory.read(0, 1) == b"\t"


@pytest.mark.parametrize(
    "keep",
    [
        pytest.param(lambda view: view[10:20], id="slice"),
        pytest.param(memoryview, id="memoryview"),
        pytest.param(lambda view: view.cast("I"), id="cast"),
        pytest.param(lambda view: view.toreadonly(), id="toreadonly"),
    ],
)
def test_a_view_kept_keeps_the_pin(keep: Callable[[memoryview], memoryview]) -> None:
    with filled("pooled") as memory:
        with memory.pin() as view:
            kept = keep(view)
        assert _core.pins(memory) == 1
        with pytest.raises(BufferError):
            memory.purge()
        assert bytes(kept) in pattern(memory.nbytes)
        kept.release()
        gc.collect()
        assert _core.pins(memory) == 0


def test_an_array_kept_keeps_the_pin() -> None:
    numpy = pytest.importorskip("numpy")
    with filled("pooled") as memory:
        with memory.pin() as view:
            array = numpy.frombuffer(view, numpy.uint8)[PAGE:]
        assert _core.pins(memory) == 1
        assert array.tobytes() == pattern(memory.nbytes)[PAGE:]
        del array, view
        gc.collect()
        assert _core.pins(memory) == 0


def test_an_exception_passes_and_unpins() -> None:
    with filled("pooled") as memory:
        with pytest.raises(IndexError, match="out of bounds"), memory.pin(write=True) as view:
            view[0] = 1
            view[memory.nbytes] = 1
        assert _core.pins(memory) == 0
        assert memory.read(0, 1) == b"\x01"


def test_on_purge_is_checked_at_once() -> None:
    with filled("pooled") as memory, pytest.raises(ValueError, match="on_purge"):
        memory.pin(on_purge="ignore")  # type: ignore[arg-type]


def test_many_pins() -> None:
    with filled("pooled") as memory:
        views = [memoryview(memory) for _ in range(1000)]
        pins = [memory.pin(write=i % 2 == 0) for i in range(1000)]
        for pin in pins:
            pin.__enter__()
        assert _core.pins(memory) == 2000
        assert _core.is_valid(memory)
        for pin in pins:
            pin.__exit__(None, None, None)
        for view in views:
            view.release()
        assert _core.pins(memory) == 0
        assert _core.is_valid(memory)


@loses
def test_threads_pin_while_another_purges() -> None:
    """Each finds whole data or is told; the last word of the memory is right."""
    with filled(4 * PAGE) as memory:
        whole, wrong, done, enough = pattern(4 * PAGE), [], threading.Event(), threading.Event()
        tries = 0

        def rebuild(view: memoryview, extents: object) -> None:
            view[:] = whole

        def lull() -> None:
            """While nobody holds it: three users that pin without a pause may never leave the purger a moment."""
            seen = tries
            while tries < seen + 2:
                time.sleep(0.001)
            if memory.generation >= 20:
                enough.set()

        together = threading.Barrier(3, action=lull)

        def use() -> None:
            try:
                while not enough.is_set():
                    for _ in range(20):
                        with memory.pin(on_purge=rebuild) as view:
                            if bytes(view) != whole:
                                wrong.append(bytes(view))
                    together.wait()
            except BaseException:
                together.abort()
                raise

        def purge() -> None:
            nonlocal tries
            while not done.is_set():
                with suppress(BufferError):
                    memory.purge()
                tries += 1

        users = [threading.Thread(target=use) for _ in range(3)]
        purger = threading.Thread(target=purge)
        for thread in (purger, *users):
            thread.start()
        for thread in users:
            thread.join()
        done.set()
        purger.join()
        assert not wrong
        assert _core.pins(memory) == 0
        assert _core.is_valid(memory)


# ---- exports


def test_exports_are_pins() -> None:
    numpy = pytest.importorskip("numpy")
    data = pattern(9 * PAGE)
    with filled("pooled") as memory:
        with memoryview(memory) as view:
            assert _core.pins(memory) == 1
            assert view == data
        assert _core.pins(memory) == 0
        array = numpy.frombuffer(memory, numpy.uint8)
        part = array[5:9]
        del array
        assert _core.pins(memory) == 1
        assert part.tobytes() == data[5:9]
        del part
        assert _core.pins(memory) == 0


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(bytes, id="bytes"),
        pytest.param(zlib.crc32, id="crc32"),
        pytest.param(lambda memory: b"".join([memory]), id="join"),
        pytest.param(lambda memory: bytearray(memory).find(b"\xff" * 9), id="bytearray"),
        pytest.param(lambda memory: hashlib.sha256(memory).digest(), id="sha256"),
    ],
)
def test_users_of_the_buffer_protocol(use: Callable[[object], object]) -> None:
    with filled("pooled") as memory:
        assert use(memory) == use(pattern(memory.nbytes))
        assert _core.pins(memory) == 0
        assert _core.is_valid(memory)


@every_layout
@loses
def test_an_export_of_lost_memory_raises(layout: str) -> None:
    with filled(layout) as memory:
        lose(memory, [(PAGE, PAGE)] if layout != "huge" else None)
        expected = ((PAGE, PAGE),) if layout != "huge" else ((0, 2 * HUGE),)
        for use in (memoryview, bytes, zlib.crc32):
            with pytest.raises(Purged) as lost:
                use(memory)
            assert lost.value.extents == expected
        assert _core.pins(memory) == 0


@loses
def test_an_export_follows_fill() -> None:
    with filled("pooled", fill="zero") as memory:
        lose(memory, [(PAGE, PAGE)])
        expected = bytearray(pattern(memory.nbytes))
        expected[PAGE : 2 * PAGE] = bytes(PAGE)
        assert bytes(memory) == expected
        assert memory.purged() == ()


def test_a_writable_export() -> None:
    with filled("pooled") as memory:
        io.BytesIO(b"read into it").readinto(memory)
        assert memory.read(0, 12) == b"read into it"
        assert _core.pins(memory) == 0


def test_a_write_pin_of_clean_memory_is_counted_right() -> None:
    with VolatileMemory(PAGE) as memory:
        with memory.pin(write=True) as one, memory.pin(write=True) as two:
            one[0], two[1] = 1, 2
            assert _core.pins(memory) == 2
            assert _core.is_valid(memory)
        assert memory.read(0, 3) == b"\x01\x02\x00"
