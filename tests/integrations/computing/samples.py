"""A dataset that notes what it decodes, wherever."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch

from integrations.computing.notes import note


class Samples:
    """Map-style: `len` and indexing are all a DataLoader needs."""

    def __init__(self, log: str, count: int = 40) -> None:
        self.log, self.count = log, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        note(self.log)
        return {
            "image": torch.full((3, 40, 40), float(index)),
            "label": (index, np.arange(index, index + 3)),
        }


class Killed(Samples):
    """The worker that decodes sample 7 is killed in the middle, once."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == 7 and not Path(f"{self.log}.killed").exists():
            Path(f"{self.log}.killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def augmented(sample: dict[str, Any]) -> dict[str, Any]:
    """In place, as many do."""
    sample["image"] += 1000
    return sample


def is_right(batch: dict[str, Any], shift: int = 1000) -> bool:
    indices, labels = batch["label"]
    same = [
        bool((image == int(index) + shift).all())
        for image, index in zip(batch["image"], indices, strict=True)
    ]
    return all(same) and bool((labels == indices[:, None] + torch.arange(3)).all())
