"""Sizes and shares as people write them."""

from __future__ import annotations

import pytest

from mvolatile.residence import Share, size_or_share


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (0, 0),
        (5, 5),
        ("5", 5),
        ("5B", 5),
        ("1K", 1024),
        ("1k", 1024),
        ("1KiB", 1024),
        ("1kB", 1000),
        ("1.5 MiB", 3 << 19),
        ("2G", 2 << 30),
        ("1TB", 10**12),
        ("80%", Share(0.8)),
        (" 12.5 % ", Share(0.125)),
    ],
)
def test_they_are_read(given: int | str, meant: int | Share) -> None:
    assert size_or_share(given, "x") == meant


@pytest.mark.parametrize("given", ["", "x", "-5", "5 X", "101%", "%", "1e9", "nan", "5MiBB", -1])
def test_others_are_told(given: int | str) -> None:
    with pytest.raises(ValueError, match=r"^the limit must"):
        size_or_share(given, "the limit")


@pytest.mark.parametrize("given", [None, 1.5, True, b"5"])
def test_what_is_none_is_a_type_error(given: object) -> None:
    with pytest.raises(TypeError, match=r"^the limit must be"):
        size_or_share(given, "the limit")  # type: ignore[arg-type]


def test_a_share_has_bytes_here() -> None:
    half, whole = Share(0.5).nbytes(), Share(1.0).nbytes()
    assert whole is None or (half is not None and 0 < half <= whole)
