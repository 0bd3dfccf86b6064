"""Resampling of patients: what the scorecard and the gate share to turn cell counts into intervals.

Cells of one patient resemble each other, so the patient, and not the cell, is what is drawn. Every figure we need is a
ratio of sums over patients; a draw is therefore a weight per patient (how often she was drawn) and a resampled figure
is a matrix product.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

Floats = NDArray[np.float64]


def patient_sums(values: NDArray[Any], patients: NDArray[Any]) -> Floats:
    """Sum `values` (cells, ...) over the cells of each patient; rows follow the sorted names of the patients.

    >>> patient_sums(np.array([1, 1, 0]), np.array(["b", "a", "b"])).tolist()
    [1.0, 1.0]
    """
    names, row = np.unique(patients, return_inverse=True)
    sums = np.zeros((len(names), *values.shape[1:]))
    np.add.at(sums, row, values)
    return sums


def patient_weights(patients: int, *, draws: int, rng: np.random.Generator) -> Floats:
    """Draw `patients` with replacement `draws` times: how often each was drawn, shape (draws, patients).

    >>> patient_weights(3, draws=2, rng=np.random.default_rng(0)).sum(axis=1).tolist()
    [3.0, 3.0]
    """
    return rng.multinomial(patients, np.full(patients, 1 / patients), size=draws).astype(np.float64)


def ratio(above: Floats, below: Floats) -> Floats:
    """Divide, with NaN and no warning where there is nothing to divide by."""
    empty = np.full(np.shape(above), np.nan)
    return np.asarray(np.divide(above, below, out=empty, where=np.asarray(below) > 0))


def share_interval(hits: float, cells: float, resampled: Floats, *, confidence: float) -> tuple[float, float]:
    """Two-sided interval of a share: percentiles of the resampled shares, never narrower than knowledge allows.

    Where all draws agree (all cells right, or one patient only) the percentiles have no width; then the exact binomial
    limits of Clopper and Pearson (1934) over the cells are given, which do not know about patients.

    >>> share_interval(30, 30, np.ones(100), confidence=0.95)  # 30 of 30 is not "100 % for certain"
    (0.884, 1.0)
    """
    tail = (1 - confidence) / 2
    seen = resampled[np.isfinite(resampled)]
    if len(seen) and np.ptp(seen) > 0:
        low, high = np.quantile(seen, [tail, 1 - tail])
    else:
        low = beta.ppf(tail, hits, cells - hits + 1) if hits > 0 else 0.0
        high = beta.ppf(1 - tail, hits + 1, cells - hits) if hits < cells else 1.0
    return round(float(low), 3), round(float(high), 3)
