"""Kaplan-Meier curves with log-log limits, medians as R gives them, follow-up, and who is at risk when.

Curves come from lifelines. R's `survival` reads a median off a curve otherwise: where the curve runs exactly at one
half, the median is the middle of that stretch (`quantile.survfit`), and the limits of the median are read off the limits
of the curve in the same way. Times that differ by rounding alone are one time, as in R (`timefix`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SAME = float(np.sqrt(np.finfo(float).eps))  # R's tolerance: of times, and of heights of a curve


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Steps from (0, 1) on; `low` and `high` are NaN where the curve has fallen to 0, because R gives no limits there."""

    times: Floats
    survival: Floats
    low: Floats
    high: Floats

    def median(self) -> tuple[float | None, float | None, float | None]:
        """Median with 95 % limits, each None when its curve does not fall that far."""
        heights = (self.survival, self.low, self.high)
        median, low, high = (crossing(self.times, height) for height in heights)
        return median, low, high


@dataclass(frozen=True, kw_only=True)
class FollowUp:
    """Median follow-up with 95 % limits (reverse Kaplan-Meier: Schemper and Smith 1996, Control Clin Trials 17:343)."""

    median: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class RiskTable:
    """At each time: still at risk, and how many had their event or left observation strictly before it.

    The three sum to the number of patients (KMunicate: Morris et al. 2019, BMJ Open 9:e030215).
    """

    at_risk: tuple[int, ...]
    events_before: tuple[int, ...]
    censored_before: tuple[int, ...]


def kaplan_meier(durations: Floats, events: Floats) -> Curve:
    """Product-limit curve with pointwise 95 % limits by the log-log transform of Greenwood's formula."""
    from lifelines import KaplanMeierFitter  # not with the module: the dashboard starts faster without

    fit = KaplanMeierFitter().fit(durations, events)
    survival = fit.survival_function_.to_numpy(dtype=np.float64).ravel()
    limits = fit.confidence_interval_.to_numpy(dtype=np.float64)
    gone = survival < SAME
    # Of events on day 0 lifelines gives the curve after them alone.
    before = np.ones(int(survival[0] < 1 - SAME))
    return Curve(
        times=np.concatenate([0 * before, fit.survival_function_.index.to_numpy(dtype=np.float64)]),
        survival=np.concatenate([before, survival]),
        low=np.concatenate([before, np.where(gone, np.nan, limits[:, 0])]),
        high=np.concatenate([before, np.where(gone, np.nan, limits[:, 1])]),
    )


def crossing(times: Floats, heights: Floats, level: float = 0.5) -> float | None:
    """The time at which a falling curve of steps reaches `level`, in the middle of a stretch that runs exactly there.

    >>> crossing(np.array([0.0, 3, 5, 9]), np.array([1, 0.75, 0.5, 0.25])), crossing(np.array([0.0, 3]), np.array([1, 0.7]))
    (7.0, None)
    """
    known = ~np.isnan(heights)
    times, heights = times[known], heights[known]
    reached = np.flatnonzero(heights <= level + SAME)
    if not len(reached):
        return None
    first = reached[0]
    if abs(heights[first] - level) > SAME:
        return float(times[first])
    lower = np.flatnonzero(heights < level - SAME)
    return float((times[first] + (times[lower[0]] if len(lower) else times[-1])) / 2)


def follow_up(durations: Floats, events: Floats) -> FollowUp | None:
    """How long patients were followed; None when nobody left observation without an event."""
    if not (events == 0).any():
        return None
    median, low, high = kaplan_meier(durations, 1 - events).median()
    return FollowUp(median=median, low=low, high=high)


def risk_table(durations: Floats, events: Floats, times: tuple[float, ...]) -> RiskTable:
    """Count patients at risk, and events and censorings before each time.

    >>> risk_table(np.array([2.0, 3, 6]), np.array([1.0, 0, 1]), (0, 3, 6)).events_before
    (0, 1, 1)
    """
    before = durations[None, :] < np.asarray(times)[:, None]
    return RiskTable(
        at_risk=_integers((~before).sum(axis=1)),
        events_before=_integers((before & (events == 1)).sum(axis=1)),
        censored_before=_integers((before & (events == 0)).sum(axis=1)),
    )


def as_tied(durations: pd.Series) -> pd.Series:
    """Make times that differ by rounding alone equal to the earliest of them, by the rule of R's `aeqSurv`.

    >>> as_tied(pd.Series([0.1 + 0.2, 0.3, 4.0])).nunique()
    2
    """
    times = np.unique(durations.to_numpy(dtype=np.float64))
    if len(times) < 2:
        return durations
    gaps = np.diff(times)
    new = np.concatenate([[True], (gaps > SAME) & (gaps / np.abs(times).mean() > SAME)])
    starts = times[new]
    return pd.Series(starts[np.searchsorted(starts, durations, side="right") - 1], index=durations.index)


def _integers(values: NDArray[Any]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
