"""The duel: a challenger must win clearly and twice, and is tried less and less."""

from __future__ import annotations

from mvolatile.cache.duel import CLOCK, LAST_TRIAL, SIEVE, Duel


def run(rates: tuple[float, float], epochs: int) -> tuple[Duel, list[int]]:
    """A duel where each policy has a fixed hit ratio; the policies used, by epoch."""
    counts = [0.0, 0.0]
    duel = Duel(lambda: (int(counts[0]), int(counts[1])))
    used = []
    for _ in range(epochs):
        for _ in range(2):
            counts[0] += 1000 * rates[duel.policy]
            counts[1] += 1000 * (1 - rates[duel.policy])
            used.append(duel.policy)
            duel.stored(100, 100)
    return duel, used[::2]


def test_the_champion_stays_while_it_is_better_or_as_good() -> None:
    for clock in (0.3, 0.5, 0.503):
        duel, used = run((0.5, clock), 400)
        assert duel.champion == SIEVE
        assert 2 <= used.count(CLOCK) <= 400 / LAST_TRIAL + 6, "trials become rare"


def test_the_better_challenger_wins() -> None:
    duel, used = run((0.5, 0.6), 60)
    assert duel.champion == CLOCK
    assert used.index(CLOCK) < 6
    assert used[20:].count(CLOCK) > 30


def test_one_lucky_trial_is_not_enough() -> None:
    duel, _ = run((0.5, 0.5), 4)
    assert duel.policy == CLOCK
    duel._judge(0.9)
    assert (duel.policy, duel.champion) == (SIEVE, SIEVE)
    duel._judge(0.5)
    assert duel.policy == CLOCK
    duel._judge(0.4)
    assert (duel.policy, duel.champion) == (SIEVE, SIEVE)


def test_nothing_asked_for_says_nothing() -> None:
    duel = Duel(lambda: (0, 0))
    for _ in range(100):
        assert not duel.stored(100, 100)
    assert duel.policy == SIEVE
