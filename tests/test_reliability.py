"""What probabilities are worth: an honest model looks honest, an oversure one is found and mended by its temperature."""

from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from ctcml.bootstrap import patient_weights
from ctcml.calibration import tempered
from ctcml.reliability import (
    BINS,
    calibration_error,
    calibration_report,
    called_with,
    decided_with,
    drawn_calibration_error,
    expected_by_chance,
    fitted_temperature,
)

CLASSES = ("ctc", "wbc", "other")


def oversure(cells: int, *, by: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities that are `by` times too sure on the logit scale, the classes that were drawn, and patients."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (cells, len(CLASSES)))
    honest = softmax(logits, axis=1)
    truth = np.array(CLASSES, dtype=object)[(rng.random((cells, 1)) > honest.cumsum(axis=1)).sum(axis=1)]
    return softmax(by * logits, axis=1), truth, rng.integers(0, 30, cells).astype(str)


def report(probabilities: np.ndarray, truth: np.ndarray, patients: np.ndarray, temperature: float) -> dict[str, Any]:
    weights = patient_weights(len(np.unique(patients)), draws=300, rng=np.random.default_rng(0))
    return calibration_report(
        probabilities, CLASSES, truth, patients, temperature=temperature, weights=weights, rng=np.random.default_rng(1)
    )


def test_the_error_is_the_mean_distance_of_what_is_said_from_what_is_right() -> None:
    sure = np.array([0.95] * 10 + [0.55] * 10)
    right = np.array([True] * 9 + [False] + [True] * 3 + [False] * 7)
    assert calibration_error(sure, right) == pytest.approx((10 * 0.05 + 10 * 0.25) / 20)
    assert calibration_error(np.ones(3), np.ones(3, dtype=bool)) == 0  # a probability of 1 has a bin


def test_an_oversure_model_is_found_and_its_temperature_mends_it() -> None:
    said, truth, patients = oversure(3000, by=2.5, seed=2)
    temperature = fitted_temperature(said, CLASSES, truth, prior_sd=0.5, reading_error=0.0)
    assert temperature == pytest.approx(2.5, rel=0.12)
    found = report(said, truth, patients, temperature)
    chance = found["expected_by_chance"]["high"]
    assert found["ece_before"]["value"] > 3 * chance
    assert found["ece_after"]["value"] < chance
    assert found["ece_before"]["low"] > found["ece_after"]["high"]


def test_a_model_that_is_as_often_right_as_it_says_lies_within_what_chance_makes() -> None:
    within = 0
    for seed in range(20):
        said, truth, _ = oversure(80, by=1.0, seed=seed)
        sure, right = called_with(said, CLASSES, truth, temperature=1.0)
        within += calibration_error(sure, right) <= expected_by_chance(sure, np.random.default_rng(0))["high"]
    assert within >= 17  # 95 % of them on average


def test_the_interval_holds_the_figure_although_each_draw_of_patients_adds_noise() -> None:
    said, truth, patients = oversure(120, by=1.0, seed=4)
    error = report(said, truth, patients, 1.0)["ece_before"]
    assert error["low"] < error["value"] < error["high"]


def test_with_the_same_weights_the_errors_of_two_models_may_be_subtracted() -> None:
    said, truth, patients = oversure(2000, by=2.0, seed=5)
    weights = patient_weights(len(np.unique(patients)), draws=200, rng=np.random.default_rng(0))
    before, after = (
        drawn_calibration_error(*called_with(said, CLASSES, truth, temperature=one), patients, weights)
        for one in (1.0, 2.0)
    )
    assert np.quantile(before - after, 0.05) > 0


def test_the_bins_hold_every_cell_once_and_say_how_often_the_model_was_right_there() -> None:
    said, truth, patients = oversure(500, by=2.0, seed=6)
    found = report(said, truth, patients, 2.0)
    for state, temperature in (("before", 1.0), ("after", 2.0)):
        sure, right = called_with(said, CLASSES, truth, temperature=temperature)
        assert sum(one[state]["right"]["cells"] for one in found["bins"]) == 500
        for number, one in enumerate(found["bins"]):
            inside = (np.minimum((sure * BINS).astype(int), BINS - 1)) == number
            if inside.any():
                assert one["low"] <= one[state]["said"] <= one["high"]
                assert one[state]["right"]["value"] == pytest.approx(right[inside].mean())
            else:
                assert one[state] == {"said": None, "right": {"value": None, "low": None, "high": None, "cells": 0}}


def test_a_class_that_the_model_does_not_know_is_no_reason_for_another_temperature() -> None:
    said, truth, _ = oversure(400, by=1.8, seed=7)
    alone = fitted_temperature(said, CLASSES, truth, prior_sd=0.5, reading_error=0.01)
    more, others = np.concatenate([said, said[:50]]), np.append(truth, ["cd45ev"] * 50)
    assert fitted_temperature(more, CLASSES, others, prior_sd=0.5, reading_error=0.01) == alone
    assert fitted_temperature(said[:0], CLASSES, truth[:0], prior_sd=0.5, reading_error=0.01) == 1.0


def test_a_temperature_changes_how_sure_the_model_is_and_never_what_it_calls() -> None:
    said, truth, _ = oversure(200, by=3.0, seed=8)
    sure, right = called_with(said, CLASSES, truth, temperature=3.0)
    assert np.allclose(sure, tempered(said, 3.0).max(axis=1))
    assert np.array_equal(right, called_with(said, CLASSES, truth, temperature=1.0)[1])


def test_the_36_missed_ctcs_of_the_paper_shrink_to_19_and_12_at_its_thresholds() -> None:
    """Zeune et al. 2020, Results: of 36 missed CTCs 19 were decided with over 75 % and 12 with over 90 %; of 91 false ones 57 and 35."""

    def decisions(number: int, over_75: int, over_90: int) -> list[float]:
        return [0.95] * over_90 + [0.8] * (over_75 - over_90) + [0.6] * (number - over_75)

    sure = np.array([0.99] * 1276 + decisions(36, 19, 12) + decisions(91, 57, 35) + [0.99] * 500)
    calls = ["ctc"] * 1276 + ["wbc"] * 36 + ["ctc"] * 91 + ["wbc"] * 500
    said = np.array(
        [[p if name == call else (1 - p) / 2 for name in CLASSES] for p, call in zip(sure, calls, strict=True)]
    )
    truth = np.array(["ctc"] * 1312 + ["wbc"] * 591, dtype=object)
    patients = np.array([f"p{at % 30}" for at in range(len(truth))])
    weights = patient_weights(30, draws=50, rng=np.random.default_rng(0))
    rows = [decided_with(one, truth, said, CLASSES, patients, weights, ctc="ctc") for one in (0.0, 0.75, 0.9)]
    assert [(one["missed"], one["false"]) for one in rows] == [(36, 91), (19, 57), (12, 35)]
    assert rows[0]["sensitivity"]["value"] == pytest.approx(1276 / 1312)
    assert rows[0]["kept"]["value"] == 1
    assert rows[2]["cells"] == 1276 + 500 + 12 + 35
    assert [one["precision"]["value"] for one in rows] == sorted(one["precision"]["value"] for one in rows)
