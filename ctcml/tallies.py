"""Cells counted by patient, true class and predicted class, and the shares with intervals that come of such counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctcml.bootstrap import Floats, patient_sums, ratio, share_interval

CONFIDENCE = 0.95
FEW_PATIENTS = (
    10  # measured: with 5 patients of 2 cells, 95 % intervals from resampled patients hold the truth in 66 % of cases
)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval; all three are None when no cell can inform it (`cells` is 0)."""

    value: float | None
    low: float | None
    high: float | None
    cells: int


NOTHING = Estimate(value=None, low=None, high=None, cells=0)


def estimate(hits: float, cells: float, resampled: Floats, *, patients: int) -> Estimate:
    """A share with the percentiles of its resampled values; `patients` are those who have such cells.

    Few patients are too much alike in all draws. Below 20 the interval reaches at least as far as the exact binomial limits over
    the cells, which for their part do not know about patients.
    """
    if cells == 0:
        return NOTHING
    low, high = share_interval(hits, cells, resampled, confidence=CONFIDENCE)
    if patients < FEW_PATIENTS:
        lowest, highest = share_interval(hits, cells, np.empty(0), confidence=CONFIDENCE)
        low, high = min(low, lowest), max(high, highest)
    return Estimate(value=hits / cells, low=low, high=high, cells=int(cells))


def share_of(hits: NDArray[np.bool_], among: NDArray[np.bool_], patients: NDArray[Any], weights: Floats) -> Estimate:
    """Share of `hits` among the cells `among`, one entry a cell; `weights` (draws, patients) as in `patient_weights`."""
    sums = patient_sums(np.stack([hits & among, among], axis=1), patients)
    total, drawn = sums.sum(axis=0), weights @ sums
    several = int(np.count_nonzero(sums[:, 1]))
    return estimate(float(total[0]), float(total[1]), ratio(drawn[:, 0], drawn[:, 1]), patients=several)


def confusion_by_patient(
    truth: NDArray[Any], predicted: NDArray[np.int64], rows: Sequence[str], columns: int, patients: NDArray[Any]
) -> Floats:
    """Count cells as (patients, true classes, predicted classes); `predicted` is the place of the class that was called."""
    row_of = {name: at for at, name in enumerate(rows)}
    one_hot = np.zeros((len(truth), len(rows), columns))
    one_hot[np.arange(len(truth)), [row_of[name] for name in truth.tolist()], predicted] = 1
    return patient_sums(one_hot, patients)


def macro_f1(confusions: Floats, counted: NDArray[np.bool_]) -> Floats:
    """Mean F1 over the `counted` true classes of confusions (..., true, predicted), whose first columns are the first rows.

    A true class without a column has F1 0. In a draw without a cell of some class, the mean is over the others.

    >>> round(float(macro_f1(np.array([[8.0, 2.0], [0.0, 5.0]]), np.array([True, True]))), 4)
    0.8611
    """
    rows, columns = confusions.shape[-2:]
    known = min(rows, columns)
    right, called = (np.zeros(confusions.shape[:-1]) for _ in range(2))
    right[..., :known] = np.diagonal(confusions[..., :known, :known], axis1=-2, axis2=-1)
    called[..., :known] = confusions.sum(axis=-2)[..., :known]
    settled = confusions.sum(axis=-1)
    each = np.where(settled > 0, ratio(2 * right, settled + called), np.nan)[..., counted]
    return ratio(np.nansum(each, axis=-1), np.isfinite(each).sum(axis=-1).astype(np.float64))
