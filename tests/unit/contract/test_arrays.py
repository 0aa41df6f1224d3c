"""VolatileArray: an ndarray's bytes in volatile memory."""

from __future__ import annotations

import gc
from typing import Any

import pytest

import mvolatile as mv
from mvolatile import _core
from support.tiers import exact

np = pytest.importorskip("numpy")


def sample(shape: tuple[int, ...], dtype: Any, order: Any = "C") -> Any:
    count = int(np.prod(shape))
    return (np.arange(1, count + 1) % 120).astype(dtype).reshape(shape, order=order)


# ---- making


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i4", "f4", "f8", "c16", "?", "S5", "U3", "M8[s]", "m8[us]"])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 5), (2, 0, 4), (5, 4, 3, 2)], ids=str)
def test_shape_and_dtype_are_kept(dtype: str, shape: tuple[int, ...]) -> None:
    source = np.arange(int(np.prod(shape))).reshape(shape)
    source = (source % 2).astype(dtype) if dtype == "?" else source.astype("i8").astype(dtype)
    with mv.array(source) as made:
        assert (made.shape, made.dtype) == (source.shape, source.dtype)
        assert (made.size, made.ndim, made.nbytes) == (source.size, source.ndim, source.nbytes)
        for found in (made.read(), np.array(made)):
            assert found.dtype == source.dtype
            assert found.shape == source.shape
            assert (found == source).all()
        with made.pin() as view:
            assert (view == source).all()
            assert not view.flags.writeable
            del view
        with made.peek() as view:
            assert (view == source).all()
            assert not view.flags.writeable
            del view


def test_structured_types() -> None:
    kind = np.dtype([("x", "<f4"), ("where", [("lat", "f8"), ("lon", "f8")]), ("tag", "S3")], align=True)
    source = np.zeros(10, kind)
    source["x"] = np.arange(10)
    source["where"]["lon"] = 7.5
    source["tag"] = b"abc"
    with mv.array(source) as made:
        assert made.dtype == kind
        found = made.read()
        assert (found == source).all()
        assert (found["where"]["lon"] == 7.5).all()


@pytest.mark.parametrize("kind", [object, np.dtype([("a", "i4"), ("b", object)])], ids=["object", "field"])
def test_python_objects_are_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match="Python objects"):
        mv.empty(4, kind)
    with pytest.raises(TypeError, match="Python objects"):
        mv.array(np.zeros(4, kind))


def test_lists_and_scalars() -> None:
    with mv.array([[1, 2], [3, 4]], "i2") as made:
        assert made.dtype == np.int16
        assert made.read().tolist() == [[1, 2], [3, 4]]
    with mv.array(5.5) as made:
        assert made.read() == 5.5
        assert made.read().shape == ()
        with pytest.raises(TypeError, match="unsized"):
            len(made)


@pytest.mark.parametrize("order", ["C", "F"])
def test_order_is_kept(order: Any) -> None:
    source = np.asarray(sample((30, 40), "i4"), order=order)
    with mv.array(source) as made:
        for found in (made.read(), np.asarray(made)):
            assert (found == source).all()
            assert found.flags.f_contiguous == (order == "F")
            assert found.flags.c_contiguous == (order == "C")
        del found


def test_views_with_steps_are_made_contiguous() -> None:
    source = sample((20, 20), "i4")[::2, ::-3]
    with mv.array(source) as made:
        assert made.read().flags.c_contiguous
        assert (made.read() == source).all()


def test_empty_and_zeros() -> None:
    for make in (mv.empty, mv.zeros):
        with make((3, 4)) as made:
            assert (made.shape, made.dtype, len(made)) == ((3, 4), np.float64, 3)
            assert not made.read().any()
        with make(5, "u2", name="five") as made:
            assert made.shape == (5,)
            assert made.memory.name == "five"


@pytest.mark.parametrize(
    "shape",
    [5, np.int64(5), np.array(5), [2, np.int16(3)], np.array([2, 3]), range(2, 4), [], (0, 1 << 40)],
    ids=repr,
)
@pytest.mark.parametrize(
    "dtype", ["u1", "S", "(2,3)f4", np.dtype((("i4", (2,)), (3,))), [("a", "f4", (2,))]], ids=str
)
def test_shapes_are_taken_as_numpy_takes_them(shape: Any, dtype: Any) -> None:
    wanted = np.zeros(shape, dtype)
    for order in ("C", "F"):
        with mv.empty(shape, dtype, order=order) as made:
            assert (made.shape, made.dtype, made.nbytes) == (wanted.shape, wanted.dtype, wanted.nbytes)
            found = made.read()
            assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)


@pytest.mark.parametrize(
    ("shape", "error", "said"),
    [
        (-1, ValueError, "negative"),
        ((2, -3), ValueError, "negative"),
        (2.5, TypeError, "a sequence of integers, not 2.5"),
        ((2.5,), TypeError, "'float' object"),
        ("ab", TypeError, "a sequence of integers, not 'ab'"),
        (None, TypeError, "a sequence of integers, not None"),
        ((3, (2,)), TypeError, "'tuple' object"),
        ((1 << 40, 1 << 40), ValueError, "too big"),
        ((0, 1 << 40, 1 << 40), ValueError, "too big"),
        ((1 << 62, 2), ValueError, "too big"),
        (1 << 70, ValueError, "[Mm]aximum"),
        ([1] * 100, ValueError, "dimension"),
    ],
    ids=str,
)
def test_shapes_are_refused_as_numpy_refuses_them(shape: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error):
        np.empty(shape, "u1")
    for make in (mv.empty, mv.VolatileArray):
        with pytest.raises(error, match=said):
            make(shape, "u1")


def test_the_source_is_not_needed_any_more() -> None:
    source = sample((10,), "i4")
    with mv.array(source) as made:
        source[:] = 0
        assert made.read().tolist() == list(range(1, 11))


def test_repr_and_the_memory() -> None:
    with mv.array(np.ones((2, 3)), name="ones") as made:
        assert repr(made).startswith(
            "<VolatileArray shape=(2, 3) dtype=float64 over <VolatileMemory 'ones' 48 bytes"
        )
        assert made.memory.nbytes == 48


def test_what_is_not_offered() -> None:
    with mv.zeros(3) as made:
        with pytest.raises(TypeError):
            made + 1  # type: ignore[operator]
        with pytest.raises(AttributeError):
            made.colour = 1  # type: ignore[attr-defined]


# ---- pins, peeks, copies


def test_writing_under_a_pin() -> None:
    with mv.zeros((4, 1000)) as made:
        with made.pin(write=True) as view:
            view[2] = 7
            del view
        assert _core.pins(made.memory) == 0
        assert made.read().sum() == 7000


def test_write_broadcasts() -> None:
    with mv.zeros((4, 5), "i4") as made:
        made.write(3)
        assert (made.read() == 3).all()
        made.write(range(5))
        assert (made.read() == np.arange(5)).all()
        made.write(np.arange(20).reshape(4, 5))
        assert (made.read() == np.arange(20).reshape(4, 5)).all()
        with pytest.raises(ValueError, match="broadcast"):
            made.write(np.zeros(7))
    with mv.zeros((4, 5), order="F") as made:
        made.write(np.arange(20).reshape(4, 5))
        assert (made.read() == np.arange(20).reshape(4, 5)).all()
    with mv.zeros((0, 5)) as made:
        made.write(1)


def test_a_copy_is_independent_and_writable() -> None:
    with mv.array(sample((8,), "i4")) as made:
        copy = made.read()
        copy[:] = 0
        assert made.read().any()
        assert _core.pins(made.memory) == 0


def test_an_array_kept_keeps_the_memory() -> None:
    with mv.array(sample((8,), "i4")) as made:
        with made.pin() as view:
            kept = view[2:4]
            del view
        assert _core.pins(made.memory) == 1
        with pytest.raises(BufferError):
            made.close()
        assert kept.tolist() == [3, 4]
        del kept
        gc.collect()
        assert _core.pins(made.memory) == 0
        with made.peek() as view:
            kept = view[2:4]
            del view
        assert _core.pins(made.memory) == 1
        del kept


@exact
def test_an_array_kept_turns_a_peek_into_a_pin() -> None:
    """What each way costs: an array deleted inside the block was never a pin, one kept is one until it is gone."""
    unpinned: list[object] = []
    with mv.array(sample((8,), "i4")) as made:
        _core.set_unpin_hook(unpinned.append)
        try:
            with made.peek() as view:
                assert view.max() == 8
                del view
            assert (_core.pins(made.memory), unpinned) == (0, [])
            with made.peek() as view:
                assert view.max() == 8
            assert _core.pins(made.memory) == 1
            with pytest.raises(BufferError):
                made.purge()
            del view
            assert (_core.pins(made.memory), unpinned) == (0, [made.memory])
        finally:
            _core.set_unpin_hook(None)
            unpinned.clear()


def test_asarray_pins_while_any_view_lives() -> None:
    with mv.array(sample((1000,), "i8")) as made:
        array = np.asarray(made)
        assert _core.pins(made.memory) == 1
        assert np.shares_memory(array, np.asarray(made))
        row = array[10:20].reshape(2, 5)[1]
        del array
        gc.collect()
        assert _core.pins(made.memory) == 1
        with pytest.raises(BufferError):
            made.purge()
        assert row.tolist() == list(range(16, 21))
        del row
        gc.collect()
        assert _core.pins(made.memory) == 0
        assert int(np.sum(made)) == int(sample((1000,), "i8").sum())
        assert _core.pins(made.memory) == 0


def test_asarray_of_another_dtype_is_a_copy() -> None:
    with mv.array(sample((10,), "i4")) as made:
        other = np.asarray(made, dtype="f8")
        assert other.dtype == np.float64
        assert _core.pins(made.memory) == 0
        copy = np.array(made, copy=True)
        assert _core.pins(made.memory) == 0
        assert (copy == other).all()
        if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
            with pytest.raises(ValueError):
                np.asarray(made, dtype="f8", copy=False)
            assert np.asarray(made, copy=False).dtype == np.int32


def test_asarray_is_read_only() -> None:
    """A writer would make every peek of another thread fail as long as the array lives."""
    with mv.zeros(10, "i4") as made:
        array = np.asarray(made)
        with pytest.raises(ValueError, match="read-only"):
            array[3] = 5
        with made.peek() as view:
            assert view[3] == 0
            del view
        del array
