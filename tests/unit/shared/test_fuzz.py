"""Whatever comes over the wire, guided by Hypothesis; `test_nonsense.py` has each kind of it by itself."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvolatile import SharedCache
from mvolatile.shared.wire import ANY, INLINE, LONGEST, TAG, Flag, Op, Reply, Request
from support.keepers import keeper_pid, until
from support.strangers import Stranger

Cache = SharedCache[Any, Any]

NUMBERS = st.one_of(
    st.sampled_from([0, 1, INLINE, INLINE + 1, 1 << 20, 1 << 32, 1 << 63, ANY]), st.integers(0, ANY)
)
KEYS = st.one_of(st.sampled_from([b"", b"sx", b"k" * 0xFFFF]), st.binary(max_size=40))
OPS = st.one_of(
    st.sampled_from([op for op in Op if op not in (Op.CLEAR, Op.RESIZE, Op.PURGE)]), st.integers(16, 255)
)
REQUESTS = st.builds(
    Request,
    OPS,
    KEYS,
    st.one_of(st.binary(max_size=600), st.just(bytes(INLINE + 1))),
    st.integers(0, 255),
    st.one_of(st.sampled_from(Flag), st.integers(0, (1 << 32) - 1)),
    NUMBERS,
    st.floats(),
    NUMBERS,
    NUMBERS,
    st.one_of(st.just(b""), st.binary(min_size=TAG, max_size=TAG)),
)
MESSAGES = st.one_of(
    REQUESTS.map(Request.packed),
    st.binary(min_size=1, max_size=200),
    st.builds(lambda request, size: request.packed()[:size] or b"x", REQUESTS, st.integers(1, 100)),
    st.just(bytes(LONGEST + 1)),
)


@settings(max_examples=150)
@given(st.binary(max_size=200))
def test_a_message_is_itself_or_an_error(data: bytes) -> None:
    for kind in (Request, Reply):
        try:
            message = kind.unpacked(data)
        except ValueError:
            continue
        assert len(message.packed()) == len(data)


@given(REQUESTS)
def test_requests_come_back(request: Request) -> None:
    again = Request.unpacked(request.packed())
    assert repr(again) == repr(request._replace(op=int(request.op), flags=int(request.flags)))


@pytest.fixture
def files() -> Any:
    """What a client may hand over: memory that is its own and that is not to be cut, a pipe, a directory, the like."""
    ends = (
        *os.pipe(),
        os.memfd_create("small", os.MFD_CLOEXEC),
        os.memfd_create("large", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING),
        os.open("/", os.O_RDONLY),
        os.open("/dev/zero", os.O_RDWR),
        os.eventfd(0),
    )
    os.ftruncate(ends[3], 1 << 24)
    yield ends
    for one in ends:
        os.close(one)


def test_whatever_is_sent(cache: Cache, files: tuple[int, ...]) -> None:
    """By someone who greeted or not, with whatever descriptors: who is there beside has the values, from the same
    keeper, and nothing is left of it there.
    """
    cache["a"] = b"value"
    assert cache["a"] == b"value"  # it has all the connections that it needs
    pid = keeper_pid("test")
    before = len(os.listdir(f"/proc/{pid}/fd"))
    sent = st.tuples(MESSAGES, st.lists(st.sampled_from(range(len(files))), max_size=3))

    @settings(max_examples=150)
    @given(st.booleans(), st.lists(sent, min_size=1, max_size=12))
    def speak(greets: bool, messages: list[tuple[bytes, list[int]]]) -> None:
        one = Stranger()
        try:
            if greets:
                one.hello()
            for data, passed in messages:
                if not one.send(data, *(files[i] for i in passed)):
                    break
        finally:
            one.close()
        assert cache["a"] == b"value"

    speak()
    cache["b"] = 1
    assert (cache["b"], keeper_pid("test")) == (1, pid)
    until(lambda: cache.keeper_info()["connections"] <= 2)
    assert cache.keeper_info()["making"] == 0
    until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before + 1)  # one is of what is due behind
