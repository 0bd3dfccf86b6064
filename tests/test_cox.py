import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from survival_cohorts import gbsg2, rossi

from ctcml import cox
from ctcml.cox import CoxFit, NoFit, fit_cox
from ctcml.risk_sets import hazards_of_many, risk_sets


def columns(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return table["duration"].to_numpy(float), table["event"].to_numpy(float)


def fitted(table: pd.DataFrame, x: pd.DataFrame) -> CoxFit:
    fit = fit_cox(*columns(table), x)
    assert isinstance(fit, CoxFit)
    return fit


def test_coefficients_and_errors_are_those_of_lifelines_to_its_own_stopping_rule() -> None:
    table = rossi()
    x = pd.DataFrame({"convictions": table["count"], "age": table["x_age"], "married": table["x_married"] == "yes"})
    ours = fitted(table, x.astype(float))
    theirs = CoxPHFitter().fit(x.astype(float).assign(t=table["duration"], e=table["event"]), "t", "e")
    assert ours.beta == pytest.approx(theirs.params_.to_numpy(), rel=1e-5)
    assert np.sqrt(np.diag(ours.covariance)) == pytest.approx(theirs.standard_errors_.to_numpy(), rel=1e-5)
    assert ours.log_likelihood == pytest.approx(theirs.log_likelihood_, rel=1e-9)


def test_the_scale_and_the_origin_of_a_covariate_change_nothing_but_its_unit() -> None:
    table = gbsg2()
    years, days = table["x_age"].to_numpy(float), table["x_age"].to_numpy(float) * 365.25 - 20_000
    first, second = (fitted(table, pd.DataFrame({"age": values})) for values in (years, days))
    assert second.beta[0] * 365.25 == pytest.approx(first.beta[0], rel=1e-9)
    assert second.proportional["age"] == pytest.approx(first.proportional["age"], rel=1e-9)
    assert second.hazard("age", "day").p == pytest.approx(first.hazard("age", "year").p, rel=1e-9)


def test_ties_are_efron_s() -> None:
    """Two of three die at once: the likelihood of Efron (1977) is e^b (1) / ((1 + 1 + e^b) (1/2 (1 + e^b) + 1))."""
    sets = risk_sets(np.array([1.0, 1, 2]), np.array([1.0, 1, 0]))
    x = np.array([[1.0], [0.0], [0.0]])[sets.order]
    _, _, likelihood = sets.moments(x, np.array([0.7]))
    risk = np.exp(0.7)
    assert likelihood == pytest.approx(0.7 - np.log(2 + risk) - np.log((1 + risk) / 2 + 1))


def test_arms_that_never_overlap_have_no_hazard_ratio() -> None:
    table = pd.DataFrame({"duration": np.arange(1.0, 21), "event": 1.0})
    found = fit_cox(*columns(table), pd.DataFrame({"x": np.repeat([1.0, 0.0], 10)}))
    assert found == NoFit(why="does not converge; no hazard ratio")


def test_columns_that_say_the_same_have_no_hazard_ratio() -> None:
    table = rossi()
    x = pd.DataFrame({"a": table["count"], "b": 2.0 * table["count"]}).astype(float)
    assert isinstance(fit_cox(*columns(table), x), NoFit)
    constant = fit_cox(*columns(table), pd.DataFrame({"a": table["count"] * 1.0, "b": 3.0}))
    assert isinstance(constant, NoFit)
    assert "has the same b in all patients" in constant.why


def test_without_a_test_of_proportional_hazards_there_is_no_hazard_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cox, "proportional_p", lambda *_: {"x": float("nan")})
    table = rossi()
    found = fit_cox(*columns(table), pd.DataFrame({"x": table["count"].astype(float)}))
    assert isinstance(found, NoFit)
    assert "without it no hazard ratio is given" in found.why


def test_events_that_all_happen_at_one_time_cannot_tell_whether_hazards_are_proportional() -> None:
    durations, events = np.array([5.0] * 12 + [9.0] * 12), np.repeat([1.0, 0.0], 12)
    found = fit_cox(durations, events, pd.DataFrame({"x": np.tile([0.0, 1, 1, 1], 6)}))
    assert isinstance(found, NoFit)
    assert "without it no hazard ratio is given" in found.why


def test_many_versions_of_a_covariate_have_the_hazards_of_each_by_itself() -> None:
    table = gbsg2()
    rng = np.random.default_rng(3)
    x = (rng.random((5, len(table))) < 0.4).astype(float)
    beta, variance = hazards_of_many(*columns(table), x)
    for at, one in enumerate(x):
        fit = fitted(table, pd.DataFrame({"x": one}))
        assert beta[at] == pytest.approx(fit.beta[0], rel=1e-8)
        assert variance[at] == pytest.approx(fit.covariance[0, 0], rel=1e-8)


def test_a_version_without_a_maximum_is_nan_and_leaves_the_others_alone() -> None:
    durations, events = np.arange(1.0, 21), np.ones(20)
    apart, mixed = np.repeat([1.0, 0.0], 10), np.tile([1.0, 0.0], 10)
    beta, variance = hazards_of_many(durations, events, np.stack([apart, mixed, np.ones(20)]))
    assert np.isnan(beta).tolist() == np.isnan(variance).tolist() == [True, False, True]
