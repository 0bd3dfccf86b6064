"""Novelty and uncertainty scores on point clouds whose answer is known."""

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import roc_auc_score

from ctcml.errors import BadInput
from ctcml.novelty import density_ratio, knn_distance, uncertainty

Cloud = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]


@pytest.fixture
def archive() -> Cloud:
    """Three known kinds, 60 % of them labelled, and a new kind without labels, in 20 dimensions."""
    rng = np.random.default_rng(3)
    centres = rng.normal(0, 3, (4, 20))
    kind = np.repeat([0, 1, 2, 3], [200, 200, 200, 100])
    latents = centres[kind] + rng.normal(0, 1, (700, 20))
    return latents, (rng.random(700) < 0.6) & (kind < 3), kind == 3


def test_a_new_kind_stands_out_by_density_as_measured_before(archive: Cloud) -> None:
    latents, labelled, new = archive
    score = density_ratio(latents, labelled, neighbours=30)
    assert roc_auc_score(new[~labelled], score[~labelled]) >= 0.97  # science target for the object-level AUROC
    assert score.min() >= 0
    assert score.max() <= 1


def test_a_region_labelled_like_the_rest_scores_one_half() -> None:
    rng = np.random.default_rng(4)
    latents, labelled = rng.normal(size=(2000, 8)), rng.random(2000) < 0.25
    assert density_ratio(latents, labelled, neighbours=30).mean() == pytest.approx(0.5, abs=0.03)


def test_a_cell_does_not_count_as_its_own_neighbour() -> None:
    latents = np.array([[0.0], [1.0], [10.0], [11.0]])
    labelled = np.array([True, False, False, True])
    # nearest of each is the other of its pair: a labelled cell sees an unlabelled one and the other way round
    assert density_ratio(latents, labelled, neighbours=1).tolist() == [1.0, 0.0, 0.0, 1.0]


def test_where_everything_is_labelled_nothing_is_new() -> None:
    latents = np.arange(12.0).reshape(6, 2)
    assert not density_ratio(latents, np.ones(6, bool), neighbours=3).any()


def test_density_does_not_depend_on_the_scale_of_a_dimension_and_survives_a_dead_one(archive: Cloud) -> None:
    latents, labelled, _ = archive
    stretched = np.column_stack([latents * np.linspace(1, 500, 20), np.full(len(latents), 7.0)])
    before, after = (density_ratio(cloud, labelled, neighbours=30) for cloud in (latents, stretched))
    np.testing.assert_allclose(before, after, atol=1e-9)


def test_cosine_distance_is_that_to_the_nearest_labelled_cells_without_itself() -> None:
    latents = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [1.0, 1.0]])
    labelled = np.array([True, True, False, False])
    found = knn_distance(latents, labelled, neighbours=1)
    np.testing.assert_allclose(found, [1.0, 1.0, 0.0, 1 - np.sqrt(0.5)], atol=1e-12)


def test_twins_among_the_labelled_cells_do_not_confuse_the_distance() -> None:
    latents = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(knn_distance(latents, np.ones(4, bool), neighbours=2), [0.0, 0.0, 0.0, 1.0], atol=1e-12)


@pytest.mark.parametrize(("row", "expected"), [([0.7, 0.2, 0.1], 0.5), ([0.4, 0.4, 0.2], 1.0), ([0.0, 0.0, 1.0], 0.0)])
def test_uncertainty_is_one_minus_the_margin(row: list[float], expected: float) -> None:
    assert uncertainty(np.array([row], dtype=np.float32))[0] == pytest.approx(expected, abs=1e-6)


def test_scores_refuse_what_they_cannot_compare() -> None:
    latents = np.zeros((4, 2))
    with pytest.raises(BadInput, match="0 labelled cells"):
        density_ratio(latents, np.zeros(4, bool), neighbours=2)
    with pytest.raises(BadInput, match="one row a cell"):
        density_ratio(latents, np.ones(3, bool), neighbours=2)
    with pytest.raises(BadInput, match="expected 2 or more"):
        knn_distance(latents, np.array([True, False, False, False]), neighbours=2)
    with pytest.raises(BadInput, match="not finite"):
        density_ratio(np.full((4, 2), np.nan), np.ones(4, bool), neighbours=2)
    with pytest.raises(BadInput, match="2 or more classes"):
        uncertainty(np.ones((4, 1)))
