"""Operations: the atomic steps of the model, and the locks.

A kernel function is a generator. Every `yield` hands over one `Op`, and is answered with the op's result. Between
two yields nothing happens to the world. What one op does at once is what no other thread could have told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import cache
from typing import Any, TypeAlias, TypeVar

from .state import Kernel, KernelBug, World

T = TypeVar("T")
Steps: TypeAlias = Generator["Op", Any, T]
"""A kernel function that returns a `T`."""


def _always(world: World) -> bool:
    return True


class Op:
    """One atomic step: a label, the cells it reads and writes, whether it can go now, and what it does.

    `footprint(world)`, if given, tells reads and writes more exactly than `reads` and `writes`.
    """

    __slots__ = ("footprint", "label", "perform", "reads", "ready", "writes")

    def __init__(
        self,
        label: str,
        perform: Callable[[World], tuple[World, Any]],
        *,
        reads: Iterable[int] = (),
        writes: Iterable[int] = (),
        ready: Callable[[World], bool] = _always,
        footprint: Callable[[World], tuple[frozenset[int], frozenset[int]]] | None = None,
    ) -> None:
        self.label = label
        self.perform = perform
        self.writes = frozenset(writes)
        self.reads = frozenset(reads) | self.writes
        self.ready = ready
        self.footprint = footprint

    def __repr__(self) -> str:
        return f"Op({self.label})"


def put(world: World, cell: int, value: Any) -> World:
    """The world with one cell changed."""
    return (*world[:cell], value, *world[cell + 1 :])


def puts(world: World, *changes: tuple[int, Any]) -> World:
    """The world with several cells changed."""
    cells = list(world)
    for cell, value in changes:
        cells[cell] = value
    return tuple(cells)


def read(label: str, cell: int) -> Op:
    """An op that reads one cell."""
    return Op(label, lambda world: (world, world[cell]), reads=(cell,))


def _lock(label: str, cell: int) -> Op:
    return Op(
        label,
        lambda world: (put(world, cell, 1), None),
        writes=(cell,),
        ready=lambda world: world[cell] == 0,
    )


def _unlock(label: str, cell: int) -> Op:
    def perform(world: World) -> tuple[World, None]:
        if not world[cell]:
            raise KernelBug(f"{label}: it is not locked")
        return put(world, cell, 0), None

    return Op(label, perform, writes=(cell,))


def _trylock(label: str, cell: int) -> Op:
    return Op(
        label,
        lambda world: (world, False) if world[cell] else (put(world, cell, 1), True),
        writes=(cell,),
    )


@cache
def spin_lock(k: Kernel, mm: int) -> Op:
    """spin_lock(ptl)."""
    return _lock(f"spin_lock(ptl of mm{mm})", k.ptl(mm))


@cache
def pte_unmap_unlock(k: Kernel, mm: int) -> Op:
    """pte_unmap_unlock(pte, ptl)."""
    return _unlock(f"pte_unmap_unlock(ptl of mm{mm})", k.ptl(mm))


@cache
def lock_page(k: Kernel, page: int) -> Op:
    """lock_page(): waits."""
    return _lock(f"lock_page(page {page})", k.page_lock(page))


@cache
def trylock_page(k: Kernel, page: int) -> Op:
    """trylock_page(): True if it got the lock."""
    return _trylock(f"trylock_page(page {page})", k.page_lock(page))


@cache
def unlock_page(k: Kernel, page: int) -> Op:
    """unlock_page()."""
    return _unlock(f"unlock_page(page {page})", k.page_lock(page))


@cache
def wait_on_page_locked(k: Kernel, page: int) -> Op:
    """wait_on_page_locked(): until nobody holds the page's lock."""
    cell = k.page_lock(page)
    return Op(
        f"wait_on_page_locked(page {page})",
        lambda world: (world, None),
        reads=(cell,),
        ready=lambda world: world[cell] == 0,
    )


def _down_read(label: str, cell: int) -> Op:
    return Op(
        label,
        lambda world: (put(world, cell, world[cell] + 1), None),
        writes=(cell,),
        ready=lambda world: world[cell] >= 0,
    )


def _up_read(label: str, cell: int) -> Op:
    return Op(label, lambda world: (put(world, cell, world[cell] - 1), None), writes=(cell,))


def _down_write(label: str, cell: int) -> Op:
    return Op(
        label,
        lambda world: (put(world, cell, -1), None),
        writes=(cell,),
        ready=lambda world: world[cell] == 0,
    )


def _up_write(label: str, cell: int) -> Op:
    return Op(label, lambda world: (put(world, cell, 0), None), writes=(cell,))


@cache
def down_read(k: Kernel, mm: int) -> Op:
    """down_read(&mm->mmap_sem). A waiting writer does not hold up readers here, which only adds schedules."""
    return _down_read(f"down_read(mmap_sem of mm{mm})", k.mmap_sem(mm))


@cache
def up_read(k: Kernel, mm: int) -> Op:
    """up_read(&mm->mmap_sem)."""
    return _up_read(f"up_read(mmap_sem of mm{mm})", k.mmap_sem(mm))


@cache
def down_read_trylock(k: Kernel, mm: int) -> Op:
    """down_read_trylock(&mm->mmap_sem)."""
    cell = k.mmap_sem(mm)
    return Op(
        f"down_read_trylock(mmap_sem of mm{mm})",
        lambda world: (put(world, cell, world[cell] + 1), True) if world[cell] >= 0 else (world, False),
        writes=(cell,),
    )


@cache
def down_write(k: Kernel, mm: int) -> Op:
    """down_write(&mm->mmap_sem)."""
    return _down_write(f"down_write(mmap_sem of mm{mm})", k.mmap_sem(mm))


@cache
def up_write(k: Kernel, mm: int) -> Op:
    """up_write(&mm->mmap_sem)."""
    return _up_write(f"up_write(mmap_sem of mm{mm})", k.mmap_sem(mm))


@cache
def anon_vma_trylock_read(k: Kernel, root: int) -> Op:
    """down_read_trylock(&root_anon_vma->rwsem)."""
    cell = k.rwsem(root)
    return Op(
        f"down_read_trylock(anon_vma{root})",
        lambda world: (put(world, cell, world[cell] + 1), True) if world[cell] >= 0 else (world, False),
        writes=(cell,),
    )


@cache
def anon_vma_lock_read(k: Kernel, root: int) -> Op:
    """anon_vma_lock_read(): down_read(&anon_vma->root->rwsem)."""
    return _down_read(f"anon_vma_lock_read(anon_vma{root})", k.rwsem(root))


@cache
def anon_vma_unlock_read(k: Kernel, root: int) -> Op:
    """anon_vma_unlock_read(), page_unlock_anon_vma_read()."""
    return _up_read(f"anon_vma_unlock_read(anon_vma{root})", k.rwsem(root))


@cache
def anon_vma_lock_write(k: Kernel, root: int) -> Op:
    """anon_vma_lock_write()."""
    return _down_write(f"anon_vma_lock_write(anon_vma{root})", k.rwsem(root))


@cache
def anon_vma_unlock_write(k: Kernel, root: int) -> Op:
    """anon_vma_unlock_write()."""
    return _up_write(f"anon_vma_unlock_write(anon_vma{root})", k.rwsem(root))


def run(world: World, steps: Steps[T], limit: int = 100_000) -> tuple[World, T]:
    """Run a kernel function alone to its end; `RuntimeError` if it blocks, which alone means for ever."""
    answer = None
    for _ in range(limit):
        try:
            op = steps.send(answer)
        except StopIteration as end:
            return world, end.value
        if not op.ready(world):
            raise RuntimeError(f"blocked for ever at {op.label}")
        world, answer = op.perform(world)
    raise RuntimeError(f"no end after {limit} steps")
