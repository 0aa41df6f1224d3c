"""A dataset whose samples are shared: what workers of any start method find, and that each has its own."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="pip install torch: too large for what installs the tests")

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset

import mvolatile as mv
from integrations.computing.notes import made
from integrations.computing.samples import Samples, augmented, is_right
from mvolatile.integrations.torch import SharedDataset

HERE = Path(__file__).parent


@pytest.fixture
def log(closing: None, runtime: Path, tmp_path: Path) -> str:
    return str(tmp_path / "made")


@pytest.fixture
def dataset(log: str) -> SharedDataset:
    return SharedDataset(Samples(log), transform=augmented)


def test_samples_are_made_once_and_are_the_callers_own(dataset: SharedDataset, log: str) -> None:
    for _ in range(3):
        sample = dataset[5]
        assert type(sample["image"]) is torch.Tensor
        assert (sample["image"] == 1005).all(), "the transform changed it in place, each time a new one"
        assert sample["label"][0] == 5
        assert sample["label"][1].tolist() == [5, 6, 7]
        sample["label"][1][:] = 0
        sample["image"].resize_(7)
    assert made(log) == 1
    assert len(dataset) == 40
    with pytest.raises(IndexError):
        dataset[40]


def test_indices_of_any_kind(dataset: SharedDataset, log: str) -> None:
    for index in (3, np.int64(3), torch.tensor(3), True + 2):
        assert dataset[index]["label"][0] == 3
    assert made(log) == 1

    class Named:
        def __getitem__(self, key: str) -> str:
            return key * 2

    assert SharedDataset(Named())["a"] == SharedDataset(Named())["a"] == "aa"


@pytest.mark.parametrize("make", [lambda n: (torch.arange(n), n), lambda n: np.arange(n), lambda n: None])
def test_samples_of_any_kind(log: str, make: Any) -> None:
    class Made:
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> Any:
            return make(index)

    dataset = SharedDataset(Made())
    for _ in range(2):
        assert repr(dataset[3]) == repr(make(3))


def test_a_loader_in_the_same_process(dataset: SharedDataset, log: str) -> None:
    loader = DataLoader(dataset, batch_size=8, shuffle=True)
    for _ in range(2):
        assert all(map(is_right, loader))
    assert made(log) == 40
    assert is_right(next(iter(DataLoader(Subset(dataset, [1, 2]), batch_size=2))))


def test_a_dataset_that_makes_batches(log: str) -> None:
    asked = []

    class Batches(Samples):
        def __getitems__(self, indices: list[int]) -> list[Any]:
            asked.append(indices)
            return [self[index] for index in indices]

    dataset = SharedDataset(Batches(log), transform=augmented)
    for indices in ([1, 2, 3], [2, 3, 4], [1, 4]):
        got = dataset.__getitems__(indices)
        assert [int(sample["image"][0, 0, 0]) - 1000 for sample in got] == indices
    assert asked == [[1, 2, 3], [4]]
    assert all(map(is_right, DataLoader(dataset, batch_size=8)))


def test_what_the_kernel_took_is_made_again(dataset: SharedDataset, log: str) -> None:
    for index in range(40):
        dataset[index]
    lost = dataset.volatile.purge()
    for index in range(40):
        assert (dataset[index]["image"] == 1000 + index).all()
    assert (made(log) > 40) == (lost > 0)
    dataset.close()
    assert (dataset[1]["image"] == 1001).all()


def test_who_shares(log: str) -> None:
    private, other = SharedDataset(Samples(log)), SharedDataset(Samples(log))
    private[1], other[1]
    assert made(log) == 2
    same, too = (SharedDataset(Samples(log), fingerprint="v1", name="photos") for _ in range(2))
    same[1], too[1]
    assert made(log) == 3
    SharedDataset(Samples(log), fingerprint="v2", name="photos")[1]
    assert made(log) == 4


def test_copies_and_pickles_share(dataset: SharedDataset, log: str) -> None:
    dataset[1]
    for again in (pickle.loads(pickle.dumps(dataset)), copy.deepcopy(dataset)):
        assert (again[1]["image"] == 1001).all()
        assert again.volatile.name == dataset.volatile.name
    assert made(log) == 1


def test_what_is_refused(log: str) -> None:
    class Stream(IterableDataset):  # type: ignore[misc] # PyTorch may not be there
        def __iter__(self) -> Iterator[int]:
            return iter(range(3))

    with pytest.raises(TypeError, match="Stream, an IterableDataset, have no index"):
        SharedDataset(Stream())
    with pytest.raises(TypeError, match="int is no map-style dataset"):
        SharedDataset(5)
    with pytest.raises(TypeError, match="needs a fingerprint"):
        SharedDataset([1], name="photos")
    with pytest.raises(TypeError, match="must be callable"):
        SharedDataset([1], transform=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a key of type object"):
        SharedDataset([1], fingerprint=object())


def test_what_cannot_be_stored_is_handed_on(log: str) -> None:
    dataset = SharedDataset([lambda: 5])
    with pytest.warns(mv.VolatilityWarning, match="cannot be"):
        assert dataset[0]() == 5


@pytest.mark.slow
def test_workers(runtime: Path, tmp_path: Path) -> None:
    """Of all start methods, of one epoch or all, and one that is killed."""
    done = subprocess.run(
        [sys.executable, str(HERE / "computing" / "loader_main.py"), str(tmp_path)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for way in ("fork", "spawn", "forkserver"):
        assert told[way] == [40, 0], way
    assert told["persistent"] == [40, 0, 0]
    lost, again = told["purged"]
    assert (again > 0) == lost
    assert (told["first"], told["second"], told["other"]) == ([40], [0], [40])
    assert told["killed"]
    decoded, again = told["after"]
    assert 40 <= decoded < 44, "but for what its loader's workers were decoding when they were ended"
    assert again == 0
