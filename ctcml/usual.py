"""How much samples differ anyway, and whether later ones differ more: bounds from a few samples, and a martingale over time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctcml.errors import BadInput

SMALLEST = 0.005  # of a spread: no less is known of an MMD or a KS distance
DRAWS = 20_000
STAKES = (
    1.0,
    0.5,
)  # exponents of the bets, 1 does not bet; measured: more of them see 15 samples moved by two deviations in 41 instead of 55 %
RESTLESS = 0.05  # of the capital that is dealt anew after each sample, so that a late change is seen; measured: 0.005 sees those in 29 %

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Usual:
    """What distances of undrifted samples are like: median, median deviation from it, and the bound that few exceed."""

    middle: float
    spread: float
    bound: float
    samples: int


def usual(distances: Floats, *, rate: float, rng: np.random.Generator) -> Usual:
    """Learn from the distances of some samples what another undrifted one exceeds with a chance of `rate`.

    Medians, because a few of the samples may have drifted: an order statistic or a standard deviation would take their
    distance for usual, and nothing would ever alarm (measured: with a tenth drifted, 0 to 40 % of drifted samples were caught
    instead of 95 %). How far the next one may lie is taken from normal samples of the same size, so few samples make a wide bound.
    """
    if len(distances) < 2 or not np.isfinite(distances).all():
        raise BadInput(f"drift: {len(distances)} distances to learn from, expected 2 finite ones or more; give more")
    middle = float(np.median(distances))
    spread = max(float(np.median(np.abs(distances - middle))), SMALLEST)
    factor = float(np.quantile(normal_scores(len(distances), 1, DRAWS, rng), 1 - rate))
    return Usual(middle=middle, spread=spread, bound=middle + factor * spread, samples=len(distances))


def normal_scores(known: int, new: int, draws: int, rng: np.random.Generator) -> Floats:
    """How many median deviations `new` normal values lie above the median of `known` others: (draws, new)."""
    values = rng.standard_normal((draws, known))
    middle = np.median(values, axis=1, keepdims=True)
    spread = np.median(np.abs(values - middle), axis=1, keepdims=True)
    return np.asarray((rng.standard_normal((draws, new)) - middle) / spread)


def most_by_chance(
    known: int, recent: int, *, measures: int, rate: float, chance: float, rng: np.random.Generator
) -> int:
    """Of `recent` undrifted samples, the number beyond any of the bounds that is exceeded with `chance` at most.

    There is a bound for each of so many independent measures, learned from `known` samples at `rate` / `measures`. A bound from few samples
    may be too low for all of them at once, which is allowed for.
    """
    beyond = np.zeros((DRAWS // 5, recent), dtype=bool)
    for _ in range(measures):
        scores = normal_scores(known, recent + 1, DRAWS // 5, rng)
        beyond |= scores[:, 1:] > np.quantile(scores[:, 0], 1 - rate / measures)
    return int(np.quantile(beyond.sum(axis=1), 1 - chance, method="higher"))


def exchangeability(scores: Floats, rng: np.random.Generator) -> Floats:
    """The capital of who bets, sample by sample, that new scores are larger than those before; it begins with 1.

    Each score's rank among those so far is uniform if the samples are exchangeable, whatever the scores' distribution; then
    the capital ever reaches c with a chance of 1 / c at most (Ville 1939). The bets are powers of the rank; capital moves
    between them (the jumper of Vovk et al. 2021, COPA, PMLR 152:191).
    """
    stakes = np.array(STAKES)
    capital, path = np.full(len(stakes), 1 / len(stakes)), np.empty(len(scores))
    for at, score in enumerate(scores):
        larger, equal = (scores[:at] > score).sum(), (scores[:at] == score).sum() + 1
        p = max((larger + rng.uniform() * equal) / (at + 1), 1e-9)
        capital = (1 - RESTLESS) * capital + RESTLESS * capital.mean()
        capital = capital * stakes * p ** (stakes - 1)
        path[at] = capital.sum()
    return path
