"""Cox's model (Efron ties, Wald limits), never without the test of proportional hazards.

lifelines takes its variance from before its last step, which leaves p values 1e-6 beside R's, and an interactive page waits
for its five fits; Newton's method on `ctcml.risk_sets`, which the test of proportional hazards needs anyhow, has neither
fault. Tests hold it against R and against lifelines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from ctcml.proportional import proportional_p
from ctcml.risk_sets import RiskSets, risk_sets

Floats = NDArray[np.float64]

STEPS = 40  # of Newton's method; from 0 it needs four to eight
CONVERGED = 1e-9  # of the last step, in standard deviations of a column; the error left is the square of it
HALVINGS = 10  # of a step that overshoots
FLAT = 1e4  # a variance beyond, of a standardised column, is that of a likelihood that rises for ever
SINGULAR = 1e12  # condition of the information from which columns cannot be told apart
WALD = float(norm.ppf(0.975))


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
class CoxFit:
    """A fitted model: coefficients with their covariance by `columns`, and the p of proportional hazards by term."""

    columns: tuple[str, ...]
    beta: Floats
    covariance: Floats
    log_likelihood: float
    proportional: Mapping[str, float]

    def hazard(self, column: str, per: str, *, term: str | None = None) -> Hazard:
        """The hazard ratio of one column, named by what it is per."""
        at = self.columns.index(column)
        beta, error = float(self.beta[at]), float(np.sqrt(self.covariance[at, at]))
        return Hazard(
            per=per,
            hr=float(np.exp(beta)),
            low=float(np.exp(beta - WALD * error)),
            high=float(np.exp(beta + WALD * error)),
            p=float(2 * norm.sf(abs(beta) / error)),
            proportional_p=self.proportional[term or column],
        )


@dataclass(frozen=True, kw_only=True)
class NoFit:
    """Why there is no hazard ratio."""

    why: str


def fit_cox(
    durations: Floats, events: Floats, x: pd.DataFrame, *, terms: Mapping[str, Sequence[str]] | None = None
) -> CoxFit | NoFit:
    """Fit the columns of `x` (patients, columns) and test each of the `terms`, which are the columns by themselves unless told."""
    columns, values = list(x.columns), x.to_numpy(dtype=np.float64)
    scale = values.std(axis=0)
    if not (scale > 0).all():
        return NoFit(why=f"has the same {columns[int((scale > 0).argmin())]} in all patients; no hazard ratio")
    sets = risk_sets(durations, events)
    found = _newton(sets, ((values - values.mean(axis=0)) / scale)[sets.order])
    if found is None:
        return NoFit(why="does not converge; no hazard ratio")
    beta, covariance, log_likelihood = found
    beta, covariance = beta / scale, covariance / np.outer(scale, scale)
    places = {
        name: [columns.index(one) for one in members]
        for name, members in (terms or {name: [name] for name in columns}).items()
    }
    proportional = proportional_p(durations, events, values, beta, places)
    if not np.isfinite(list(proportional.values())).all():
        return NoFit(why="has no test of proportional hazards, and without it no hazard ratio is given")
    return CoxFit(
        columns=tuple(columns),
        beta=beta,
        covariance=covariance,
        log_likelihood=log_likelihood,
        proportional=proportional,
    )


def _newton(sets: RiskSets, x: Floats) -> tuple[Floats, Floats, float] | None:
    """Coefficients, their covariance and the log likelihood at its maximum; None when it has none.

    When one arm outlives the other entirely, the likelihood rises for ever: the information vanishes, until by rounding
    alone there is no step left.
    """
    beta, of_dead = np.zeros(x.shape[1]), x[sets.dead].sum(axis=0)
    mean, covariance, likelihood = sets.moments(x, beta)
    for _ in range(STEPS):
        information = covariance.sum(axis=2)
        if not np.isfinite(information).all() or np.linalg.cond(information) > SINGULAR:
            return None
        step = np.linalg.solve(information, of_dead - mean.sum(axis=1))
        if np.abs(step).max() < CONVERGED:
            inverse = np.linalg.inv(information)
            return (beta, inverse, likelihood) if inverse.diagonal().max() < FLAT else None
        for _ in range(HALVINGS):
            mean, covariance, moved = sets.moments(x, beta + step)
            if moved >= likelihood - 1e-9 * abs(likelihood):
                break
            step = step / 2
        beta, likelihood = beta + step, moved
    return None
