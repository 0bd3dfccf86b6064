"""The two sides of a cut-off: a curve for each with its table of patients at risk, and the log-rank test between them."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.kaplan_meier import kaplan_meier, risk_table

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Patients on one side of the cut-off; curves are steps that start at (0, 1), empty when the arm was refused.

    Times in months. `low` and `high` are pointwise 95 % limits (log-log transform of Greenwood's formula), which stay
    where they were when the curve has fallen to 0, as nothing tells them there. A median, or a limit of it, is None when
    the curve does not fall that far; where the curve runs exactly at one half it is the middle of that stretch, as in
    R's `quantile.survfit`. `at_risk`, `events_before` and `censored_before` belong to the report's `risk_times`.
    """

    name: str
    n: int
    events: int
    median: float | None
    median_low: float | None
    median_high: float | None
    times: tuple[float, ...]
    survival: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    censored: tuple[float, ...]
    at_risk: tuple[int, ...]
    events_before: tuple[int, ...]
    censored_before: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class LogRank:
    """Two-sided log-rank test (Mantel 1966) with one degree of freedom; at a searched cut-off p is the corrected one."""

    chi2: float
    p: float


def risk_times_of(durations: pd.Series) -> tuple[float, ...]:
    """Round times, about six, at which to say how many are at risk.

    >>> risk_times_of(pd.Series([3.0, 40.5]))
    (0.0, 6.0, 12.0, 18.0, 24.0, 30.0, 36.0)
    """
    longest = float(durations.max()) if len(durations) else 0.0
    step = next((step for step in (1, 2, 3, 6, 12, 24, 36, 60) if longest / step <= 7), 120)
    return tuple(float(time) for time in np.arange(0, longest + 1e-9, step))


def arm_of(name: str, durations: Floats, events: Floats, risk_times: tuple[float, ...], min_events: int | None) -> Arm:
    """An arm with its curve, or without one: with too few events, or when curves are not allowed (`min_events` None)."""
    table = risk_table(durations, events, risk_times)
    deaths = int(events.sum())
    about: dict[str, Any] = asdict(table) | {"name": name, "n": len(durations), "events": deaths}
    if min_events is None or deaths < max(min_events, 1):
        none: dict[str, Any] = dict.fromkeys(("median", "median_low", "median_high"))
        return Arm(**about, **none, times=(), survival=(), low=(), high=(), censored=())
    curve = kaplan_meier(durations, events)
    median, low, high = curve.median()
    return Arm(
        **about,
        median=median,
        median_low=low,
        median_high=high,
        times=_floats(curve.times),
        survival=_floats(curve.survival),
        low=_floats(pd.Series(curve.low).ffill()),
        high=_floats(pd.Series(curve.high).ffill()),
        censored=_floats(np.sort(durations[events == 0])),
    )


def log_rank(durations: Floats, events: Floats, high: NDArray[np.bool_]) -> LogRank | None:
    """None when the statistic has no variance: at no event were both arms at risk and did someone survive it."""
    from lifelines.statistics import logrank_test  # not with the module: the dashboard starts faster without

    times = np.unique(durations[events == 1])[:, None]
    at_risk, of_high = (durations >= times).sum(axis=1), ((durations >= times) & high).sum(axis=1)
    died = ((durations == times) & (events == 1)).sum(axis=1)
    if not ((of_high > 0) & (of_high < at_risk) & (died < at_risk)).any():
        return None
    test = logrank_test(durations[~high], durations[high], events[~high], events[high])
    return LogRank(chi2=float(test.test_statistic), p=float(test.p_value))


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
