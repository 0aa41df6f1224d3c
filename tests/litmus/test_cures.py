"""Each remark of the review switched alone: what it cures in the posted patch, and what the fix cannot do without."""

import pytest

from mvolatile.model.variants import FIXED, POSTED, VARIANTS, single_changes, single_reverts

from .searching import violated

CURES = {
    "purged_check": {"marker_check_torn_high_memory"},
    "vma_flag_lock": {
        "unmark_against_purge",
        "split_against_purge",
        "parent_and_child_and_kswapd",
        "two_threads_and_kswapd",
        "secondary_mapping_outlives",
    },
    "purge_rechecks_flags": {
        "unmark_against_purge",
        "split_against_purge",
        "parent_and_child_and_kswapd",
        "two_threads_and_kswapd",
        "mlock_against_purge",
    },
    "sharers_first": {"purge_stops_half_way"},
    "only_mappers_count": {"unmapped_sharer_starves"},
    "swap_sharers_count": {"sharer_in_swap"},
    "locked_is_refusal": {"mlock_against_purge"},
    "failed_purge": {"shared_page_starves", "unmapped_sharer_starves"},
    "referenced_returns_early": set(),
    "notify_before_clear": set(),
    "call": {
        "mark_next_to_volatile",
        "mark_up_to_volatile",
        "unmark_past_the_last_vma",
        "bad_pointer_on_return",
    },
    "merge_result": {"mark_next_to_volatile", "mark_up_to_volatile"},
    "mincore_knows_marker": {"mincore_of_a_purged_page"},
}
"""By switch: the races that hold when the posted patch has this one change."""

SICK = {
    "marker_check_torn_high_memory",
    "unmark_against_purge",
    "unmark_of_a_sharer_against_purge",
    "purge_stops_half_way",
    "shared_page_starves",
    "unmapped_sharer_starves",
    "sharer_in_swap",
    "mlock_against_purge",
    "split_against_purge",
    "secondary_mapping_outlives",
    "mark_next_to_volatile",
    "mark_up_to_volatile",
    "unmark_past_the_last_vma",
    "bad_pointer_on_return",
    "mincore_of_a_purged_page",
    "parent_and_child_and_kswapd",
    "two_threads_and_kswapd",
}

NEEDED = {
    "purged_check": {"marker_check_torn_high_memory"},
    "vma_flag_lock": {
        "unmark_against_purge",
        "unmark_of_a_sharer_against_purge",
        "secondary_mapping_outlives",
    },
    "sharers_first": {"purge_stops_half_way", "unmark_of_a_sharer_against_purge"},
    "swap_sharers_count": {"sharer_in_swap"},
    "locked_is_refusal": {"mlock_against_purge"},
    "failed_purge": {"shared_page_starves"},
    "call": {"unmark_past_the_last_vma", "bad_pointer_on_return"},
    "mincore_knows_marker": {"mincore_of_a_purged_page"},
}
"""By switch: races that come back when the fix goes without it. The switches that are not here cost time or swap
space when they are missing, but no property: see docs/patch-executed.md."""


@pytest.mark.slow
@pytest.mark.parametrize("switch", CURES)
def test_one_change(switch: str) -> None:
    variant = f"posted+{switch}"
    assert {race for race in SICK if not violated(race, variant)} == CURES[switch]


@pytest.mark.parametrize("switch", NEEDED)
def test_the_fix_without(switch: str) -> None:
    for race in NEEDED[switch]:
        assert violated(race, f"fixed-{switch}"), race


@pytest.mark.slow
@pytest.mark.parametrize("switch", ["only_mappers_count", "referenced_returns_early", "merge_result"])
def test_the_fix_can_do_without(switch: str) -> None:
    for race in SICK:
        assert not violated(race, f"fixed-{switch}"), race


def test_unmark_of_a_sharer_takes_two_changes() -> None:
    """Flags that stand still during the walk, and sharers asked before any is purged: neither is enough alone."""
    race = "unmark_of_a_sharer_against_purge"
    assert violated(race, "posted+vma_flag_lock") == {"all_sharers_or_none"}
    assert violated(race, "posted+sharers_first") == {"no_lost_report", "no_false_sigbus"}
    assert violated(race, "fixed") == set()


def test_early_notification_alone_cures_the_stale_secondary_mapping() -> None:
    assert "no_stale_secondary" in violated("secondary_mapping_outlives", "posted")
    assert "no_stale_secondary" not in violated("secondary_mapping_outlives", "posted+notify_before_clear")


def test_every_switch_of_the_fix_can_be_turned_alone() -> None:
    assert {variant.name for variant in (*single_changes(), *single_reverts())} < set(VARIANTS)
    differing = {name for name in CURES if getattr(FIXED, name) != getattr(POSTED, name)}
    assert {variant.name for variant in single_changes()} == {f"posted+{name}" for name in differing}
