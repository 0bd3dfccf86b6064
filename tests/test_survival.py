import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ctcml.cutpoint import Search
from ctcml.errors import BadInput
from ctcml.survival import SurvivalReport, analyse

# Freireich 1963, Blood 21:699: weeks of remission in acute leukaemia, 6-mercaptopurine against placebo; + is censored.
# The worked example of Gehan 1965 and of Cox 1972; `gehan` in R's package MASS.
MERCAPTOPURINE = "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+"
PLACEBO = "1 1 2 2 3 4 4 5 5 8 8 8 8 11 11 12 12 15 17 22 23"


def leukaemia() -> pd.DataFrame:
    rows = [(time, 0) for time in MERCAPTOPURINE.split()] + [(time, 10) for time in PLACEBO.split()]
    times = [time for time, _ in rows]
    return pd.DataFrame(
        {
            "duration": [float(time.rstrip("+")) for time in times],
            "event": [float(not time.endswith("+")) for time in times],
            "count": [float(cells) for _, cells in rows],
        }
    )


def report(
    table: pd.DataFrame, cutoff: float | None = 5, min_events: int = 5, exploratory: bool = False, **more: Any
) -> SurvivalReport:
    return analyse(table, cutoff=cutoff, label="leukaemia", min_events=min_events, exploratory=exploratory, **more)


def crossing() -> pd.DataFrame:
    """Two arms whose hazards cross."""
    rng = np.random.default_rng(0)
    steady, early = rng.uniform(8, 12, 80), np.concatenate([rng.uniform(0, 4, 50), rng.uniform(16, 24, 30)])
    return pd.DataFrame({"duration": [*steady, *early], "event": 1.0, "count": [0.0] * 80 + [10.0] * 80})


def test_the_arms_of_freireich_have_their_published_curves() -> None:
    """S(6) = 0.857, S(10) = 0.753, S(23) = 0.448 and medians of 23 and 8 weeks, as in every textbook."""
    drug, placebo = report(leukaemia()).arms
    survival = dict(zip(drug.times, drug.survival, strict=True))
    assert [survival[time] for time in (6.0, 10.0, 23.0)] == pytest.approx([0.857, 0.753, 0.448], abs=5e-4)
    assert (drug.median, placebo.median) == (23.0, 8.0)
    assert (drug.n, drug.events, placebo.n, placebo.events) == (21, 9, 21, 21)
    assert (drug.times[0], drug.survival[0]) == (0.0, 1.0)


def test_the_log_rank_test_of_freireich_is_that_of_r() -> None:
    """R: survdiff(Surv(time, status) ~ group): chi-squared 16.8 on 1 degree of freedom, p = 4e-05."""
    logrank = report(leukaemia()).logrank
    assert logrank is not None
    assert logrank.chi2 == pytest.approx(16.79, abs=5e-3)
    assert logrank.p == pytest.approx(4.17e-05, abs=1e-7)


def test_the_hazard_ratio_of_freireich_is_that_of_r() -> None:
    """R: coxph with Efron's ties: coefficient 1.572, hazard ratio 4.82, limits 2.15 to 10.8."""
    cox = report(leukaemia()).cox
    assert cox is not None
    assert np.log(cox.hr) == pytest.approx(1.5721, abs=1e-4)
    assert (cox.low, cox.high) == pytest.approx((2.147, 10.81), abs=5e-3)
    assert cox.proportional_p > 0.05


def test_the_number_at_risk_counts_who_is_still_followed() -> None:
    found = report(leukaemia())
    for arm, cells in zip(found.arms, (0, 10), strict=True):
        durations = leukaemia().loc[leukaemia()["count"] == cells, "duration"]
        assert arm.at_risk == tuple(int((durations >= time).sum()) for time in found.risk_times)
    assert found.arms[0].at_risk[0] == 21


def test_a_median_that_is_not_reached_is_none_and_not_infinity() -> None:
    table = leukaemia()
    table.loc[(table["count"] == 0) & (table["duration"] > 12), "event"] = 0
    drug = report(table).arms[0]
    assert drug.median is None
    assert drug.median_high is None
    json.dumps(report(table).to_dict(), allow_nan=False)


def test_an_arm_with_too_few_events_gets_no_curve_and_nothing_is_compared() -> None:
    found = report(leukaemia(), min_events=10)
    assert found.arms[0].times == ()
    assert found.arms[1].times != ()
    assert found.logrank is None
    assert found.cox is None
    assert found.refusals[0].startswith("arm < 5: 9 events among 21 patients, at least 10 are needed")


def test_an_empty_arm_is_refused_and_not_an_exception() -> None:
    found = report(leukaemia(), cutoff=1000)
    assert found.arms[1].n == 0
    assert len(found.refusals) == 1
    assert report(leukaemia().iloc[:0]).refusals != ()


def test_patients_without_follow_up_are_left_out_and_said_so() -> None:
    table = leukaemia()
    table.loc[[0, 30], "duration"] = np.nan
    found = report(table)
    assert found.n == 40
    assert found.notes[0].startswith("2 of 42 patients lack follow-up")


def test_hazards_that_cross_are_said_not_to_be_proportional() -> None:
    assert any("average over the follow-up" in note for note in report(crossing()).notes)


def test_restricted_means_come_when_hazards_are_not_proportional_and_not_otherwise() -> None:
    found = report(crossing())
    assert found.cox is not None
    assert found.restricted is not None
    assert [arm.name for arm in found.restricted.arms] == ["< 5", "≥ 5"]
    assert report(leukaemia()).restricted is None


def test_at_risk_and_events_and_censored_before_sum_to_the_arm() -> None:
    """The KMunicate table: Morris et al. 2019, BMJ Open 9:e030215."""
    for arm in report(leukaemia()).arms:
        sums = np.sum([arm.at_risk, arm.events_before, arm.censored_before], axis=0)
        assert sums.tolist() == [arm.n] * len(sums)


def test_samples_drawn_during_therapy_get_no_curve_from_day_0() -> None:
    table = leukaemia().assign(draw_day=0.0)
    assert report(table).refusals == ()
    table.loc[3, "draw_day"] = 28
    found = report(table)
    assert "no curve from day 0" in found.refusals[0]
    assert [arm.times for arm in found.arms] == [(), ()]
    assert [(arm.n, arm.at_risk) for arm in found.arms] == [(21, (21,)), (21, (21,))]  # nor the curve in numbers
    assert (found.logrank, found.cox, found.follow_up, found.concordance) == (None, None, None, None)
    assert report(table, landmark_months=1.0).refusals == ()


def test_counts_over_all_events_are_compared_with_the_exploratory_stamp_alone() -> None:
    found = report(leukaemia(), denominator="all")
    assert "no comparison without the exploratory stamp" in found.refusals[0]
    assert found.cox is None
    assert report(leukaemia(), denominator="all", exploratory=True).cox is not None
    assert report(leukaemia(), denominator="proposed").cox is not None


def test_a_searched_cut_off_needs_its_corrected_p_and_is_always_exploratory() -> None:
    table = leukaemia().assign(count=np.tile(np.arange(6.0), 7))
    bare = report(table, cutoff=None, search=Search(permutations=0, seed=1))
    assert "corrected for the search" in bare.refusals[0]
    assert (bare.searched, bare.logrank) == (None, None)
    found = report(table, cutoff=None, search=Search(permutations=99, seed=1))
    assert found.searched is not None
    assert found.exploratory
    assert found.cutoff == found.searched.cutoff
    assert found.logrank is not None
    assert found.logrank.p == found.searched.p_corrected


def test_there_is_no_hazard_ratio_at_a_searched_cut_off() -> None:
    table = leukaemia().assign(count=np.tile(np.arange(6.0), 7))
    found = report(table, cutoff=None, search=Search(permutations=99, seed=1))
    assert found.cox is None
    assert "no hazard ratio at a searched cut-off" in found.refusals[0]
    assert found.cox_log_count is not None  # nothing was searched for it


def test_a_cut_off_that_cannot_be_searched_is_said_so() -> None:
    found = report(leukaemia().assign(count=3.0), cutoff=None, search=Search(permutations=99, seed=1))
    assert found.refusals == ("no cut-off leaves 5 events on either side; none can be searched",)


def test_every_hazard_ratio_comes_with_its_test_of_proportional_hazards() -> None:
    table = leukaemia().assign(count=np.arange(42.0) % 21, age=np.tile([50.0, 60, 70], 14))
    found = report(table, covariates=["age"])
    assert found.cox is not None
    assert found.cox_log_count is not None
    assert found.spline is not None
    assert found.multivariable is not None
    checks = [found.cox.proportional_p, found.cox_log_count.proportional_p, found.spline.proportional_p]
    checks += [found.multivariable.global_proportional_p, *(term.proportional_p for term in found.multivariable.terms)]
    assert all(0 < p <= 1 for p in checks)


def test_covariates_that_allow_no_model_are_refused_and_the_arms_are_compared_all_the_same() -> None:
    found = report(leukaemia(), covariates=["weight"])
    assert found.multivariable is None
    assert "the Cox model with covariates needs the column 'weight'" in found.refusals[0]
    assert found.cox is not None


def test_the_hazard_over_the_count_stands_against_the_cut_off() -> None:
    found = report(leukaemia().assign(count=np.arange(42.0) % 21))
    assert found.spline is not None
    assert found.spline.reference == 5
    thin = report(leukaemia())
    assert thin.spline is None
    assert any("the curve of the hazard over the count needs" in note for note in thin.notes)


def test_follow_up_is_told_with_the_reverse_kaplan_meier_estimator() -> None:
    """R: quantile(survfit(Surv(time, 1 - status) ~ 1, gehan)): median 32."""
    followed = report(leukaemia()).follow_up
    assert followed is not None
    assert followed.median == 32


def test_earlier_notes_and_refusals_are_carried_along() -> None:
    found = report(leukaemia(), notes=["3 patients gave no blood"], refusals=["nobody counted tdev by hand"])
    assert found.notes[0] == "3 patients gave no blood"
    assert found.refusals == ("nobody counted tdev by hand",)
    assert found.cox is None


def test_a_report_is_plain_json_whatever_was_refused() -> None:
    table = leukaemia().assign(count=np.arange(42.0) % 21)
    for found in (report(table), report(table.iloc[:0]), report(table, cutoff=1000), report(crossing())):
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["label"] == "leukaemia"


def test_a_count_below_0_is_refused() -> None:
    with pytest.raises(BadInput, match="a count is -2"):
        report(leukaemia().assign(count=-2.0))


def test_arms_that_never_overlap_get_curves_and_a_log_rank_but_no_hazard_ratio() -> None:
    table = pd.DataFrame({"duration": np.arange(1.0, 21), "event": 1.0, "count": [9.0] * 10 + [0.0] * 10})
    found = report(table)
    assert found.cox is None
    assert found.logrank is not None
    assert any("does not converge" in refusal for refusal in found.refusals)


def test_when_everyone_dies_at_once_nothing_is_compared_and_it_is_said() -> None:
    found = report(leukaemia().assign(duration=5.0, event=1.0))
    assert (found.logrank, found.cox, found.concordance) == (None, None, None)
    assert any("there is no log-rank test" in refusal for refusal in found.refusals)
    assert any("the Cox model of the arms" in refusal for refusal in found.refusals)
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_stamp_of_an_exploratory_cut_off_travels_with_the_report() -> None:
    assert report(leukaemia(), exploratory=True).to_dict()["exploratory"] is True


def test_impossible_follow_up_is_refused() -> None:
    table = leukaemia()
    table.loc[0, "duration"] = -1
    with pytest.raises(BadInput, match="-1 months"):
        report(table)
    table = leukaemia()
    table.loc[0, "event"] = 2
    with pytest.raises(BadInput, match="event is 2"):
        report(table)


@pytest.mark.real
def test_a_published_prostate_cohort_gives_the_figures_of_its_provenance() -> None:
    """CABA-V7, metastatic castration-resistant prostate cancer, 131 patients (Erasmus MC, CABAV7_Aneuploidy)."""
    folder = os.environ.get("CTCML_REAL_DATA")
    if not folder:
        pytest.skip("CTCML_REAL_DATA is not set")
    table = pd.read_csv(Path(folder) / "ctc_survival_cabav7.csv")
    expected = json.loads((Path(folder) / "ctc_survival_cabav7.json").read_text(encoding="utf-8"))
    found = report(table.rename(columns={"os_months": "duration", "ctc_baseline_7_5ml": "count"}))
    assert (found.n, found.events, found.arms[1].n) == (expected["n"], expected["deaths"], expected["ctc_ge5"])
    assert [arm.median for arm in found.arms] == [expected["median_os_lt5"], expected["median_os_ge5"]]
    assert found.logrank is not None
    assert found.logrank.p == pytest.approx(expected["logrank_p"], rel=1e-9)
    assert found.cox_log_count is not None
    assert found.cox_log_count.hr == pytest.approx(expected["cox_hr_per_log1p_ctc"], abs=5e-3)
    assert found.concordance == pytest.approx(expected["cox_c_index"], abs=5e-4)
