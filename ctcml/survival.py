"""Kaplan–Meier arms on either side of a cut-off, log-rank, Cox: records ready to draw, and plain refusals where data
are thin."""

import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.exceptions import ConvergenceError, ConvergenceWarning
from lifelines.statistics import logrank_test, proportional_hazard_test
from lifelines.utils import concordance_index, median_survival_times

from ctcml.errors import BadInput

# Newton's method stops when nothing changes in the digits which a paper prints, whatever the scale of the data.
STOPPING_RULE = {"precision": 1e-12, "r_precision": 1e-14, "max_steps": 500}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Patients on one side of the cut-off; curves are steps that start at (0, 1), empty when the arm was refused.

    Times in months. `low` and `high` are pointwise 95 % limits (log-log transform of Greenwood's formula); a median,
    or a limit of it, is None when the curve does not fall that far.
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


@dataclass(frozen=True, kw_only=True)
class LogRank:
    """Two-sided log-rank test (Mantel 1966) with one degree of freedom."""

    chi2: float
    p: float


@dataclass(frozen=True, kw_only=True)
class Hazard:
    """A hazard ratio of a Cox model (Efron ties) with Wald limits, and the p of the test for proportional hazards."""

    per: str
    hr: float
    low: float
    high: float
    p: float
    proportional_p: float


@dataclass(frozen=True, kw_only=True)
class SurvivalReport:
    """One comparison of survival; what could not be computed is None and `refusals` says why."""

    label: str
    cutoff: float | None  # None: each patient's own
    exploratory: bool
    n: int
    events: int
    arms: tuple[Arm, ...]
    risk_times: tuple[float, ...]
    logrank: LogRank | None
    cox: Hazard | None
    cox_log_count: Hazard | None
    concordance: float | None
    refusals: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for JSON."""
        return asdict(self)


def analyse(
    table: pd.DataFrame, *, cutoff: float | None, label: str, min_events: int, exploratory: bool
) -> SurvivalReport:
    """Compare survival below and at or above a cut-off of the count.

    `table` has one row a patient: `duration` (months), `event` (1 died or progressed, 0 still under observation),
    `count` (cells per 7.5 ml). Without a common `cutoff` each patient is compared with their own, in the column `cutoff`. Rows that lack one of them are left out and a note says how many. An arm with fewer
    than `min_events` events gets no curve, and then nothing is compared. Raises `BadInput` for a negative duration or
    an event that is neither 0 nor 1.
    """
    limits = table["cutoff"] if cutoff is None else cutoff
    whole = table[["duration", "event", "count"]].astype(float).assign(limit=limits)
    known = whole.dropna().reset_index(drop=True)
    _check(known, label)
    notes = []
    if len(known) < len(whole):
        notes.append(f"{len(whole) - len(known)} of {len(whole)} patients lack follow-up or a count and are left out")
    high = known["count"] >= known["limit"]
    below, above = ("below their cut-off", "at or above it") if cutoff is None else (f"< {cutoff:g}", f"≥ {cutoff:g}")
    risk_times = _risk_times(known["duration"])
    parts = ((below, known[~high]), (above, known[high]))
    arms = tuple(_arm(name, part, risk_times, min_events) for name, part in parts)
    refusals = [_thin(arm, min_events) for arm in arms if not arm.times]
    logrank = cox = trend = concordance = None
    if not refusals:
        logrank = _logrank(known[~high], known[high])
        cox = _cox(known.assign(x=high.astype(float)), f"{above} against {below}")
        trend = _cox(known.assign(x=np.log1p(known["count"])), "one unit of ln(1 + count)")
        concordance = float(concordance_index(known["duration"], -known["count"], known["event"]))
        refusals += [
            f"the Cox model of {what} does not converge; no hazard ratio"
            for fit, what in ((cox, "the arms"), (trend, "the count"))
            if fit is None
        ]
        notes += [_not_proportional(fit) for fit in (cox, trend) if fit is not None and fit.proportional_p < 0.05]
    return SurvivalReport(
        label=label, cutoff=None if cutoff is None else float(cutoff), exploratory=exploratory, n=len(known), events=int(known["event"].sum()),
        arms=arms, risk_times=risk_times, logrank=logrank, cox=cox, cox_log_count=trend, concordance=concordance,
        refusals=tuple(refusals), notes=tuple(notes),
    )  # fmt: skip


def _check(known: pd.DataFrame, label: str) -> None:
    if (known["duration"] < 0).any():
        raise BadInput(
            f"{label}: a duration is {known['duration'].min():g} months, expected 0 or more; "
            "check the dates in the clinical table"
        )
    if not np.isfinite(known.to_numpy()).all():
        raise BadInput(f"{label}: a duration or count is not a finite number; check the clinical table")
    odd = sorted(set(known["event"]) - {0.0, 1.0})
    if odd:
        raise BadInput(f"{label}: event is {odd[0]:g}, expected 1 (happened) or 0 (not yet); check the clinical table")


def _risk_times(durations: pd.Series) -> tuple[float, ...]:
    """Round times, about six, at which to say how many are at risk.

    >>> _risk_times(pd.Series([3.0, 40.5]))
    (0.0, 6.0, 12.0, 18.0, 24.0, 30.0, 36.0)
    """
    longest = float(durations.max()) if len(durations) else 0.0
    step = next((step for step in (1, 2, 3, 6, 12, 24, 36, 60) if longest / step <= 7), 120)
    return tuple(float(time) for time in np.arange(0, longest + 1e-9, step))


def _arm(name: str, part: pd.DataFrame, risk_times: tuple[float, ...], min_events: int) -> Arm:
    events = int(part["event"].sum())
    at_risk = tuple(int((part["duration"] >= time).sum()) for time in risk_times)
    if events < max(min_events, 1):
        return Arm(
            name=name, n=len(part), events=events, median=None, median_low=None, median_high=None,
            times=(), survival=(), low=(), high=(), censored=(), at_risk=at_risk,
        )  # fmt: skip
    fit = KaplanMeierFitter().fit(part["duration"], part["event"])
    limits = fit.confidence_interval_
    medians = median_survival_times(limits).to_numpy().ravel()
    return Arm(
        name=name,
        n=len(part),
        events=events,
        median=_finite(fit.median_survival_time_),
        median_low=_finite(medians[0]),
        median_high=_finite(medians[1]),
        times=_floats(fit.survival_function_.index),
        survival=_floats(fit.survival_function_.to_numpy().ravel()),
        low=_floats(limits.to_numpy()[:, 0]),
        high=_floats(limits.to_numpy()[:, 1]),
        censored=_floats(np.sort(part.loc[part["event"] == 0, "duration"])),
        at_risk=at_risk,
    )


def _logrank(below: pd.DataFrame, above: pd.DataFrame) -> LogRank:
    test = logrank_test(below["duration"], above["duration"], below["event"], above["event"])
    return LogRank(chi2=float(test.test_statistic), p=float(test.p_value))


def _cox(table: pd.DataFrame, per: str) -> Hazard | None:
    """Fit one covariate `x`; None when the likelihood has no maximum, as when one arm outlives the other entirely."""
    table = table[["duration", "event", "x"]]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            fit = CoxPHFitter().fit(table, "duration", "event", fit_options=STOPPING_RULE)
    except (ConvergenceError, ConvergenceWarning):
        return None
    row = fit.summary.loc["x"]
    return Hazard(
        per=per,
        hr=float(row["exp(coef)"]),
        low=float(row["exp(coef) lower 95%"]),
        high=float(row["exp(coef) upper 95%"]),
        p=float(row["p"]),
        proportional_p=float(np.ravel(proportional_hazard_test(fit, table, time_transform="km").p_value)[0]),
    )


def _thin(arm: Arm, min_events: int) -> str:
    return (
        f"arm {arm.name}: {arm.events} events among {arm.n} patients, "
        f"at least {max(min_events, 1)} are needed; no curve and no comparison"
    )


def _not_proportional(fit: Hazard) -> str:
    return (
        f"the hazard ratio of {fit.per} changes over time (test of proportional hazards, "
        f"p = {fit.proportional_p:.2g}); read it as an average over the follow-up"
    )


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
