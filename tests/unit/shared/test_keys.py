"""Equal keys are the same bytes, others are not."""

from __future__ import annotations

import enum
import math
import os
from collections import namedtuple
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvolatile.shared import keys

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 3),
    st.floats(allow_nan=False),
    st.sampled_from([0.0, -0.0, 1.0, 1e300, math.inf, 2j, 1 + 0j, 0j, complex(-0.0, 1)]),
    st.text(max_size=5),
    st.sampled_from(["\ud800", "a", b"a", "1", b"1"]),
    st.binary(max_size=5),
)
KEYS = st.recursive(
    PLAIN,
    lambda inner: st.one_of(st.lists(inner, max_size=4).map(tuple), st.frozensets(inner, max_size=4)),
    max_leaves=8,
)


@given(KEYS, KEYS)
def test_encoded_alike_as_a_dictionary_has_them_alike(one: Any, other: Any) -> None:
    assert (keys.encode(one) == keys.encode(other)) == (one == other)
    assert keys.decode(keys.encode(one)) == one


class Color(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    "alike",
    [
        (1, 1.0, True, Color.RED, 1 + 0j),
        (0, 0.0, -0.0, False),
        ((1, 2), namedtuple("Pair", "a b")(1, 2), (1.0, 2 + 0j)),  # type: ignore[call-arg, arg-type]
        (frozenset([1, 2]), frozenset([2.0, True])),
        (2**70, float(2**70)),
    ],
)
def test_what_a_dictionary_takes_for_one(alike: tuple[Any, ...]) -> None:
    assert len({keys.encode(key) for key in alike}) == 1 == len(dict.fromkeys(alike))


def test_not_a_number_is_one_key() -> None:
    assert keys.encode(math.nan) == keys.encode(-math.nan) == keys.encode(float("nan") * 2)


def test_numbers_of_numpy() -> None:
    np = pytest.importorskip("numpy")
    assert (
        keys.encode(np.int64(7)) == keys.encode(7) == keys.encode(np.float64(7)) == keys.encode(np.uint8(7))
    )


@pytest.mark.parametrize("key", [[], {}, object(), (1, []), lambda: 0, bytearray(b"a")])
def test_what_can_be_no_key(key: Any) -> None:
    with pytest.raises(TypeError, match="a key of type"):
        keys.encode(key)


def test_too_long() -> None:
    assert len(keys.encode(b"k" * 65534)) == keys.LONGEST
    with pytest.raises(ValueError, match="65536 bytes"):
        keys.encode(b"k" * 65535)


def test_classes_and_the_mark_between_arguments() -> None:
    assert keys.decode(keys.encode((keys.KEYWORDS, os.PathLike))) == (
        keys.KEYWORDS,
        keys.TypeName("os:PathLike"),
    )
    assert keys.encode(keys.decode(keys.encode(int))) == keys.encode(int)
    assert keys.encode(int) != keys.encode("builtins:int")
