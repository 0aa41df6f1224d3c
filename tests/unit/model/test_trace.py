import json
import xml.etree.ElementTree as ET

from mvolatile.model.drawing import html, svg, text
from mvolatile.model.generate import generated
from mvolatile.model.races import LITMUS
from mvolatile.model.trace import follow

RACE = LITMUS["purge_stops_half_way"]


def test_functions_are_the_kernels():
    events = follow(RACE, "posted", ["kswapd"] * 25)
    assert events[0].functions == ("reclaim", "shrink_inactive_list")
    assert events[4].functions[-2:] == ("page_check_references", "page_referenced")
    assert events[4].source == "mm/rmap.c"
    assert not any(name.startswith("_") for event in events for name in event.functions)


def test_it_ends_where_the_violation_is():
    events = follow(RACE, "posted", ["kswapd"] * 200)
    assert events[-1].wrong.startswith("all_sharers_or_none: ")
    assert all(event.wrong is None for event in events[:-1])


def test_drawings():
    events = follow(RACE, "posted", ["cpu0", *["kswapd"] * 200])
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


def test_a_generated_program_is_the_same_every_time():
    one, two = generated(5), generated(5)
    assert (one.question, one.config) == (two.question, two.config)
    assert len({generated(number).question for number in range(60)}) > 30
    json.dumps(one.question)
