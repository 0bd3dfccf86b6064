"""The model with covariates; its equality with R's `coxph` is in test_survival_against_r.py."""

import numpy as np
import pandas as pd
import pytest

from ctcml.cox import NoFit
from ctcml.multivariable import COUNT, Design, Multivariable, design_of, multivariable


def cohort(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(12)
    counts, age = rng.negative_binomial(0.7, 0.03, n), rng.normal(64, 9, n).round()
    return pd.DataFrame(
        {
            "duration": rng.exponential(20 * np.exp(-0.4 * np.log1p(counts) - 0.03 * (age - 64))),
            "event": (rng.random(n) < 0.7).astype(float),
            "count": counts.astype(float),
            "age": age,
            "site": rng.choice(["A", "B", "B", "C"], n),
            "line_of_therapy": rng.choice(["1", "2", "3"], n),
        }
    )


def fitted(known: pd.DataFrame, *covariates: str) -> tuple[Multivariable, list[str]]:
    found = multivariable(known, covariates)
    assert not isinstance(found, NoFit)
    return found


def test_what_made_the_hazard_is_found_again_beside_what_did_not() -> None:
    model, notes = fitted(cohort(800), "age", "site")
    by_name = {term.name: term for term in model.terms}
    assert list(by_name) == [COUNT, "age", "site A against B", "site C against B"]
    assert np.log(by_name[COUNT].hr) == pytest.approx(0.4, abs=0.1)
    assert np.log(by_name["age"].hr) == pytest.approx(0.03, abs=0.012)
    assert by_name["site A against B"].low < 1 < by_name["site A against B"].high
    assert notes == []
    assert model.concordance > 0.6


def test_all_levels_of_a_covariate_share_one_test_of_proportional_hazards() -> None:
    model, _ = fitted(cohort(), "site")
    first, second = model.terms[1:]
    assert first.proportional_p == second.proportional_p


def test_words_that_are_numbers_enter_as_numbers() -> None:
    design, _ = design_of(cohort(), ["line_of_therapy"])
    assert isinstance(design, Design)
    assert design.columns["line_of_therapy"].tolist() == cohort()["line_of_therapy"].astype(float).tolist()


def test_who_lacks_a_covariate_is_left_out_and_counted() -> None:
    table = cohort()
    table.loc[:9, "age"] = np.nan
    table.loc[5:14, "site"] = " "
    model, _ = fitted(table, "age", "site")
    assert (model.n, model.left_out) == (185, 15)
    assert model.events == int(table["event"].iloc[15:].sum())


def test_a_covariate_that_most_patients_lack_is_left_out_instead_of_them() -> None:
    table = cohort()
    table.loc[:149, "age"] = np.nan
    model, notes = fitted(table, "age", "site")
    assert model.n == 200
    assert notes == ["model with covariates: age is known of 50 of 200 patients and is left out"]


def test_a_covariate_that_is_the_same_in_all_patients_is_left_out_with_a_note() -> None:
    model, notes = fitted(cohort().assign(site="A"), "site", "age")
    assert [term.name for term in model.terms] == [COUNT, "age"]
    assert "site is the same in all patients" in notes[0]


def test_below_five_events_a_column_there_is_no_model_and_below_ten_a_note() -> None:
    """Peduzzi et al. 1995, J Clin Epidemiol 48:1503; Vittinghoff and McCulloch 2007, Am J Epidemiol 165:710."""
    table = cohort()
    deaths = np.flatnonzero(table["event"] == 1)
    few = table.assign(event=np.isin(np.arange(200), deaths[:19]).astype(float))
    found = multivariable(few, ["age", "site"])
    assert isinstance(found, NoFit)
    assert "19 events for 4 columns" in found.why
    some = table.assign(event=np.isin(np.arange(200), deaths[:36]).astype(float))
    assert "9.0 events for each column, 10 are wanted" in fitted(some, "age", "site")[1][0]


def test_a_name_or_a_remark_is_no_covariate() -> None:
    found = multivariable(cohort().assign(remark=[f"seen by {at}" for at in range(200)]), ["remark"])
    assert isinstance(found, NoFit)
    assert "cannot take remark: 200 different texts" in found.why
    absent = multivariable(cohort(), ["weight"])
    assert isinstance(absent, NoFit)
    assert "'weight'" in absent.why
