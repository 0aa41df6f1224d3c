"""What `on_purge` and `fill` do about a loss: raise, zero, or a rebuild."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from mvolatile import Purged, VolatileMemory, _core
from mvolatile.errors import Extents
from support.memories import PAGE, every_layout, filled, lose, pattern
from support.tiers import loses


def _rebuild_from(data: bytes) -> Callable[[memoryview, Extents], object]:
    def rebuild(view: memoryview, extents: Extents) -> None:
        for offset, length in extents:
            view[offset : offset + length] = data[offset : offset + length]

    return rebuild


def test_nothing_is_asked_of_whole_memory() -> None:
    def never(view: memoryview, extents: Extents) -> None:
        raise AssertionError("nothing was lost")

    with filled("pooled", fill=never) as memory:
        with memory.pin(on_purge=never) as view:
            assert bytes(view) == pattern(memory.nbytes)
        assert memory.read(0) == bytes(memory) == pattern(memory.nbytes)


@every_layout
@loses
def test_zero(layout: str) -> None:
    with filled(layout) as memory:
        lose(memory)
        with memory.pin(on_purge="zero") as view:
            assert bytes(view) == bytes(memory.nbytes)
        assert memory.purged() == ()
        with memory.pin() as view:
            assert bytes(view) == bytes(memory.nbytes)


@every_layout
@loses
def test_a_rebuild(layout: str) -> None:
    with filled(layout) as memory:
        data = pattern(memory.nbytes)
        lost = [(PAGE, PAGE), (memory.nbytes - 10, 10)] if layout != "huge" else [(0, memory.nbytes)]
        lose(memory, lost)
        calls: list[Extents] = []

        def rebuild(view: memoryview, extents: Extents) -> None:
            calls.append(extents)
            assert view.nbytes == memory.nbytes
            assert not view.readonly
            for offset, length in extents:
                assert not any(view[offset : offset + length]), "lost pages read as zeros meanwhile"
            _rebuild_from(data)(view, extents)

        for write in (False, True):
            with memory.pin(write=write, on_purge=rebuild) as view:
                assert bytes(view) == data
                assert view.readonly != write
        tail = (memory.nbytes - 1) // PAGE * PAGE
        assert calls == [
            ((0, memory.nbytes),) if layout == "huge" else ((PAGE, PAGE), (tail, memory.nbytes - tail))
        ]
        assert memory.purged() == ()
        assert memory.generation == 1
        assert _core.pins(memory) == 0


@loses
def test_what_a_rebuild_wrote_is_volatile_in_its_turn() -> None:
    data = pattern(9 * PAGE)
    with filled("pooled") as memory:
        for round_ in range(1, 6):
            lose(memory)
            with memory.pin(on_purge=_rebuild_from(data)) as view:
                assert bytes(view) == data
            assert memory.generation == round_


@loses
def test_a_rebuild_that_fails_leaves_the_loss() -> None:
    with filled("pooled") as memory:
        lose(memory, [(PAGE, PAGE)])

        def fail(view: memoryview, extents: Extents) -> None:
            view[PAGE] = 1  # half done
            raise OSError(5, "the disk is gone")

        for _ in range(2):
            with pytest.raises(OSError, match="the disk is gone"), memory.pin(on_purge=fail):
                pytest.fail("the block must not run")
            assert _core.pins(memory) == 0
            assert memory.purged() == ((PAGE, PAGE),)
        with pytest.raises(Purged):
            memory.read(PAGE, 1)
        with memory.pin(on_purge=_rebuild_from(pattern(9 * PAGE))) as view:
            assert bytes(view) == pattern(9 * PAGE)
        assert _core.is_valid(memory)


@loses
def test_the_failing_rebuild_may_raise_anything() -> None:
    with filled("pooled") as memory:
        lose(memory)
        for error in (KeyboardInterrupt, SystemExit, Purged, GeneratorExit):

            def fail(view: memoryview, extents: Extents, error: type[BaseException] = error) -> None:
                raise error

            with pytest.raises(error), memory.pin(on_purge=fail):
                pass
            assert _core.pins(memory) == 0
        assert memory.purged() == ((0, memory.nbytes),)


@loses
def test_two_threads_rebuild_once() -> None:
    data = pattern(9 * PAGE)
    with filled("pooled") as memory:
        for _ in range(20):
            lose(memory)
            calls: list[Extents] = []
            wrong: list[Any] = []
            inside, start = threading.Event(), threading.Barrier(3)

            def rebuild(
                view: memoryview,
                extents: Extents,
                calls: list[Extents] = calls,
                inside: threading.Event = inside,
            ) -> None:
                calls.append(extents)
                inside.set()
                _rebuild_from(data)(view, extents)

            def use(
                rebuild: Callable[[memoryview, Extents], object] = rebuild,
                start: threading.Barrier = start,
                wrong: list[bytes] = wrong,
            ) -> None:
                start.wait()
                with memory.pin(on_purge=rebuild) as view:
                    if bytes(view) != data:
                        wrong.append(bytes(view))

            threads = [threading.Thread(target=use) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert calls == [((0, memory.nbytes),)]
            assert not wrong
        assert _core.pins(memory) == 0


@loses
def test_a_second_thread_waits_for_the_rebuild() -> None:
    """It must never get the view while the first is half way."""
    data = pattern(9 * PAGE)
    with filled("pooled") as memory:
        lose(memory)
        half, go_on = threading.Event(), threading.Event()
        seen: list[bytes] = []

        def slow(view: memoryview, extents: Extents) -> None:
            view[:PAGE] = data[:PAGE]
            half.set()
            assert go_on.wait(200)
            view[:] = data

        def first() -> None:
            with memory.pin(on_purge=slow):
                pass

        def second() -> None:
            with memory.pin(on_purge=_rebuild_from(b"\x01" * memory.nbytes)) as view:
                seen.append(bytes(view))

        one, two = threading.Thread(target=first), threading.Thread(target=second)
        one.start()
        assert half.wait(200)
        two.start()
        with pytest.raises(Purged), memory.pin():
            pass
        assert not seen
        go_on.set()
        one.join()
        two.join()
        assert seen == [data]


@loses
def test_when_the_first_rebuild_fails_the_second_thread_rebuilds() -> None:
    data = pattern(9 * PAGE)
    with filled("pooled") as memory:
        lose(memory)
        entered, go_on = threading.Event(), threading.Event()
        seen: list[bytes] = []

        def fail(view: memoryview, extents: Extents) -> None:
            entered.set()
            assert go_on.wait(200)
            raise KeyError

        def first() -> None:
            with pytest.raises(KeyError), memory.pin(on_purge=fail):
                pass

        def second() -> None:
            with memory.pin(on_purge=_rebuild_from(data)) as view:
                seen.append(bytes(view))

        one, two = threading.Thread(target=first), threading.Thread(target=second)
        one.start()
        assert entered.wait(200)
        two.start()
        go_on.set()
        one.join()
        two.join()
        assert seen == [data]


@loses
def test_a_rebuild_may_pin_in_its_turn() -> None:
    """The same thread, nested: it writes through a pin of its own."""
    data = pattern(9 * PAGE)
    with filled("pooled") as memory:
        lose(memory)

        def rebuild(view: memoryview, extents: Extents) -> None:
            memory.write(data)

        with memory.pin(on_purge=rebuild) as view:
            assert bytes(view) == data


# ---- fill


@loses
def test_fill_is_the_default_of_pins_reads_and_exports() -> None:
    data = pattern(9 * PAGE)
    for use in (
        lambda memory: bytes(memory.pin().__enter__()),
        lambda memory: memory.read(0),
        bytes,
        _by_readinto,
    ):
        with filled("pooled", fill=_rebuild_from(data)) as memory:
            lose(memory)
            assert use(memory) == data
            assert memory.purged() == ()
            assert memory.generation == 1


def _by_readinto(memory: VolatileMemory) -> bytes:
    buffer = bytearray(memory.nbytes)
    assert memory.readinto(buffer) == memory.nbytes
    return bytes(buffer)


@loses
def test_on_purge_goes_before_fill() -> None:
    with filled("pooled", fill="zero") as memory:
        lose(memory, [(0, PAGE)])
        with pytest.raises(Purged), memory.pin(on_purge="raise"):
            pass
        assert memory.purged() == ((0, PAGE),)
        with memory.pin() as view:
            assert not any(view[:PAGE])


@loses
def test_a_peek_never_fills() -> None:
    """It cannot: nothing is held. It says so by raising, whatever `fill` is."""
    with filled("pooled", fill="zero") as memory:
        lose(memory, [(0, PAGE)])
        with pytest.raises(Purged), memory.peek() as view:
            bytes(view)
        assert memory.purged() == ((0, PAGE),)


@loses
def test_a_failing_fill_shows_in_an_export() -> None:
    def fail(view: memoryview, extents: Extents) -> None:
        raise KeyError("no source")

    with filled("pooled", fill=fail) as memory:
        lose(memory)
        for use in (bytes, memoryview, lambda memory: memory.read(3)):
            with pytest.raises(KeyError, match="no source"):
                use(memory)
            assert _core.pins(memory) == 0
