"""Clusters of cells that the labels do not explain: over-clustered k-means, the ratio rule, and a verdict with its reasons.

Labelled cells, the reference, and unlabelled ones, the archive, are clustered together. Where no class is new, each cluster
holds the two in the proportion in which they were put in; a cluster with many times its share of the archive holds cells
that nobody has named. The proportion is that of each instrument by itself, so that an instrument with few labels is
not taken for a discovery, and cells of a shifted batch (`shift.py`) have no say at all.

Measured on simulated data with 40 clusters and ratio 3: a new class of 15 % of the cells is flagged with purity .92-1.0 and
nothing in a control; see the replay for this laboratory's own figures. The paper's rule, the entropy of predicted
classes, is reported but decides nothing: it fired in every control.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import entropy
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler, normalize

from ctcml.appearance import brightness
from ctcml.errors import BadInput
from ctcml.grouping import STARTS, Grouping, group
from ctcml.novelty import Seen
from ctcml.portraits import (
    Spread,
    artefact,
    exemplars,
    lineage,
    marker_cuts,
    marker_profile,
    names,
    spread,
    stability,
)

Representation = Literal["latents", "appearance"]
REPRESENTATIONS: tuple[Representation, ...] = ("latents", "appearance")
FARTHEST = 5.0  # standard deviations; a speck of debris must not stretch a whole axis
MIXED = 1.5  # labelled cells with fewer than this many times the labelled neighbours of unlabelled ones are well mixed
NEIGHBOURS_WITHIN = 10
DEALS = 200
FEWEST_MIXED = 5  # labelled cells, to say whether they are well mixed
TOUCHING = 0.1  # of the neighbours of a cluster's cells; flagged clusters that touch so are pieces of one

NEW, KNOWN, FEW_LABELS = "new kind of object", "known", "known, few labels"
ARTEFACT, TOO_SMALL, SHIFTED = "artefact", "too small to say", "shifted batch"

Floats = npt.NDArray[np.floating]
Rows = npt.NDArray[np.intp]
Yes = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How clusters are made and flagged; the replay supports `representation` and `ratio` with figures."""

    representation: Representation
    ratio: float
    clusters: int
    min_cells: int
    method: Literal["kmeans", "hdbscan"] = "kmeans"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One cluster (`tables.CLUSTERS`); the three kinds of exemplars are row numbers of what was clustered.

    `name` stays when cells are clustered again, `cluster` does not. `ratio` is unlabelled cells over the number that the
    labelled ones let expect. `label_entropy` (0..1) is that of the predicted classes. `novelty` and `uncertainty` are means
    over the unlabelled cells, `stability` is a bootstrap Jaccard index. Samples, shares and the profile are of the
    unlabelled cells, or of all if there is none; a sample is a cartridge.
    """

    cluster: int
    name: str
    came_from: str
    size: int
    archive: int
    reference: int
    noise: int
    ratio: float
    label_entropy: float
    novelty: float
    uncertainty: float
    stability: float
    nearest_class: str
    profile: str
    samples: int
    patients: int
    largest_sample_share: float
    largest_frame_share: float
    largest_region_share: float
    largest_date_share: float
    flagged: bool
    verdict: str
    exemplars: tuple[int, ...]
    border_exemplars: tuple[int, ...]
    random_exemplars: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Flags:
    """The bare result of the rule: `member` of each cell (N,), and a figure or a verdict of each cluster (K,)."""

    grouping: Grouping
    archive: npt.NDArray[np.int64]
    reference: npt.NDArray[np.int64]
    ratio: npt.NDArray[np.float64]
    verdicts: list[str]

    def of_cells(self, in_reference: Yes) -> Yes:
        """Whether each cell is an unlabelled one of a flagged cluster."""
        flagged = np.array([verdict == NEW for verdict in self.verdicts])
        return np.asarray(flagged[self.grouping.member] & ~in_reference)


def place(seen: Seen, in_reference: Yes, representation: Representation) -> Floats:
    """Cells as points (N, D) whose axes have like scales: directions of latents, or appearance in deviations of the reference.

    Raises `BadInput` without labels, and when there is not one entry a cell.
    """
    if in_reference.shape != (len(seen),) or not in_reference.any():
        raise BadInput(
            f"discovery: {int(in_reference.sum())} of {len(in_reference)} cells have a label to compare with, {len(seen)} have"
            " figures; read some cells first and give one row a cell"
        )
    if representation == "latents":
        return np.asarray(normalize(seen.latents.astype(np.float64)))
    scale = StandardScaler().fit(seen.appearance[in_reference].astype(np.float64))
    return np.asarray(scale.transform(seen.appearance).clip(-FARTHEST, FARTHEST))


def flag_clusters(
    cells: pd.DataFrame, placed: Floats, made: Grouping, rule: Rule, *, shifted: Collection[str] = ()
) -> Flags:
    """Give each cluster of `made`, of cells `placed` (N, D), a verdict.

    `cells` has sample_uid, patient_uid, instrument and in_reference, and frame, x_px, y_px and date where they are known.
    Unlabelled cells of the instruments in `shifted` are in clusters too, but speak for no class. Pieces of one flagged kind
    that touch become one cluster.
    """
    in_reference = cells["in_reference"].to_numpy(dtype=bool)
    aside = ~in_reference & cells["instrument"].isin(set(shifted)).to_numpy()
    first = _judged(cells, placed, made, in_reference, aside, rule)
    joined = _joined(placed, made.member, [verdict == NEW for verdict in first.verdicts])
    if joined is made.member:
        return first
    return _judged(cells, placed, replace(made, member=joined), in_reference, aside, rule)


def _judged(cells: pd.DataFrame, placed: Floats, made: Grouping, in_reference: Yes, aside: Yes, rule: Rule) -> Flags:
    asked = ~in_reference & ~aside
    archive, reference, ratio = unexplained(made.member, in_reference, asked, cells["instrument"].to_numpy())
    whole = _spread(cells, np.flatnonzero(asked))
    verdicts = []
    for number, unlabelled in enumerate(archive):
        rows = np.flatnonzero(made.member == number)
        verdict = KNOWN
        if aside[rows].mean() > 0.5:
            verdict = SHIFTED
        elif ratio[number] > rule.ratio:
            spread_of = _spread(cells, rows[asked[rows]])
            mixed = reference[number] >= FEWEST_MIXED and _well_mixed(placed[rows], in_reference[rows])
            verdict = _verdict(unlabelled >= rule.min_cells, artefact(spread_of, whole), mixed=mixed)
        verdicts.append(verdict)
    return Flags(grouping=made, archive=archive, reference=reference, ratio=ratio, verdicts=verdicts)


def unexplained(
    member: npt.NDArray[np.int32], in_reference: Yes, asked: Yes, instruments: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Unlabelled cells, labelled cells, and the ratio of the first to what the second let expect, of each cluster (K,).

    What is expected is added up over the instruments, from the labelled cells of each or, where it has none, from all.
    """
    number = int(member.max()) + 1
    reference = np.bincount(member[in_reference], minlength=number)
    archive = np.bincount(member[asked], minlength=number)
    expected = np.zeros(number)
    for instrument in np.unique(instruments[asked]):
        own = in_reference & (instruments == instrument)
        known = own if own.any() else in_reference
        unlabelled = (asked & (instruments == instrument)).sum()
        expected += np.bincount(member[known], minlength=number) * (unlabelled / known.sum())
    # One labelled cell is added so that a handful of cells without any label does not weigh as an infinite ratio.
    one_label = asked.sum() / in_reference.sum()
    return archive, reference, archive / np.maximum(expected + one_label, 1e-12)


def find_clusters(
    cells: pd.DataFrame,
    seen: Seen,
    novelty: npt.NDArray[np.float64],
    uncertainty: npt.NDArray[np.float64],
    rule: Rule,
    *,
    shifted: Collection[str] = (),
    former: Mapping[str, str],
    exemplars_shown: int,
    draws: int,
    seed: int,
) -> tuple[pd.DataFrame, list[Cluster]]:
    """Flag clusters and paint the portrait of each.

    `cells` as in `flag_clusters`, with cell_uid and predicted too; `former` gives the name of each cell's cluster in the
    version before. Returns `tables.DISCOVERY`, in the order given, and the clusters, the least explained first (a
    cluster's number is its place).
    """
    uids, rng = cells["cell_uid"].tolist(), np.random.default_rng([seed, 4])
    in_reference = cells["in_reference"].to_numpy(dtype=bool)
    placed = place(seen, in_reference, rule.representation)

    def grouped(places: Floats, dice: int, starts: int) -> Grouping:
        return group(
            places, method=rule.method, clusters=rule.clusters, min_cells=rule.min_cells, seed=dice, starts=starts
        )

    def again(places: Floats, dice: int) -> npt.NDArray[np.int32]:
        return grouped(places, dice, 1).member

    flags = flag_clusters(cells, placed, grouped(placed, seed, STARTS), rule, shifted=shifted)
    made = flags.grouping
    steady = stability(placed, made.member, regroup=again, draws=draws, rng=rng)
    named = names(former, uids, made.member)
    came_from = lineage(former, uids, [named[number] for number in made.member]).came_from
    levels = brightness(seen.appearance)
    cuts = marker_cuts(levels, np.flatnonzero(in_reference))
    centres = np.stack([placed[made.member == number].mean(axis=0) for number in range(len(named))])
    kinds = cells["predicted"].to_numpy(dtype=object)
    class_centres = {
        name: placed[in_reference & (kinds == name)].mean(axis=0) for name in sorted(set(kinds[in_reference]))
    }
    found = []
    for number, name in enumerate(named):
        rows = np.flatnonzero(made.member == number)
        unlabelled = rows[~in_reference[rows]]
        concerned = unlabelled if len(unlabelled) else rows
        lives = _spread(cells, concerned)
        shown = exemplars(
            placed, concerned, elsewhere=np.delete(centres, number, axis=0), typical=exemplars_shown,
            border=exemplars_shown, random=exemplars_shown, rng=rng,
        )  # fmt: skip
        _, per_kind = np.unique(kinds[rows].astype(str), return_counts=True)
        away = {one: float(np.square(centre - centres[number]).sum()) for one, centre in class_centres.items()}
        found.append(
            Cluster(
                cluster=number,
                name=name,
                came_from=came_from.get(name, ""),
                size=len(rows),
                archive=len(unlabelled),
                reference=len(rows) - len(unlabelled),
                noise=int(made.noise[rows].sum()),
                ratio=float(flags.ratio[number]),
                label_entropy=float(entropy(per_kind) / np.log(max(2, len(set(kinds))))),
                novelty=_mean(novelty[unlabelled]),
                uncertainty=_mean(uncertainty[unlabelled]),
                stability=float(steady[number]),
                nearest_class=min(away, key=lambda one: away[one]),
                profile=marker_profile(levels, concerned, cuts).sentence,
                samples=lives.samples,
                patients=lives.patients,
                largest_sample_share=lives.sample_share,
                largest_frame_share=lives.frame_share,
                largest_region_share=lives.region_share,
                largest_date_share=lives.date_share,
                flagged=flags.verdicts[number] == NEW,
                verdict=flags.verdicts[number],
                exemplars=shown.typical,
                border_exemplars=shown.border,
                random_exemplars=shown.random,
            )
        )
    number_of, ordered = _numbered_by_ratio(found)
    table = {
        "cell_uid": uids,
        "cluster": number_of[made.member],
        "cluster_name": [named[number] for number in made.member],
        "novelty": novelty,
        "uncertainty": uncertainty,
        "in_reference": in_reference,
        "shifted": ~in_reference & cells["instrument"].isin(set(shifted)).to_numpy(),
        "flagged": flags.of_cells(in_reference) & ~cells["instrument"].isin(set(shifted)).to_numpy(),
    }
    return pd.DataFrame(table), ordered


def clusters_table(found: list[Cluster], cell_uids: list[str]) -> pd.DataFrame:
    """Lay clusters out as `tables.CLUSTERS`; `cell_uids` in the order that was given to `find_clusters`."""
    rows = [
        asdict(one)
        | {
            kind: [cell_uids[place] for place in getattr(one, kind)]
            for kind in ("exemplars", "border_exemplars", "random_exemplars")
        }
        for one in found
    ]
    return pd.DataFrame(rows, columns=list(Cluster.__dataclass_fields__))


def _spread(cells: pd.DataFrame, rows: Rows) -> Spread:
    def column(name: str) -> npt.NDArray[Any] | None:
        return cells[name].to_numpy() if name in cells else None

    places = cells[["x_px", "y_px"]].to_numpy(dtype=float) if "x_px" in cells else None
    return spread(
        rows, samples=cells["sample_uid"].to_numpy(), patients=cells["patient_uid"].to_numpy(), dates=column("date"),
        frames=column("frame"), xy=places,
    )  # fmt: skip


def _verdict(enough: bool, why: str, *, mixed: bool) -> str:
    if not enough:
        return TOO_SMALL
    if why:
        return f"{ARTEFACT}: {why}"
    return FEW_LABELS if mixed else NEW


def _well_mixed(placed: Floats, labelled: Yes) -> bool:
    """Say whether labelled cells lie evenly among the unlabelled ones of a cluster.

    A class of which few cells have been read so far has a high ratio too. There, a labelled cell has no more labelled
    neighbours than labels dealt out at random would give it. Where a new kind merely touches a known one, labelled cells
    keep to themselves (Schilling's nearest-neighbour test of two samples, J Am Stat Assoc 1986).
    """
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS_WITHIN, len(placed) - 1)).fit(placed).kneighbors()[1]
    rng = np.random.default_rng(0)  # one deal of labels is as good as another
    dealt = [rng.permutation(labelled) for _ in range(DEALS)]
    usual = np.quantile([one[near][one].mean() for one in dealt], 0.99)
    found = labelled[near].mean(axis=1)
    return bool(found[labelled].mean() < max(MIXED * found[~labelled].mean(), usual))


def _joined(placed: Floats, member: npt.NDArray[np.int32], flagged: list[bool]) -> npt.NDArray[np.int32]:
    """Members in which flagged clusters that touch are one; the very same array when none do."""
    flagged_ones = np.flatnonzero(flagged)
    rows = np.flatnonzero(np.isin(member, flagged_ones))
    if len(flagged_ones) < 2 or len(rows) <= NEIGHBOURS_WITHIN:
        return member
    near = NearestNeighbors(n_neighbors=NEIGHBOURS_WITHIN).fit(placed[rows]).kneighbors()[1]
    whose, theirs = member[rows], member[rows][near]
    first = {int(one): int(one) for one in flagged_ones}
    for one in flagged_ones:
        for other in flagged_ones:
            if (
                one < other
                and max((theirs[whose == one] == other).mean(), (theirs[whose == other] == one).mean()) > TOUCHING
            ):
                keep, gone = sorted((first[int(one)], first[int(other)]))
                first = {number: keep if to == gone else to for number, to in first.items()}
    if all(number == to for number, to in first.items()):
        return member
    moved = np.array([first.get(int(number), int(number)) for number in range(int(member.max()) + 1)])
    return np.unique(moved[member], return_inverse=True)[1].astype(np.int32)


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _numbered_by_ratio(found: list[Cluster]) -> tuple[npt.NDArray[np.int32], list[Cluster]]:
    ordered = sorted(found, key=lambda one: (not one.flagged, -one.ratio, -one.size, one.exemplars))
    number_of = np.empty(len(found), dtype=np.int32)
    number_of[[one.cluster for one in ordered]] = np.arange(len(found), dtype=np.int32)
    return number_of, [replace(one, cluster=number) for number, one in enumerate(ordered)]
