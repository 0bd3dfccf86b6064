"""The spline of the count; its equality with R's `ns` is in test_survival_against_r.py."""

import numpy as np
import pytest

from ctcml.cox import NoFit
from ctcml.spline import SplineCurve, basis, knots_of, spline_of


def cohort(shape: float, n: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts with a hazard that rises by `shape` with ln(1 + count) until 10 cells, and no further."""
    rng = np.random.default_rng(6)
    counts = rng.negative_binomial(0.7, 0.02, n).astype(float)
    durations = rng.exponential(np.exp(-shape * np.minimum(np.log1p(counts), np.log1p(10))))
    return durations, (rng.random(n) < 0.8).astype(float), counts


def test_the_curve_is_one_at_its_reference_and_has_no_width_there() -> None:
    found = spline_of(*cohort(0.9), reference=5)
    assert isinstance(found, SplineCurve)
    at = np.searchsorted(found.counts, 5)
    assert found.hr[at - 1] < 1 < found.hr[at]
    assert all(low <= hr <= high for low, hr, high in zip(found.low, found.hr, found.high, strict=True))
    assert found.reference == 5


def test_a_hazard_that_levels_off_is_not_a_straight_line() -> None:
    bent, nothing = spline_of(*cohort(0.9), reference=5), spline_of(*cohort(0.0), reference=5)
    assert isinstance(bent, SplineCurve)
    assert isinstance(nothing, SplineCurve)
    assert bent.nonlinear_p < 0.01 < nothing.nonlinear_p
    assert 0 < bent.proportional_p <= 1


def test_beyond_the_outer_knots_the_curve_is_straight() -> None:
    columns = basis(np.array([-3.0, -2, -1, 6, 7, 8]), np.array([0.0, 1, 3, 5]))
    for piece in (columns[:3], columns[3:]):
        assert np.diff(piece, n=2, axis=0) == pytest.approx(np.zeros((1, 3)), abs=1e-9)


def test_knots_that_fall_together_are_one() -> None:
    """Half of the patients have no cell, so two quantiles are 0."""
    x = np.log1p(np.array([0.0] * 50 + [3.0] * 20 + [9.0] * 30))
    assert len(knots_of(x, 60)) < 4
    assert len(knots_of(np.arange(100.0), 60)) == 4
    assert len(knots_of(np.arange(100.0), 30)) == 3


def test_few_events_or_few_different_counts_make_no_curve() -> None:
    durations, events, counts = cohort(0.5, n=30)
    thin = spline_of(durations, events * (np.arange(30) < 15), counts, reference=5)
    assert isinstance(thin, NoFit)
    assert "10 events for each column" in thin.why
    durations, events, counts = cohort(0.5)
    assert isinstance(spline_of(durations, events, (counts > 5) * 9.0, reference=5), NoFit)
