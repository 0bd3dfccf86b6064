"""Clusters of cells that the labels do not explain: over-clustered k-means, the ratio rule, a verdict and exemplars."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import entropy
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from ctcml.errors import BadInput
from ctcml.novelty import density_ratio, uncertainty

ONE_SAMPLE = 0.8  # a cluster with more than this share of one sample is put down to that sample (stain, bubble)
MIXED = 1.5  # labelled cells with fewer than this many times the labelled neighbours of unlabelled ones are well mixed
NEIGHBOURS_WITHIN = 10

NEW, KNOWN, FEW_LABELS = "new kind of object", "known", "known, few labels"
ARTEFACT, TOO_SMALL = "lives on one sample: artefact", "too small to say"

Floats = npt.NDArray[np.floating]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One cluster (`tables.CLUSTERS`); `exemplars` are places of cells in what was clustered, the most typical first.

    `ratio` is unlabelled per labelled cell against the same figure over all cells. `label_entropy` (0..1) is that of
    the predicted classes. `samples` and `largest_sample_share` are of its unlabelled cells, or of all if there is
    none.
    """

    cluster: int
    size: int
    archive: int
    reference: int
    ratio: float
    label_entropy: float
    nearest_class: str
    samples: int
    largest_sample_share: float
    flagged: bool
    verdict: str
    exemplars: tuple[int, ...]


def find_clusters(
    latents: Floats,
    in_reference: npt.NDArray[np.bool_],
    predicted: Sequence[str],
    probabilities: Floats,
    sample_ids: Sequence[str],
    *,
    clusters: int,
    ratio: float,
    min_cells: int,
    neighbours: int,
    exemplars: int,
    seed: int,
) -> tuple[pd.DataFrame, list[Cluster]]:
    """Cluster labelled and unlabelled cells together and flag the clusters that hold too few labelled ones.

    Latents (N, D), probabilities (N, C), one entry a cell in the others; `in_reference` says which cells have a
    label. Returns `tables.DISCOVERY` without cell_uid, in the order given, where unlabelled cells of flagged clusters
    are flagged, and the clusters, the least explained first (a cluster's number is its place). Raises `BadInput`
    without labels.

    Measured on simulated data with 40 clusters and ratio 3: a new class of 15-20 % of the cells is flagged with
    purity .93-.96, nothing is flagged in a control; of a class with fewer than 40 cells often nothing is found. The
    rule sees a change of instrument just as well, so the labelled cells must come from the same kind of instrument.
    The paper's rule, label entropy, is reported but decides nothing: it fired in every control.
    """
    kinds, owners = np.asarray(predicted, dtype=object), np.asarray(sample_ids, dtype=object)
    _require_sound(latents, in_reference, kinds, probabilities, owners)
    placed = np.asarray(StandardScaler().fit_transform(latents.astype(np.float64)))
    wanted = max(1, min(clusters, len(placed) // min_cells, len(np.unique(placed, axis=0))))
    member = KMeans(wanted, n_init=4, random_state=seed).fit_predict(placed)

    class_names = sorted(set(kinds[in_reference]))
    class_centres = np.array([placed[in_reference & (kinds == name)].mean(axis=0) for name in class_names])
    per_label = float((~in_reference).sum() / in_reference.sum())
    found = []
    for number in range(wanted):
        rows = np.flatnonzero(member == number)
        unlabelled = rows[~in_reference[rows]]
        archive, reference = len(unlabelled), len(rows) - len(unlabelled)
        concerned = unlabelled if archive else rows
        _, per_sample = np.unique(owners[concerned], return_counts=True)
        _, per_kind = np.unique(kinds[rows], return_counts=True)
        centre = placed[concerned].mean(axis=0)
        largest = float(per_sample.max() / len(concerned))
        # One labelled cell is added so that a handful of cells without any label does not weigh as an infinite ratio.
        unexplained = archive / (reference + 1) / per_label if archive else 0.0
        verdict = KNOWN
        if unexplained > ratio:
            mixed = reference >= min_cells and _well_mixed(placed[rows], in_reference[rows])
            verdict = _verdict(archive >= min_cells, largest_sample_share=largest, mixed=mixed)
        found.append(
            Cluster(
                cluster=number,
                size=len(rows),
                archive=archive,
                reference=reference,
                ratio=unexplained,
                label_entropy=float(entropy(per_kind) / np.log(max(2, len(set(kinds))))),
                nearest_class=class_names[int(np.square(class_centres - centre).sum(axis=1).argmin())],
                samples=len(per_sample),
                largest_sample_share=largest,
                flagged=verdict == NEW,
                verdict=verdict,
                exemplars=_typical(placed, concerned, centre, exemplars),
            )
        )
    place, ordered = _numbered_by_ratio(member, found)
    cells = {
        "cluster": place,
        "novelty": density_ratio(latents, in_reference, neighbours=neighbours),
        "uncertainty": uncertainty(probabilities),
        "in_reference": in_reference,
        "flagged": np.array([one.flagged for one in ordered])[place] & ~in_reference,
    }
    return pd.DataFrame(cells), ordered


def clusters_table(found: Sequence[Cluster], cell_uids: Sequence[str]) -> pd.DataFrame:
    """Lay clusters out as `tables.CLUSTERS`; `cell_uids` in the order that was given to `find_clusters`."""
    rows = [asdict(one) | {"exemplars": [cell_uids[place] for place in one.exemplars]} for one in found]
    return pd.DataFrame(rows, columns=list(Cluster.__dataclass_fields__))


def _require_sound(latents: Floats, in_reference: npt.NDArray[np.bool_], *others: npt.NDArray[Any]) -> None:
    lengths = [len(latents), len(in_reference), *map(len, others)]
    if len(set(lengths)) > 1:
        raise BadInput(
            f"discovery: latents, in_reference, predicted, probabilities, samples: {lengths} rows; give one row a cell"
        )
    if not in_reference.any():
        raise BadInput(f"discovery: none of {len(latents)} cells has a label to compare with; read some cells first")
    if not np.isfinite(latents).all():
        raise BadInput("discovery: latents hold values that are not finite; embed the cells again with a sound model")


def _verdict(enough: bool, *, largest_sample_share: float, mixed: bool) -> str:
    if not enough:
        return TOO_SMALL
    if largest_sample_share > ONE_SAMPLE:
        return ARTEFACT
    return FEW_LABELS if mixed else NEW


def _well_mixed(placed: Floats, labelled: npt.NDArray[np.bool_]) -> bool:
    """Say whether labelled cells lie evenly among the unlabelled ones of a cluster.

    A class of which few cells have been read so far has a high ratio too. There, a labelled cell has no more labelled
    neighbours than an unlabelled cell has. Where a new kind merely touches a known one, labelled cells keep to
    themselves (the idea of Schilling's nearest-neighbour test of two samples, J Am Stat Assoc 1986).
    """
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS_WITHIN, len(placed) - 1)).fit(placed).kneighbors()[1]
    share = labelled[near].mean(axis=1)
    return bool(share[labelled].mean() < MIXED * share[~labelled].mean())


def _typical(placed: Floats, rows: Rows, centre: Floats, wanted: int) -> tuple[int, ...]:
    distance = np.square(placed[rows] - centre).sum(axis=1)
    return tuple(int(row) for row in rows[np.argsort(distance, kind="stable")[:wanted]])


def _numbered_by_ratio(
    member: npt.NDArray[np.int32], found: list[Cluster]
) -> tuple[npt.NDArray[np.int32], list[Cluster]]:
    ordered = sorted(found, key=lambda one: (-one.ratio, -one.size, one.exemplars))
    number_of = np.empty(len(found), dtype=np.int32)
    number_of[[one.cluster for one in ordered]] = np.arange(len(found), dtype=np.int32)
    return number_of[member], [replace(one, cluster=number) for number, one in enumerate(ordered)]
