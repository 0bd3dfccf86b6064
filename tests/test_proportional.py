"""The test of proportional hazards; its equality with R's `cox.zph` is in test_survival_against_r.py."""

import numpy as np
import pandas as pd

from ctcml.cox import CoxFit, fit_cox
from ctcml.proportional import GLOBAL, one_minus_survival_before, proportional_p
from ctcml.risk_sets import risk_sets


def fitted(durations: np.ndarray, x: np.ndarray) -> CoxFit:
    fit = fit_cox(durations, np.ones(len(durations)), pd.DataFrame({"x": x}))
    assert isinstance(fit, CoxFit)
    return fit


def test_time_is_the_kaplan_meier_curve_just_before_each_event() -> None:
    sets = risk_sets(np.array([1.0, 2, 2, 3]), np.array([1.0, 1, 1, 0]))
    assert one_minus_survival_before(sets).tolist() == [0, 0.25, 0.25]


def test_hazards_that_are_proportional_are_doubted_as_often_as_the_p_says() -> None:
    rng = np.random.default_rng(11)
    doubted = 0
    for _ in range(300):
        x = rng.integers(0, 2, 80).astype(float)
        doubted += fitted(rng.exponential(np.exp(-0.7 * x)), x).proportional["x"] < 0.05
    assert 5 <= doubted <= 27  # 15 expected; the binomial gives more or fewer once in a thousand


def test_hazards_that_cross_are_found() -> None:
    rng = np.random.default_rng(0)
    x = np.repeat([0.0, 1.0], 80)
    durations = np.concatenate([rng.uniform(8, 12, 80), rng.uniform(0, 4, 50), rng.uniform(16, 24, 30)])
    assert fitted(durations, x).proportional["x"] < 1e-6


def test_a_term_of_several_columns_is_tested_as_a_whole() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(120, 2))
    durations = np.round(rng.exponential(np.exp(-x @ np.array([0.5, -0.3]))), 1)
    table = pd.DataFrame(x, columns=["a", "b"])
    apart, together = (
        fit_cox(durations, np.ones(120), table),
        fit_cox(durations, np.ones(120), table, terms={"ab": ["a", "b"]}),
    )
    assert isinstance(apart, CoxFit)
    assert isinstance(together, CoxFit)
    assert together.proportional["ab"] == apart.proportional[GLOBAL]
    assert set(together.proportional) == {"ab", GLOBAL}


def test_covariates_that_cannot_be_told_apart_have_no_test() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=60)
    found = proportional_p(
        rng.exponential(size=60), np.ones(60), np.column_stack([x, np.zeros(60)]), np.zeros(2), {"b": [1]}
    )
    assert np.isnan(found["b"])
