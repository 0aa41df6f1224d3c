"""The patched kernel, as an executable model: what the seed mail does, and what the kernel around it does.

The map, readable beside the mail and Linux 3.14:

    purge, mvolatile          mm/mvolatile.c: the purge (4/4), the call (2/4, 3/4)
    vmscan, rmap              reclaim: shrink_page_list, page_referenced, try_to_unmap
    memory, user              the fault path, and what programs do to meet it
    swap, page                slots and swap cache; frames, references, LRU lists
    mmap, vma, fork           VMAs, anon_vma chains, mlock, fork
    mmu_notifier              a secondary page table
    pgtable, ptes             the encoding of entries; steps on them
    state, steps              the machine's cells; atomic steps, locks, `run`
    variants, properties      the patch's versions as data; what must hold
    litmus, races, generate   programs to search
    trace, drawing            a schedule step by step, and drawn
    sequential                one call after the other, for those who compare

Kernel functions are generators: ``pte = yield pte_under_lock(k, mm, address)`` is one step, and other processors may
take theirs at every `yield`. `run` runs one alone; any explorer of interleavings can run several.
"""
