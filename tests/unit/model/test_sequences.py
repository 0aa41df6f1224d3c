"""Programs of one processor: whatever they do, the fixed patch's books balance after every call."""

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvolatile.model.fork import fork
from mvolatile.model.litmus import mark, unmark
from mvolatile.model.mmap import do_mmap, do_munmap, exit_mmap, madvise_dontneed, mincore, mlock
from mvolatile.model.state import Kernel
from mvolatile.model.steps import Steps
from mvolatile.model.user import get_user_pages, load, map_in_secondary, put_user_page, store
from mvolatile.model.vmscan import shrink_active_list

from .machine import Machine

ADDRESSES = 3
SIZES = {"addresses": ADDRESSES, "frames": 6, "vmas": 9, "anon_vmas": 8, "slots": 2}
MM = st.integers(0, 1)
ADDRESS = st.integers(0, ADDRESSES - 1)


def pin_briefly(k: Kernel, mm: int, address: int) -> Steps[None]:
    page = yield from get_user_pages(k, mm, address)
    if page:
        yield from put_user_page(k, page)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, int]:
    start = draw(ADDRESS)
    return start, draw(st.integers(1, ADDRESSES - start))


ACTIONS = st.one_of(
    st.builds(lambda mm, at: ("load", partial(load, mm=mm, address=at)), MM, ADDRESS),
    st.builds(
        lambda mm, at, v: ("store", partial(store, mm=mm, address=at, value=v)),
        MM,
        ADDRESS,
        st.integers(1, 9),
    ),
    st.builds(lambda mm, r: ("mark", partial(mark, mm=mm, start=r[0], length=r[1])), MM, ranges()),
    st.builds(lambda mm, r: ("unmark", partial(unmark, mm=mm, start=r[0], length=r[1])), MM, ranges()),
    st.builds(lambda mm, r: ("munmap", partial(do_munmap, mm=mm, start=r[0], end=sum(r))), MM, ranges()),
    st.builds(
        lambda mm, r: ("dontneed", partial(madvise_dontneed, mm=mm, start=r[0], end=sum(r))), MM, ranges()
    ),
    st.builds(lambda mm, r: ("mlock", partial(mlock, mm=mm, start=r[0], end=sum(r))), MM, ranges()),
    st.builds(lambda mm, at: ("pin", partial(pin_briefly, mm=mm, address=at)), MM, ADDRESS),
    st.builds(lambda mm, at: ("mincore", partial(mincore, mm=mm, address=at)), MM, ADDRESS),
    st.builds(lambda at: ("secondary", partial(map_in_secondary, mm=0, address=at)), ADDRESS),
    st.just(("exit", partial(exit_mmap, mm=1))),
    st.sampled_from(
        [("age", None), ("scan", None), ("shrink_active_list", shrink_active_list), ("fork", None)]
    ),
)


def run_all(machine: Machine, actions: list[tuple[str, Any]]) -> None:
    machine(do_mmap, 0, 0, ADDRESSES)
    forked = False
    for name, action in actions:
        if name == "age":
            machine.age()
        elif name == "scan":
            machine.scan()
        elif name == "fork":
            if not forked:
                machine(fork, 0, 1)
                forked = True
        else:
            machine(action)
        assert machine.wrong() is None, name


@settings(max_examples=400, deadline=None)
@given(st.lists(ACTIONS, max_size=14))
@pytest.mark.parametrize("torn", [False, True])
def test_fixed(torn: bool, actions: list[tuple[str, Any]]) -> None:
    run_all(Machine("fixed", **SIZES, torn_reads=torn), actions)


@pytest.mark.stress
@settings(max_examples=20_000, deadline=None)
@given(st.lists(ACTIONS, max_size=25))
def test_fixed_at_length(actions: list[tuple[str, Any]]) -> None:
    run_all(Machine("fixed", **SIZES), actions)
