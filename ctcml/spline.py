"""The hazard over the count as a curve: a natural cubic spline of ln(1 + count) in a Cox model.

The basis is Harrell's (Regression Modeling Strategies, 2nd ed., 2.4.5): linear beyond the outer knots, so the fit is that
of R's `splines::ns` with the same knots. Knots lie at his quantiles: 10, 50, 90 %, or 5, 35, 65, 95 % where there are
events enough; knots that fall together, as with many counts of 0, are one.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2

from ctcml.cox import WALD, CoxFit, NoFit, fit_cox

Floats = NDArray[np.float64]

EVENTS_PER_COLUMN = 10  # Peduzzi et al. 1995, J Clin Epidemiol 48:1503
THREE, FOUR = (0.10, 0.50, 0.90), (0.05, 0.35, 0.65, 0.95)
EVENTS_FOR_FOUR = 40  # ours: twice what three columns need at least, rounded up
POINTS = 60  # of the curve that is drawn
TERM = "count"


@dataclass(frozen=True, kw_only=True)
class SplineCurve:
    """Hazard ratios against the `reference` count with pointwise 95 % limits, and the p of not being a straight line."""

    counts: tuple[float, ...]
    hr: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    reference: float
    knots: tuple[float, ...]  # counts
    nonlinear_p: float
    proportional_p: float


def spline_of(durations: Floats, events: Floats, counts: Floats, *, reference: float) -> SplineCurve | NoFit:
    """Fit the spline, and test it against the straight line by the likelihood ratio."""
    x = np.log1p(counts)
    deaths = int(events.sum())
    knots = knots_of(x, deaths)
    if not 3 <= len(knots) < len(np.unique(x)) or deaths < EVENTS_PER_COLUMN * (len(knots) - 1):
        return NoFit(
            why=f"needs 3 knots, more different counts than knots and {EVENTS_PER_COLUMN} events for each column, "
            f"found {len(knots)} knots, {len(np.unique(x))} counts and {deaths} events"
        )
    columns = [f"{TERM} {at}" for at in range(len(knots) - 1)]
    curved = fit_cox(durations, events, pd.DataFrame(basis(x, knots), columns=columns), terms={TERM: columns})
    straight = fit_cox(durations, events, pd.DataFrame({TERM: x}))
    if not (isinstance(curved, CoxFit) and isinstance(straight, CoxFit)):
        return curved if isinstance(curved, NoFit) else NoFit(why="has no straight line to be set against")
    at = np.linspace(x.min(), x.max(), POINTS)
    moved = basis(at, knots) - basis(np.log1p(np.array([reference])), knots)
    log_hr, error = moved @ curved.beta, np.sqrt(np.einsum("ij,jk,ik->i", moved, curved.covariance, moved))
    gain = max(2 * (curved.log_likelihood - straight.log_likelihood), 0.0)
    return SplineCurve(
        counts=_floats(np.expm1(at)),
        hr=_floats(np.exp(log_hr)),
        low=_floats(np.exp(log_hr - WALD * error)),
        high=_floats(np.exp(log_hr + WALD * error)),
        reference=reference,
        knots=_floats(np.expm1(knots)),
        nonlinear_p=float(chi2.sf(gain, len(columns) - 1)),
        proportional_p=curved.proportional[TERM],
    )


def knots_of(x: Floats, deaths: int) -> Floats:
    """Quantiles of `x` at which the curve may bend."""
    return np.unique(np.quantile(x, FOUR if deaths >= EVENTS_FOR_FOUR else THREE))


def basis(x: Floats, knots: Floats) -> Floats:
    """Columns (points, knots - 1): the line, and cubic pieces that are straight again beyond the outer knots.

    >>> basis(np.array([5.0, 6.0, 7.0]), np.array([0.0, 1.0, 2.0]))[:, 1].round(6).tolist()
    [6.0, 7.5, 9.0]
    """
    last, before = knots[-1], knots[-2]

    def cubic(knot: float) -> Floats:
        return np.asarray(np.maximum(x - knot, 0) ** 3)

    pieces = [
        cubic(knot) - cubic(before) * (last - knot) / (last - before) + cubic(last) * (before - knot) / (last - before)
        for knot in knots[:-2]
    ]
    return np.column_stack([x, *(piece / (last - knots[0]) ** 2 for piece in pieces)])


def _floats(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
