"""Restricted mean survival: what to give when the hazard ratio changes over the follow-up.

The mean of the time that patients live within a horizon is the area below the curve up to it (Royston and Parmar 2013,
BMC Med Res Methodol 13:152); its variance is R's `print(survfit, rmean = horizon)`: the sum over deaths of
(area still to come)² d / (n (n - d)).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RestrictedMean:
    """Mean time within the horizon of one arm, with 95 % limits."""

    name: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class RestrictedMeans:
    """Both arms up to a common horizon, and the difference: last arm less the first."""

    horizon: float
    arms: tuple[RestrictedMean, ...]
    difference: float
    low: float
    high: float
    p: float


def restricted_mean(durations: Floats, events: Floats, horizon: float) -> tuple[float, float]:
    """Mean time within the horizon, and its standard error.

    >>> restricted_mean(np.array([2.0, 4.0]), np.array([1.0, 1.0]), 3.0)[0]
    2.5
    """
    deaths = np.unique(durations[(events == 1) & (durations <= horizon)])
    n = (durations[None, :] >= deaths[:, None]).sum(axis=1)
    d = ((durations[None, :] == deaths[:, None]) & (events == 1)).sum(axis=1)
    survival = np.concatenate([[1.0], np.cumprod(1 - d / n)])
    areas = survival * np.diff(np.concatenate([[0.0], deaths, [horizon]]))
    to_come = areas[::-1].cumsum()[::-1][1:]
    left = n * (n - d)
    variance = np.divide(to_come**2 * d, left, out=np.zeros(len(deaths)), where=left > 0).sum()
    return float(areas.sum()), float(np.sqrt(variance))


def compare_restricted(arms: dict[str, tuple[Floats, Floats]]) -> RestrictedMeans:
    """Compare two arms, each durations and events, up to the last time at which both were still observed."""
    horizon = min(float(durations.max()) for durations, _ in arms.values())
    found = {name: restricted_mean(durations, events, horizon) for name, (durations, events) in arms.items()}
    (first, error_first), (last, error_last) = found.values()
    difference, error = last - first, float(np.hypot(error_first, error_last))
    z = float(norm.ppf(0.975))
    return RestrictedMeans(
        horizon=horizon,
        arms=tuple(
            RestrictedMean(name=name, mean=mean, low=mean - z * se, high=mean + z * se)
            for name, (mean, se) in found.items()
        ),
        difference=difference,
        low=difference - z * error,
        high=difference + z * error,
        p=float(2 * norm.sf(abs(difference) / error)) if error > 0 else 1.0,
    )
