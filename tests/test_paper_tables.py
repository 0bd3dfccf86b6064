"""The tables of the experiment: right figures, paired differences, intervals only where patients allow them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from ctcml.paper_tables import cards, mistake_tables, set_tables, threshold_tables
from ctcml.published import SIX

CLASSES = ("ctc", "tdev", "wbc")


def a_cohort(*, patients: int = 20, cells: int = 30, seed: int = 3) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    truth = rng.choice(CLASSES, patients * cells).astype(object)
    return truth, np.repeat([f"p{at:02}" for at in range(patients)], cells)


def says(truth: Any, right: float, *, classes: tuple[str, ...] = CLASSES, seed: int = 5) -> Any:
    """Probabilities of a network that is right with this chance."""
    rng = np.random.default_rng(seed)
    called = np.array([classes.index(one) for one in truth])
    called = np.where(rng.random(len(truth)) < right, called, rng.integers(0, len(classes), len(truth)))
    probabilities = np.full((len(truth), len(classes)), 0.1)
    probabilities[np.arange(len(truth)), called] = 1 - 0.1 * (len(classes) - 1)
    return probabilities


def tables(truth: Any, patients: Any, standard: list[Any], autoencoder: list[Any], classes: Any = CLASSES) -> Any:
    said = {"standard": standard, "autoencoder": autoencoder}
    return set_tables(truth, patients, classes, said, bootstrap=300, rng=np.random.default_rng(1))


def row(found: Any, figure: str, class_id: str = "") -> Any:
    return next(one for one in found["figures"] if (one["figure"], one["class_id"]) == (figure, class_id))


def test_figures_of_classes_are_those_of_scikit_learn() -> None:
    truth, patients = a_cohort()
    said = says(truth, 0.7)
    found = tables(truth, patients, [said], [said])
    called = np.array(CLASSES, dtype=object)[said.argmax(1)]
    precision, recall, f1, _ = precision_recall_fscore_support(truth, called, labels=list(CLASSES))
    for at, name in enumerate(CLASSES):
        theirs = {"sensitivity": recall[at], "ppv": precision[at], "f1": f1[at]}
        for figure, value in theirs.items():
            assert row(found, figure, name)["standard"]["value"] == pytest.approx(value)
    assert row(found, "accuracy")["standard"]["value"] == pytest.approx(accuracy_score(truth, called))
    assert row(found, "balanced_accuracy")["standard"]["value"] == pytest.approx(recall.mean())
    assert row(found, "ctc_sensitivity")["standard"]["value"] == pytest.approx(recall[0])
    not_ctc = truth != "ctc"
    assert row(found, "ctc_specificity")["standard"]["value"] == pytest.approx((called[not_ctc] != "ctc").mean())
    assert found["cells_per_class"] == {name: int((truth == name).sum()) for name in CLASSES}


def test_two_networks_that_say_the_same_differ_by_nothing_and_no_interval_pretends_otherwise() -> None:
    truth, patients = a_cohort()
    said = says(truth, 0.7)
    apart = row(tables(truth, patients, [said], [said]), "accuracy")["difference"]
    assert (apart["value"], apart["low"], apart["high"]) == (0.0, None, None)


def test_a_better_network_is_shown_to_be_better_by_the_paired_interval() -> None:
    truth, patients = a_cohort()
    one = row(tables(truth, patients, [says(truth, 0.5)], [says(truth, 0.95)]), "accuracy")
    assert one["difference"]["value"] == pytest.approx(one["autoencoder"]["value"] - one["standard"]["value"])
    assert 0 < one["difference"]["low"] < one["difference"]["value"] < one["difference"]["high"]
    assert one["standard"]["low"] < one["standard"]["value"] < one["standard"]["high"]


def test_nine_patients_are_too_few_for_the_interval_of_a_difference() -> None:
    truth, patients = a_cohort(patients=9)
    apart = row(tables(truth, patients, [says(truth, 0.5)], [says(truth, 0.9)]), "accuracy")["difference"]
    assert apart["value"] > 0
    assert (apart["low"], apart["high"], apart["patients"]) == (None, None, 9)


def test_several_seeds_give_their_mean_and_a_paired_interval_over_them() -> None:
    truth, patients = a_cohort()
    standard, autoencoder = ([says(truth, right, seed=seed) for seed in (1, 2, 3)] for right in (0.6, 0.9))
    one = row(tables(truth, patients, standard, autoencoder), "accuracy")
    assert len(one["standard"]["seeds"]) == 3
    assert one["standard"]["value"] == pytest.approx(np.mean(one["standard"]["seeds"]))
    over = one["difference"]["over_seeds"]
    assert 0 < over["low"] < one["difference"]["value"] < over["high"]


def test_a_class_that_nobody_calls_has_no_predictive_value_and_no_error() -> None:
    truth, patients = a_cohort()
    only_wbc = np.tile([0.0, 0.0, 1.0], (len(truth), 1))
    found = tables(truth, patients, [only_wbc], [says(truth, 0.9)])
    assert row(found, "ppv", "ctc")["standard"] == {
        "value": None, "low": None, "high": None, "cells": 0, "paper": None, "seeds": row(found, "ppv", "ctc")["standard"]["seeds"],
    }  # fmt: skip
    assert row(found, "ppv", "ctc")["difference"]["value"] is None
    assert row(found, "sensitivity", "ctc")["standard"]["value"] == 0


def test_the_papers_figures_stand_beside_its_own_six_classes_alone() -> None:
    # "The classification performance increases from standard CNN to autoencoder CNN from 95.47% accuracy to 96.43%"
    six = tuple(sorted(SIX))
    rng = np.random.default_rng(2)
    truth, patients = rng.choice(six, 300).astype(object), np.repeat([f"p{at}" for at in range(15)], 20)
    said = says(truth, 0.9, classes=six)
    of_six = row(tables(truth, patients, [said], [said], six), "accuracy")
    assert (of_six["standard"]["paper"], of_six["autoencoder"]["paper"]) == (0.9547, 0.9643)
    truth, patients = a_cohort()
    of_three = tables(truth, patients, [says(truth, 0.9)], [says(truth, 0.9)])
    assert all(one[kind]["paper"] is None for one in of_three["figures"] for kind in ("standard", "autoencoder"))


def test_thresholds_begin_at_all_decisions_and_have_the_papers_missed_and_false_ctcs_beside() -> None:
    truth, patients = a_cohort()
    said = {"standard": [says(truth, 0.8)], "autoencoder": [says(truth, 0.9)]}
    found = threshold_tables(
        truth, patients, CLASSES, said, thresholds=(0.75, 0.9), bootstrap=100, rng=np.random.default_rng(1)
    )
    assert [one["threshold"] for one in found["standard"]["thresholds"]] == [0.0, 0.75, 0.9]
    assert found["standard"]["thresholds"][0]["kept"]["value"] == 1
    assert found["autoencoder"]["thresholds"][2]["kept"]["value"] == 0  # no decision here is surer than 0.8
    assert found["paper"]["missed"] == {"0": 36, "0.75": 19, "0.9": 12}


def test_cards_hold_the_confusion_of_the_first_seed() -> None:
    truth, patients = a_cohort()
    said = {"standard": [says(truth, 0.8)], "autoencoder": [says(truth, 0.9)]}
    found = cards(truth, patients, CLASSES, said, bootstrap=50, seed=1)
    assert sum(sum(line) for line in found["standard"]["confusion"]) == len(truth)


def test_mistakes_by_cancer_type_have_the_papers_beside_and_few_patients_wide_intervals() -> None:
    truth, patients = a_cohort(patients=4)
    cells = pd.DataFrame(
        {
            "cell_uid": [f"c{at}" for at in range(len(truth))],
            "patient_uid": patients,
            "sample_uid": patients,
            "class_id": truth,
            "cancer_type": np.where(np.arange(len(truth)) < 60, "breast", "sarcoma"),
        }
    )
    report, wrong = mistake_tables(
        cells, CLASSES, says(truth, 0.8), thresholds=(0.75,), bootstrap=100, rng=np.random.default_rng(1)
    )
    of_type = {one["cancer_type"]: one for one in report["by_cancer_type"]}
    assert of_type["breast"]["paper"] == {"wrong": 0.05, "cells": 3460}
    assert of_type["sarcoma"]["paper"] == {"wrong": None, "cells": None}
    share = of_type["breast"]["wrong"]
    assert share["high"] - share["low"] > 0.15  # 60 cells of two patients: no narrower than Clopper and Pearson
    assert set(wrong["kind"]) == {"missed", "false"}
