"""Each deliberate fault of the protocol, the race that forces it, what it violates, and a short schedule that does it.

The schedules are the shortest there are where a breadth-first search over 300,000 states could tell.
"""

from __future__ import annotations

from typing import NamedTuple


class Caught(NamedTuple):
    switch: str
    race: str
    violates: str
    schedule: str


CAUGHT = [
    Caught(
        switch="check_then_pin", race="pin vs reclaim", violates="no_lost_report", schedule="a*3 reclaim0 a*6"
    ),
    Caught(switch="forget_repair", race="two peeks", violates="peek_reads_whole", schedule="reclaim1 a*19"),
    Caught(
        switch="validate_first",
        race="write pin vs peek",
        violates="peek_reads_whole",
        schedule="b*8 a*13 b*3",
    ),
    Caught(
        switch="map_before_count",
        race="two peeks",
        violates="peek_reads_whole",
        schedule="reclaim0 a*10 b*11",
    ),
    Caught(
        switch="note_before_zero",
        race="rebuilt inside a peek, then pinned",
        violates="no_false_loss",
        schedule="reclaim0 b*6 a*39 b*22",
    ),
    Caught(
        switch="fold_bits_first",
        race="two peeks and a pin",
        violates="no_lost_report",
        schedule="c*2 reclaim1 a*5 b*5 a*14 reclaim0 b*2 c*2 b*5 c*4 b*7 c*12 a*6 b a b*4 c b*2 c*2",
    ),
    Caught(
        switch="fold_announces_late",
        race="two peeks and a pin",
        violates="peek_reads_whole",
        schedule="reclaim1 a*18 c*3 a*3",
    ),
    Caught(
        switch="changes_before_notes",
        race="two peeks and a pin",
        violates="peek_reads_whole",
        schedule="reclaim1 a*19 c*5 a*2",
    ),
    Caught(
        switch="watch_before_filling",
        race="first write vs peek",
        violates="no_false_loss",
        schedule="a*16 b*29",
    ),
    Caught(
        switch="unwatch_part",
        race="write, then pin, large",
        violates="no_lost_report",
        schedule="reclaim0 a*32 reclaim1 a*6",
    ),
    Caught(
        switch="settle_forgets_notes",
        race="rebuilt inside a peek, then pinned",
        violates="no_false_loss",
        schedule="b*5 reclaim0 a*13 b*14 a*24 b*10",
    ),
    Caught(
        switch="probe_announces_late",
        race="pin vs peek, no pagemap",
        violates="peek_reads_whole",
        schedule="reclaim0 a*6 b*11",
    ),
    Caught(
        switch="fork_lets_traps_in",
        race="fork vs peek",
        violates="no_lost_report",
        schedule="reclaim0 a*12 forker*10 child*20",
    ),
    Caught(
        switch="fork_without_gate",
        race="fork vs pin",
        violates="deadlock",
        schedule="a*7 forker*14 a*12 child*10 reclaim0 reclaim1",
    ),
    Caught(
        switch="child_unwatched",
        race="fork inside a peek",
        violates="no_lost_report",
        schedule="forker*17 child*16 reclaim-child1 child*7",
    ),
    Caught(
        switch="child_keeps_traps",
        race="fork vs peek",
        violates="deadlock",
        schedule="forker*4 reclaim1 a*9 reclaim0 forker*11 a*25 child*13",
    ),
    Caught(
        switch="fallback_unannounced",
        race="fork inside a peek, falling back",
        violates="no_silent_zeros",
        schedule="forker*17 child*12 reclaim-child1 child*5",
    ),
    Caught(
        switch="plain_pin_peek",
        race="write pin vs peek, faultcount",
        violates="peek_reads_whole",
        schedule="a*12 b*7",
    ),
    Caught(
        switch="blocked_reads_unheld",
        race="pin vs read, signal blocked",
        violates="no_stray_sigbus",
        schedule="reclaim0 b*6",
    ),
    Caught(
        switch="count_faults_late",
        race="pin vs reclaim and a signal, faultcount",
        violates="no_lost_report",
        schedule="a*4 reclaim0 signal a*13",
    ),
    Caught(
        switch="close_before_looking",
        race="close vs peek",
        violates="no_stray_sigbus",
        schedule="a*7 b*5 reclaim0 a*5",
    ),
    Caught(
        switch="close_ignores_traps",
        race="close vs trap",
        violates="no_foreign_repair",
        schedule="reclaim0 a*5 b*12 a",
    ),
    Caught(
        switch="announce_after_settling",
        race="pin vs peek",
        violates="peek_reads_whole",
        schedule="reclaim0 a*13 b*11",
    ),
    Caught(
        switch="writers_unannounced",
        race="write vs peek",
        violates="peek_reads_whole",
        schedule="b*3 a*9 b*8",
    ),
    Caught(
        switch="touch_believed_early",
        race="pin by touch vs peek",
        violates="no_lost_report",
        schedule="reclaim0 b*11 a*11",
    ),
    Caught(
        switch="settle_leaves_repaired",
        race="read, then pin by touch",
        violates="no_stray_sigbus",
        schedule="a*3 reclaim0 reclaim1 a*63 reclaim0 a",
    ),
    Caught(
        switch="fill_before_holding",
        race="read, then pin by touch",
        violates="no_stray_sigbus",
        schedule="a*3 reclaim0 reclaim1 a*54 reclaim0 a*15",
    ),
    Caught(
        switch="never_written_unfilled",
        race="fork of what was never written",
        violates="no_false_loss",
        schedule="forker*17 child*46",
    ),
    Caught(
        switch="identities_reused",
        race="write pin vs peek",
        violates="peek_reads_whole",
        schedule="a*13 b*17",
    ),
    Caught(
        switch="repair_interrupted",
        race="two peeks",
        violates="deadlock",
        schedule="a*7 reclaim1 b*16 reclaim0",
    ),
    Caught(
        switch="own_gate_waited_for",
        race="fork interrupted inside a peek",
        violates="deadlock",
        schedule="reclaim0 forker*17 reclaim1",
    ),
    Caught(
        switch="ended_unseen",
        race="peek vs a trap elsewhere, ioctl refused",
        violates="peek_reads_whole",
        schedule="a*9 b*6 a*4 b reclaim0 reclaim1 b*4 a*5 b",
    ),
    Caught(
        switch="ended_seen_last",
        race="peek vs a trap elsewhere, ioctl refused",
        violates="peek_reads_whole",
        schedule="a*9 b*6 a*4 b reclaim0 reclaim1 b*4 a*5 b*2",
    ),
    Caught(
        switch="ended_late",
        race="peek vs a trap elsewhere, ioctl refused",
        violates="peek_reads_whole",
        schedule="a b*7 reclaim1 b*4 a*13 b a*6 b",
    ),
    Caught(
        switch="ended_taken_back",
        race="peek vs a trap elsewhere, ioctl refused",
        violates="peek_reads_whole",
        schedule="a*10 b*6 a*4 b reclaim0 reclaim1 b*5 a*5 b",
    ),
    Caught(
        switch="begun_unwatched",
        race="peek vs a trap elsewhere, ioctl refused",
        violates="peek_reads_whole",
        schedule="a*11 b a*3 b a*4 b*3 reclaim1 b*7",
    ),
    Caught(
        switch="kept_in_use",
        race="store vs peek",
        violates="no_false_loss",
        schedule="reclaim0 reclaim1 a*31 b*8 a*9 b*12 a",
    ),
    Caught(
        switch="store_unrepaired",
        race="store",
        violates="no_stray_sigbus",
        schedule="a*20 reclaim1 a*5 reclaim0 a*6",
    ),
    Caught(
        switch="store_keeps_notes",
        race="store",
        violates="no_false_loss",
        schedule="a*20 reclaim1 a*5 reclaim0 a*43",
    ),
    Caught(
        switch="store_keeps_losses",
        race="store",
        violates="no_false_loss",
        schedule="a*20 reclaim1 a*34",
    ),
    Caught(
        switch="store_forgives_late",
        race="store",
        violates="no_lost_report",
        schedule="a*20 reclaim1 a*16 reclaim1 a*30",
    ),
    Caught(
        switch="linger_under_pin",
        race="lingering",
        violates="no_stray_sigbus",
        schedule="a*2 b a*16 b*3 reclaim0 b reclaim1 a",
    ),
    Caught(
        switch="linger_stale",
        race="lingering, stored",
        violates="no_stray_sigbus",
        schedule="a*26 b a*19 b a*14 b reclaim0 b*2 reclaim1 a",
    ),
]
