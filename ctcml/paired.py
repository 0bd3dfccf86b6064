"""Paired differences: their mean, its interval, and how easily chance alone would make as large a one."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Mean of paired differences, its 95 % t-interval, and two-sided p of the t-test and of all sign flips."""

    mean: float
    low: float
    high: float
    p_t: float
    p_flips: float

    @property
    def shown(self) -> bool:
        """Whether the interval excludes 0; only then may a difference be claimed."""
        return self.low > 0 or self.high < 0


def paired(differences: Sequence[float] | NDArray[np.float64]) -> Paired:
    """Judge paired differences, one a seed (up to about 16): Student's t, and Fisher's exact test over all sign flips.

    Of n differences no sign-flip p is below 2 / 2^n. Fewer than two, or several without any spread, have no interval.

    >>> one = paired([0.01, 0.02, 0.03])
    >>> round(one.mean, 3), round(one.low, 3), round(one.high, 3), round(one.p_t, 3), one.p_flips
    (0.02, -0.005, 0.045, 0.074, 0.25)
    """
    values = np.asarray(differences, dtype=np.float64)
    mean, flips = float(values.mean()), np.array(list(product((1, -1), repeat=len(values)))) @ values
    p_flips = float((np.abs(flips) >= abs(values.sum()) - 1e-12).mean())
    error = float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    if error < 1e-12:
        return Paired(mean=mean, low=-np.inf, high=np.inf, p_t=1.0, p_flips=p_flips)
    freedom = len(values) - 1
    reach = float(stats.t.ppf(0.975, freedom)) * error
    p_t = float(2 * stats.t.sf(abs(mean) / error, freedom))
    return Paired(mean=mean, low=mean - reach, high=mean + reach, p_t=p_t, p_flips=p_flips)
