"""Novelty and uncertainty scores on point clouds whose answer is known."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ctcml.errors import BadInput
from ctcml.novelty import (
    SCORES,
    Seen,
    class_entropy,
    density_ratio,
    knn_distance,
    max_softmax,
    novelty_scores,
    relative_mahalanobis,
    scaled_distance,
    uncertainty,
    virtual_logit,
)

Cloud = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
Cells = tuple[Seen, list[str], Seen, npt.NDArray[np.bool_]]


@pytest.fixture
def archive() -> Cloud:
    """Three known kinds, 60 % of them labelled, and a new kind without labels, in 20 dimensions."""
    rng = np.random.default_rng(3)
    centres = rng.normal(0, 3, (4, 20))
    kind = np.repeat([0, 1, 2, 3], [200, 200, 200, 100])
    latents = centres[kind] + rng.normal(0, 1, (700, 20))
    return latents, (rng.random(700) < 0.6) & (kind < 3), kind == 3


@pytest.fixture(scope="module")
def cells() -> Cells:
    """Known cells of three kinds with labels, and others, of which the last hundred are of a fourth kind."""
    rng = np.random.default_rng(4)
    centres = rng.normal(0, 2, (4, 40))

    def seen(kind: npt.NDArray[np.int64]) -> Seen:
        points = centres[kind] + rng.normal(0, 1, (len(kind), 40))
        outputs = -np.square(points[:, None] - centres[:3]).sum(axis=2) / 40
        sums = np.exp(outputs).sum(axis=1)
        return Seen(
            latents=points, probabilities=np.exp(outputs) / sums[:, None], energy=-np.log(sums),
            reconstruction_error=rng.normal(np.where(kind == 3, 0.6, 0.3)[:, None], 0.05, (len(kind), 3)), appearance=points[:, :12],
        )  # fmt: skip

    known = np.repeat([0, 1, 2], 150)
    others = np.repeat([0, 1, 2, 3], [100, 100, 100, 100])
    return seen(known), [f"kind {one}" for one in known], seen(others), others == 3


@pytest.mark.parametrize("name", [name for name in SCORES if name not in ("max_softmax", "entropy", "margin")])
def test_every_novelty_score_is_larger_for_a_new_kind(name: str, cells: Cells) -> None:
    known, labels, others, new = cells
    found = novelty_scores(known, labels, others, names=[name])[name]
    assert found.shape == (len(others),)
    assert roc_auc_score(new, found) > 0.9


def test_a_network_without_a_decoder_has_no_reconstruction_score(cells: Cells) -> None:
    known, labels, others, _ = cells
    blind = Seen(**{**vars(others), "reconstruction_error": np.full((len(others), 3), np.nan)})
    assert set(SCORES) - set(novelty_scores(known, labels, blind)) == {"reconstruction"}


def test_a_new_kind_stands_out_by_density_as_measured_before(archive: Cloud) -> None:
    latents, labelled, new = archive
    score = density_ratio(latents, labelled)
    assert roc_auc_score(new[~labelled], score[~labelled]) >= 0.97  # science target for the object-level AUROC
    assert score.min() >= 0
    assert score.max() <= 1


def test_a_region_labelled_like_the_rest_scores_one_half() -> None:
    rng = np.random.default_rng(4)
    latents, labelled = rng.normal(size=(2000, 8)), rng.random(2000) < 0.25
    assert density_ratio(latents, labelled).mean() == pytest.approx(0.5, abs=0.03)


def test_a_cell_does_not_count_as_its_own_neighbour() -> None:
    latents = np.array([[0.0], [1.0], [10.0], [11.0]])
    labelled = np.array([True, False, False, True])
    # nearest of each is the other of its pair: a labelled cell sees an unlabelled one and the other way round
    assert density_ratio(latents, labelled, neighbours=1).tolist() == [1.0, 0.0, 0.0, 1.0]


def test_where_everything_is_labelled_nothing_is_new() -> None:
    assert not density_ratio(np.arange(12.0).reshape(6, 2), np.ones(6, bool), neighbours=3).any()


def test_density_does_not_depend_on_the_scale_of_a_dimension_and_survives_a_dead_one(archive: Cloud) -> None:
    latents, labelled, _ = archive
    stretched = np.column_stack([latents * np.linspace(1, 500, 20), np.full(len(latents), 7.0)])
    before, after = (density_ratio(cloud, labelled) for cloud in (latents, stretched))
    np.testing.assert_allclose(before, after, atol=1e-9)


def test_cosine_distance_is_that_to_the_nearest_known_cells() -> None:
    known, cells = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[2.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(knn_distance(known, cells, neighbours=1), [0.0, 1 - np.sqrt(0.5)], atol=1e-12)


def test_scaled_distance_is_in_deviations_of_the_known_cells() -> None:
    known = np.array([[0.0, 0.0], [2.0, 20.0], [0.0, 20.0], [2.0, 0.0]])  # deviations 1 and 10
    np.testing.assert_allclose(scaled_distance(known, np.array([[2.0, 50.0]]), neighbours=1), [3.0])


def test_relative_mahalanobis_is_higher_between_two_classes_than_in_one(cells: Cells) -> None:
    known, labels, _, _ = cells
    one, other = known.latents[:150].mean(axis=0), known.latents[150:300].mean(axis=0)
    at_centre, between = relative_mahalanobis(known.latents, labels, np.stack([one, (one + other) / 2]))
    assert at_centre < between


def test_the_virtual_logit_sees_what_leaves_the_known_space() -> None:
    rng = np.random.default_rng(1)
    flat = np.concatenate([rng.normal(0, 1, (300, 25)), rng.normal(0, 0.01, (300, 25))], axis=1)
    sure = {"probabilities": np.full((300, 2), 0.5), "energy": np.full(300, -2.0)}
    rest = {"reconstruction_error": np.full((300, 3), np.nan), "appearance": np.zeros((300, 2))}
    known = Seen(latents=flat, **sure, **rest)
    lifted = flat.copy()
    lifted[:, 30] += 1.0  # small beside what varies, large where nothing does
    inside, outside = (virtual_logit(known, Seen(latents=one, **sure, **rest)) for one in (flat, lifted))
    assert outside.min() > inside.max()


@pytest.mark.parametrize(("row", "expected"), [([0.7, 0.2, 0.1], 0.5), ([0.4, 0.4, 0.2], 1.0), ([0.0, 0.0, 1.0], 0.0)])
def test_uncertainty_is_one_minus_the_margin(row: list[float], expected: float) -> None:
    assert uncertainty(np.array([row], dtype=np.float32))[0] == pytest.approx(expected, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), st.permutations(range(3)))
def test_uncertainty_does_not_depend_on_the_order_of_classes(weights: list[float], order: list[int]) -> None:
    row = np.array([weights]) / sum(weights)
    for score in (uncertainty, class_entropy, max_softmax):
        assert score(row)[0] == pytest.approx(score(row[:, order])[0])
        assert 0 <= score(row)[0] <= 1


def test_scores_refuse_what_they_cannot_compare(cells: Cells) -> None:
    known, labels, others, _ = cells
    with pytest.raises(BadInput, match="0 labelled cells"):
        density_ratio(np.zeros((4, 2)), np.zeros(4, bool), neighbours=2)
    with pytest.raises(BadInput, match="one row a cell"):
        density_ratio(np.zeros((4, 2)), np.ones(3, bool), neighbours=2)
    with pytest.raises(BadInput, match="expected 2 or more with one each"):
        novelty_scores(known, labels[:-1], others)
    with pytest.raises(BadInput, match="no score 'magic'"):
        novelty_scores(known, labels, others, names=["magic"])
    with pytest.raises(BadInput, match="cells by 2 or more classes"):
        uncertainty(np.zeros((3, 1)))
    with pytest.raises(BadInput, match="not finite"):
        Seen(**{**vars(known), "latents": np.full_like(known.latents, np.inf)})
    with pytest.raises(BadInput, match="one row a cell"):
        Seen(**{**vars(known), "energy": known.energy[1:]})
