"""Grouping of point clouds whose kinds are known."""

import sys

import numpy as np
import numpy.typing as npt
import pytest

from ctcml.errors import BadInput
from ctcml.grouping import group, join_noise

Floats = npt.NDArray[np.float64]


def three_kinds(each: int = 60) -> tuple[Floats, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(1)
    kind = np.repeat(np.arange(3), each)
    return rng.normal(0, 2.5, (3, 20))[kind] + rng.normal(0, 1, (3 * each, 20)), kind


def one_cluster_a_kind(member: npt.NDArray[np.int32], kind: npt.NDArray[np.int64]) -> bool:
    return len(set(zip(member.tolist(), kind.tolist(), strict=True))) == 3 == len(set(member.tolist()))


def test_k_means_finds_the_kinds_and_calls_nothing_noise() -> None:
    placed, kind = three_kinds()
    found = group(placed, method="kmeans", clusters=3, min_cells=10, seed=4)
    assert one_cluster_a_kind(found.member, kind)
    assert found.member.dtype == np.int32
    assert not found.noise.any()


def test_hdbscan_finds_the_number_of_kinds_itself_and_the_same_ones_again() -> None:
    placed, kind = three_kinds()
    placed = np.vstack([placed, np.random.default_rng(2).normal(0, 3, (5, 20))])  # five cells of no kind
    found, again = (group(placed, method="hdbscan", clusters=40, min_cells=10, seed=4) for _ in range(2))
    assert one_cluster_a_kind(found.member[:-5], kind)
    assert set(found.member[-5:]) <= {0, 1, 2}
    np.testing.assert_array_equal(found.member, again.member)
    np.testing.assert_array_equal(found.noise, again.noise)


def test_there_are_never_more_clusters_than_cells_to_fill_them_or_distinct_points() -> None:
    placed, _ = three_kinds(each=10)
    assert len(set(group(placed, method="kmeans", clusters=40, min_cells=10, seed=0).member)) == 3
    twins = np.repeat(np.eye(4), 25, axis=0)
    assert len(set(group(twins, method="kmeans", clusters=40, min_cells=10, seed=0).member)) == 4
    assert len(set(group(placed[:3], method="kmeans", clusters=40, min_cells=10, seed=0).member)) == 1


def test_too_few_cells_for_two_clusters_are_one_for_hdbscan() -> None:
    before = "umap" in sys.modules
    found = group(np.eye(19), method="hdbscan", clusters=40, min_cells=10, seed=0)
    assert not found.member.any()
    assert not found.noise.any()
    assert ("umap" in sys.modules) == before  # and nobody waits for it


def test_a_noise_point_goes_with_most_of_its_five_nearest_clustered_cells() -> None:
    place = np.array([[0.0], [0.1], [1.0], [1.1], [1.2], [9.0], [0.2], [0.21], [0.22]])
    labels = np.array([0, 0, 1, 1, 1, 1, -1, -1, -1])
    found = join_noise(place, labels)
    assert found.member.tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1]  # noise does not vote, and two lose against three
    assert found.noise.tolist() == [False] * 6 + [True] * 3


def test_of_two_clusters_with_as_many_neighbours_the_nearer_takes_the_noise_point() -> None:
    place = np.array([[1.0], [1.1], [-0.5], [-0.6], [3.0], [0.0]])
    assert join_noise(place, np.array([0, 0, 1, 1, 2, -1])).member[-1] == 1


def test_where_all_is_noise_there_is_one_cluster() -> None:
    found = join_noise(np.eye(6), np.full(6, -1))
    assert found.member.tolist() == [0] * 6
    assert found.noise.all()


def test_places_that_are_missing_or_not_finite_are_refused() -> None:
    for places in (np.zeros((0, 3)), np.full((4, 3), np.nan), np.zeros(4)):
        with pytest.raises(BadInput, match="expected finite places"):
            group(places, method="kmeans", clusters=2, min_cells=1, seed=0)
