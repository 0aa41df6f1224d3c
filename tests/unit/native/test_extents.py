"""extents.c: sets of intervals, against a Python set."""

from __future__ import annotations

import ctypes
import hashlib

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from support.native import SOURCES, shared_library

CORE = SOURCES.parents[1] / "src" / "mvolatile" / "_core" / "protocol"
LIMIT = 60

bounds = st.integers(0, LIMIT)
steps = st.lists(st.tuples(st.sampled_from(["add", "sub", "clear"]), bounds, bounds), max_size=40)


class Extent(ctypes.Structure):
    _fields_ = [("start", ctypes.c_size_t), ("end", ctypes.c_size_t)]


class Extents(ctypes.Structure):
    _fields_ = [
        ("items", ctypes.POINTER(Extent)),
        ("count", ctypes.c_size_t),
        ("room", ctypes.c_size_t),
        ("inlined", Extent * 2),
    ]


def _load() -> ctypes.CDLL:
    key = hashlib.sha256(
        b"".join((CORE / name).read_bytes() for name in ("extents.c", "extents.h"))
    ).hexdigest()
    found = ctypes.CDLL(str(shared_library("extents", (f"-DKEY_{key[:16]}", f"-I{CORE.parent}"))))
    size, pointer = ctypes.c_size_t, ctypes.POINTER(Extents)
    for name, result in (("add", None), ("sub", None), ("overlap", ctypes.c_bool), ("cover", ctypes.c_bool)):
        function = getattr(found, f"extents_{name}")
        function.argtypes, function.restype = [pointer, size, size], result
    found.extents_next.argtypes = [pointer, size, size, ctypes.POINTER(Extent)]
    found.extents_next.restype = ctypes.c_bool
    found.extents_bytes.argtypes, found.extents_bytes.restype = [pointer], size
    found.extents_valid.argtypes, found.extents_valid.restype = [pointer], ctypes.c_bool
    found.run_dry.argtypes = [ctypes.c_bool]
    return found


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    return _load()


def _items(extents: Extents) -> list[tuple[int, int]]:
    return [(extents.items[i].start, extents.items[i].end) for i in range(extents.count)]


def _runs(points: set[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for point in sorted(points):
        if found and found[-1][1] == point:
            found[-1] = (found[-1][0], point + 1)
        else:
            found.append((point, point + 1))
    return found


def _apply(library: ctypes.CDLL, extents: Extents, points: set[int], step: tuple[str, int, int]) -> None:
    action, start, end = step
    if action == "clear":
        library.extents_clear(ctypes.byref(extents))
        points.clear()
    elif action == "add":
        library.extents_add(ctypes.byref(extents), start, end)
        points |= set(range(start, end))
    else:
        library.extents_sub(ctypes.byref(extents), start, end)
        points -= set(range(start, end))


@settings(max_examples=300, deadline=None, database=None)
@given(steps=steps, start=bounds, end=bounds)
def test_against_a_set(library: ctypes.CDLL, steps: list[tuple[str, int, int]], start: int, end: int) -> None:
    extents, points = Extents(), set[int]()
    library.extents_init(ctypes.byref(extents))
    try:
        for step in steps:
            _apply(library, extents, points, step)
            assert library.extents_valid(ctypes.byref(extents))
            assert _items(extents) == _runs(points)
            assert library.extents_bytes(ctypes.byref(extents)) == len(points)
        window = set(range(start, end))
        assert library.extents_overlap(ctypes.byref(extents), start, end) == bool(window & points)
        assert library.extents_cover(ctypes.byref(extents), start, end) == (window <= points)
        found, at, one = [], start, Extent()
        while library.extents_next(ctypes.byref(extents), at, end, ctypes.byref(one)):
            found.append((one.start, one.end))
            at = one.end
        assert found == _runs(window & points)
    finally:
        library.extents_clear(ctypes.byref(extents))


@settings(max_examples=200, deadline=None, database=None)
@given(steps=steps, dry=st.lists(st.booleans(), min_size=40, max_size=40))
def test_without_memory_it_errs_by_being_too_large(
    library: ctypes.CDLL, steps: list[tuple[str, int, int]], dry: list[bool]
) -> None:
    """No operation can fail. What it cannot record exactly it records as more: a loss is never hidden."""
    extents, points = Extents(), set[int]()
    library.extents_init(ctypes.byref(extents))
    try:
        for step, now in zip(steps, dry, strict=False):
            library.run_dry(now)
            _apply(library, extents, points, step)
            assert library.extents_valid(ctypes.byref(extents))
            recorded = {point for start, end in _items(extents) for point in range(start, end)}
            assert points <= recorded
    finally:
        library.run_dry(False)
        library.extents_clear(ctypes.byref(extents))


def test_many_and_at_the_edge_of_the_address_space(library: ctypes.CDLL) -> None:
    extents = Extents()
    library.extents_init(ctypes.byref(extents))
    top = 2**64 - 1
    library.extents_add(ctypes.byref(extents), top - 1, top)
    for start in range(0, 20_000, 2):
        library.extents_add(ctypes.byref(extents), start, start + 1)
    assert extents.count == 10_001
    assert library.extents_overlap(ctypes.byref(extents), top - 5, top)
    library.extents_add(ctypes.byref(extents), 0, top)
    assert _items(extents) == [(0, top)]
    library.extents_sub(ctypes.byref(extents), 5, top - 5)
    assert _items(extents) == [(0, 5), (top - 5, top)]
    library.extents_clear(ctypes.byref(extents))
