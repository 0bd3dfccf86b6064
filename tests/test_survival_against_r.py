"""Every figure of a survival report beside that of R's `survival`, on eight cohorts."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from survival_cohorts import CUTOFFS, LANDMARKS, cohorts

from ctcml.arms import Arm
from ctcml.concordances import compare_concordances, concordance
from ctcml.cox import CoxFit, Hazard, fit_cox
from ctcml.landmark import DAYS_PER_MONTH, from_landmark
from ctcml.multivariable import design_of
from ctcml.proportional import GLOBAL
from ctcml.restricted import restricted_mean
from ctcml.survival import SurvivalReport, analyse

HERE = Path(__file__).parent
STORED = json.loads((HERE / "r" / "figures.json").read_text(encoding="utf-8"))
SAME = 1e-6  # relative
COHORTS = cohorts()
NAMES = [pytest.param(name, marks=[pytest.mark.real] if name == "cabav7" else []) for name in STORED["cohorts"]]


def report(name: str, **more: Any) -> SurvivalReport:
    return analyse(
        COHORTS[name],
        cutoff=CUTOFFS[name],
        label=name,
        min_events=5,
        exploratory=False,
        covariates=[column for column in COHORTS[name] if column.startswith("x_")],
        **more,
    )


@pytest.fixture(params=NAMES)
def cohort(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any], SurvivalReport]:
    name = request.param
    if name not in COHORTS:
        pytest.skip("CTCML_REAL_DATA is not set")
    return name, STORED["cohorts"][name], report(name)


def columns(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    duration, event, count = (COHORTS[name][column].to_numpy(dtype=float) for column in ("duration", "event", "count"))
    return duration, event, count


def same(found: Any, expected: Any) -> None:
    """Equal to 1e-6 relative; what R does not give (null) has to be None or NaN here."""
    for one, other in zip(np.atleast_1d(np.asarray(found, dtype=object)), np.atleast_1d(expected), strict=True):
        if other is None:
            assert one is None or np.isnan(one)
        else:
            assert one == pytest.approx(other, rel=SAME, abs=1e-12)


def test_the_stored_figures_name_their_versions_and_at_least_five_cohorts() -> None:
    assert STORED["survival"].split(".")[0] == "3"
    assert STORED["r"]
    assert len(STORED["cohorts"]) >= 5
    assert "cabav7" in STORED["cohorts"]
    assert all(len(one["below"]["time"]) == 40 for one in STORED["cohorts"].values())


def test_curves_with_log_log_limits_are_those_of_r(cohort: tuple[str, dict[str, Any], SurvivalReport]) -> None:
    _, expected, found = cohort
    for arm, other in zip(found.arms, (expected["below"], expected["above"]), strict=True):
        at = np.searchsorted(arm.times, other["time"], side="right") - 1
        same(np.asarray(arm.survival)[at], other["survival"])
        for ours, theirs in ((arm.low, other["low"]), (arm.high, other["high"])):
            told = [k for k, limit in enumerate(theirs) if limit is not None]
            same(np.asarray(ours)[at][told], [theirs[k] for k in told])
            # R has no limits before the first event, where ours are 1, nor at 0, where ours stay where they were.
            assert all(other["survival"][k] in (0, 1) for k in range(40) if k not in told)
            assert all(ours[at[k]] == 1 for k in range(40) if other["survival"][k] == 1)


def test_medians_with_limits_and_follow_up_are_those_of_quantile_survfit(
    cohort: tuple[str, dict[str, Any], SurvivalReport],
) -> None:
    _, expected, found = cohort

    def of(arm: Arm) -> tuple[float | None, ...]:
        return arm.median, arm.median_low, arm.median_high

    same(of(found.arms[0]), expected["below"]["median"])
    same(of(found.arms[1]), expected["above"]["median"])
    followed = found.follow_up
    same((followed.median, followed.low, followed.high) if followed else (None,) * 3, expected["follow_up"])


def test_the_log_rank_test_is_that_of_survdiff(cohort: tuple[str, dict[str, Any], SurvivalReport]) -> None:
    _, expected, found = cohort
    assert found.logrank is not None
    same((found.logrank.chi2, found.logrank.p), (expected["chi2"], expected["p"]))


def test_hazard_ratios_and_the_test_of_proportional_hazards_are_those_of_coxph_and_cox_zph(
    cohort: tuple[str, dict[str, Any], SurvivalReport],
) -> None:
    _, expected, found = cohort

    def is_that_of(hazard: Hazard | None, other: dict[str, Any]) -> None:
        assert hazard is not None
        same((hazard.hr, hazard.low, hazard.high, hazard.p), [other[key] for key in ("hr", "low", "high", "p")])
        same(hazard.proportional_p, other["zph"][0])

    is_that_of(found.cox, expected["cox"])
    is_that_of(found.cox_log_count, expected["cox_log_count"])


def test_a_model_with_covariates_is_that_of_coxph_term_by_term(
    cohort: tuple[str, dict[str, Any], SurvivalReport],
) -> None:
    name, expected, _ = cohort
    other = expected["multivariable"]
    if other is None:
        pytest.skip("no covariates")
    covariates = [column for column in COHORTS[name] if column.startswith("x_")]
    whole = COHORTS[name].replace("", np.nan).dropna(subset=covariates).reset_index(drop=True)
    design, _ = design_of(whole, covariates)
    fit = fit_cox(whole["duration"].to_numpy(float), whole["event"].to_numpy(float), design.columns, terms=design.terms)
    assert isinstance(fit, CoxFit)
    same(fit.beta, other["beta"])
    same(fit.log_likelihood, other["log_likelihood"])
    same([*(fit.proportional[term] for term in design.terms), fit.proportional[GLOBAL]], other["zph"])
    hazards = [fit.hazard(column, column, term=next(iter(design.terms))) for column in fit.columns]
    for key in ("hr", "low", "high", "p"):
        same([getattr(one, key) for one in hazards], other[key])


def test_the_report_s_model_with_covariates_has_the_patients_and_the_concordance_of_r(
    cohort: tuple[str, dict[str, Any], SurvivalReport],
) -> None:
    _, expected, found = cohort
    other = expected["multivariable"]
    if other is None:
        assert found.multivariable is None
        return
    assert found.multivariable is not None
    assert (found.multivariable.n, found.multivariable.events) == (other["n"], other["events"])
    same(found.multivariable.concordance, other["concordance"])
    same(found.multivariable.global_proportional_p, other["zph"][-1])
    same([term.hr for term in found.multivariable.terms], other["hr"])


def test_restricted_means_are_those_of_print_survfit(cohort: tuple[str, dict[str, Any], SurvivalReport]) -> None:
    name, expected, found = cohort
    durations, events, counts = columns(name)
    high = counts >= CUTOFFS[name]
    other = expected["restricted"]
    for side, mean, error in zip((~high, high), other["mean"], other["error"], strict=True):
        same(restricted_mean(durations[side], events[side], other["horizon"]), (mean, error))
    if found.restricted is not None:
        assert found.cox is not None
        assert found.cox.proportional_p < 0.05
        same(
            (found.restricted.horizon, *(arm.mean for arm in found.restricted.arms)), [other["horizon"], *other["mean"]]
        )


def test_the_spline_is_that_of_ns_with_the_same_knots(cohort: tuple[str, dict[str, Any], SurvivalReport]) -> None:
    name, expected, _ = cohort
    other = expected["spline"]
    if other is None:
        assert report(name).spline is None
        return
    from ctcml.spline import TERM, basis, knots_of

    durations, events, counts = columns(name)
    knots = knots_of(np.log1p(counts), int(events.sum()))
    same(knots, other["knots"])
    x = basis(np.log1p(counts), knots)
    names = [str(at) for at in range(x.shape[1])]
    fit = fit_cox(durations, events, pd.DataFrame(x, columns=names), terms={TERM: names})
    assert isinstance(fit, CoxFit)
    same(fit.log_likelihood, other["log_likelihood"])
    same(fit.proportional[TERM], other["zph"])
    moved = basis(np.log1p(np.array(other["counts"])), knots) - basis(np.log1p(np.array([CUTOFFS[name]])), knots)
    same(moved @ fit.beta, other["log_hr"])
    same(np.sqrt(np.diag(moved @ fit.covariance @ moved.T)), other["error"])
    if (drawn := report(name).spline) is not None:
        same(drawn.nonlinear_p, other["nonlinear_p"])


def test_a_concordance_and_its_error_are_those_of_r(cohort: tuple[str, dict[str, Any], SurvivalReport]) -> None:
    name, expected, found = cohort
    ours = concordance(*columns(name))
    same((ours.value, ours.error), (expected["concordance"], expected["concordance_error"]))
    same(found.concordance, expected["concordance"])


def test_the_difference_of_two_concordances_has_the_error_of_concordance_fit1_fit2(
    cohort: tuple[str, dict[str, Any], SurvivalReport],
) -> None:
    name, expected, _ = cohort
    other = expected["two_counts"]
    if other is None:
        pytest.skip("one count")
    durations, events, counts = columns(name)
    second = other["signs"][1] * COHORTS[name]["other"].to_numpy(dtype=float)
    ours = compare_concordances(durations, events, other["signs"][0] * counts, second)
    same((ours.model, ours.manual), other["values"])
    same((ours.high - ours.low) / 2 / 1.959963984540054, other["error"])
    assert ours.low < ours.difference < ours.high


def test_a_landmark_analysis_is_that_of_those_who_are_left(
    cohort: tuple[str, dict[str, Any], SurvivalReport],
) -> None:
    name, expected, _ = cohort
    landmark = LANDMARKS[name]
    left = from_landmark(COHORTS[name], landmark * DAYS_PER_MONTH).rows
    found = analyse(left, cutoff=CUTOFFS[name], label=name, min_events=1, exploratory=False, landmark_months=landmark)
    assert found.n == expected["landmark"]["n"]
    assert found.logrank is not None
    same(found.logrank.chi2, expected["landmark"]["chi2"])
    same([arm.median for arm in found.arms], expected["landmark"]["medians"])


@pytest.mark.trial
@pytest.mark.timeout(600)
def test_r_says_today_what_is_stored(tmp_path: Path, figure: Any) -> None:
    if shutil.which("Rscript") is None:
        pytest.skip("Rscript is not there; apt-get install --no-install-recommends r-base-core r-cran-survival")
    subprocess.run([sys.executable, HERE / "survival_cohorts.py", tmp_path], check=True)
    said = subprocess.run(
        ["Rscript", HERE / "r" / "figures.R", tmp_path], check=True, capture_output=True, text=True
    ).stdout
    fresh = json.loads(said)
    largest = 0.0
    for name, one in fresh["cohorts"].items():
        for ours, theirs in zip(_numbers(one), _numbers(STORED["cohorts"][name]), strict=True):
            largest = max(largest, abs(ours - theirs) / max(abs(theirs), 1e-12))
    figure(
        f"largest relative difference of R {fresh['r']}, survival {fresh['survival']} to what is stored",
        f"{largest:.1e}",
    )
    assert largest < SAME


def _numbers(part: Any) -> list[float]:
    if isinstance(part, dict):
        return [number for one in part.values() for number in _numbers(one)]
    if isinstance(part, list):
        return [number for one in part for number in _numbers(one)]
    return [float(part)] if isinstance(part, int | float) else []
