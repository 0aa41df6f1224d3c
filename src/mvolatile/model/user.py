"""What a program does: loads, stores, system calls that touch memory, pins by other subsystems, a secondary MMU."""

from __future__ import annotations

from functools import cache

from .memory import (
    FAULT_FLAG_ALLOW_RETRY,
    FAULT_FLAG_WRITE,
    VM_FAULT_LOST,
    VM_FAULT_NO_FRAME,
    VM_FAULT_OOM,
    VM_FAULT_RETRY,
    VM_FAULT_SIGBUS,
    handle_pte_fault,
)
from .mmu_notifier import map_secondary, mmu_notifier_seq
from .page import page_cache_release
from .pgtable import pte_pfn, pte_present, pte_write
from .ptes import pte_under_lock, sigbus, touch
from .state import FALSE_OOM, ZERO_PAGE, Kernel, World
from .steps import Op, Steps, down_read, pte_unmap_unlock, put, puts, spin_lock, up_read
from .vma import find_vma

SIGBUS = "SIGBUS"
SIGSEGV = "SIGSEGV"
EFAULT = "EFAULT"
OOM = "OOM"


@cache
def out_of_memory(k: Kernel, mm: int, address: int) -> Op:
    """Ghost: VM_FAULT_OOM, and nothing that was asked for was refused."""
    wrong = k.wrong(mm, address)
    return Op(
        f"VM_FAULT_OOM (mm{mm} page {address})",
        lambda world: (put(world, wrong, world[wrong] | FALSE_OOM), None),
        writes=(wrong,),
    )


def handle_mm_fault(k: Kernel, mm: int, address: int, *, write: bool, allow_retry: bool) -> Steps[int]:
    """`handle_mm_fault()`, `mmap_sem` held for reading; it is dropped if VM_FAULT_RETRY comes back."""
    vma = yield find_vma(k, mm, address)
    if vma is None or address < vma.start:
        return VM_FAULT_SIGBUS | VM_FAULT_OOM
    flags = (FAULT_FLAG_WRITE if write else 0) | (FAULT_FLAG_ALLOW_RETRY if allow_retry else 0)
    ret = yield from handle_pte_fault(k, vma, address, flags)
    if ret & VM_FAULT_OOM and not ret & VM_FAULT_NO_FRAME:
        yield out_of_memory(k, mm, address)
    return ret


def do_page_fault(k: Kernel, mm: int, address: int, write: bool) -> Steps[int]:
    """`__do_page_fault()` (arch/x86/mm/fault.c): the fault handler's answer. It retries once, and then waits."""
    for allow_retry in (True, False):
        yield down_read(k, mm)
        ret = yield from handle_mm_fault(k, mm, address, write=write, allow_retry=allow_retry)
        if not ret & VM_FAULT_RETRY:
            break
    yield up_read(k, mm)
    return ret


def _access(k: Kernel, mm: int, address: int, value: int | None, in_kernel: bool) -> Steps[int | str]:
    while True:
        done, found = yield touch(k, mm, address, value)
        if done:
            return int(found)
        del done, found
        ret = yield from do_page_fault(k, mm, address, value is not None)
        if ret & VM_FAULT_OOM:
            return SIGSEGV if ret & VM_FAULT_SIGBUS else OOM
        if ret & VM_FAULT_SIGBUS:
            yield sigbus(k, mm, address, bool(ret & VM_FAULT_LOST))
            return EFAULT if in_kernel else SIGBUS
        del ret


def load(k: Kernel, mm: int, address: int) -> Steps[int | str]:
    """A load: the value, or SIGBUS, or SIGSEGV."""
    return (yield from _access(k, mm, address, None, False))


def store(k: Kernel, mm: int, address: int, value: int) -> Steps[int | str]:
    """A store: the value, or SIGBUS, or SIGSEGV."""
    return (yield from _access(k, mm, address, value, False))


def copy_from_user(k: Kernel, mm: int, address: int) -> Steps[int | str]:
    """A system call reads the program's memory: the value, or EFAULT where the program would get SIGBUS."""
    return (yield from _access(k, mm, address, None, True))


def copy_to_user(k: Kernel, mm: int, address: int, value: int) -> Steps[int | str]:
    """A system call writes to the program's memory."""
    return (yield from _access(k, mm, address, value, True))


@cache
def pin(k: Kernel, page: int, by: int) -> Op:
    """`get_page()` or `put_page()` for the page that `get_user_pages` hands out, and a note of it."""
    count, pins = k.count(page), k.pins(page)
    return Op(
        f"{'get' if by > 0 else 'give back'} a pin on page {page}",
        lambda world: (puts(world, (count, world[count] + by), (pins, world[pins] + by)), None),
        writes=(count, pins),
    )


def get_user_pages(k: Kernel, mm: int, address: int, write: bool = True) -> Steps[int]:
    """`get_user_pages()`: the page with a reference taken under the pte lock, faulted in if need be; 0 on failure.

    `mmap_sem` is held for reading throughout, so its faults may not retry.
    """
    yield down_read(k, mm)
    ret = 0
    while not ret & (VM_FAULT_SIGBUS | VM_FAULT_OOM):
        yield spin_lock(k, mm)
        pte = yield pte_under_lock(k, mm, address)
        page = k.page(pte_pfn(pte)) if pte_present(pte) and (pte_write(pte) or not write) else ZERO_PAGE
        if page != ZERO_PAGE:
            yield pin(k, page, 1)
        yield pte_unmap_unlock(k, mm)
        if page != ZERO_PAGE:
            yield up_read(k, mm)
            return page
        del page, pte
        ret = yield from handle_mm_fault(k, mm, address, write=write, allow_retry=False)
    yield up_read(k, mm)
    return 0


@cache
def forget_pin(k: Kernel, page: int) -> Op:
    """Ghost: the reference that `get_user_pages` gave is about to be dropped."""
    pins = k.pins(page)

    def perform(world: World) -> tuple[World, None]:
        return puts(world, (pins, world[pins] - 1)), None

    return Op(f"drop the pin on page {page}", perform, writes=(pins,))


def put_user_page(k: Kernel, page: int) -> Steps[None]:
    """`put_page()` on what `get_user_pages` gave."""
    yield forget_pin(k, page)
    yield page_cache_release(k, page)


def map_in_secondary(k: Kernel, mm: int, address: int) -> Steps[int]:
    """A fault of the secondary MMU, as KVM handles it: sequence, get_user_pages, map unless invalidated, put.

    The page it mapped, or 0.
    """
    seq = yield mmu_notifier_seq(k, mm)
    page = yield from get_user_pages(k, mm, address)
    if not page:
        return 0
    mapped = yield map_secondary(k, mm, address, page, seq)
    yield from put_user_page(k, page)
    return page if mapped else 0
