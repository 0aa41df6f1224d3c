"""A fork, at the steps that the stock kernel gives: beside `kernel`."""

from __future__ import annotations

from functools import cache
from typing import Any

from ..steps import Op, put, puts
from .machine import CHILD, PARENT, Task, World


@cache
def begin_fork(t: Task) -> Op:
    """`dup_mmap` takes `mmap_lock` for writing."""
    cell = t.cell("forking")
    return Op("fork: mmap_lock", lambda world: (put(world, cell, True), None), writes=(cell,))


@cache
def copy_page(t: Task, page: int) -> Op:
    """`copy_present_pte`: shared and write-protected in both; the child is in no userfaultfd.

    A mapping that has never held data is not copied at all (`vma_needs_copy`): its zero pages are holes in the child.
    """
    ptes = t.m.ptes(t.mm)
    mine, theirs = t.cell("pte", page), t.m.cell(CHILD, "pte", page)
    gone, their_gone = t.cell("gone", page), t.m.cell(CHILD, "gone", page)

    def perform(world: World) -> tuple[World, None]:
        pte = world[mine]
        if pte is not None and not pte.zero_page:
            pte = pte._replace(shared=True)
        unwritten = all(world[cell] is None or world[cell].zero_page for cell in ptes)
        return puts(world, (mine, pte), (theirs, None if unwritten else pte), (their_gone, world[gone])), None

    return Op(f"fork: copy page {page}", perform, reads=(gone, *ptes), writes=(mine, theirs, their_gone))


@cache
def copy_library(t: Task) -> Op:
    """The library's own memory is copied like any other, at its own moment."""
    assert t.mm == PARENT, "the model has one child"
    pairs = [(t.m.cell(t.mm, *key), t.m.cell(CHILD, *key)) for key in t.m.of_library(t.mm)]

    def perform(world: World) -> tuple[World, None]:
        return puts(world, *((theirs, world[mine]) for mine, theirs in pairs)), None

    return Op(
        "fork: copy the library's memory",
        perform,
        reads=[mine for mine, _ in pairs],
        writes=[theirs for _, theirs in pairs],
    )


@cache
def end_fork(t: Task, inherited: Any) -> Op:
    """The child exists, unregistered, and begins with what the forking thread had in its locals."""
    forking, born = t.cell("forking"), t.m.cell("born")
    registered, mapped = t.m.cell(CHILD, "registered"), t.m.cell(CHILD, "mapped")
    return Op(
        "fork: the child runs",
        lambda world: (
            puts(world, (forking, False), (born, (inherited,)), (registered, False), (mapped, True)),
            None,
        ),
        writes=(forking, born, registered, mapped),
    )


@cache
def wait_to_be_born(t: Task) -> Op:
    """The child's first step: what it inherits."""
    born = t.m.cell("born")
    return Op(
        "begin",
        lambda world: (world, world[born][0]),
        reads=(born,),
        ready=lambda world: world[born] is not None,
    )
