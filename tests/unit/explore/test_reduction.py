"""The reduction against plain search: on random programs both find the same violations and final states."""

from __future__ import annotations

from functools import partial

from hypothesis import example, given, settings
from hypothesis import strategies as st
from programs import Lock, Read, Swap, Unlock, Write, world

from mvolatile.explore import Exhaustive, ThreadedSystem, explore

NAMES = ("x", "y", "z")
LOCKS = ("p", "q")


def interpret(instructions):
    """A thread: a list of small instructions, with the last value read as its only register."""
    register = 0
    for code, *arguments in instructions:
        match code:
            case "read":
                register = yield Read(arguments[0])
            case "write":
                yield Write(arguments[0], arguments[1])
            case "store":
                yield Write(arguments[0], register)
            case "cas":
                register = yield Swap(arguments[0], register, arguments[1])
            case "lock":
                yield Lock(arguments[0])
            case "unlock":
                yield Unlock(arguments[0])
            case "read-if":
                if register:
                    register = yield Read(arguments[0])
            case "write-if":
                if register:
                    yield Write(arguments[0], arguments[1])
            case "spin":
                register = yield Read(arguments[0])
                while register:
                    register = yield Read(arguments[0])
            case "assert":
                assert register < 2, "register: too big"
    return int(register)


name = st.sampled_from(NAMES)
value = st.integers(0, 2)
lock = st.sampled_from(LOCKS)
instruction = st.one_of(
    st.tuples(st.just("read"), name),
    st.tuples(st.just("write"), name, value),
    st.tuples(st.just("store"), name),
    st.tuples(st.just("cas"), name, value),
    st.tuples(st.just("lock"), lock),
    st.tuples(st.just("unlock"), lock),
    st.tuples(st.just("read-if"), name),
    st.tuples(st.just("write-if"), name, value),
    st.tuples(st.just("spin"), name),
    st.tuples(st.just("assert")),
)
thread = st.lists(instruction, max_size=5)


def check(state):
    values = dict(state)
    if values["x"] == 2 and values["y"] == 1:
        return "pair: x is 2 while y is 1"
    if values["y"] == 2:
        return "single: y is 2"
    return None


def system(programs, watches):
    return ThreadedSystem(
        world(x=0, y=0, z=1, p=0, q=0),
        {f"t{number}": partial(interpret, tuple(program)) for number, program in enumerate(programs)},
        check=check,
        watches=watches,
    )


def findings(programs, watches, strategy):
    explored = system(programs, watches)
    result = explore(explored, strategy, stop_at_first=False)
    assert result.complete
    return result.properties, {explored.view(state) for state in result.finals}


WATCHES = st.sampled_from([None, frozenset("xy"), frozenset("xyzpq")])


@given(st.lists(thread, min_size=2, max_size=3), WATCHES)
@example([[("spin", "z")], [("write", "y", 2)]], frozenset("xy"))
@example([[("spin", "z")], [("write", "z", 0), ("write", "x", 2)], [("write", "y", 1)]], frozenset("xy"))
@example([[("lock", "p"), ("lock", "q")], [("lock", "q"), ("lock", "p")]], None)
@settings(max_examples=400, deadline=None)
def test_reduced_search_finds_what_plain_search_finds(programs, watches):
    assert findings(programs, watches, Exhaustive()) == findings(programs, watches, Exhaustive(reduce=False))
