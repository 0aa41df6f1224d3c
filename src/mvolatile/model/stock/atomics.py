"""What C11 and pthreads give the library: atomics, the range's lock, the fork gate.

Every atomic operation is a step; all are sequentially consistent, as the C code has them. The plain fields of `struct
range` travel with its lock: `range_enter` answers with them, `range_leave` puts them back, and nobody else can tell
when in between they changed.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ..steps import Op, Steps, put, puts
from .machine import Guarded, ModelError, Task, World


@cache
def atomic_load(t: Task, r: int, name: str) -> Op:
    """`atomic_load(&range->name)`."""
    cell = t.cell(r, name)
    return Op(f"load {name}", lambda world: (world, world[cell]), reads=(cell,))


@cache
def atomic_store(t: Task, r: int, name: str, value: Any) -> Op:
    """`atomic_store(&range->name, value)`."""
    cell = t.cell(r, name)
    return Op(f"{name} = {value}", lambda world: (put(world, cell, value), None), writes=(cell,))


@cache
def atomic_fetch_add(t: Task, r: int, name: str, more: int) -> Op:
    """`atomic_fetch_add(&range->name, more)`, or `_sub`; the result is of no use to anybody."""
    cell = t.cell(r, name)
    label = f"{name}{more:+d}"
    return Op(label, lambda world: (put(world, cell, world[cell] + more), None), writes=(cell,))


@cache
def note_bit(t: Task, r: int, page: int) -> Op:
    """`atomic_fetch_or(&range->noted[..], bit)`."""
    cell = t.cell(r, "noted")
    label = f"note page {page}"
    return Op(label, lambda world: (put(world, cell, world[cell] | 1 << page), None), writes=(cell,))


@cache
def take_bits(t: Task, r: int) -> Op:
    """`atomic_exchange(&range->noted[..], 0)`."""
    cell = t.cell(r, "noted")
    return Op("take the noted bits", lambda world: (put(world, cell, 0), world[cell]), writes=(cell,))


@cache
def wait_while(t: Task, *key: Any) -> Op:
    """`while (atomic_load(..)) os_pause()`: spinning is waiting."""
    cell = t.cell(*key)
    return Op(
        f"wait while {key[-1]}",
        lambda world: (world, None),
        reads=(cell,),
        ready=lambda world: not world[cell],
    )


@cache
def global_load(t: Task, name: str) -> Op:
    """A load of one of the library's own globals."""
    cell = t.cell(name)
    return Op(f"load {name}", lambda world: (world, world[cell]), reads=(cell,))


@cache
def global_store(t: Task, name: str, value: Any) -> Op:
    """A store to one of the library's own globals."""
    cell = t.cell(name)
    return Op(f"{name} = {value}", lambda world: (put(world, cell, value), None), writes=(cell,))


# ---- locks


@cache
def _lock(t: Task, r: int) -> Op:
    lock, guarded = t.cell(r, "lock"), t.cell(r, "guarded")
    return Op(
        "lock",
        lambda world: (put(world, lock, 1), world[guarded]),
        reads=(guarded,),
        writes=(lock,),
        ready=lambda world: not world[lock],
    )


@cache
def _unlock(t: Task, r: int, fields: Guarded) -> Op:
    lock, guarded = t.cell(r, "lock"), t.cell(r, "guarded")

    def perform(world: World) -> tuple[World, None]:
        if not world[lock]:
            raise ModelError("unlock: it is not locked")
        return puts(world, (lock, 0), (guarded, fields)), None

    return Op("unlock", perform, writes=(lock, guarded))


@cache
def _gate(t: Task, more: int) -> Op:
    readers, shut = t.cell("gate"), t.cell("gate_shut")
    return Op(
        "gate_enter" if more > 0 else "gate_leave",
        lambda world: (put(world, readers, world[readers] + more), None),
        reads=(shut,) if more > 0 else (),
        writes=(readers,),
        ready=lambda world: more < 0 or not world[shut],
    )


def gate_enter(t: Task) -> Steps[None]:
    """`gate_enter()`: a reader of the gate. It waits for a writer that waits, too."""
    if t.m.config.child_tier is not None:
        yield _gate(t, 1)


def gate_leave(t: Task) -> Steps[None]:
    """`gate_leave()`."""
    if t.m.config.child_tier is not None:
        yield _gate(t, -1)


def range_enter(t: Task, r: int) -> Steps[Guarded]:
    """`range_enter()`: the gate, then the lock; what the lock guards."""
    yield from gate_enter(t)
    g = yield _lock(t, r)
    return g  # type: ignore[no-any-return]


def range_leave(t: Task, r: int, g: Guarded) -> Steps[None]:
    """`range_leave()`."""
    yield _unlock(t, r, g)
    yield from gate_leave(t)


# ---- the Python object, under the GIL


@cache
def use_range(t: Task, r: int) -> Op:
    """`use_range()`: counts a call, unless the memory is closed (then False)."""
    users, closed, gil = t.cell(r, "users"), t.cell("closed"), t.cell("gil")

    def perform(world: World) -> tuple[World, bool]:
        return (world, False) if world[closed] else (put(world, users, world[users] + 1), True)

    return Op("use_range", perform, reads=(closed, gil), writes=(users,), ready=lambda world: not world[gil])


@cache
def unuse_range(t: Task, r: int) -> Op:
    """`unuse_range()`."""
    users, gil = t.cell(r, "users"), t.cell("gil")
    return Op(
        "unuse_range",
        lambda world: (put(world, users, world[users] - 1), None),
        reads=(gil,),
        writes=(users,),
        ready=lambda world: not world[gil],
    )


@cache
def gil(t: Task, take: bool, **also: bool) -> Op:
    """The GIL, where a call does several things under it; `also` sets globals in the same step."""
    cell = t.cell("gil")
    cells = [(t.cell(name), value) for name, value in also.items()]
    return Op(
        "take the GIL" if take else "release the GIL",
        lambda world: (puts(world, (cell, take), *cells), None),
        writes=(cell, *(at for at, _ in cells)),
        ready=lambda world: world[cell] != take,
    )


@cache
def pins_unlocked(t: Task, r: int) -> Op:
    """`range->pins`, read without the range's lock."""
    cell = t.cell(r, "guarded")
    return Op("look at pins", lambda world: (world, world[cell].pins), reads=(cell,))
