"""Who is still at risk at each event: the sums from which Cox's partial likelihood with Efron's ties is made.

Of d patients with an event at the same time, Efron (1977, JASA 72:557) takes the first with all of them at risk, the
second with (d - 1)/d of each, and so on: every event is one step, and a sum over its risk set is the sum over all who
are still under observation, less a fraction of those who have the event at that time.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

STEPS = 30  # of Newton's method; it needs about six
CONVERGED = 1e-10  # of the last step of a log hazard ratio
FARTHEST = 300.0  # a log hazard beyond has no sums; only a model without a maximum goes there
LARGEST = 20.0  # a log hazard ratio beyond is on its way to infinity


@dataclass(frozen=True, kw_only=True)
class RiskSets:
    """Patients in order of time: `order` (patients,) sorts them; the rest has one entry an event, in order of time."""

    order: Places
    dead: Places  # the place of each event among the sorted patients
    start: Places  # of its risk set, which reaches from there to the end
    first: Places  # of the events at the same time
    beyond: Places
    fraction: Floats  # of the tied events that this step no longer counts

    def sums(self, values: Floats) -> Floats:
        """Sum `values` (..., patients), sorted, over the risk set of each event: (..., events)."""
        still = values[..., ::-1].cumsum(axis=-1)[..., ::-1][..., self.start]
        of_dead = values[..., self.dead]
        before = np.concatenate([np.zeros_like(of_dead[..., :1]), of_dead.cumsum(axis=-1)], axis=-1)
        return np.asarray(still - self.fraction * (before[..., self.beyond] - before[..., self.first]))

    def moments(self, x: Floats, beta: Floats) -> tuple[Floats, Floats, float]:
        """What the partial likelihood at `beta` (columns,) is made of, for sorted `x` (patients, columns).

        Mean (columns, events) and covariance (columns, columns, events) of x over the risk sets, each patient weighted
        by her hazard exp(x beta), and the logarithm of the likelihood itself.
        """
        linear = np.clip(x @ beta, -FARTHEST, FARTHEST)
        weights = np.exp(linear)
        at_risk = self.sums(weights)
        mean = self.sums(weights * x.T) / at_risk
        covariance = self.sums(weights * x.T[:, None] * x.T[None]) / at_risk - mean[:, None] * mean[None]
        return mean, covariance, float(linear[self.dead].sum() - np.log(at_risk).sum())


def risk_sets(durations: Floats, events: Floats) -> RiskSets:
    """Sort patients by time and find the risk set of each event.

    >>> sets = risk_sets(np.array([5.0, 2.0, 2.0]), np.array([0.0, 1.0, 1.0]))
    >>> sets.sums(np.ones(3)).tolist()
    [3.0, 2.0]
    """
    order = np.argsort(durations, kind="stable")
    times = durations[order]
    dead = np.flatnonzero(events[order] == 1)
    at = times[dead]
    first, beyond = np.searchsorted(at, at, "left"), np.searchsorted(at, at, "right")
    return RiskSets(
        order=order,
        dead=dead,
        start=np.searchsorted(times, at, "left"),
        first=first,
        beyond=beyond,
        fraction=(np.arange(len(dead)) - first) / np.maximum(beyond - first, 1),
    )


def hazards_of_many(durations: Floats, events: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Log hazard ratios and their variances (draws,) of one covariate, for many versions `x` (draws, patients) of it.

    NaN where the likelihood has no maximum.
    """
    sets = risk_sets(durations, events)
    x = x[:, sets.order] - x.mean(axis=1, keepdims=True)
    of_dead = x[:, sets.dead].sum(axis=1)
    beta, step, information = np.zeros(len(x)), np.full(len(x), np.inf), np.zeros(len(x))
    for _ in range(STEPS):
        weights = np.exp(np.clip(beta, -LARGEST, LARGEST)[:, None] * x)
        at_risk = sets.sums(weights)
        mean = sets.sums(weights * x) / at_risk
        information = (sets.sums(weights * x * x) / at_risk - mean**2).sum(axis=1)
        step = np.divide(of_dead - mean.sum(axis=1), information, out=np.full(len(x), np.nan), where=information > 0)
        step = np.clip(step, -2, 2)  # far from the maximum a step may overshoot
        if not (np.abs(step) > CONVERGED).any():
            break
        beta = beta + np.nan_to_num(step)
    lost = ~(np.abs(step) <= CONVERGED) | (np.abs(beta) >= LARGEST)
    safe = np.where(lost, 1.0, information)
    return np.where(lost, np.nan, beta), np.where(lost, np.nan, 1 / safe)
