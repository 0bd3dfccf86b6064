"""Shares with intervals that hold the truth as often as they say, and a mean F1 that is scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from ctcml import tallies
from ctcml.bootstrap import patient_weights
from ctcml.tallies import Estimate, confusion_by_patient, macro_f1, share_of


def interval(hits: np.ndarray, patients: np.ndarray, rng: np.random.Generator) -> Estimate:
    weights = patient_weights(len(np.unique(patients)), draws=300, rng=rng)
    return share_of(hits, np.ones(len(hits), dtype=bool), patients, weights)


def coverage(rng: np.random.Generator, *, patients: int, cells: int, runs: int) -> float:
    """How often the interval of a share holds the truth, where patients differ by 1 on the logit scale around 0.9."""
    middle = np.log(9)
    truth = float(np.mean(1 / (1 + np.exp(-middle - rng.normal(0, 1, 20_000)))))
    whose, held = np.repeat(np.arange(patients), cells), 0
    for _ in range(runs):
        own = 1 / (1 + np.exp(-middle - rng.normal(0, 1, patients)))
        found = interval(rng.random(len(whose)) < own[whose], whose, rng)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    return held / runs


def test_intervals_of_five_patients_hold_the_truth_which_resampling_them_alone_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert coverage(np.random.default_rng(1), patients=5, cells=8, runs=150) > 0.85
    monkeypatch.setattr(tallies, "FEW_PATIENTS", 0)
    assert coverage(np.random.default_rng(1), patients=5, cells=8, runs=150) < 0.8


def test_with_many_patients_who_differ_the_interval_is_that_of_the_patients() -> None:
    """Twenty patients of twenty cells, half of whom are always wrong: the cells alone would seem to know much more."""
    whose = np.repeat(np.arange(20), 20)
    found = interval(whose % 2 == 0, whose, np.random.default_rng(0))
    assert found.value == 0.5
    assert found.low is not None
    assert found.low < 0.35  # binomial limits of 400 cells: 0.45


def test_mean_f1_is_that_of_scikit_learn_over_the_classes_that_are_counted() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 4, 300)
    called = np.where(rng.random(300) < 0.7, truth, rng.integers(0, 4, 300))
    confusion = confusion_matrix(truth, called).astype(float)
    for counted in ([True] * 4, [True, False, True, False]):
        expected = f1_score(truth, called, labels=np.flatnonzero(counted), average="macro")
        assert macro_f1(confusion, np.array(counted)) == pytest.approx(expected)


def test_a_class_that_the_model_does_not_know_has_f1_zero_and_an_empty_draw_none() -> None:
    confusions = np.array([[[4.0, 0.0], [0.0, 4.0], [2.0, 0.0]], np.zeros((3, 2))])
    found = macro_f1(confusions, np.array([False, True, True]))
    assert found[0] == pytest.approx((1 + 0) / 2)
    assert np.isnan(found[1])


def test_the_confusion_is_counted_for_each_patient() -> None:
    found = confusion_by_patient(
        np.array(["a", "b", "b"], dtype=object), np.array([0, 0, 1]), ["a", "b"], 2, np.array(["p", "q", "q"])
    )
    assert found.tolist() == [[[1, 0], [0, 0]], [[0, 0], [1, 1]]]
