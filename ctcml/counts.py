"""Cells per sample and per 7.5 ml with an interval, the side of the cut-off, and the way back to the pixels.

Two things make a count uncertain, and both are in the interval:

* the network: whether each event really is of the class is a coin with the network's probability, so the number among
  the events follows the Poisson-binomial distribution (exact, by recursion over the events);
* the tube: it is one draw of the patient's blood, so the number in it is Poisson around the concentration (Tibbe et
  al. 2007, Cytometry A 71:154). Given k cells the concentration per tube is taken as gamma(k + 1/2) (Jeffreys prior).

The interval holds the patient's concentration and is as good as the network's probabilities are calibrated.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammainc, gammaincinv

from ctcml.errors import BadInput
from ctcml.tables import COUNTS

TUBE_ML = 7.5
ARG_MAX = 0.0  # the threshold of a count by the most probable class alone
CTC = "ctc"

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Concentration:
    """What the events of one sample say about the cells per tube: weights of 0, 1, 2, … cells really being there."""

    first: int
    weights: Floats

    def below(self, cells: float) -> float:
        """Chance that the concentration, in cells per tube, lies below `cells`."""
        shapes = self.first + np.arange(len(self.weights)) + 0.5
        return float(np.sum(self.weights * gammainc(shapes, max(cells, 0.0))))

    def quantile(self, chance: float) -> float:
        """Concentration, in cells per tube, below which it lies with this chance."""
        last = self.first + len(self.weights) - 1
        low, high = gammaincinv(self.first + 0.5, chance), gammaincinv(last + 0.5, chance)
        if high - low < 1e-9:
            return float(low)
        return float(brentq(lambda cells: self.below(cells) - chance, low, high, xtol=1e-4))


def concentration(probabilities: NDArray[Any]) -> Concentration:
    """Turn each event's probability of being of the class into what is known of the concentration.

    >>> round(concentration(np.ones(4)).quantile(0.5), 2)   # four sure cells: the median of gamma(4.5)
    4.17
    """
    chances = np.clip(np.asarray(probabilities, dtype=np.float64), 0, 1)
    room = int(chances.sum() + 12 * np.sqrt((chances * (1 - chances)).sum()) + 30)  # mass beyond is below 1e-12
    weights = np.zeros(min(len(chances), room) + 1)
    weights[0] = 1
    for chance in chances:
        weights[1:] = weights[1:] * (1 - chance) + weights[:-1] * chance
        weights[0] *= 1 - chance
    kept = np.flatnonzero(weights > 1e-12 * weights.max())
    weights = weights[kept[0] : kept[-1] + 1]
    return Concentration(first=int(kept[0]), weights=weights / weights.sum())


def count_cells(
    cells: pd.DataFrame,
    samples: pd.DataFrame,
    *,
    classes: Sequence[str],
    thresholds: Sequence[float],
    interval: float,
    cutoffs: Mapping[str, float],
    exploratory_cutoffs: Mapping[str, float],
) -> pd.DataFrame:
    """Count every class in every sample, by arg-max (threshold 0) and at each threshold, over each known denominator.

    `cells` has cell_uid, sample_uid, proposed, predicted and probabilities (lists in the order of `classes`);
    `samples` has the columns of `tables.CLINICAL`. The denominator `proposed` is counted where the export says of
    every cell of the sample whether CellSearch presented it. Cut-offs (CTC per 7.5 ml, by cancer type) apply to `ctc`;
    they are stamped exploratory unless they come from `cutoffs` and the count is the arg-max among proposed events,
    the nearest to what they were validated on. `flip_risk` is the chance that the concentration lies on the other side
    of the cut-off than the count; `side` is `undecided` while the interval holds the cut-off. A sample without any
    cell gets no row: no thumbnails are not the same as no tumour cells. Returns `tables.COUNTS`. Raises `BadInput` for
    a sample that `samples` lacks or names twice, or probabilities of another length.
    """
    known = _clinical(cells, samples)
    rows: list[dict[str, Any]] = []
    for sample_uid, of_sample in cells.groupby("sample_uid", sort=True):
        sample = known.loc[sample_uid]
        probabilities = _probabilities(of_sample, classes)
        for denominator, eligible in _denominators(of_sample):
            for at, class_id in enumerate(classes):
                cutoff, cleared = _cutoff(class_id, str(sample["cancer_type"]), cutoffs, exploratory_cutoffs)
                for threshold in (ARG_MAX, *thresholds):
                    counted = _counted(of_sample, probabilities[:, at], eligible, class_id, threshold)
                    # A threshold is part of what is counted: events below it are not cells that were missed.
                    at_stake = eligible if threshold == ARG_MAX else counted
                    validated = cleared and denominator == "proposed" and threshold == ARG_MAX
                    row = {
                        "sample_uid": sample_uid,
                        "patient_uid": sample["patient_uid"],
                        "cancer_type": sample["cancer_type"],
                        "class_id": class_id,
                        "denominator": denominator,
                        "threshold": threshold,
                        "count": int(counted.sum()),
                        "events": int(eligible.sum()),
                        "exploratory": cutoff is not None and not validated,
                    }
                    tubes = float(sample["blood_volume_ml"]) / TUBE_ML
                    rows.append(row | _figures(row["count"], probabilities[at_stake, at], interval, cutoff, tubes))
    return pd.DataFrame(rows, columns=list(COUNTS))


def counted_cells(
    cells: pd.DataFrame,
    sample_uid: str,
    *,
    classes: Sequence[str],
    class_id: str,
    denominator: str,
    threshold: float = ARG_MAX,
) -> list[str]:
    """Name the very cells behind one count, the surest first: the way back from a number to its pixels.

    Takes the `cells` of `count_cells`. Raises `BadInput` for an unknown class or a denominator that the sample does
    not have.
    """
    of_sample = cells[cells["sample_uid"] == sample_uid]
    eligible = dict(_denominators(of_sample)).get(denominator)
    if class_id not in classes or eligible is None:
        raise BadInput(
            f"sample {sample_uid}: no count of {class_id!r} over {denominator!r}; choose a class of {list(classes)} "
            f"and a denominator of {[name for name, _ in _denominators(of_sample)]}"
        )
    chance = _probabilities(of_sample, classes)[:, list(classes).index(class_id)]
    counted = np.flatnonzero(_counted(of_sample, chance, eligible, class_id, threshold))
    surest = counted[np.argsort(-chance[counted], kind="stable")]
    return [str(uid) for uid in of_sample["cell_uid"].to_numpy()[surest]]


def _clinical(cells: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    known = samples.set_index("sample_uid")
    if not known.index.is_unique:
        raise BadInput(
            f"clinical table: sample {known.index[known.index.duplicated()][0]} is there twice; keep one row"
        )
    absent = sorted(set(cells["sample_uid"]) - set(known.index))
    if absent:
        raise BadInput(
            f"sample {absent[0]}: has cells but no row in the clinical table ({len(absent)} such samples); add its row"
        )
    volumes = known["blood_volume_ml"]
    wrong = known.index[~(volumes > 0)]
    if len(wrong):
        raise BadInput(
            f"sample {wrong[0]}: blood_volume_ml is {volumes[wrong[0]]}, expected more than 0; look it up in the log"
        )
    return known


def _probabilities(of_sample: pd.DataFrame, classes: Sequence[str]) -> Floats:
    if of_sample.empty:
        return np.empty((0, len(classes)))
    lengths = {len(row) for row in of_sample["probabilities"]}
    if lengths != {len(classes)}:
        raise BadInput(
            f"sample {of_sample['sample_uid'].iloc[0]}: {sorted(lengths)} probabilities a cell, "
            f"expected {len(classes)}; embed it again"
        )
    return np.stack(of_sample["probabilities"].to_list()).astype(np.float64)


def _denominators(of_sample: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    yield "all", np.ones(len(of_sample), dtype=bool)
    if not of_sample["proposed"].isna().any():
        yield "proposed", of_sample["proposed"].to_numpy(dtype=bool)


def _counted(
    of_sample: pd.DataFrame, chance: Floats, eligible: NDArray[np.bool_], class_id: str, threshold: float
) -> NDArray[np.bool_]:
    called = (of_sample["predicted"] == class_id).to_numpy(dtype=bool)
    return np.asarray(eligible & called & (chance >= threshold))


def _cutoff(
    class_id: str, cancer_type: str, cutoffs: Mapping[str, float], exploratory_cutoffs: Mapping[str, float]
) -> tuple[float | None, bool]:
    """The cut-off of a cancer type, and whether it is a cleared one."""
    if class_id != CTC:
        return None, False
    if cancer_type in cutoffs:
        return float(cutoffs[cancer_type]), True
    return (float(exploratory_cutoffs[cancer_type]), False) if cancer_type in exploratory_cutoffs else (None, False)


def _figures(
    count: int, chances: Floats, interval: float, cutoff: float | None, tubes: float
) -> dict[str, float | str]:
    """Normalised count, interval, cut-off, flip risk and side of one row of `tables.COUNTS`."""
    known, tail, normal = concentration(chances), (1 - interval) / 2, count / tubes
    low = min(known.quantile(tail) / tubes, normal)
    high = max(known.quantile(1 - tail) / tubes, normal)
    figures: dict[str, float | str] = {"per_7_5_ml": normal, "low": low, "high": high}
    if cutoff is None:
        return {**figures, "cutoff": np.nan, "flip_risk": np.nan, "side": "none"}
    below = known.below(cutoff * tubes)
    side = "above" if low >= cutoff else "below" if high < cutoff else "undecided"
    return {**figures, "cutoff": cutoff, "flip_risk": below if normal >= cutoff else 1 - below, "side": side}
