"""The race without a cgroup, which every machine can run; the real limit is in `tests/pressure`."""

from __future__ import annotations

from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from mvolatile.demo import imagery, race, walk
from mvolatile.demo.contenders import CONTENDERS, SHARED, WORKERS, Contender
from mvolatile.demo.outcome import End, Sample

pytest.importorskip("PIL", reason="needs the extra demo")

pytestmark = pytest.mark.xdist_group("race")
REQUESTS = 1500
MIB = 1 << 20
BY_NAME = {contender.name: contender for contender in CONTENDERS}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("race")
    imagery.build(where, ("etopo1",))
    with imagery.TileStore(where) as store:
        (where / "stream.bin").write_bytes(walk.stream(store.levels, REQUESTS, seed=1).tobytes())
    return where


def course(directory: Path, limit: int) -> race.Course:
    return race.Course(directory, REQUESTS, limit, neighbour=16 * MIB, in_cgroup=False)


def test_the_neighbour_comes_and_goes() -> None:
    plan = race.Course(Path(), 1000, 100 * MIB, neighbour=40 * MIB, in_cgroup=False)
    held = [plan.neighbour_at(requests) for requests in range(0, 1001)]
    arrives, gone = plan.neighbour_requests
    assert (arrives, gone) == (400, 660)
    assert not any(held[:arrives])
    assert not any(held[gone:])
    assert max(held) == 40 * MIB
    assert held[460:640] == [40 * MIB] * 180
    assert held[arrives:500] == sorted(held[arrives:500])


def test_a_server_serves_and_reports(directory: Path) -> None:
    seen: list[Sample] = []
    outcome = race.run(course(directory, 400 * MIB), BY_NAME["dict"], seen.append)
    assert outcome.said is None
    assert outcome.end is End.SERVED
    assert outcome.requests == REQUESTS == outcome.hits + outcome.built
    assert (outcome.wrong, outcome.rebuilt) == (0, 0)
    assert list(outcome.samples) == seen
    assert [sample.requests for sample in seen] == [*range(0, REQUESTS, 64), REQUESTS]
    assert max(sample.neighbour_bytes for sample in seen) > 16 * MIB
    assert seen[-1].cache_bytes > seen[0].cache_bytes + 20 * MIB
    assert all(sample.charged_bytes is None for sample in seen)


@pytest.mark.parametrize("contender", WORKERS, ids=lambda contender: contender.name)
def test_workers_share_the_stream(directory: Path, contender: Contender) -> None:
    seen: list[Sample] = []
    outcome = race.run(replace(course(directory, 600 * MIB), workers=3), contender, seen.append)
    assert outcome.said is None
    assert outcome.end is End.SERVED
    assert outcome.requests == REQUESTS == outcome.hits + outcome.built + outcome.rebuilt
    assert outcome.wrong == 0
    served = [sample.requests for sample in seen]
    assert served == sorted(served)
    assert served[-1] == REQUESTS
    stream = array("I", (directory / "stream.bin").read_bytes())
    once = len(set(stream)) if contender.name == SHARED else sum(len(set(stream[i::3])) for i in range(3))
    assert outcome.built == once, "what one has decoded all have, if they share it"


def test_workers_that_break_say_why(directory: Path) -> None:
    two = replace(course(directory, 400 * MIB), workers=2)
    outcome = race.run(two, Contender("abacus", "abacus"), lambda sample: None)
    assert outcome.end is End.FAILED
    assert outcome.said is not None
    assert "no contender 'abacus'" in outcome.said


def test_without_a_cgroup_workers_keep_to_their_parts(directory: Path) -> None:
    two = replace(course(directory, 150 * MIB), workers=2)
    outcome = race.run(two, WORKERS[1], lambda sample: None)
    assert (outcome.end, outcome.said, outcome.wrong) == (End.SERVED, None, 0)
    assert outcome.requests == REQUESTS


def test_without_a_cgroup_who_cannot_shed_is_ended(directory: Path) -> None:
    outcome = race.run(course(directory, 40 * MIB), BY_NAME["dict"], lambda sample: None)
    assert outcome.end is End.OVER
    assert 0 < outcome.requests < REQUESTS


def test_without_a_cgroup_volatile_memory_is_purged_instead(directory: Path) -> None:
    outcome = race.run(course(directory, 48 * MIB), BY_NAME["volatile"], lambda sample: None)
    assert outcome.said is None
    assert outcome.end is End.SERVED
    assert outcome.requests == REQUESTS == outcome.hits + outcome.built + outcome.rebuilt
    assert outcome.rebuilt > 0
    assert outcome.wrong == 0


def test_a_wrong_tile_is_counted(directory: Path, tmp_path: Path) -> None:
    """The check can fail: one checksum in the index is not that of its tile."""
    (tmp_path / "tiles.bin").write_bytes((directory / "tiles.bin").read_bytes())
    (tmp_path / "stream.bin").write_bytes((directory / "stream.bin").read_bytes())
    index = (directory / "tiles.json").read_text()
    with imagery.TileStore(directory) as store:
        first = store.checksum(int.from_bytes((directory / "stream.bin").read_bytes()[:4], "little"))
    (tmp_path / "tiles.json").write_text(index.replace(str(first), str(first ^ 1)))
    outcome = race.run(course(tmp_path, 400 * MIB), BY_NAME["dict"], lambda sample: None)
    assert outcome.wrong > 0


def test_a_server_that_breaks_says_why(directory: Path) -> None:
    outcome = race.run(course(directory, 400 * MIB), Contender("abacus", "abacus"), lambda sample: None)
    assert outcome.end is End.FAILED
    assert outcome.said is not None
    assert "no contender 'abacus'" in outcome.said
