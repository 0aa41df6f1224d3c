"""A schedule run step by step, with the kernel function at each step and what it changed; nothing is printed here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .litmus import Litmus
from .pgtable import describe
from .state import Kernel, World
from .steps import Op, Steps
from .variants import Variant

SOURCES = {
    "memory": "mm/memory.c",
    "rmap": "mm/rmap.c",
    "vmscan": "mm/vmscan.c",
    "mvolatile": "mm/mvolatile.c",
    "purge": "mm/mvolatile.c",
    "swap": "mm/swapfile.c",
    "mmap": "mm/mmap.c",
    "fork": "kernel/fork.c",
    "ptes": "asm/pgtable.h",
    "user": "user space",
}
"""Which kernel file a module of the model stands for; what is in no such module is no kernel function."""


@dataclass(frozen=True, slots=True)
class Event:
    """One step: on which processor, in which kernel functions (outermost first), what, and what changed.

    `wrong` is what is wrong since this step and was not before.
    """

    cpu: str
    functions: tuple[str, ...]
    source: str
    label: str
    changes: tuple[str, ...]
    wrong: str | None

    @property
    def function(self) -> str:
        """The innermost kernel function."""
        return self.functions[-1] if self.functions else ""


def follow(litmus: Litmus, variant: Variant | str, cpus: Iterable[str]) -> list[Event]:
    """Run the threads in the order given, one step for each name; `ValueError` for a step that cannot be taken."""
    k = litmus.kernel(variant)
    world = litmus.world(k)
    threads: dict[str, Steps[Any]] = {name: program() for name, program in litmus.programs(k).items()}
    pending: dict[str, Op] = {}
    events: list[Event] = []
    told: set[str] = set()
    crashed = False
    for name, thread in threads.items():
        _advance(thread, pending, name, None)
    for at, cpu in enumerate(cpus, 1):
        if cpu not in threads:
            raise ValueError(
                f"step {at} of the schedule: no processor {cpu!r}; there are {', '.join(threads)}"
            )
        op = pending.get(cpu)
        if op is None or not op.ready(world):
            why = "has ended" if op is None else f"waits at {op.label}"
            raise ValueError(f"step {at} of the schedule: {cpu} {why}")
        functions, source = _where(threads[cpu])
        before = world
        found: tuple[str, ...] = ()
        try:
            world, answer = op.perform(world)
            _advance(threads[cpu], pending, cpu, answer)
        except AssertionError as bug:
            del pending[cpu]
            crashed = True
            found = (str(bug),)
        # The books of a machine on which a processor has crashed are never closed.
        found = found or litmus.check(k, world, not pending and not crashed)
        wrong = "; ".join(finding for finding in found if finding not in told) or None
        told |= set(found)
        events.append(Event(cpu, functions, source, op.label, _changes(k, before, world), wrong))
    return events


def _advance(thread: Steps[Any], pending: dict[str, Op], name: str, answer: Any) -> None:
    try:
        pending[name] = thread.send(answer)
    except StopIteration:
        pending.pop(name, None)


def _where(thread: Steps[Any]) -> tuple[tuple[str, ...], str]:
    """The functions a suspended thread is in. Helpers of the model (``_name``) are no kernel functions."""
    functions: list[str] = []
    source = ""
    inner: Any = thread
    while inner is not None and getattr(inner, "gi_frame", None) is not None:
        name = inner.gi_code.co_name
        module = inner.gi_frame.f_globals["__name__"].rpartition(".")[2]
        helper = name.startswith("_") and not name.startswith("__")
        if module in SOURCES and not helper:
            functions.append(name)
            source = SOURCES[module]
        inner = inner.gi_yieldfrom
    return tuple(functions), source


def _changes(k: Kernel, before: World, after: World) -> tuple[str, ...]:
    """The ptes that a step changed, in words."""
    return tuple(
        f"mm{mm} page {address}: {describe(before[cell])} -> {describe(after[cell])}"
        for mm in range(k.config.processes)
        for address in range(k.config.addresses)
        if before[cell := k.pte(mm, address)] != after[cell]
    )
