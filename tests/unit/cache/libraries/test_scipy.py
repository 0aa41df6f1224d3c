"""SciPy's sparse arrays, scikit-learn's models, and functions that Numba compiled for writable arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from mvolatile import VolatileCache, volatile_cache

from ..helpers import on_miss_and_hits, seal

WHY = "pip install 'mvolatile[libraries]'"
sparse = pytest.importorskip("scipy.sparse", reason=WHY)


def product(size: int) -> Any:
    made = sparse.random(size, 3 * size, density=0.2, format="csr", random_state=np.random.default_rng(1))
    return made @ made.T  # its indices are unsorted


METHODS: dict[str, Callable[[Any], Any]] = {
    "max": lambda m: m.max(),
    "sum": lambda m: m.sum(),
    "abs": lambda m: abs(m).sum(),
    "greater": lambda m: (m > 1).sum(),
    "argmax": lambda m: np.asarray(m.argmax(axis=1)).tolist(),
    "tolil": lambda m: m.tolil().sum(),
    "product": lambda m: (m @ m).sum(),
    "transposed": lambda m: m.T.sum(),
    "copy": lambda m: m.copy().max(),
    "sort_indices": lambda m: (m.sort_indices(), m.has_sorted_indices),
    "sum_duplicates": lambda m: (m.sum_duplicates(), m.nnz),
    "eliminate_zeros": lambda m: (m.data.__setitem__(0, 0), m.eliminate_zeros(), m.nnz),
    "setdiag": lambda m: (m.setdiag(2), m.diagonal().tolist()),
    "resize": lambda m: (m.resize(5, 5), m.sum()),
    "imul": lambda m: (m.__imul__(2).sum(), m.sum()),
    "data": lambda m: (np.add(m.data, 1, out=m.data).sum(), m.sum()),
    "rows": lambda m: m[3:5].sum(),
    "columns": lambda m: m[:, [1, 2]].sum(),
}


@pytest.mark.parametrize("size", [10, 100])
@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore")  # about what is slow
def test_methods_of_sparse_matrices(name: str, form: str, size: int) -> None:
    def use(matrix: Any) -> Any:
        try:
            return str(METHODS[name](matrix))
        except (
            AttributeError,
            NotImplementedError,
            TypeError,
            ValueError,
        ) as error:  # a format that has it not
            return str(error)

    said = on_miss_and_hits(lambda: product(size).asformat(form), use)
    assert said[1:] == said[:1] * 3


def test_rows_are_stored_without_the_rest() -> None:
    whole = product(400)
    cache: VolatileCache[str, Any] = VolatileCache(max_bytes=50_000)
    cache["k"] = whole[:5]
    assert (cache["k"] != whole[:5]).nnz == 0


def test_models_predict_and_learn_on() -> None:
    pytest.importorskip("sklearn", reason=WHY)
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression, SGDClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    rng = np.random.default_rng(0)
    x, y = rng.random((300, 20)), rng.integers(0, 2, 300)
    learners: list[Any] = [
        lambda: RandomForestClassifier(20, random_state=0),
        lambda: KNeighborsClassifier(),
        lambda: SVC(random_state=0),
        lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        lambda: SGDClassifier(random_state=0),
    ]
    for learner in learners:

        def use(model: Any) -> Any:
            said = model.predict(x).tolist()
            model.fit(x[:100], y[:100])
            if hasattr(model, "partial_fit"):
                model.partial_fit(x[100:], y[100:])
            return said, model.predict(x).tolist()

        said = on_miss_and_hits(partial(fitted, learner, x, y), use)
        assert said[1:] == said[:1] * 3


def fitted(learner: Any, x: Any, y: Any) -> Any:
    return learner().fit(x, y)


@pytest.mark.parametrize("copy", [None, True])
def test_a_function_compiled_for_writable_arrays(copy: bool | None) -> None:
    numba = pytest.importorskip("numba", reason=WHY)
    total = numba.njit("float64(float64[:, ::1])")(lambda a: a.sum())

    @volatile_cache(copy=copy)
    def image() -> Any:
        return np.ones((200, 200)) if copy else {"pixels": np.ones((200, 200))}

    for _ in range(3):
        found = image()
        assert total(found if copy else found["pixels"]) == 40_000
        seal(image.cache)
