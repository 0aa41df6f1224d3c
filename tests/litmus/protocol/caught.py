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
    Caught("check_then_pin", "pin vs reclaim", "no_lost_report", "a*3 reclaim0 a*6"),
    Caught("forget_repair", "two peeks", "peek_reads_whole", "reclaim1 a*19"),
    Caught("validate_first", "write pin vs peek", "peek_reads_whole", "b*8 a*13 b*3"),
    Caught("map_before_count", "two peeks", "peek_reads_whole", "reclaim0 a*10 b*11"),
    Caught(
        "note_before_zero", "rebuilt inside a peek, then pinned", "no_false_loss", "reclaim0 b*6 a*38 b*22"
    ),
    Caught(
        "fold_bits_first",
        "two peeks and a pin",
        "no_lost_report",
        "c*2 reclaim1 a*5 b*5 a*14 reclaim0 b*2 c*2 b*5 c*4 b*7 c*11 a*6 b a b*4 c b*2 c*2",
    ),
    Caught("fold_announces_late", "two peeks and a pin", "peek_reads_whole", "reclaim1 a*18 c*3 a*3"),
    Caught("changes_before_notes", "two peeks and a pin", "peek_reads_whole", "reclaim1 a*19 c*5 a*2"),
    Caught("watch_before_filling", "first write vs peek", "no_false_loss", "a*16 b*29"),
    Caught("unwatch_part", "write, then pin, large", "no_lost_report", "reclaim0 a*32 reclaim1 a*6"),
    Caught(
        "settle_forgets_notes",
        "rebuilt inside a peek, then pinned",
        "no_false_loss",
        "b*5 reclaim0 a*13 b*14 a*23 b*10",
    ),
    Caught("probe_announces_late", "pin vs peek, no pagemap", "peek_reads_whole", "reclaim0 a*6 b*11"),
    Caught("fork_lets_traps_in", "fork vs peek", "no_lost_report", "reclaim0 a*12 forker*10 child*19"),
    Caught("fork_without_gate", "fork vs pin", "deadlock", "a*17 reclaim0 reclaim1 forker*14 a*2 child*9"),
    Caught(
        "child_unwatched", "fork inside a peek", "no_lost_report", "forker*17 child*16 reclaim-child1 child*7"
    ),
    Caught(
        "child_keeps_traps",
        "fork vs peek",
        "deadlock",
        "forker*4 reclaim1 a*9 reclaim0 forker*11 a*25 child*12",
    ),
    Caught(
        "fallback_unannounced",
        "fork inside a peek, falling back",
        "no_silent_zeros",
        "forker*17 child*11 reclaim-child1 child*5",
    ),
    Caught("plain_pin_peek", "write pin vs peek, faultcount", "peek_reads_whole", "a*12 b*7"),
    Caught(
        "count_faults_late",
        "pin vs reclaim and a signal, faultcount",
        "no_lost_report",
        "a*4 reclaim0 signal a*13",
    ),
    Caught("close_before_looking", "close vs peek", "no_stray_sigbus", "a*7 b*5 reclaim0 a*5"),
    Caught("close_ignores_traps", "close vs trap", "no_foreign_repair", "reclaim0 a*5 b*12 a"),
    Caught("announce_after_settling", "pin vs peek", "peek_reads_whole", "reclaim0 a*12 b*11"),
    Caught("writers_unannounced", "write vs peek", "peek_reads_whole", "b*3 a*9 b*8"),
    Caught("touch_believed_early", "pin by touch vs peek", "no_lost_report", "reclaim0 b*11 a*11"),
    Caught(
        "settle_leaves_repaired",
        "read, then pin by touch",
        "no_stray_sigbus",
        "a*3 reclaim0 reclaim1 a*63 reclaim0 a",
    ),
    Caught("never_written_unfilled", "fork of what was never written", "no_false_loss", "forker*17 child*46"),
]
