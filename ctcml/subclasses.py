"""Subclasses of a class: populations that the latent space holds apart, counted in every tube; exploratory throughout.

The paper sees six populations of tdEVs on its Fig. 2d and asks for "their association to the clinical outcome". Here k-means
divides the cells that the champion calls so of training patients, and every cell of the class, whoever's it is, goes to the
nearest centre. The number of subclasses is chosen by people (params.yaml), the numbers that they get mean something under the
same champion only, and nobody has confirmed that one of them is a kind of cell. Survival takes the cells among all events:
CellSearch presents what has cytokeratin and a nucleus, so hardly any tdEV is among its own events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import gammaincinv
from sklearn.preprocessing import normalize

from ctcml.appearance import NAMES, brightness
from ctcml.counts import TUBE_ML
from ctcml.grouping import STARTS, group
from ctcml.landmark import last_samples
from ctcml.portraits import marker_cuts, marker_profile, stability
from ctcml.survival import analyse
from ctcml.tables import SUBCLASS_CELLS, SUBCLASS_COUNTS

APART, MOST_TOLD = 0.4, 3  # spreads of the class from which a difference is told, and how many of them are
VISIBLE = 16  # grey levels of 255: peaks that differ by less differ in their noise
STANDING_OUT = {  # appearance -> words for more and for less of it
    **{f"{plane.lower()}_peak": (f"brighter {plane}", f"dimmer {plane}") for plane in ("CD45", "DAPI", "CK")},
    "ck_area": ("larger", "smaller"),
    "ck_eccentricity": ("longer", "rounder"),
    "ck_roughness": ("grainier", "smoother"),
}

Floats = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Found:
    """The subclasses of one class: `tables.SUBCLASS_CELLS`, and a record of each subclass, ready for JSON.

    Where there are too few cells both are empty and `refusal` says so.
    """

    class_id: str
    cells: pd.DataFrame
    subclasses: tuple[dict[str, Any], ...]
    refusal: str | None
    wanted: int


def find_subclasses(cells: pd.DataFrame, class_id: str, number: int, *, min_cells: int, draws: int, seed: int) -> Found:
    """Divide the cells predicted as one class into `number` subclasses, the one with most training cells first.

    `cells` holds all cells: cell_uid, sample_uid, patient_uid, role (set of the patient), predicted, p_class, latent and
    appearance. Marker signs are set by the training patients' cells of all classes, `looks` beside the class itself.
    """
    of_class = cells[cells["predicted"] == class_id].reset_index(drop=True)
    training = of_class["role"].eq("train").to_numpy(dtype=bool)
    if training.sum() < number * min_cells:
        refusal = (
            f"{class_id}: {int(training.sum())} cells of training patients, at least {number * min_cells} are needed for"
            f" {number} subclasses ({min_cells} each); none are counted"
        )
        nothing = pd.DataFrame(columns=list(SUBCLASS_CELLS))
        return Found(class_id=class_id, cells=nothing, subclasses=(), refusal=refusal, wanted=number)
    placed = np.asarray(normalize(np.stack(of_class["latent"].to_list()).astype(np.float64)))

    def grouped(places: Floats, dice: int, starts: int) -> NDArray[np.int32]:
        return group(places, method="kmeans", clusters=number, min_cells=min_cells, seed=dice, starts=starts).member

    learnt = placed[training]
    centres = _largest_first(learnt, grouped(learnt, seed, STARTS))
    away = cdist(placed, centres)
    member = away.argmin(axis=1)
    steady = stability(
        learnt,
        member[training],
        regroup=lambda places, dice: grouped(places, dice, 1),
        draws=draws,
        rng=np.random.default_rng([seed, 32]),
    )
    table = of_class[["cell_uid", "sample_uid", "patient_uid", "p_class"]].assign(
        class_id=class_id, subclass=member + 1, distance=away.min(axis=1)
    )
    told = _portraits(cells, of_class, member)
    records = tuple(
        {
            "subclass": at + 1,
            "name": f"{class_id}-{at + 1}",
            "cells": int((member == at).sum()),
            "training_cells": int((training & (member == at)).sum()),
            "patients": int(table.loc[member == at, "patient_uid"].nunique()),
            "largest_patient_share": _largest_share(table.loc[member == at, "patient_uid"]),
            "stability": float(steady[at]) if at < len(steady) and np.isfinite(steady[at]) else None,
            **told[at],
        }
        for at in range(len(centres))
    )
    return Found(class_id=class_id, cells=table[list(SUBCLASS_CELLS)], subclasses=records, refusal=None, wanted=number)


def _largest_first(places: Floats, member: NDArray[np.int32]) -> Floats:
    """Centres (K, D) of the clusters of `places` (n, D), the one with most cells first."""
    sizes = np.bincount(member)
    return np.stack([places[member == at].mean(axis=0) for at in np.argsort(-sizes, kind="stable")])


def _largest_share(patients: pd.Series) -> float | None:
    return float(patients.value_counts(normalize=True).iloc[0]) if len(patients) else None


def _portraits(cells: pd.DataFrame, of_class: pd.DataFrame, member: NDArray[Any]) -> list[dict[str, str]]:
    """Staining profile and looks of each subclass in words."""
    seen = np.stack(of_class["appearance"].to_list()).astype(np.float32)
    reference = np.stack(cells.loc[cells["role"] == "train", "appearance"].to_list()).astype(np.float32)
    cuts = marker_cuts(brightness(reference), np.arange(len(reference)))
    levels = brightness(seen)
    return [
        {
            "profile": marker_profile(levels, np.flatnonzero(member == at), cuts).sentence,
            "looks": looks_of(seen, member == at),
        }
        for at in range(int(member.max()) + 1)
    ]


def looks_of(seen: Floats, inside: NDArray[np.bool_]) -> str:
    """What sets cells apart from the rest of their class, in words: the medians that differ most, in spreads of the class.

    `seen` (N, 33) are the columns of `appearance.NAMES`. A spread is 1.4826 times the median absolute deviation.
    """
    if inside.all() or not inside.any():
        return ""
    differing = []
    for name, (more, less) in STANDING_OUT.items():
        column = seen[:, NAMES.index(name)]
        spread = 1.4826 * float(np.median(np.abs(column - np.median(column))))
        away = float(np.median(column[inside]) - np.median(column[~inside]))
        seen_by_eye = not name.endswith("_peak") or abs(away) >= VISIBLE
        if spread > 0 and abs(away) > APART * spread and seen_by_eye:
            differing.append((abs(away) / spread, more if away > 0 else less))
    return ", ".join(words for _, words in sorted(differing, reverse=True)[:MOST_TOLD])


def count_subclasses(found: Found, cells: pd.DataFrame, samples: pd.DataFrame, *, interval: float) -> pd.DataFrame:
    """Count each subclass in every tube that has cells, over each denominator that the tube has (`tables.SUBCLASS_COUNTS`).

    `cells` holds all cells with cell_uid, sample_uid and proposed. The interval is that of the concentration given the
    count (Jeffreys prior, as in `ctcml.counts`): it knows of drawing one tube, not of what the network is unsure of.
    """
    numbers = [one["subclass"] for one in found.subclasses]
    known = samples.set_index("sample_uid")
    named = cells[["cell_uid", "sample_uid", "proposed"]].merge(
        found.cells[["cell_uid", "subclass"]], on="cell_uid", how="left"
    )
    rows = []
    for sample_uid, of_sample in named.groupby("sample_uid", sort=True):
        if sample_uid not in known.index or not numbers:
            continue
        sample = known.loc[sample_uid]
        among = {"all": of_sample}
        if not of_sample["proposed"].isna().any():
            among["proposed"] = of_sample[of_sample["proposed"].astype(bool)]
        for denominator, counted in among.items():
            tally = counted["subclass"].value_counts()
            rows += [
                {
                    "sample_uid": sample_uid, "patient_uid": sample["patient_uid"], "cancer_type": sample["cancer_type"],
                    "class_id": found.class_id, "subclass": number, "denominator": denominator,
                    "count": int(tally.get(number, 0)), "of_class": int(tally.sum()),
                    "tubes": float(sample["blood_volume_ml"]) / TUBE_ML,
                }
                for number in numbers
            ]  # fmt: skip
    table = pd.DataFrame(rows, columns=[*(name for name in SUBCLASS_COUNTS if name not in ("per_7_5_ml", "low", "high")), "tubes"])  # fmt: skip
    count, tubes, tail = table["count"].astype(float), table["tubes"].astype(float), (1 - interval) / 2
    table = table.assign(
        per_7_5_ml=count / tubes,
        low=np.where(count > 0, gammaincinv(count + 0.5, tail), 0.0) / tubes,
        high=gammaincinv(count + 0.5, 1 - tail) / tubes,
    )
    return table[list(SUBCLASS_COUNTS)]


def subclass_survival(
    counts: pd.DataFrame, samples: pd.DataFrame, *, endpoint: str, min_events: int
) -> list[dict[str, Any]]:
    """Survival of all patients by the count of each subclass of `counts`, with the trend's p corrected over them (Holm).

    One tube a patient, the last before therapy, as in every other survival analysis. Arms are split at the median of the tubes, a cut-off that nobody prespecified;
    the corrected p is that of the hazard ratio per unit of ln(1 + count), which has none. A report of `ctcml.survival`
    each, with `subclass`, `class_id` and `p_corrected`.
    """
    at_start = last_samples(samples[samples["sample_kind"] == "patient"], None)
    clinical = at_start[["sample_uid", f"{endpoint}_months", f"{endpoint}_event"]].set_axis(
        ["sample_uid", "duration", "event"], axis=1
    )
    rows = counts[counts["denominator"] == "all"].merge(clinical, on="sample_uid")
    reports = []
    for (class_id, number), of_one in rows.groupby(["class_id", "subclass"], sort=True):
        table = of_one[["duration", "event"]].assign(count=of_one["per_7_5_ml"])
        report = analyse(
            table,
            cutoff=median_split(table["count"].to_numpy()),
            label=f"{class_id}-{number} per 7.5 ml, all patients, split at the median",
            min_events=min_events,
            exploratory=True,
        ).to_dict()
        reports.append(report | {"class_id": class_id, "subclass": int(number)})
    tested = [one for one in reports if one["cox_log_count"]]
    corrected = holm([one["cox_log_count"]["p"] for one in tested])
    of_tested = {id(one): p for one, p in zip(tested, corrected, strict=True)}
    return [one | {"p_corrected": of_tested.get(id(one)), "tests": len(tested)} for one in reports]


def median_split(counts: Floats) -> float:
    """The count that halves the tubes most evenly: the median, but where many tubes have it, on its better side.

    >>> [median_split(np.array(counts)) for counts in ([1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 2.0], [0.0, 0.0])]
    [3.0, 2.0, 1.0]
    """
    seen = np.unique(counts)
    if len(seen) < 2:  # nobody is above, and the analysis will say so
        return float(seen.max(initial=0.0)) + 1
    above = np.array([(counts >= one).sum() for one in seen[1:]])
    return float(seen[1:][np.abs(2 * above - len(counts)).argmin()])


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrected p values (Holm 1979, Scand J Stat 6:65), in the order given.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    stepped = np.sort(p_values) * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return [float(p) for p in corrected]


def exemplars_of(cells: pd.DataFrame, number: int, most: int, rng: np.random.Generator) -> Mapping[str, pd.DataFrame]:
    """Cells of one subclass to look at, half nearest its centre and half drawn from the others, no cell twice."""
    own = cells[cells["subclass"] == number].sort_values(["distance", "cell_uid"])
    typical, rest = own.head(most - most // 2), own.iloc[most - most // 2 :]
    return {"typical": typical, "random": rest.iloc[np.sort(rng.permutation(len(rest))[: most // 2])]}
