"""How well a count puts patients in the order of their deaths, and whether one count does it better than another.

Harrell's C: of all pairs of which it is known who died first, the share in which that patient has the higher count; equal
counts are a half. The interval of a C, and of the difference of two on the same patients, is the infinitesimal jackknife
of R's `concordance(fit1, fit2)`: how much each patient moves it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]

BLOCK = 512  # patients with an event who are compared with all others at a time


@dataclass(frozen=True, kw_only=True)
class Concordance:
    """A concordance and by how much each patient (patients,) moves it."""

    value: float
    influence: Floats

    @property
    def error(self) -> float:
        """Standard error by the infinitesimal jackknife."""
        return float(np.sqrt((self.influence**2).sum()))


@dataclass(frozen=True, kw_only=True)
class ConcordanceDifference:
    """Concordance of two counts of the same patients; `difference` is the first less the second, with 95 % limits."""

    model: float
    manual: float
    difference: float
    low: float
    high: float
    n: int


def concordance(durations: Floats, events: Floats, counts: Floats) -> Concordance:
    """Compare all pairs; NaN when of no pair it is known who died first.

    >>> concordance(np.array([1.0, 2, 3]), np.array([1.0, 1, 0]), np.array([5.0, 7, 0])).value
    0.6666666666666666
    """
    agreed, compared = np.zeros(len(durations)), np.zeros(len(durations))
    dead = np.flatnonzero(events == 1)
    for at in range(0, len(dead), BLOCK):
        block = dead[at : at + BLOCK]
        outlived = (durations[block, None] < durations) | ((durations[block, None] == durations) & (events == 0))
        score = outlived * ((counts[block, None] > counts) + 0.5 * (counts[block, None] == counts))
        agreed += score.sum(axis=0)
        compared += outlived.sum(axis=0)
        agreed[block] += score.sum(axis=1)
        compared[block] += outlived.sum(axis=1)
    pairs = compared.sum() / 2  # each pair was booked to both of its patients
    if not pairs:
        return Concordance(value=float("nan"), influence=np.full(len(durations), np.nan))
    value = float(agreed.sum() / 2 / pairs)
    return Concordance(value=value, influence=(agreed - value * compared) / pairs)


def compare_concordances(durations: Floats, events: Floats, model: Floats, manual: Floats) -> ConcordanceDifference:
    """Concordance by the model's count less that by hand."""
    first, second = concordance(durations, events, model), concordance(durations, events, manual)
    difference = first.value - second.value
    reach = float(norm.ppf(0.975) * np.sqrt(((first.influence - second.influence) ** 2).sum()))
    return ConcordanceDifference(
        model=first.value,
        manual=second.value,
        difference=difference,
        low=difference - reach,
        high=difference + reach,
        n=len(durations),
    )
