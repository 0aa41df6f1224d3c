"""Names come from anywhere (a URL, a user): none may break a log, a terminal, /proc or a program that reads it."""

from __future__ import annotations

import sys
import warnings

import pytest

from mvolatile import Overwritten, Purged, VolatileCache, VolatileMemory, _core
from mvolatile.kernel.smaps import mappings
from mvolatile.memory import _label
from support.memories import HUGE, PAGE, filled, lose
from support.tiers import loses

HOSTILE = [
    "two\nlines",
    "nul\0byte",
    "\x1b]0;title\x07\x1b[31mred",
    "lone \ud800 surrogate",
    "[stack]",
    "$(reboot) `id` \\",
    "right-to-left \u202e override",
    "x" * 10_000,
    "\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 500,
]

hostile = pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))


def _harmless(text: str) -> bool:
    return text.isprintable() and "\n" not in text


def test_what_the_kernel_is_told() -> None:
    """Its own rule: printable ASCII without ``[]\\$`` and the backquote, less than 80 bytes with the end.

    Every character there is, each in a name of 100: drawing some at random would say less.
    """
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    for at in range(0, len(characters), 50):
        name = "".join(characters[at : at + 50])
        told = f"mvolatile:{_label(name * 2)}"
        assert len(told) < 80, name
        wrong = [c for c in told if not " " <= c <= "~" or c in "[]\\$`"]
        assert not wrong, (name, wrong)


@hostile
@loses
def test_what_people_are_told(name: str) -> None:
    with filled("pooled", name=name) as memory:
        assert memory.name == name
        lose(memory)
        with pytest.raises(Purged) as lost:
            memory.read(0)
        assert lost.value.name == name
        for text in (repr(memory), str(lost.value), repr(lost.value), str(Overwritten(name))):
            assert _harmless(text)


@hostile
def test_a_cache_of_that_name(name: str) -> None:
    with VolatileCache(name=name) as cache:
        cache["key"] = b"value" * 30_000
        assert cache["key"] == b"value" * 30_000
        assert _harmless(repr(cache))


@hostile
def test_the_kernel_takes_it(name: str) -> None:
    if _core.probe()["anon_name"]:
        pytest.skip("this kernel keeps no names of anonymous memory (CONFIG_ANON_VMA_NAME)")
    with VolatileMemory(HUGE, name) as memory:
        assert any(
            one.anon_name == f"mvolatile:{_label(name)}" for one in mappings() if one.start == memory.address
        )


@pytest.mark.parametrize("name", [5, b"bytes", ["list"]])
def test_what_is_no_name(name: object) -> None:
    with warnings.catch_warnings(), pytest.raises(TypeError, match="name must be a string or None"):
        warnings.simplefilter("ignore")
        VolatileMemory(PAGE, name)  # type: ignore[arg-type]


def test_an_empty_name_is_none() -> None:
    with VolatileMemory(PAGE, "") as memory:
        assert repr(memory) == f"<VolatileMemory {PAGE} bytes, not yet volatile>"
    assert _label("") == _label(None) == "unnamed"
