"""Trials: a challenger must win clearly and twice, and is tried less and less."""

from __future__ import annotations

from mvolatile.cache.eviction.dueling import CHALLENGER, CHAMPION, LAST_TRIAL, Trials


def run(rates: tuple[float, float], epochs: int) -> tuple[Trials, list[int]]:
    """A trials where each policy has a fixed hit ratio; the policies used, by epoch."""
    counts = [0.0, 0.0]
    trials = Trials(lambda: (int(counts[0]), int(counts[1])))
    used = []
    for _ in range(epochs):
        for _ in range(2):
            counts[0] += 1000 * rates[trials.active]
            counts[1] += 1000 * (1 - rates[trials.active])
            used.append(trials.active)
            trials.stored(100, 100)
    return trials, used[::2]


def test_the_champion_stays_while_it_is_better_or_as_good() -> None:
    for clock in (0.3, 0.5, 0.503):
        trials, used = run((0.5, clock), 400)
        assert trials.champion == CHAMPION
        assert 2 <= used.count(CHALLENGER) <= 400 / LAST_TRIAL + 6, "trials become rare"


def test_the_better_challenger_wins() -> None:
    trials, used = run((0.5, 0.6), 60)
    assert trials.champion == CHALLENGER
    assert used.index(CHALLENGER) < 6
    assert used[20:].count(CHALLENGER) > 30


def test_one_lucky_trial_is_not_enough() -> None:
    trials, _ = run((0.5, 0.5), 4)
    assert trials.active == CHALLENGER
    trials.judge(0.9)
    assert (trials.active, trials.champion) == (CHAMPION, CHAMPION)
    trials.judge(0.5)
    assert trials.active == CHALLENGER
    trials.judge(0.4)
    assert (trials.active, trials.champion) == (CHAMPION, CHAMPION)


def test_nothing_asked_for_says_nothing() -> None:
    trials = Trials(lambda: (0, 0))
    for _ in range(100):
        assert not trials.stored(100, 100)
    assert trials.active == CHAMPION
