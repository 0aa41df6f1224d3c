import json
import xml.etree.ElementTree as ET

from mvolatile.model.drawing import html, svg, text
from mvolatile.model.generate import generated
from mvolatile.model.races import LITMUS
from mvolatile.model.trace import follow

RACE = LITMUS["purge_stops_half_way"]


def test_functions_are_the_kernels() -> None:
    events = follow(RACE, "posted", ["kswapd"] * 25)
    assert events[0].functions == ("reclaim", "shrink_inactive_list")
    assert events[4].functions[-2:] == ("page_check_references", "page_referenced")
    assert events[4].source == "mm/rmap.c"
    assert not any(name.startswith("_") for event in events for name in event.functions)


def test_each_violation_is_told_where_it_shows_first() -> None:
    """The loss is not reported; the schedule goes on, to the SIGBUS."""
    schedule = ["kswapd"] * 29 + ["cpu0"] * 11 + ["kswapd"] * 11 + ["cpu0"] * 7
    events = follow(LITMUS["unmark_against_purge"], "posted", schedule)
    assert len(events) == len(schedule)
    wrong = {number: event.wrong.partition(":")[0] for number, event in enumerate(events, 1) if event.wrong}
    assert wrong == {52: "no_lost_report", 58: "no_false_sigbus"}


def test_after_a_crash_the_others_go_on() -> None:
    schedule = ["kswapd"] * 16 + ["cpu0"] * 3 + ["kswapd"] * 17 + ["cpu0"] * 2
    events = follow(LITMUS["mlock_against_purge"], "posted", schedule)
    assert [event.wrong is not None for event in events] == [False] * 35 + [True, False, False]


def test_drawings() -> None:
    events = follow(RACE, "posted", ["cpu0", *["kswapd"] * 44])
    cpus = list(RACE.threads)
    drawn = text(events, cpus)
    assert drawn.splitlines()[0].split() == cpus
    assert "try_to_purge_one():" in drawn
    assert "[mm0 page 0: none -> purged]" in drawn
    picture = ET.fromstring(svg(events, cpus, "a <title>"))
    assert picture.tag.endswith("svg")
    assert "all_sharers_or_none" in "".join(picture.itertext())
    page = html(events, cpus, "title", RACE.question, "posted/purge_stops_half_way: kswapd*3")
    assert "mvolatile model replay 'posted/purge_stops_half_way: kswapd*3'" in page


def test_a_generated_program_is_the_same_every_time() -> None:
    one, two = generated(5), generated(5)
    assert (one.question, one.config) == (two.question, two.config)
    assert len({generated(number).question for number in range(60)}) > 30
    json.dumps(one.question)
