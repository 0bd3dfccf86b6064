"""The ratio rule on point clouds whose kinds are known: 40 clusters and ratio 3, as in params.yaml."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from ctcml.clusters import ARTEFACT, FEW_LABELS, KNOWN, TOO_SMALL, Cluster, clusters_table, find_clusters
from ctcml.errors import BadInput
from ctcml.tables import CLUSTERS, DISCOVERY, check

RULE = {"clusters": 40, "ratio": 3.0, "min_cells": 10, "neighbours": 30, "exemplars": 12, "seed": 20}
KINDS = np.array(["ctc", "tdev", "wbc", "bare_nucleus", "other", "new"], dtype=object)


class Archive:
    """Five known kinds, a share of each labelled, and maybe a sixth, which the model takes for tdEV or other."""

    def __init__(self, *, new: int, labelled_share: float = 0.6, new_labelled: float = 0.0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.kind = np.repeat(np.arange(6), [260, 460, 600, 160, 140, new])
        centres = rng.normal(0, 2.2, (6, 50))
        self.latents = centres[self.kind] + rng.normal(0, 1, (len(self.kind), 50))
        share = np.where(self.kind == 5, new_labelled, labelled_share)
        self.labelled = rng.random(len(self.kind)) < share
        guess = np.where(rng.random(len(self.kind)) < 0.6, 1, 4)
        self.predicted = KINDS[np.where(self.kind == 5, 5 if new_labelled else guess, self.kind)]
        self.probabilities = np.full((len(self.kind), 6), 0.04)
        self.probabilities[np.arange(len(self.kind)), self.kind] = 0.8
        self.samples = np.array([f"s{number}" for number in rng.integers(0, 30, len(self.kind))], dtype=object)

    def clustered(self, **changes: Any) -> tuple[pd.DataFrame, list[Cluster]]:
        return find_clusters(
            self.latents, self.labelled, self.predicted, self.probabilities, self.samples, **{**RULE, **changes}
        )


def flagged_cells(clustered: tuple[pd.DataFrame, list[Cluster]]) -> npt.NDArray[np.bool_]:
    return clustered[0]["flagged"].to_numpy()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_new_kind_of_a_sixth_of_the_cells_is_flagged_pure_and_nearly_whole(seed: int) -> None:
    archive = Archive(new=350, seed=seed)
    flagged = flagged_cells(archive.clustered())
    new = archive.kind == 5
    assert new[flagged].mean() >= 0.9  # science targets: purity .9, recall .85
    assert flagged[new].mean() >= 0.85


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nothing_is_flagged_where_there_is_nothing_new(seed: int) -> None:
    archive = Archive(new=0, seed=seed)
    assert not flagged_cells(archive.clustered()).any()


def test_forty_new_cells_are_found() -> None:
    archive = Archive(new=40)
    flagged = flagged_cells(archive.clustered())
    assert (archive.kind == 5)[flagged].mean() >= 0.6


def test_a_class_of_which_few_cells_are_read_yet_is_not_called_new() -> None:
    archive = Archive(new=350, new_labelled=0.14)
    cells, found = archive.clustered(clusters=12)
    of_cell = cells["cluster"]
    concerned = {int(one) for one in of_cell[archive.kind == 5]}
    verdicts = {one.verdict for one in found if one.cluster in concerned and one.archive > 50}
    assert verdicts == {FEW_LABELS}
    assert not cells["flagged"].any()


def test_a_cluster_that_lives_on_one_sample_is_an_artefact() -> None:
    archive = Archive(new=120)
    archive.samples[archive.kind == 5] = "s7"
    cells, found = archive.clustered()
    of_cell = cells["cluster"].to_numpy()
    concerned = [found[place] for place in np.unique(of_cell[archive.kind == 5]) if found[place].archive >= 10]
    assert {one.verdict for one in concerned} == {ARTEFACT}
    assert {one.largest_sample_share for one in concerned} == {1.0}
    assert not any(one.flagged for one in found)


def test_a_handful_of_cells_is_too_small_to_say() -> None:
    archive = Archive(new=8)
    cells, found = archive.clustered()
    of_cell = cells["cluster"].to_numpy()
    (place,) = {int(one) for one in of_cell[archive.kind == 5]}
    assert found[place].verdict == TOO_SMALL
    assert not found[place].flagged


def test_clusters_are_the_same_for_the_same_seed_and_numbered_by_ratio() -> None:
    archive = Archive(new=200)
    cells, found = archive.clustered()
    of_cell = cells["cluster"].to_numpy()
    again, found_again = archive.clustered()
    pd.testing.assert_frame_equal(cells, again)
    assert found == found_again
    assert [one.cluster for one in found] == list(range(len(found)))
    assert [one.ratio for one in found] == sorted((one.ratio for one in found), reverse=True)
    assert np.bincount(of_cell).tolist() == [one.size for one in found]


def test_exemplars_are_the_unlabelled_cells_nearest_to_the_centre_most_typical_first() -> None:
    archive = Archive(new=200)
    cells, found = archive.clustered()
    of_cell = cells["cluster"].to_numpy()
    new = next(one for one in found if one.flagged)
    places = np.array(new.exemplars)
    assert len(places) == RULE["exemplars"]
    assert (of_cell[places] == new.cluster).all()
    assert not archive.labelled[places].any()
    spread = archive.latents.std(axis=0)
    members = np.flatnonzero((of_cell == new.cluster) & ~archive.labelled)
    centre = archive.latents[members].mean(axis=0)
    distances = np.linalg.norm((archive.latents[places] - centre) / spread, axis=1)
    assert (np.diff(distances) >= 0).all()


def test_a_known_cluster_names_the_class_it_is_nearest_to() -> None:
    archive = Archive(new=0)
    cells, found = archive.clustered()
    of_cell = cells["cluster"].to_numpy()
    for name in ("ctc", "wbc"):
        place = int(of_cell[archive.predicted == name][0])
        assert found[place].nearest_class == name
        assert found[place].verdict == KNOWN
        assert found[place].label_entropy == 0


def test_cells_and_clusters_are_the_declared_tables() -> None:
    archive = Archive(new=200)
    cells, found = archive.clustered()
    uids = [f"c{number}" for number in range(len(cells))]
    table = clusters_table(found, uids)
    check(cells.assign(cell_uid=uids), DISCOVERY, "discovery")
    check(table, CLUSTERS, "clusters")
    assert table["exemplars"][0][0] == f"c{found[0].exemplars[0]}"
    assert not (cells["flagged"] & cells["in_reference"]).any()
    assert cells["uncertainty"].to_numpy() == pytest.approx(0.24)
    assert cells["novelty"][archive.kind == 5].mean() > 0.9


def test_few_cells_give_few_clusters() -> None:
    archive = Archive(new=0)
    few = slice(0, 2000, 60)
    cells, found = find_clusters(
        archive.latents[few],
        archive.labelled[few],
        archive.predicted[few],
        archive.probabilities[few],
        archive.samples[few],
        **RULE,
    )
    assert len(found) == len(cells) // RULE["min_cells"]


def test_clustering_refuses_what_it_cannot_compare() -> None:
    archive = Archive(new=0)
    archive.labelled[:] = False
    with pytest.raises(BadInput, match=r"none of \d+ cells has a label"):
        archive.clustered()
    archive.labelled[0], archive.latents[3, 3] = True, np.inf
    with pytest.raises(BadInput, match="not finite"):
        archive.clustered()
    archive.samples = archive.samples[1:]
    with pytest.raises(BadInput, match="one row a cell"):
        archive.clustered()
