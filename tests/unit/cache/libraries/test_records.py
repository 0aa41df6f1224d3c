"""Objects of pydantic's and attrs' classes, with arrays in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ..helpers import on_miss_and_hits

WHY = "pip install 'mvolatile[libraries]'"


@pytest.mark.parametrize("n", [3, 20_000])
def test_attrs(n: int) -> None:
    attrs = pytest.importorskip("attrs", reason=WHY)
    globals()["Point"] = made = attrs.define(
        type("Point", (), {"__annotations__": {"x": Any, "notes": Any}, "__module__": __name__})
    )

    def use(point: Any) -> Any:
        point.x[0] = 5
        point.notes.append(1)
        point.x = point.x * 2
        return point.x.sum(), point.notes

    said = on_miss_and_hits(lambda: made(np.arange(n), []), use)
    assert said[1:] == said[:1] * 3


@pytest.mark.parametrize("n", [3, 20_000])
def test_pydantic(n: int) -> None:
    pydantic = pytest.importorskip("pydantic", reason=WHY)
    globals()["Model"] = made = pydantic.create_model(
        "Model", __module__=__name__, x=(Any, ...), notes=(list[int], ...)
    )

    def use(model: Any) -> Any:
        model.x[0] = 5
        model.notes.append(1)
        return model.x.sum(), model.notes, model.model_fields_set

    said = on_miss_and_hits(lambda: made(x=np.arange(n), notes=[]), use)
    assert said[1:] == said[:1] * 3
