"""PyTorch: a tensor is stored without the storage that it is a view of, and comes back with one of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mvolatile import VolatileCache
from mvolatile.cache.values import encode

from ..helpers import on_miss_and_hits, seal

torch = pytest.importorskip("torch", reason="pip install torch: too large for what installs the tests")

TENSORS: dict[str, Callable[[], Any]] = {
    "floats": lambda: torch.arange(20_000.0),
    "few": lambda: torch.arange(3),
    "none": lambda: torch.zeros(0, 3),
    "one": lambda: torch.tensor(2.5),
    "half": lambda: torch.ones(50, dtype=torch.float16),
    "bfloat16": lambda: torch.ones(50_000, dtype=torch.bfloat16),
    "booleans": lambda: torch.ones(50, dtype=torch.bool),
    "complex": lambda: torch.ones(9000, dtype=torch.complex64) * 1j,
    "conjugated": lambda: (torch.ones(9000, dtype=torch.complex64) * 1j).conj(),
    "transposed": lambda: torch.arange(6.0).reshape(2, 3).T,
    "channels last": lambda: torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "a row": lambda: torch.arange(1_000_000.0).reshape(1000, 1000)[5],
    "a column": lambda: torch.arange(1_000_000.0).reshape(1000, 1000)[:, 5],
    "a corner": lambda: torch.arange(1_000_000.0).reshape(1000, 1000)[4:9, 4:9],
    "one, many times": lambda: torch.ones(1).expand(1000, 1000),
    "wants gradients": lambda: torch.ones(9000, requires_grad=True),
    "parameter": lambda: torch.nn.Parameter(torch.arange(1_000_000.0)[:5]),
    "sparse": lambda: torch.eye(50).to_sparse(),
    "from NumPy": lambda: torch.from_numpy(np.arange(20_000.0)),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("copy", [None, True, False])
@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.filterwarnings("ignore::FutureWarning:torch")
def test_what_goes_in_comes_out(name: str, copy: bool | None) -> None:
    if name in ("a row", "a column", "a corner", "one, many times", "parameter"):
        assert encode(TENSORS[name](), copy=copy).nbytes < 20_000
    cache: VolatileCache[str, Any] = VolatileCache(copy=copy)
    value = TENSORS[name]()
    cache["k"] = [value, value]
    for _ in range(2):
        found, same = cache["k"]
        assert found is same
        assert type(found) is type(value)
        assert (found.dtype, found.shape, found.requires_grad) == (
            value.dtype,
            value.shape,
            value.requires_grad,
        )
        if value.layout is torch.strided:
            assert torch.equal(found, value)
            if name not in ("a column", "a corner", "conjugated"):
                assert found.stride() == value.stride()
        else:
            assert torch.equal(found.to_dense(), value.to_dense())
        seal(cache)


USES: dict[str, Callable[[Any], Any]] = {
    "set": lambda t: t.__setitem__(0, 7),
    "add_": lambda t: t.add_(1),
    "resize_": lambda t: t.resize_(40_000).shape,
    "numpy": lambda t: t.numpy().__setitem__(0, 5),
    "backward": lambda t: (t.requires_grad_(True) * 2).sum().backward(),
}


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("copy", [None, True, False])
def test_tensors_are_written_to_and_are_nobody_elses(name: str, copy: bool | None) -> None:
    def use(tensor: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            USES[name](tensor)
        return float(tensor.detach()[:20_000].sum())

    said = on_miss_and_hits(lambda: torch.arange(20_000.0), use, copy=copy)
    assert said[1:] == said[:1] * 3


def test_a_module_is_trained() -> None:
    def make() -> Any:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(100, 200), torch.nn.ReLU(), torch.nn.Linear(200, 1))
        model[0].also = model[2].weight  # tied
        return model

    def use(model: Any) -> Any:
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        model(torch.ones(5, 100)).sum().backward()
        optimizer.step()
        return model[0].also is model[2].weight, float(model(torch.ones(1, 100)).detach())

    said = on_miss_and_hits(make, use)
    assert said[1:] == said[:1] * 3
