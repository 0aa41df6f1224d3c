"""Steps on VMAs and their anon_vma chains (mm/mmap.c, the upper half of mm/rmap.c).

VMAs change under `mmap_sem` held for writing; what reclaim sees of them without it (extents through the anon_vma's
interval tree, `vm_flags`) changes in steps of its own, under the anon_vma's lock where the kernel takes it.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from .state import Kernel, KernelBug, World
from .steps import Op, put, puts, read


class VmArea(NamedTuple):
    """What stands still in a VMA while `mmap_sem` is held, if only for reading."""

    vma: int
    mm: int
    start: int
    end: int
    pgoff: int
    flags: int


class Vma(NamedTuple):
    """A VMA as one sees it who holds `mmap_sem` for writing; a fault may give it an anon_vma otherwise."""

    vma: int
    mm: int
    start: int
    end: int
    pgoff: int
    flags: int
    anon_vma: int
    chain: tuple[int, ...]

    @property
    def area(self) -> VmArea:
        """Without the anon_vma."""
        return VmArea(*self[:6])


def vm_area_of(k: Kernel, world: World, vma: int) -> VmArea:
    """The VMA as it stands; `KernelBug` if the structure is free."""
    extent = world[k.extent(vma)]
    if extent is None:
        raise KernelBug(f"use after free: vma{vma} is read after it was freed")
    mm, start, end, pgoff = extent
    return VmArea(vma, mm, start, end, pgoff, world[k.vm_flags(vma)])


def vma_of(k: Kernel, world: World, vma: int) -> Vma:
    """The same, and its anon_vma."""
    return Vma(*vm_area_of(k, world, vma), world[k.anon_vma(vma)], world[k.chain(vma)])


@cache
def find_vma(k: Kernel, mm: int, address: int) -> Op:
    """`find_vma()`: the first VMA that ends after the address, or None."""
    cell = k.mmap(mm)

    def perform(world: World) -> tuple[World, VmArea | None]:
        for vma in world[cell]:
            found = vm_area_of(k, world, vma)
            if found.end > address:
                return world, found
        return world, None

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        return frozenset(
            (cell, *(at for vma in world[cell] for at in (k.extent(vma), k.vm_flags(vma))))
        ), frozenset()

    return Op(f"find_vma(mm{mm} page {address})", perform, footprint=footprint)


def _cells_of(k: Kernel, vma: int) -> tuple[int, ...]:
    return k.extent(vma), k.vm_flags(vma), k.anon_vma(vma), k.chain(vma)


@cache
def look_at_vma(k: Kernel, vma: int) -> Op:
    """The fields of one VMA, `mmap_sem` held."""
    return Op(f"read vma{vma}", lambda world: (world, vma_of(k, world, vma)), reads=_cells_of(k, vma))


@cache
def look_at_vmas(k: Kernel, mm: int) -> Op:
    """The list of VMAs, in the order of addresses, `mmap_sem` held."""
    cell = k.mmap(mm)

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        return frozenset((cell, *(at for vma in world[cell] for at in _cells_of(k, vma)))), frozenset()

    return Op(
        f"read mmap of mm{mm}",
        lambda world: (world, tuple(vma_of(k, world, vma) for vma in world[cell])),
        footprint=footprint,
    )


@cache
def read_vm_flags(k: Kernel, vma: int) -> Op:
    """``vma->vm_flags``, unlocked when reclaim reads it."""
    return read(f"vm_flags of vma{vma}", k.vm_flags(vma))


@cache
def write_vm_flags(k: Kernel, vma: int, flags: int) -> Op:
    """``vma->vm_flags = flags``; a write to a freed structure is a kernel bug."""
    cell = k.vm_flags(vma)

    def perform(world: World) -> tuple[World, None]:
        if world[k.extent(vma)] is None:
            raise KernelBug(f"use after free: vma{vma}->vm_flags is written after vma_merge freed vma{vma}")
        return put(world, cell, flags), None

    return Op(f"vma{vma}->vm_flags = {flags:#x}", perform, reads=(k.extent(vma),), writes=(cell,))


@cache
def new_vma(k: Kernel, mm: int, start: int, end: int, pgoff: int, flags: int) -> Op:
    """A fresh `vm_area_struct`, in no list yet; -1 (ENOMEM) if there is none left."""

    def perform(world: World) -> tuple[World, int]:
        for vma in range(k.config.vmas):
            if world[k.extent(vma)] is None:
                return (
                    puts(
                        world,
                        (k.extent(vma), (mm, start, end, pgoff)),
                        (k.vm_flags(vma), flags),
                        (k.anon_vma(vma), -1),
                        (k.chain(vma), ()),
                    ),
                    vma,
                )
        return world, -1

    cells = [
        cell
        for vma in range(k.config.vmas)
        for cell in (k.extent(vma), k.vm_flags(vma), k.anon_vma(vma), k.chain(vma))
    ]
    return Op("kmem_cache_alloc(vm_area_cachep)", perform, writes=cells)


@cache
def free_vma(k: Kernel, vma: int) -> Op:
    """`kmem_cache_free(vm_area_cachep, vma)`."""
    return Op(
        f"kmem_cache_free(vma{vma})",
        lambda world: (puts(world, (k.extent(vma), None), (k.anon_vma(vma), -1), (k.chain(vma), ())), None),
        writes=(k.extent(vma), k.anon_vma(vma), k.chain(vma)),
    )


@cache
def link_vma(k: Kernel, mm: int, vma: int) -> Op:
    """`vma_link()`, `__vma_unlink()`'s opposite: into the list, by address."""
    cell = k.mmap(mm)

    def perform(world: World) -> tuple[World, None]:
        vmas = (*world[cell], vma)
        return put(world, cell, tuple(sorted(vmas, key=lambda other: world[k.extent(other)][1]))), None

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        vmas = (*world[cell], vma)
        return frozenset((cell, *(k.extent(other) for other in vmas))), frozenset((cell,))

    return Op(f"vma_link(mm{mm} vma{vma})", perform, footprint=footprint)


@cache
def unlink_vma(k: Kernel, mm: int, vma: int) -> Op:
    """`__vma_unlink()`."""
    cell = k.mmap(mm)
    return Op(
        f"vma_unlink(mm{mm} vma{vma})",
        lambda world: (put(world, cell, tuple(other for other in world[cell] if other != vma)), None),
        writes=(cell,),
    )


# anon_vmas


@cache
def anon_vma_prepare(k: Kernel, vma: int) -> Op:
    """`anon_vma_prepare()`: gives the VMA an anon_vma if it has none; False if there is none left."""
    cells = [
        k.anon_vma(vma),
        k.chain(vma),
        *(cell for at in range(k.config.anon_vmas) for cell in (k.root(at), k.tree(at))),
    ]

    def perform(world: World) -> tuple[World, bool]:
        if world[k.anon_vma(vma)] >= 0:
            return world, True
        for anon_vma in range(k.config.anon_vmas):
            if world[k.root(anon_vma)] < 0:
                return (
                    puts(
                        world,
                        (k.root(anon_vma), anon_vma),
                        (k.tree(anon_vma), (vma,)),
                        (k.anon_vma(vma), anon_vma),
                        (k.chain(vma), (anon_vma,)),
                    ),
                    True,
                )
        return world, False

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        if world[k.anon_vma(vma)] >= 0:
            return frozenset((k.anon_vma(vma),)), frozenset()
        return frozenset(cells), frozenset(cells)

    return Op(f"anon_vma_prepare(vma{vma})", perform, footprint=footprint)


def _tree_with(k: Kernel, world: World, tree: tuple[int, ...], vma: int) -> tuple[int, ...]:
    """`anon_vma_interval_tree_insert()`: behind everything that does not begin after it."""
    pgoff = world[k.extent(vma)][3]
    at = sum(1 for other in tree if world[k.extent(other)][3] <= pgoff)
    return (*tree[:at], vma, *tree[at:])


@cache
def anon_vma_chain_link(k: Kernel, vma: int, anon_vma: int) -> Op:
    """`anon_vma_chain_link()`, the anon_vma locked for writing."""
    chain, tree = k.chain(vma), k.tree(anon_vma)

    def perform(world: World) -> tuple[World, None]:
        return (
            puts(
                world,
                (chain, (anon_vma, *world[chain])),
                (tree, _tree_with(k, world, world[tree], vma)),
            ),
            None,
        )

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        extents = (k.extent(other) for other in (*world[tree], vma))
        return frozenset((chain, tree, *extents)), frozenset((chain, tree))

    return Op(f"anon_vma_chain_link(vma{vma}, anon_vma{anon_vma})", perform, footprint=footprint)


@cache
def set_vma_anon_vma(k: Kernel, vma: int, anon_vma: int) -> Op:
    """``vma->anon_vma = anon_vma``."""
    cell = k.anon_vma(vma)
    return Op(
        f"vma{vma}->anon_vma = anon_vma{anon_vma}",
        lambda world: (put(world, cell, anon_vma), None),
        writes=(cell,),
    )


@cache
def anon_vma_alloc(k: Kernel, root: int) -> Op:
    """`anon_vma_alloc()` for a forked VMA, under its parent's root; `RuntimeError` if the machine is too small."""
    cells = [k.root(at) for at in range(k.config.anon_vmas)]

    def perform(world: World) -> tuple[World, int]:
        for at, cell in enumerate(cells):
            if world[cell] < 0:
                return put(world, cell, root), at
        raise RuntimeError(f"the program needs more than {len(cells)} anon_vmas: raise Config.anon_vmas")

    return Op("anon_vma_alloc", perform, writes=cells)


@cache
def read_root(k: Kernel, anon_vma: int) -> Op:
    """``anon_vma->root``."""
    return read(f"anon_vma{anon_vma}->root", k.root(anon_vma))


@cache
def unlink_anon_vmas(k: Kernel, vma: int, chain: tuple[int, ...]) -> Op:
    """`unlink_anon_vmas()`, the root locked for writing. An empty anon_vma is not used again."""

    def perform(world: World) -> tuple[World, None]:
        changes: list[tuple[int, Any]] = [(k.chain(vma), ()), (k.anon_vma(vma), -1)]
        changes += [(k.tree(at), tuple(other for other in world[k.tree(at)] if other != vma)) for at in chain]
        return puts(world, *changes), None

    return Op(
        f"unlink_anon_vmas(vma{vma})",
        perform,
        writes=(k.chain(vma), k.anon_vma(vma), *(k.tree(at) for at in chain)),
    )


@cache
def adjust_extents(
    k: Kernel, extents: tuple[tuple[int, tuple[int, int, int, int]], ...], trees: tuple[int, ...]
) -> Op:
    """The heart of `vma_adjust()`: new extents for some VMAs, which are taken out of their anon_vmas' interval trees
    and put back (`anon_vma_interval_tree_pre_update_vma`, `_post_update_vma`), behind their equals."""
    moved = [vma for vma, _ in extents]

    def perform(world: World) -> tuple[World, None]:
        after = puts(world, *((k.extent(vma), extent) for vma, extent in extents))
        for anon_vma in trees:
            tree = world[k.tree(anon_vma)]
            kept = tuple(vma for vma in tree if vma not in moved)
            for vma in moved:
                if vma in tree:
                    kept = _tree_with(k, after, kept, vma)
            after = put(after, k.tree(anon_vma), kept)
        return after, None

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        writes = frozenset((*(k.extent(vma) for vma in moved), *(k.tree(at) for at in trees)))
        return writes | {k.extent(vma) for at in trees for vma in world[k.tree(at)]}, writes

    what = ", ".join(f"vma{vma} [{extent[1]}, {extent[2]})" for vma, extent in extents)
    return Op(
        f"vma_adjust({what})",
        perform,
        footprint=footprint,
    )


def _is_freed(k: Kernel, world: World, anon_vma: int) -> bool:
    """No VMA is filed under it, and none under an anon_vma that has it for its root: `anon_vma_free()` has run."""
    return not any(
        world[k.tree(at)]
        for at in range(k.config.anon_vmas)
        if at == anon_vma or world[k.root(at)] == anon_vma
    )


def _lifeline(k: Kernel, world: World, anon_vma: int) -> tuple[int, ...]:
    """The cells that decide whether it is freed."""
    if world[k.tree(anon_vma)]:
        return (k.tree(anon_vma),)
    return tuple(cell for at in range(k.config.anon_vmas) for cell in (k.root(at), k.tree(at)))


@cache
def put_anon_vma(k: Kernel, anon_vma: int) -> Op:
    """``atomic_dec_and_test(&anon_vma->refcount)`` in `page_lock_anon_vma_read`: was this the last reference?"""
    return Op(
        f"put_anon_vma(anon_vma{anon_vma})",
        lambda world: (world, _is_freed(k, world, anon_vma)),
        footprint=lambda world: (frozenset(_lifeline(k, world, anon_vma)), frozenset()),
    )


class Sharer(NamedTuple):
    """A VMA that may map a page, as the interval tree gives it, with `vma_address()`."""

    vma: int
    mm: int
    address: int


@cache
def anon_vma_interval_tree(k: Kernel, anon_vma: int, page: int) -> Op:
    """`anon_vma_interval_tree_foreach(avc, root, pgoff, pgoff)`, all of it: the anon_vma's lock is held.

    To walk an anon_vma that was freed is a kernel bug, though here none is used a second time.
    """
    tree = k.tree(anon_vma)

    def perform(world: World) -> tuple[World, tuple[Sharer, ...]]:
        if _is_freed(k, world, anon_vma):
            raise KernelBug(f"use after free: anon_vma{anon_vma} is walked after it was freed")
        pgoff = world[k.index(page)]
        found = []
        for vma in world[tree]:
            mm, start, end, vm_pgoff = world[k.extent(vma)]
            if vm_pgoff <= pgoff < vm_pgoff + end - start:
                found.append(Sharer(vma, mm, start + pgoff - vm_pgoff))
        return world, tuple(found)

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        extents = (k.extent(vma) for vma in world[tree])
        return frozenset((*_lifeline(k, world, anon_vma), k.index(page), *extents)), frozenset()

    return Op(
        f"anon_vma_interval_tree_foreach(anon_vma{anon_vma}, page {page})",
        perform,
        footprint=footprint,
    )
