import time
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ctcml.cohort import Choice, cohort_report, cohort_rows, label_of
from ctcml.landmark import DAYS_PER_MONTH
from ctcml.survival import SurvivalReport
from ctcml.tables import CLINICAL

CUTOFFS, EXPLORATORY = {"breast": 5, "colorectal": 3}, {"lung": 5}
TYPES = ("breast", "colorectal", "lung", "melanoma")


def laboratory(patients: int = 200) -> tuple[pd.DataFrame, pd.DataFrame]:
    """SIMULATED: a sample of each patient before therapy, of each second one a later one; counts of two classes."""
    rng = np.random.default_rng(3)
    burden = rng.negative_binomial(0.6, 0.05, patients).astype(float)
    months = rng.exponential(25 / (1 + burden) ** 0.4) + 0.2
    seen = rng.uniform(6, 50, patients)
    first = pd.DataFrame(
        {
            "sample_uid": [f"s{at}" for at in range(patients)], "patient_uid": [f"p{at}" for at in range(patients)],
            "sample_kind": "patient", "cancer_type": [TYPES[at % 4] for at in range(patients)], "blood_volume_ml": 7.5,
            "manual_ctc": rng.poisson(burden).astype(float), "os_months": np.minimum(months, seen),
            "os_event": (months <= seen) * 1.0, "pfs_months": np.minimum(months, seen) / 2, "pfs_event": 1.0,
            "draw_day": 0.0, "line_of_therapy": rng.choice(["1", "2"], patients), "site": rng.choice(["A", "B"], patients),
            "instrument": "I", "age": rng.normal(60, 9, patients).round(), "ecog": 1.0, "burden": burden,
        }
    )  # fmt: skip
    later = first.iloc[::2].assign(
        sample_uid=lambda one: one["sample_uid"] + "-late",
        draw_day=30.0,
        burden=lambda one: (one["burden"] / 2).round(),
    )
    benign = first.iloc[:3].assign(sample_uid=["b0", "b1", "b2"], patient_uid=["q0", "q1", "q2"], sample_kind="benign")
    samples = pd.concat([first, later, benign], ignore_index=True)
    limits = samples["cancer_type"].map(CUTOFFS | EXPLORATORY).astype(float)
    parts = []
    for class_id, denominator, threshold, factor in (
        ("ctc", "proposed", 0.0, 1), ("ctc", "all", 0.0, 2), ("ctc", "proposed", 0.75, 0.5), ("tdev", "proposed", 0.0, 3)
    ):  # fmt: skip
        parts.append(
            pd.DataFrame(
                {
                    "sample_uid": samples["sample_uid"], "patient_uid": samples["patient_uid"],
                    "cancer_type": samples["cancer_type"], "class_id": class_id, "denominator": denominator,
                    "threshold": np.float32(threshold), "per_7_5_ml": (samples["burden"] * factor).astype(np.float32),
                    "cutoff": limits if class_id == "ctc" else np.nan,
                    "exploratory": ~samples["cancer_type"].isin(CUTOFFS) | (denominator == "all") | (threshold > 0),
                }
            )
        )  # fmt: skip
    return samples.drop(columns="burden"), pd.concat(parts, ignore_index=True)


SAMPLES, COUNTS = laboratory()


def report(choice: Choice, samples: pd.DataFrame = SAMPLES, **more: Any) -> SurvivalReport:
    return cohort_report(
        samples, COUNTS, choice, min_events=5, cutoffs=CUTOFFS, exploratory_cutoffs=EXPLORATORY, **more
    )


def test_a_row_is_a_patient_with_a_sample_from_before_therapy_and_a_cut_off() -> None:
    rows = cohort_rows(SAMPLES, COUNTS, Choice())
    assert set(CLINICAL) <= set(SAMPLES)
    assert rows["patient_uid"].is_unique
    assert len(rows) == 150  # nobody with melanoma has a cut-off; benign donors are no patients
    assert not rows["sample_uid"].str.endswith("-late").any()
    first = rows.iloc[0]
    sample = SAMPLES.set_index("sample_uid").loc[first["sample_uid"]]
    assert (first["duration"], first["event"]) == (sample["os_months"], sample["os_event"])


def test_each_patient_has_the_cut_off_of_her_cancer_type_and_those_of_research_are_marked() -> None:
    rows = cohort_rows(SAMPLES, COUNTS, Choice())
    by_type = rows.groupby("cancer_type")[["cutoff", "exploratory"]].agg(["min", "max"])
    assert by_type.loc["colorectal"].tolist() == [3, 3, False, False]
    assert by_type.loc["lung"].tolist() == [5, 5, True, True]


def test_filters_narrow_the_patients_down() -> None:
    chosen = Choice(cancer_types=("breast", "lung"), sites=("A",), lines=("2",))
    rows = cohort_rows(SAMPLES, COUNTS, chosen)
    about = SAMPLES.set_index("sample_uid").loc[rows["sample_uid"]]
    assert set(about["cancer_type"]) == {"breast", "lung"}
    assert set(about["site"]) == {"A"}
    assert set(about["line_of_therapy"]) == {"2"}
    assert 0 < len(rows) < 100


def test_the_source_the_class_the_denominator_and_the_threshold_choose_the_count() -> None:
    def of(**chosen: Any) -> pd.Series:
        return cohort_rows(SAMPLES, COUNTS, Choice(cutoff=5, **chosen)).set_index("patient_uid")["count"]

    plain = of()
    assert of(denominator="all").tolist() == (2 * plain).tolist()
    assert of(threshold=0.75).tolist() == (plain / 2).tolist()
    assert of(class_id="tdev").tolist() == (3 * plain).tolist()
    manual = SAMPLES[~(SAMPLES["draw_day"] > 0)].set_index("patient_uid")["manual_ctc"]
    assert of(source="manual").tolist() == manual[plain.index].tolist()


def test_the_endpoint_chooses_the_follow_up() -> None:
    both = [cohort_rows(SAMPLES, COUNTS, Choice(endpoint=one)).set_index("patient_uid") for one in ("os", "pfs")]
    assert both[1]["duration"].tolist() == pytest.approx((both[0]["duration"] / 2).tolist())
    assert (both[1]["event"] == 1).all()


@pytest.mark.parametrize(
    ("changed", "stamped"),
    [
        ({}, False),
        ({"cutoff": 5.0}, False),
        ({"source": "manual"}, False),
        ({"source": "manual", "denominator": "all"}, False),
        ({"cutoff": 4.0}, True),
        ({"denominator": "all"}, True),
        ({"threshold": 0.75}, True),
        ({"class_id": "tdev", "cutoff": 5.0}, True),
        ({"cancer_types": ("lung",)}, True),
        ({"cancer_types": ("breast", "colorectal"), "cutoff": 5.0}, True),
        ({"searched": True}, True),
    ],
)
def test_whatever_departs_from_the_validated_question_is_stamped_exploratory(
    changed: dict[str, Any], stamped: bool
) -> None:
    choice = replace(Choice(cancer_types=("breast",)), **changed)
    found = report(choice, permutations=20)
    assert found.exploratory is stamped
    assert not any("exploratory stamp" in refusal for refusal in found.refusals)


def test_patients_of_one_cancer_type_share_a_cut_off_and_others_have_their_own() -> None:
    assert report(Choice(cancer_types=("colorectal",))).cutoff == 3
    everyone = report(Choice())
    assert everyone.cutoff is None
    assert [arm.name for arm in everyone.arms] == ["below their cut-off", "at or above it"]
    assert "50 patients have no cut-off (melanoma) and are left out" in everyone.notes


def test_a_class_or_a_cancer_type_without_a_cut_off_asks_for_one() -> None:
    tdev = report(Choice(class_id="tdev"))
    assert "no cut-off is prespecified for class tdev; choose one" in tdev.refusals[0]
    melanoma = report(Choice(cancer_types=("melanoma",)))
    assert "for cancer type melanoma" in melanoma.refusals[0]
    assert report(Choice(cancer_types=("melanoma",), cutoff=5)).cox is not None


def test_nobody_counted_another_class_by_hand() -> None:
    assert "nobody counted tdev by hand" in report(Choice(class_id="tdev", source="manual", cutoff=5)).refusals[-1]


def test_from_a_landmark_the_last_sample_up_to_it_counts_for_those_who_reached_it() -> None:
    rows = cohort_rows(SAMPLES, COUNTS, Choice(landmark_days=42))
    assert rows["sample_uid"].str.endswith("-late").all()
    assert (rows["duration"] > 0).all()
    months = 42 / DAYS_PER_MONTH
    second = SAMPLES[SAMPLES["draw_day"] == 30]
    expected = second[second["cancer_type"].isin(CUTOFFS | EXPLORATORY) & (second["os_months"] > months)]
    assert len(rows) == len(expected)
    found = report(Choice(landmark_days=42))
    assert found.landmark_months == pytest.approx(months)
    assert found.cox is not None
    assert any("gave no blood between day 0 and day 42" in note for note in found.notes)
    assert any("had their event before the landmark" in note for note in found.notes)


def test_patients_whose_blood_was_all_drawn_during_therapy_need_a_landmark() -> None:
    late = SAMPLES.assign(draw_day=SAMPLES["draw_day"].where(SAMPLES["draw_day"] > 0, 21))
    found = report(Choice(), late)
    assert "no curve from day 0, choose a landmark" in found.refusals[0]
    assert [arm.times for arm in found.arms] == [(), ()]
    few = SAMPLES.assign(draw_day=SAMPLES["draw_day"].mask(SAMPLES["patient_uid"] == "p1", 21))
    assert any("1 patients whose samples were all drawn during therapy" in note for note in report(Choice(), few).notes)


def test_a_searched_cut_off_is_refused_until_permutations_pay_for_it() -> None:
    choice = Choice(cancer_types=("breast",), searched=True)
    assert "corrected for the search" in report(choice).refusals[0]
    found = report(choice, permutations=100, seed=4)
    assert found.searched is not None
    assert found.searched.permutations == 100
    assert found == report(choice, permutations=100, seed=4)


def test_covariates_come_along_with_the_rows() -> None:
    rows = cohort_rows(SAMPLES, COUNTS, Choice(covariates=("age", "site")))
    assert {"age", "site"} <= set(rows)
    model = report(Choice(covariates=("age", "site"))).multivariable
    assert model is not None
    assert [term.name for term in model.terms][1] == "age"


def test_nobody_left_by_the_filters_is_a_report_with_refusals() -> None:
    found = report(Choice(sites=("nowhere",)))
    assert found.n == 0
    assert found.refusals
    assert report(Choice(sites=("nowhere",), denominator="all")).exploratory


def test_a_choice_is_named_in_words() -> None:
    choice = Choice(denominator="all", threshold=0.9, class_id="tdev", sites=("A", "B"), lines=("1",))
    assert label_of(choice) == "model count of tdev over all events at p ≥ 0.9, all patients, site A or B, line 1"


def test_a_page_of_300_patients_does_not_wait() -> None:
    """The dashboard asks at every change of a filter; 0.05 s on one idle core."""
    samples, counts = laboratory(300)
    limits: dict[str, Any] = {"min_events": 5, "cutoffs": CUTOFFS, "exploratory_cutoffs": EXPLORATORY}
    cohort_report(samples, counts, Choice(), **limits)  # imports
    begun = time.process_time()
    cohort_report(samples, counts, Choice(covariates=("age", "site")), **limits)
    assert time.process_time() - begun < 0.3
