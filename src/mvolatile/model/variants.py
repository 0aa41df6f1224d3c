"""The patch and its corrections, as data: a frozen record of switches, and the table of named variants."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True)
class Variant:
    """One version of the patch. Every switch defaults to what v13 does, so `Variant("posted")` is the mail."""

    name: str

    purged_check: str = "unlocked"
    """Where a fault looks for the purged marker: "unlocked" in `handle_pte_fault` (v13 4/4), or "pte_lock", in
    `do_swap_page` with `pte_same` under the pte lock (Minchan's remark, v14 4/4)."""

    clear_markers: bool = True
    """Unmark replaces purged markers by empty ptes (v13 3/4). False is v12, of which KOSAKI complained."""

    vma_flag_lock: str = "mmap_sem"
    """What guards a change of VM_VOLATILE, and of VM_LOCKED on a volatile VMA: "mmap_sem" alone (v13, v14), or
    "anon_vma": also the anon_vma lock, which the purge's walk holds for reading."""

    purge_rechecks_flags: bool = False
    """`try_to_purge_one` looks at VM_VOLATILE and VM_LOCKED again under the pte lock and leaves the pte alone if
    the VMA is no longer volatile: the smallest cure for unmark against purge, for one mapping."""

    sharers_first: bool = False
    """`try_to_purge_vpage` asks every sharer before it purges any; v13 and v14 purge as they walk."""

    only_mappers_count: bool = False
    """A VMA that does not map the page has no say in its purge. In v13 and v14 it has: `VM_VOLATILE` is tested
    before `page_check_address`."""

    swap_sharers_count: bool = False
    """A sharer that holds the page as a swap entry forbids the purge. In v13 and v14 it goes unnoticed."""

    locked_is_refusal: bool = False
    """A VM_LOCKED mapping refuses the purge; v13 and v14 have `BUG_ON`."""

    failed_purge: str = "keep"
    """What `shrink_page_list` does with a page that could not be purged: "keep" (v13, v14: the fall-through to
    PAGEREF_KEEP), or "reclaim": decide again as if it were not volatile."""

    referenced_returns_early: bool = True
    """`page_referenced_one` ends the walk at the first volatile VMA (v13, v14). False: it goes on, so that the
    references and the VM_LOCKED of the other sharers are seen."""

    notify_before_clear: bool = False
    """Secondary mappings go before the pte does, between `mmu_notifier_invalidate_range_start` and `_end`; v13
    and v14 call `mmu_notifier_invalidate_page` after the pte lock is dropped."""

    call: str = "v13"
    """The call itself: "v13", a loop over VMAs with partial counts; "v14", three passes, all or nothing;
    "checked", v14 which also refuses a range that runs past the last VMA, and leaves all as it is for an empty one."""

    merge_result: str = "stale"
    """Which VMA gets the new flags after `vma_merge`: "stale", the one from before, which the merge may have
    freed or cut short (v13); or "merged", the one it returned (v14)."""

    mincore_knows_marker: bool = False
    """`mincore` answers for a purged marker; in 3.14, which v13 and v14 leave as it is, it indexes out of bounds."""


POSTED = Variant("posted")
V14 = Variant("v14", purged_check="pte_lock", call="v14", merge_result="merged")
FIXED = Variant(
    "fixed",
    purged_check="pte_lock",
    vma_flag_lock="anon_vma",
    sharers_first=True,
    only_mappers_count=True,
    swap_sharers_count=True,
    locked_is_refusal=True,
    failed_purge="reclaim",
    referenced_returns_early=False,
    call="checked",
    mincore_knows_marker=True,
    merge_result="merged",
)


def single_changes() -> tuple[Variant, ...]:
    """`posted` with each of `fixed`'s switches turned alone, named ``posted+switch``."""
    return tuple(
        replace(POSTED, name=f"posted+{field.name}", **{field.name: getattr(FIXED, field.name)})
        for field in fields(Variant)
        if field.name != "name" and getattr(FIXED, field.name) != getattr(POSTED, field.name)
    )


def single_reverts() -> tuple[Variant, ...]:
    """`fixed` with each of its switches turned back alone, named ``fixed-switch``: shows what needs which."""
    return tuple(
        replace(FIXED, name=f"fixed-{field.name}", **{field.name: getattr(POSTED, field.name)})
        for field in fields(Variant)
        if field.name != "name" and getattr(FIXED, field.name) != getattr(POSTED, field.name)
    )


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        POSTED,
        replace(POSTED, name="v12", clear_markers=False),
        V14,
        replace(POSTED, name="posted+purge_rechecks_flags", purge_rechecks_flags=True),
        replace(POSTED, name="posted+notify_before_clear", notify_before_clear=True),
        *single_changes(),
        *single_reverts(),
        FIXED,
    )
}
"""Every named variant: `posted`, `v12`, `v14`, `fixed`, and the single changes between posted and fixed."""
