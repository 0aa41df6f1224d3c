"""Times to live under clocks that are set, frozen, or stand still."""

from __future__ import annotations

import datetime
import time
from typing import Any

import pytest

from mvolatile import volatile_cache
from mvolatile.cache import lifetime


@pytest.fixture(autouse=True)
def _clock_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifetime, "_seen", lifetime._seen)


class Clocks:
    """`time.monotonic` and `time.time`, in our hand."""

    def __init__(self) -> None:
        self.monotonic, self.ahead = 100.0, 1e9
        self.rests = 0.0

    def time(self) -> float:
        self.monotonic += self.rests
        return self.monotonic + self.ahead

    def lifetime(self) -> float:
        return lifetime.lifetime(_monotonic=lambda: self.monotonic)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(time, "time", clocks.time)
    monkeypatch.setattr(lifetime, "_seen", (clocks.ahead, 0.0))
    return clocks


@pytest.mark.parametrize(
    ("set_by", "passed", "told"),
    [(0, 5, 5), (3600, 0, 3600), (3600, 5, 3605), (-3600, 5, 5), (0.01, 5, 5), (0, 1e7, 1e7)],
)
def test_what_ends_a_life(clocks: Clocks, set_by: float, passed: float, told: float) -> None:
    before = clocks.lifetime()
    clocks.ahead += set_by
    clocks.monotonic += passed
    assert clocks.lifetime() - before == pytest.approx(told)
    assert clocks.lifetime() - before == pytest.approx(told), "a jump counts once"


def test_set_back_and_forth_is_forth(clocks: Clocks) -> None:
    before = clocks.lifetime()
    for _ in range(3):
        clocks.ahead -= 50
        clocks.lifetime()
        clocks.ahead += 50
        clocks.lifetime()
    assert clocks.lifetime() - before == pytest.approx(150), "sooner is a miss, later would be a lie"


def test_small_steps_that_sum_up_are_seen(clocks: Clocks) -> None:
    before = clocks.lifetime()
    for _ in range(100):
        clocks.ahead += 0.02
        clocks.lifetime()
    assert clocks.lifetime() - before == pytest.approx(2, abs=0.1)


def test_a_thread_that_rests_between_the_clocks_has_seen_no_jump(clocks: Clocks) -> None:
    before = clocks.lifetime()
    start = clocks.monotonic
    clocks.rests = 0.5
    for _ in range(10):
        clocks.lifetime()
    clocks.rests = 0
    assert clocks.lifetime() - before == pytest.approx(clocks.monotonic - start)


def test_freezegun() -> None:
    freezegun = pytest.importorskip("freezegun")
    rate, calls = rate_that_expires()
    rate()
    with freezegun.freeze_time("2024-01-01") as frozen:
        rate()
        seen = len(calls)
        frozen.tick(datetime.timedelta(seconds=30))
        rate()
        assert len(calls) == seen
        frozen.tick(datetime.timedelta(seconds=31))
        rate()
        assert len(calls) == seen + 1
    rate()
    assert len(calls) == seen + 2, "what was stored in 2024 does not outlive the test"


def test_time_machine() -> None:
    time_machine = pytest.importorskip("time_machine")
    rate, calls = rate_that_expires()
    with time_machine.travel(0, tick=False) as traveller:
        rate()
        traveller.shift(30)
        rate()
        assert len(calls) == 1
        traveller.shift(31)
        rate()
        assert len(calls) == 2
    rate()
    assert len(calls) == 3


def rate_that_expires() -> tuple[Any, list[int]]:
    calls: list[int] = []

    @volatile_cache(ttl=60)
    def rate() -> float:
        calls.append(1)
        return 1.0

    return rate, calls
