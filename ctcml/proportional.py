"""Are hazards proportional? The score test that R's `cox.zph` makes since survival 3.0.

Grambsch and Therneau (1994, Biometrika 81:515) ask whether a coefficient changes as beta + theta g(t). The covariates
times g(t) are added to the model, and theta = 0 is tested by the score at the estimates. With x(k) the covariates of the
patient who has event k, and mean e(k) and covariance V(k) of the covariates over its risk set (weights exp(x beta)):

    score        U = sum of g(k) (x(k) - e(k))
    information  [[sum V, sum g V], [sum g V, sum g² V]]     of beta and theta
    test         of some thetas: U' (block of the inverse information of beta and these thetas) U, chi-squared

lifelines and R before 3.0 take one average V for all V(k), which is another statistic. g(t) is 1 - S(t-), with the
Kaplan-Meier curve of all patients together just before t. Centring g changes nothing but rounding, as the score of beta
is 0 at the estimate.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from ctcml.risk_sets import RiskSets, risk_sets

Floats = NDArray[np.float64]

GLOBAL = "GLOBAL"


def proportional_p(
    durations: Floats, events: Floats, x: Floats, beta: Floats, terms: Mapping[str, Sequence[int]]
) -> dict[str, float]:
    """The p of each term and, under `GLOBAL`, of all together; NaN where it cannot be computed.

    `x` (patients, columns) and `beta` (columns,) are those of a Cox model with Efron's ties; a term is a name and the
    columns that belong to it.
    """
    sets = risk_sets(durations, events)
    transformed = one_minus_survival_before(sets)
    transformed = transformed - transformed.mean() if len(transformed) else transformed
    x = (x - x.mean(axis=0))[sets.order]
    mean, covariance, _ = sets.moments(x, beta)
    score = ((x[sets.dead].T - mean) * transformed).sum(axis=1)
    ordinary, crossed, squared = ((covariance * transformed**power).sum(axis=2) for power in (0, 1, 2))
    information = np.block([[ordinary, crossed], [crossed, squared]])
    every = range(len(beta))
    return {name: _p(score, information, list(columns)) for name, columns in (dict(terms) | {GLOBAL: every}).items()}


def one_minus_survival_before(sets: RiskSets) -> Floats:
    """One minus the Kaplan-Meier curve of all patients just before each event, one entry an event."""
    at_risk = len(sets.order) - sets.start
    tied = sets.beyond - sets.first
    step = np.where(np.arange(len(sets.dead)) == sets.first, 1 - tied / at_risk, 1.0)
    survival = np.concatenate([[1.0], step.cumprod()])
    return np.asarray(1 - survival[sets.first], dtype=np.float64)


def _p(score: Floats, information: Floats, columns: list[int]) -> float:
    size = len(score)
    chosen = [*range(size), *(size + column for column in columns)]
    try:
        of_theta = np.linalg.inv(information[np.ix_(chosen, chosen)])[size:, size:]
    except np.linalg.LinAlgError:
        return float("nan")
    statistic = float(score[columns] @ of_theta @ score[columns])
    # Rounding can leave an information without an inverse a little beside 0, and then the statistic is anything.
    return float(chi2.sf(statistic, len(columns))) if statistic >= 0 else float("nan")
