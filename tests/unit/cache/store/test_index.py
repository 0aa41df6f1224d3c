"""The index in parts: a dict to its users, whatever is split, joined or asked meanwhile."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from mvolatile._core import Index


@pytest.mark.parametrize(
    "make", [int, str, lambda i: (i, "x"), lambda i: i << 61], ids=["int", "str", "tuple", "few bits"]
)
def test_it_does_what_a_dict_does(make: Any) -> None:
    random = Random(5)
    index, model = Index(), {}
    for most in (60_000, 100, 30_000):
        for step in range(120_000):
            key = make(random.randrange(most))
            if random.random() < 0.6:
                index[key] = model[key] = step
            else:
                assert index.get(key) == model.get(key)
                if model.pop(key, None) is not None:
                    del index[key]
        for key in [key for key in model if random.random() < 0.97]:
            del index[key], model[key]
            assert key not in index
        assert len(index) == len(model)
        assert dict(index.items()) == model
        assert sorted(index.values()) == sorted(model.values())
        assert set(index) == set(model)
        assert all(index[key] == value for key, value in model.items())
    with pytest.raises(KeyError):
        index[make(-1)]
    with pytest.raises(KeyError):
        del index[make(-1)]
    with pytest.raises(TypeError):
        index[[]] = 1
    index.clear()
    assert (len(index), list(index)) == (0, [])


def test_it_grows_in_small_steps_and_shrinks_again() -> None:
    index = Index()
    before = empty = sys.getsizeof(index)
    steps = []
    for key in range(1_200_000):
        index[key] = key
        if key >= 600_000:
            del index[key - 600_000]
        if key % 1000 == 0:
            now = sys.getsizeof(index)
            steps.append(now - before)
            before = now
    assert max(steps) < 4 << 20, "a dict takes 40 MiB at once"
    assert before < 600_000 * 110
    for key in range(600_000, 1_195_000):
        del index[key]
    assert sys.getsizeof(index) < 1 << 20
    index.clear()
    assert sys.getsizeof(index) == empty


def test_the_last_key_in_constant_time() -> None:
    index = Index()
    for key in range(300_000):
        index[key] = key
    for _ in range(300_000):  # quadratic, this would take hours
        del index[index.last()]
    with pytest.raises(KeyError, match="empty"):
        index.last()
    index["a"] = index["b"] = 1
    assert index.last() == "b"


def test_readers_while_it_is_split_and_joined() -> None:
    index = Index()
    stay = range(0, 200_000, 997)
    for key in stay:
        index[key] = key
    stop = threading.Event()
    wrong: list[int] = []

    def read() -> None:
        while not stop.is_set():
            wrong.extend(key for key in stay if index.get(key) != key)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        for key in range(200_001, 300_000):
            index[key] = key
        for key in range(200_001, 300_000):
            del index[key]
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


class Fragile:
    """A key whose hash may fail."""

    failure: BaseException | None = None

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        if self.failure is not None and self.number == 3:
            raise self.failure
        return hash(self.number)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Index, list[Fragile]]]:
    """The next key splits it."""
    index = Index()
    keys = [Fragile(number) for number in range(7400)]
    for number, key in enumerate(keys):
        index[key] = number
    yield index, keys
    monkeypatch.undo()


def test_an_interrupt_in_the_middle_of_a_split_changes_nothing(
    full: tuple[Index, list[Fragile]], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, keys = full
    monkeypatch.setattr(Fragile, "failure", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        index["one more"] = 1
    monkeypatch.undo()
    assert all(index[key] == number for number, key in enumerate(keys))
    assert index["one more"] == 1
    index["and more"] = 2
    assert len(index) == 7402 == len(set(index))


def test_a_key_that_fails_stays_behind_when_its_part_is_split(
    full: tuple[Index, list[Fragile]], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, keys = full
    monkeypatch.setattr(Fragile, "failure", LookupError("no hash now"))
    index["one more"] = 1
    assert len(index) == 7400
    monkeypatch.undo()
    assert all(index.get(key) == (None if number == 3 else number) for number, key in enumerate(keys))


def test_where_there_is_no_memory_for_a_split_it_waits(
    full: tuple[Index, list[Fragile]], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, keys = full
    monkeypatch.setattr(Fragile, "failure", MemoryError())
    index["one more"] = 1
    monkeypatch.undo()
    index["and more"] = 2
    assert all(index[key] == number for number, key in enumerate(keys))
    assert len(index) == 7402
