"""The flat map: neighbours stay together, and the same seed gives the same picture."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.neighbors import KNeighborsClassifier

from ctcml.errors import BadInput
from ctcml.latentmap import fit_map


@pytest.fixture(scope="module")
def two_kinds() -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(5)
    return np.vstack([rng.normal(0, 1, (60, 50)), rng.normal(2, 1, (60, 50))]).astype(np.float32)


@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_two_kinds_stay_apart_and_the_map_is_the_same_twice(
    two_kinds: npt.NDArray[np.float32], method: Literal["umap", "tsne"]
) -> None:
    xy = fit_map(two_kinds, method=method, seed=20)
    assert xy.shape == (120, 2)
    assert xy.dtype == np.float32
    kind = np.repeat([0, 1], 60)
    assert KNeighborsClassifier(5).fit(xy, kind).score(xy, kind) >= 0.98
    assert np.array_equal(xy, fit_map(two_kinds, method=method, seed=20))


@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_a_handful_of_cells_still_gets_a_map(method: Literal["umap", "tsne"]) -> None:
    cells = np.random.default_rng(6).normal(size=(6, 50))
    assert np.isfinite(fit_map(cells, method=method, seed=1)).all()


def test_too_few_cells_for_a_map_are_refused() -> None:
    with pytest.raises(BadInput, match="at least 5 cells, found 2"):
        fit_map(np.zeros((2, 50)), method="tsne", seed=1)
