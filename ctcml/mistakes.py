"""Which CTCs a model missed and which cells it called CTC wrongly, by cancer type and by probability.

The paper lists them so: 36 missed and 91 false CTCs by cancer type and by the class they were called or labelled, how
many of these decisions had a probability above 75 % and 90 %, the share of wrong cells of each cancer type over all
classes, and the thumbnails themselves (Results; Supplementary Fig. 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.bootstrap import Floats, patient_sums, patient_weights, ratio, share_interval

CTC = "ctc"
CONFIDENCE = 0.95
BINS = 10
ALL = "all"  # the name of the last line, over all cancer types


@dataclass(frozen=True, kw_only=True)
class Mistaken:
    """`mistakes` of `cells` with the 95 % interval of their share; no interval where fewer than two patients have such
    cells.
    """

    mistakes: int
    cells: int
    low: float | None
    high: float | None
    above: tuple[int, ...]  # mistakes decided with a probability above each threshold
    classes: dict[str, int]  # mistakes by what a missed CTC was called, else by the settled label


@dataclass(frozen=True, kw_only=True)
class OfCancerType:
    """The mistakes of one cancer type: `wrong` over all classes, `missed` of its CTCs, `false` of its other cells."""

    cancer_type: str
    patients: int
    wrong: Mistaken
    missed: Mistaken
    false: Mistaken


@dataclass(frozen=True, kw_only=True)
class OfProbability:
    """Settled cells with `low` <= p(CTC) < `high` (1 belongs to the last bin) and the mistakes among them."""

    low: float
    high: float
    ctc: int
    missed: int
    not_ctc: int
    false: int


def judged_cells(
    cells: pd.DataFrame, cancer_types: Sequence[str], probabilities: NDArray[Any], classes: Sequence[str]
) -> pd.DataFrame:
    """Put what the model says beside each settled cell (`tables.TRUTH`): the arg-max class and its probability, p(CTC).

    `probabilities` is (cells, classes) in the order of `classes`; p(CTC) is 0 for a model that does not know the class.
    """
    return pd.DataFrame(
        {
            "cell_uid": cells["cell_uid"].to_numpy(),
            "patient_uid": cells["patient_uid"].to_numpy(),
            "sample_uid": cells["sample_uid"].to_numpy(),
            "cancer_type": list(cancer_types),
            "true_class": cells["class_id"].to_numpy(),
            "predicted": np.asarray(classes, dtype=object)[probabilities.argmax(axis=1)],
            "p_ctc": probabilities[:, list(classes).index(CTC)] if CTC in classes else 0.0,
            "p_predicted": probabilities.max(axis=1),
        }
    )


def find_mistakes(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the missed CTCs, then the false ones (`tables.MISTAKES`), by cancer type, the surest mistake first."""
    is_ctc, called_ctc = judged["true_class"] == CTC, judged["predicted"] == CTC
    found = judged.assign(kind=np.where(is_ctc, "missed", "false"))[is_ctc != called_ctc]
    missed = found["kind"] == "missed"
    found = found.assign(first=~missed, doubt=found["p_ctc"].where(missed, -found["p_ctc"]))
    in_order = found.sort_values(["first", "cancer_type", "doubt", "cell_uid"], ignore_index=True)
    return in_order.drop(columns=["first", "doubt"])


def mistakes_by_cancer_type(
    judged: pd.DataFrame, *, thresholds: Sequence[float], bootstrap: int, rng: np.random.Generator
) -> list[OfCancerType]:
    """Count the mistakes of each cancer type, in order of name, and of all; intervals resample the type's patients."""
    groups = [(str(name), cells) for name, cells in judged.groupby("cancer_type")]
    return [_of_cancer_type(name, cells, thresholds, bootstrap, rng) for name, cells in [*groups, (ALL, judged)]]


def _of_cancer_type(
    name: str, cells: pd.DataFrame, thresholds: Sequence[float], bootstrap: int, rng: np.random.Generator
) -> OfCancerType:
    patients = cells["patient_uid"].nunique()
    weights = patient_weights(patients, draws=bootstrap, rng=rng)
    is_ctc = cells["true_class"] == CTC
    false = ~is_ctc & (cells["predicted"] == CTC)
    wrong = cells["true_class"] != cells["predicted"]
    everything = pd.Series(True, index=cells.index)
    return OfCancerType(
        cancer_type=name,
        patients=patients,
        wrong=_mistaken(cells, wrong, everything, "true_class", thresholds, weights),
        missed=_mistaken(cells, is_ctc & wrong, is_ctc, "predicted", thresholds, weights),
        false=_mistaken(cells, false, ~is_ctc, "true_class", thresholds, weights),
    )


def _mistaken(
    cells: pd.DataFrame,
    wrong: "pd.Series[bool]",
    among: "pd.Series[bool]",
    named: str,
    thresholds: Sequence[float],
    weights: Floats,
) -> Mistaken:
    """The `wrong` cells, a part of those `among` which they are counted, named by one column."""
    sums = patient_sums(np.stack([wrong, among], axis=1), cells["patient_uid"].to_numpy())
    hits, total = sums.sum(axis=0)
    drawn = weights @ sums
    # Cells of a single patient cannot say how patients differ.
    several = np.count_nonzero(sums[:, 1]) > 1
    low, high = (
        share_interval(hits, total, ratio(drawn[:, 0], drawn[:, 1]), confidence=CONFIDENCE) if several else (None, None)
    )
    mistakes = cells[wrong]
    return Mistaken(
        mistakes=len(mistakes),
        cells=int(total),
        low=low,
        high=high,
        above=tuple(int((mistakes["p_predicted"] > threshold).sum()) for threshold in thresholds),
        classes={str(name): int(number) for name, number in mistakes[named].value_counts().sort_index().items()},
    )


def mistakes_by_probability(judged: pd.DataFrame) -> list[OfProbability]:
    """Count CTCs, other cells and the mistakes among both in ten bins of p(CTC)."""
    bin_of = np.minimum((judged["p_ctc"].to_numpy() * BINS).astype(int), BINS - 1)
    is_ctc, called_ctc = (judged["true_class"] == CTC).to_numpy(), (judged["predicted"] == CTC).to_numpy()

    def tally(cells: NDArray[np.bool_]) -> list[int]:
        return [int(number) for number in np.bincount(bin_of[cells], minlength=BINS)]

    columns = tally(is_ctc), tally(is_ctc & ~called_ctc), tally(~is_ctc), tally(~is_ctc & called_ctc)
    return [
        OfProbability(low=at / BINS, high=(at + 1) / BINS, ctc=ctc, missed=missed, not_ctc=not_ctc, false=false)
        for at, (ctc, missed, not_ctc, false) in enumerate(zip(*columns, strict=True))
    ]
