"""One comparison of survival on either side of a cut-off: a record ready to draw, and sentences where it refuses.

It gives no curve from day 0 for blood that was drawn later, no searched cut-off without its corrected p, no hazard ratio
without the test of proportional hazards, nothing for an arm with few events, and no cut-off on counts over all events
that does not say it is exploratory. Each part is made in a module of its own; here they are put together.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.arms import Arm, LogRank, arm_of, log_rank, risk_times_of
from ctcml.concordances import concordance
from ctcml.cox import Hazard, NoFit, fit_cox
from ctcml.cutpoint import Search, Searched, search_cutoff
from ctcml.errors import BadInput
from ctcml.kaplan_meier import FollowUp, as_tied, follow_up
from ctcml.multivariable import Multivariable, multivariable
from ctcml.restricted import RestrictedMeans, compare_restricted
from ctcml.spline import SplineCurve, spline_of

Floats = NDArray[np.float64]

DOUBTED = 0.05  # a p of proportional hazards below it brings the restricted means


@dataclass(frozen=True, kw_only=True)
class SurvivalReport:
    """One comparison of survival; what could not be computed is None and `refusals` or `notes` say why."""

    label: str
    endpoint: str
    denominator: str | None
    landmark_months: float | None  # where the time of the curves begins; None: at the start of observation
    cutoff: float | None  # None: each patient's own
    exploratory: bool
    n: int
    events: int
    follow_up: FollowUp | None
    arms: tuple[Arm, ...]
    risk_times: tuple[float, ...]
    logrank: LogRank | None
    cox: Hazard | None
    cox_log_count: Hazard | None
    restricted: RestrictedMeans | None
    spline: SplineCurve | None
    multivariable: Multivariable | None
    searched: Searched | None
    concordance: float | None
    refusals: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for JSON."""
        return asdict(self)


@dataclass(kw_only=True)
class _Findings:
    """What has been found so far; each step adds to it."""

    refusals: list[str]
    notes: list[str]
    logrank: LogRank | None = None
    cox: Hazard | None = None
    cox_log_count: Hazard | None = None
    restricted: RestrictedMeans | None = None
    spline: SplineCurve | None = None
    multivariable: Multivariable | None = None
    concordance: float | None = None


def analyse(
    table: pd.DataFrame,
    *,
    cutoff: float | None,
    label: str,
    min_events: int,
    exploratory: bool,
    endpoint: str = "os",
    denominator: str | None = None,
    landmark_months: float | None = None,
    covariates: Sequence[str] = (),
    search: Search | None = None,
    notes: Sequence[str] = (),
    refusals: Sequence[str] = (),
) -> SurvivalReport:
    """Compare survival below and at or above a cut-off of the count.

    `table` has one row a patient: `duration` (months), `event` (1 died or progressed, 0 still under observation),
    `count` (cells per 7.5 ml) and the `covariates`. Without a common `cutoff` each patient is compared with their own,
    in the column `cutoff`; with a `search` it is sought. Rows that lack one of them are left out and a note says how
    many. An arm with fewer than `min_events` events gets no curve, and then nothing is compared. A column `draw_day`
    (days from where `duration` begins) that is above 0 is refused without `landmark_months`. Earlier `notes` and
    `refusals` are carried along. Raises `BadInput` for a negative duration or an event that is neither 0 nor 1.
    """
    known, lost = _known(table, cutoff, covariates, label, searching=search is not None)
    found = _Findings(
        refusals=[*refusals, *_forbidden(known, cutoff, denominator, landmark_months, exploratory, search)],
        notes=[*notes, *lost],
    )
    durations, events, counts = (known[name].to_numpy(dtype=np.float64) for name in ("duration", "event", "count"))
    searched = None
    if search is not None and not found.refusals:
        searched = search_cutoff(durations, events, counts, min_events=max(min_events, 1), search=search)
        if searched is None:
            found.refusals.append(f"no cut-off leaves {max(min_events, 1)} events on either side; none can be searched")
        else:
            cutoff, known = searched.cutoff, known.assign(limit=searched.cutoff)
    names = _names(cutoff, searching=search is not None)
    high = (known["count"] >= known["limit"]).to_numpy()
    allowed = not found.refusals
    # A table of events over time is a curve in numbers: what may not be drawn is not tabled either.
    risk_times = risk_times_of(known["duration"]) if allowed else (0.0,)
    arms = tuple(
        arm_of(name, durations[side], events[side], risk_times, min_events if allowed else None)
        for name, side in zip(names, (~high, high), strict=True)
    )
    if allowed:
        found.refusals += [_thin(arm, min_events) for arm in arms if not arm.times]
    if not found.refusals:
        _compare(found, known, high, names, covariates, searched, reference=cutoff)
    return SurvivalReport(
        label=label, endpoint=endpoint, denominator=denominator, landmark_months=landmark_months,
        cutoff=None if cutoff is None else float(cutoff), exploratory=exploratory or search is not None,
        n=len(known), events=int(events.sum()), follow_up=follow_up(durations, events) if len(known) and allowed else None,
        arms=arms, risk_times=risk_times, logrank=found.logrank, cox=found.cox, cox_log_count=found.cox_log_count,
        restricted=found.restricted, spline=found.spline, multivariable=found.multivariable, searched=searched,
        concordance=found.concordance, refusals=tuple(found.refusals), notes=tuple(found.notes),
    )  # fmt: skip


def _known(
    table: pd.DataFrame, cutoff: float | None, covariates: Sequence[str], label: str, *, searching: bool
) -> tuple[pd.DataFrame, list[str]]:
    """The patients of whom everything is known that the arms need, and a note about the others."""
    limits = np.inf if searching else table["cutoff"] if cutoff is None else cutoff
    needed = table[["duration", "event", "count"]].astype(float).assign(limit=limits)
    further = [name for name in ("draw_day", *covariates) if name in table and name not in needed]
    known = needed.assign(**{name: table[name] for name in further}).dropna(subset=list(needed)).reset_index(drop=True)
    _check(known, label)
    known["duration"] = as_tied(known["duration"])
    lost = len(table) - len(known)
    return known, [f"{lost} of {len(table)} patients lack follow-up or a count and are left out"] if lost else []


def _check(known: pd.DataFrame, label: str) -> None:
    if (known["duration"] < 0).any():
        raise BadInput(
            f"{label}: a duration is {known['duration'].min():g} months, expected 0 or more; "
            "check the dates in the clinical table"
        )
    if not np.isfinite(known[["duration", "event", "count"]].to_numpy()).all():
        raise BadInput(f"{label}: a duration or count is not a finite number; check the clinical table")
    if (known["count"] < 0).any():
        raise BadInput(f"{label}: a count is {known['count'].min():g}, expected 0 or more; check the table of counts")
    odd = sorted(set(known["event"]) - {0.0, 1.0})
    if odd:
        raise BadInput(f"{label}: event is {odd[0]:g}, expected 1 (happened) or 0 (not yet); check the clinical table")


def _forbidden(
    known: pd.DataFrame,
    cutoff: float | None,
    denominator: str | None,
    landmark_months: float | None,
    exploratory: bool,
    search: Search | None,
) -> list[str]:
    """What must not be shown, whatever the data say."""
    said = []
    late = int((known["draw_day"] > 0).sum()) if "draw_day" in known and landmark_months is None else 0
    if late:
        said.append(
            f"{late} samples were drawn after the day on which the follow-up begins: whoever gave one had to live until "
            "then; no curve from day 0, choose a landmark"
        )
    if denominator == "all" and not exploratory and search is None:
        said.append(
            "the count is over all events, and cut-offs were validated on the events that CellSearch presents; "
            "no comparison without the exploratory stamp"
        )
    if search is not None and search.permutations < 1:
        said.append(
            "a searched cut-off always looks good; none is shown without the p that is corrected for the search"
        )
    return said


def _names(cutoff: float | None, *, searching: bool) -> tuple[str, str]:
    if cutoff is not None:
        return f"< {cutoff:g}", f"≥ {cutoff:g}"
    return ("below the cut-off", "at or above it") if searching else ("below their cut-off", "at or above it")


def _compare(
    found: _Findings,
    known: pd.DataFrame,
    high: NDArray[np.bool_],
    names: tuple[str, str],
    covariates: Sequence[str],
    searched: Searched | None,
    *,
    reference: float | None,
) -> None:
    """Everything that sets patients against each other, once both arms have their curves."""
    durations, events, counts = (known[name].to_numpy(dtype=np.float64) for name in ("duration", "event", "count"))
    found.logrank = log_rank(durations, events, high)
    if found.logrank is None:
        found.refusals.append(
            "the arms were never at risk together when some survived an event; there is no log-rank test"
        )
    elif searched is not None:
        found.logrank = LogRank(chi2=found.logrank.chi2, p=searched.p_corrected)
    if searched is not None:
        found.refusals.append(
            "no hazard ratio at a searched cut-off: it would be too far from 1 (Altman et al. 1994); "
            "the one of ln(1 + count) was not searched"
        )
    else:
        found.cox = _hazard(found, durations, events, high.astype(float), "the arms", f"{names[1]} against {names[0]}")
    found.cox_log_count = _hazard(found, durations, events, np.log1p(counts), "the count", "one unit of ln(1 + count)")
    if found.cox is not None and found.cox.proportional_p < DOUBTED:
        sides = zip(names, (~high, high), strict=True)
        found.restricted = compare_restricted({name: (durations[side], events[side]) for name, side in sides})
    curved = spline_of(
        durations, events, counts, reference=float(np.median(counts)) if reference is None else reference
    )
    if isinstance(curved, NoFit):
        found.notes.append(f"the curve of the hazard over the count {curved.why}")
    else:
        found.spline = curved
    ordered = concordance(durations, events, counts).value
    found.concordance = ordered if np.isfinite(ordered) else None
    if covariates:
        with_others = multivariable(known, covariates)
        if isinstance(with_others, NoFit):
            found.refusals.append(f"the Cox model with covariates {with_others.why}")
        else:
            found.multivariable = with_others[0]
            found.notes += with_others[1]


def _hazard(found: _Findings, durations: Floats, events: Floats, x: Floats, of: str, per: str) -> Hazard | None:
    fit = fit_cox(durations, events, pd.DataFrame({"x": x}))
    if isinstance(fit, NoFit):
        found.refusals.append(f"the Cox model of {of} {fit.why}")
        return None
    hazard = fit.hazard("x", per)
    if hazard.proportional_p < DOUBTED:
        found.notes.append(_not_proportional(hazard))
    return hazard


def _thin(arm: Arm, min_events: int) -> str:
    return (
        f"arm {arm.name}: {_many(arm.events, 'event')} among {_many(arm.n, 'patient')}, "
        f"at least {max(min_events, 1)} are needed; no curve and no comparison"
    )


def _many(number: int, what: str) -> str:
    """
    >>> _many(1, "event"), _many(0, "event")
    ('1 event', '0 events')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _not_proportional(fit: Hazard) -> str:
    return (
        f"the hazard ratio of {fit.per} changes over time (test of proportional hazards, "
        f"p = {fit.proportional_p:.2g}); read it as an average over the follow-up"
    )
