"""A program that works on what it made works on a hit: what is there to be changed can be, and nobody else sees it."""

from __future__ import annotations

import array
import collections
import ctypes
import dataclasses
import decimal
import enum
import pickle
import threading
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from mvolatile import VolatileCache, volatile_cache

from .helpers import lies_in, on_miss_and_hits, seal

SIZES = [1, 60, 70, 9000, 100_000]
"""Items of 8 bytes: within the pickle, beside it, in a segment, and in memory of their own."""


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Record:
    numbers: Any
    also: Any = None


class Structure(ctypes.Structure):
    _fields_ = (("numbers", ctypes.c_double * 100),)


class Named(np.ndarray):
    """A subclass with something of its own."""

    label = "none"

    def __reduce__(self) -> Any:
        make, arguments, state = cast(Any, super().__reduce__())
        return make, arguments, (*state, self.label)

    def __setstate__(self, state: Any) -> None:
        *rest, self.label = state
        super().__setstate__(tuple(rest))


def named(n: int) -> Any:
    made = np.arange(float(n)).view(Named)
    made.label = "n"
    return made


def record(n: int) -> Any:
    return np.zeros(n, [("a", "f8"), ("b", "i4")])


def grow(items: Any) -> Any:
    items.append(1)
    return len(items)


def put(items: Any) -> Any:
    items[0] = items[0] + 7
    return float(np.asarray(items).ravel()[0])


def put_in_record(items: Any) -> Any:
    items["a"][0] += 7
    return items["a"][0]


WRITTEN: dict[str, tuple[Callable[[int], Any], Callable[[Any], Any]]] = {
    "dict": (lambda n: {"a": np.arange(float(n))}, lambda v: put(v["a"])),
    "list": (lambda n: [np.arange(float(n))], lambda v: put(v[0])),
    "tuple": (lambda n: (np.arange(n), 1), lambda v: put(v[0])),
    "dataclass": (lambda n: Record(np.arange(n)), lambda v: put(v.numbers)),
    "gaps": (lambda n: [np.arange(2 * n)[::2]], lambda v: put(v[0])),
    "reversed": (lambda n: [np.arange(n)[::-1]], lambda v: put(v[0])),
    "fortran": (lambda n: [np.arange(2 * n).reshape(2, n).T], lambda v: put(v[0][:, 0])),
    "dates": (lambda n: [np.zeros(n, "M8[s]")], lambda v: put(v[0].view("i8"))),
    "nothing but fields": (lambda n: [record(n)], lambda v: put_in_record(v[0])),
    "big-endian": (lambda n: [np.arange(n, dtype=">i8")], lambda v: put(v[0])),
    "strings": (lambda n: [np.full(n, "text")], lambda v: v[0].__setitem__(0, "é")),
    "nullary": (lambda n: [np.array(5.0)], lambda v: v[0].__setitem__((), 6)),
    "objects": (lambda n: np.array([n, None], object), put),
    "masked": (lambda n: np.ma.masked_array(np.arange(float(n)), np.arange(n) % 2 == 1), put),
    "matrix": (lambda n: np.arange(float(n)).reshape(1, -1).view(np.matrix), lambda v: put(v[:, 0])),
    "recarray": (lambda n: record(n).view(np.recarray), put_in_record),
    "subclass": (named, put),
    "bytearray": (lambda n: bytearray(8 * n), put),
    "memoryview": (lambda n: memoryview(bytearray(8 * n)), put),
    "array.array": (lambda n: array.array("d", range(n)), put),
    "ctypes": (lambda n: Structure(), lambda v: put(v.numbers)),
    "deque": (lambda n: collections.deque([n]), grow),
    "list of lists": (lambda n: [[1]], lambda v: grow(v[0])),
    "set": (lambda n: {n}, lambda v: (v.add(-1), len(v))),
    "resized": (lambda n: [np.arange(n)], lambda v: v[0].resize(2 * n_of(v[0]), refcheck=False)),
    "renamed": (lambda n: [record(n)], lambda v: setattr(v[0].dtype, "names", ("x", "y"))),
}


def n_of(items: Any) -> int:
    return len(items)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("copy", [None, True])
def test_what_can_be_written_to_can_be_on_a_hit_and_is_nobody_elses(
    kind: str, n: int, copy: bool | None
) -> None:
    make, use = WRITTEN[kind]
    said = on_miss_and_hits(lambda: make(n), use, copy=copy)
    assert said[1:] == said[:1] * 3


@pytest.mark.parametrize("n", SIZES)
def test_a_plain_array_is_read_only_and_with_copy_it_is_written_to(n: int) -> None:
    plain: VolatileCache[str, Any] = VolatileCache()
    plain["k"] = np.arange(n)
    with pytest.raises(ValueError, match="read-only"):
        plain["k"][0] = 1
    said = on_miss_and_hits(lambda: np.arange(n), put, copy=True)
    assert said == [7.0] * 4
    assert on_miss_and_hits(lambda: np.arange(n), lambda v: v.flags.owndata, copy=True) == [True] * 4


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("copy", [None, False])
def test_what_was_read_only_stays_so_and_is_not_copied(n: int, copy: bool | None) -> None:
    def made() -> Any:
        frozen, backwards, across = np.arange(n), np.arange(n)[::-1], np.arange(2 * n).reshape(2, n).T
        for part in (frozen, backwards, across):
            part.flags.writeable = False
        return {"frozen": frozen, "backwards": backwards, "across": across, "view": memoryview(bytes(8 * n))}

    cache: VolatileCache[str, Any] = VolatileCache(copy=copy)
    cache["k"] = [part for name, part in made().items() if name != "view"]
    cache["view"] = made()["view"]
    seal(cache)
    assert not any(part.flags.writeable for part in cache["k"])
    assert cache["view"].readonly
    for found, wanted in zip(cache["k"], made().values(), strict=False):
        np.testing.assert_array_equal(found, wanted)
        assert lies_in(cache, found if found.flags.c_contiguous else found.T) == (n >= 9000)
    assert lies_in(cache, np.asarray(cache["view"])) == (n >= 9000)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("copy", [None, True, False])
def test_two_references_to_one_thing_stay_two_to_one(n: int, copy: bool | None) -> None:
    def made() -> Any:
        one, words = np.arange(n), ["a"]
        return {"x": one, "y": one, "kept": Record(one, words), "words": words}

    cache: VolatileCache[str, Any] = VolatileCache(copy=copy)
    cache["k"] = made()
    for _ in range(2):
        found = cache["k"]
        assert found["x"] is found["y"] is found["kept"].numbers
        assert found["words"] is found["kept"].also
        seal(cache)


def test_a_value_that_holds_itself() -> None:
    def made() -> Any:
        ring: list[Any] = [np.arange(20_000)]
        ring.append(ring)
        return ring

    def use(ring: Any) -> bool:
        ring[0][0] = 5
        return ring[1] is ring and ring[1][0][0] == 5

    assert on_miss_and_hits(made, use) == [True] * 4


def test_what_is_one_for_all_stays_one() -> None:
    """Enumerations, classes, functions and what else pickles by its name."""
    cache: VolatileCache[str, Any] = VolatileCache()
    value = (None, True, ..., NotImplemented, Colour.RED, Record, len, np.float64, np.newaxis)
    cache["k"] = value
    assert all(found is wanted for found, wanted in zip(cache["k"], value, strict=True))
    cache["d"] = decimal.Decimal("1.50")
    assert repr(cache["d"]) == repr(decimal.Decimal("1.50"))


class OutOfBand:
    """A class that pickles its bytes as the documentation of `pickle` does it."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return OutOfBand, (pickle.PickleBuffer(self.data),)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(
    ("copy", "data", "readonly"),
    [(None, bytearray, False), (True, bytearray, False), (False, bytearray, True), (None, bytes, True)],
)
def test_buffers_of_a_programs_own_classes(n: int, copy: bool | None, data: Any, readonly: bool) -> None:
    cache: VolatileCache[str, Any] = VolatileCache(copy=copy)
    cache["k"] = [OutOfBand(data(8 * n)), {"also": OutOfBand(data(3))}]
    for _ in range(2):
        first, others = cache["k"]
        for found in (first, others["also"]):
            with memoryview(found.data) as view:
                assert view.readonly == readonly
                assert not any(view)
                if not readonly:
                    view[0] = 7
        seal(cache)


def test_a_programs_own_way_to_pickle_a_library_s_type_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    import copyreg

    monkeypatch.setitem(copyreg.dispatch_table, np.ndarray, lambda array: (list, (array.tolist(),)))
    cache: VolatileCache[str, Any] = VolatileCache()
    cache["k"] = [np.arange(3)]
    assert cache["k"] == [[0, 1, 2]]


class Meta(type):
    """Classes are pickled by their names, whatever they are made by."""


class Made(metaclass=Meta):
    pass


def test_classes_with_a_metaclass() -> None:
    cache: VolatileCache[str, Any] = VolatileCache()
    cache["k"] = [Made, Colour, Made]
    assert cache["k"] == [Made, Colour, Made]


def test_a_memory_mapped_array_is_stored_as_its_bytes(tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "file", "f8", "w+", shape=(20_000,))
    mapped[:] = 1
    cache: VolatileCache[str, Any] = VolatileCache()
    cache["k"] = mapped
    mapped[:] = 2
    seal(cache)
    found = cache["k"]
    assert isinstance(found, np.memmap)
    assert found.sum() == 20_000, "the file's later values are not its"
    found[:] = 3
    assert mapped[0] == 2, "and it does not write to the file"


def test_no_option_but_these() -> None:
    for make in (VolatileCache, volatile_cache):
        with pytest.raises(TypeError, match="copy must be None, True or False, not 'yes'"):
            made: Any = make(copy="yes")  # type: ignore[call-overload, arg-type]
            made(len)


def test_hits_in_several_threads_are_each_of_their_own() -> None:
    cache: VolatileCache[str, Any] = VolatileCache()
    cache["k"] = {"a": np.zeros(20_000), "names": []}
    seal(cache)
    ready, wrong = threading.Barrier(4), []

    def change(number: int) -> None:
        ready.wait(200)
        for _ in range(50):
            found = cache["k"]
            if found["a"].any() or found["names"]:
                wrong.append(number)
            found["a"][:] = number
            found["names"].append(number)
            if not (found["a"] == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
