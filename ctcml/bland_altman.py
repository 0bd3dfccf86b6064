"""How far two ways of counting agree, tube by tube: Bland and Altman's limits of agreement and Lin's concordance.

Counts of cells are skewed and differ in proportion to their size, so both are taken of ln(1 + count); a difference there,
taken back, is the ratio (1 + one) / (1 + other): 1 is agreement, 2 is twice as many.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ctcml.errors import BadInput

Z = float(stats.norm.ppf(0.975))
FEWEST = 3  # tubes, below which no spread can be told

Floats = NDArray[np.float64]
Figure = dict[str, float | None]  # value, low, high


def count_agreement(one: NDArray[Any], other: NDArray[Any]) -> dict[str, Any]:
    """Agreement of two counts of the same tubes (n,), one tube a patient: ratios with 95 % limits, and concordance.

    `bias` is the typical ratio, between `lower` and `upper` lie 95 % of the ratios. All are None with fewer than 3 tubes.
    Raises `BadInput` for counts that are negative, not finite or not in pairs.
    """
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not (np.isfinite([first, second]) & (first >= 0)).all():
        raise BadInput(
            f"counts to compare: {first.shape} and {second.shape} with a lowest of {min(first.min(initial=0), second.min(initial=0)):g},"
            " expected two finite counts of 0 or more a tube; leave tubes with one count out"
        )
    if len(first) < FEWEST:
        nothing: Figure = {"value": None, "low": None, "high": None}
        return {"tubes": len(first)} | {name: dict(nothing) for name in ("bias", "lower", "upper", "concordance")}
    x, y = np.log1p(first), np.log1p(second)
    off = x - y
    ratios = {
        name: {part: float(np.exp(value)) for part, value in figure.items() if value is not None}
        for name, figure in limits_of_agreement(float(off.mean()), float(off.std(ddof=1)), len(off)).items()
    }
    return {"tubes": len(first), **ratios, "concordance": concordance(x, y)}


def limits_of_agreement(mean: float, sd: float, n: int) -> dict[str, Figure]:
    """Bias and 95 % limits of agreement of n paired differences, each with its 95 % interval.

    Bland & Altman 1999 (Stat Methods Med Res 8:135), section 2: the limits are mean ± 1.96 sd, with standard error
    sd √(1/n + 1.96² / 2(n - 1)), about 1.71 sd / √n; intervals by Student's t.
    """
    reach = float(stats.t.ppf(0.975, n - 1))
    of_bias, of_limit = sd / n**0.5, sd * (1 / n + Z**2 / (2 * (n - 1))) ** 0.5
    return {
        name: {"value": value, "low": value - reach * error, "high": value + reach * error}
        for name, value, error in (
            ("bias", mean, of_bias),
            ("lower", mean - Z * sd, of_limit),
            ("upper", mean + Z * sd, of_limit),
        )
    }


def concordance(x: Floats, y: Floats) -> Figure:
    """Lin's concordance correlation coefficient with its 95 % interval by the z-transform.

    Lin 1989 (Biometrics 45:255) with the variance as corrected in 2000 (Biometrics 56:324). None where a count does not vary;
    no interval where the two are the same or their correlation is 0.
    """
    spread_x, spread_y, both = x.var(), y.var(), float(np.mean((x - x.mean()) * (y - y.mean())))
    apart = float(x.mean() - y.mean())
    if spread_x == 0 or spread_y == 0:
        return {"value": None, "low": None, "high": None}
    value = float(2 * both / (spread_x + spread_y + apart**2))
    r, u = both / (spread_x * spread_y) ** 0.5, apart / (spread_x * spread_y) ** 0.25
    if len(x) < FEWEST or abs(value) > 1 - 1e-12 or r == 0:
        return {"value": value, "low": None, "high": None}
    rest = 1 - value**2
    variance = (
        (1 - r**2) * value**2 / (rest * r**2)
        + 2 * value**3 * (1 - value) * u**2 / (r * rest**2)
        - value**4 * u**4 / (2 * r**2 * rest**2)
    ) / (len(x) - 2)
    middle, reach = np.arctanh(value), Z * max(float(variance), 0.0) ** 0.5
    return {"value": value, "low": float(np.tanh(middle - reach)), "high": float(np.tanh(middle + reach))}
