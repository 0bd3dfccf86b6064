"""What a model's probabilities are worth: how often it is right where it is so sure, before and after its temperature.

The expected calibration error (Guo et al. 2017, ICML) sorts cells by the probability of the class that was called into
ten bins and takes the mean distance, weighted by cells, of that probability from the share that was right. It is never 0 for
few cells, however honest the model: `expected_by_chance` says what chance alone would make of it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctcml.bootstrap import Floats, patient_sums, ratio
from ctcml.calibration import fit_temperature, tempered
from ctcml.tallies import CONFIDENCE, NOTHING, Estimate, share_of

BINS = 10  # as in the diagrams of Guo et al.; with the 15 of their tables most bins of a steering set would be empty
HONEST = 200  # draws of a model that is exactly as often right as it says

Bools = NDArray[np.bool_]


def fitted_temperature(
    probabilities: NDArray[Any],
    classes: Sequence[str],
    truth: NDArray[Any],
    *,
    prior_sd: float,
    reading_error: float,
) -> float:
    """The temperature of `calibration.fit_temperature`, from settled cells; those of classes unknown to the model say nothing."""
    known = np.isin(truth.astype(str), classes)
    place = np.array([classes.index(one) for one in truth[known].tolist()], dtype=np.int64)
    said = np.asarray(probabilities, dtype=np.float64)[known]
    return fit_temperature(said, place, prior_sd=prior_sd, reading_error=reading_error)


def called_with(
    probabilities: NDArray[Any], classes: Sequence[str], truth: NDArray[Any], *, temperature: float
) -> tuple[Floats, Bools]:
    """Of each cell the probability of its most probable class at a temperature, and whether it is of that class."""
    chances = tempered(probabilities, temperature)
    names = np.array(classes, dtype=object)
    return np.asarray(chances.max(axis=1)), np.asarray(names[np.asarray(probabilities).argmax(axis=1)] == truth)


def calibration_error(sure: Floats, right: Bools) -> float:
    """Expected calibration error of calls made with a probability (cells,) and being `right` or not.

    >>> round(calibration_error(np.array([0.95, 0.95, 0.65, 0.65]), np.array([True, True, True, False])), 3)
    0.1
    """
    gaps = np.bincount(bin_of(sure), weights=sure - right, minlength=BINS)
    return float(ratio(np.abs(gaps).sum(), np.asarray(len(sure))))


def drawn_calibration_error(sure: Floats, right: Bools, patients: NDArray[Any], weights: Floats) -> Floats:
    """The error in each draw of patients, (draws,); with the same weights two models' errors may be subtracted."""
    place = np.zeros((len(sure), BINS, 2))
    place[np.arange(len(sure)), bin_of(sure)] = np.stack([sure - right, np.ones(len(sure))], axis=1)
    drawn = np.tensordot(weights, patient_sums(place, patients), axes=1)
    return ratio(np.abs(drawn[:, :, 0]).sum(axis=1), drawn[:, :, 1].sum(axis=1))


def bin_of(sure: Floats) -> NDArray[np.int64]:
    """The bin from 0 on; a probability of 1 belongs to the last one."""
    return np.minimum((np.asarray(sure) * BINS).astype(np.int64), BINS - 1)


def calibration_report(
    probabilities: NDArray[Any],
    classes: Sequence[str],
    truth: NDArray[Any],
    patients: NDArray[Any],
    *,
    temperature: float,
    weights: Floats,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Errors before and after the temperature with intervals, what chance makes of them, and the bins; ready for JSON."""
    before, after = (called_with(probabilities, classes, truth, temperature=one) for one in (1.0, temperature))
    return {
        "temperature": temperature,
        "ece_before": vars(_error(*before, patients, weights)),
        "ece_after": vars(_error(*after, patients, weights)),
        "expected_by_chance": expected_by_chance(after[0], rng),
        "bins": [
            {
                "low": at / BINS,
                "high": (at + 1) / BINS,
                "before": _bin(*before, at, patients, weights),
                "after": _bin(*after, at, patients, weights),
            }
            for at in range(BINS)
        ],
    }


def expected_by_chance(sure: Floats, rng: np.random.Generator) -> dict[str, float]:
    """Mean and 95 % quantile of the error of a model that is right exactly as often as it says, on as many cells."""
    drawn = [calibration_error(sure, rng.random(len(sure)) < sure) for _ in range(HONEST)]
    return {"mean": round(float(np.mean(drawn)), 4), "high": round(float(np.quantile(drawn, CONFIDENCE)), 4)}


def decided_with(
    threshold: float,
    truth: NDArray[Any],
    probabilities: NDArray[Any],
    classes: Sequence[str],
    patients: NDArray[Any],
    weights: Floats,
    *,
    ctc: str,
) -> dict[str, Any]:
    """Decisions with a probability of `threshold` or more, and CTCs counted among these alone: how many, which share, how many wrong."""
    names, sure = np.array(classes, dtype=object)[probabilities.argmax(axis=1)], probabilities.max(axis=1) >= threshold
    is_ctc, counted = truth == ctc, (names == ctc) & sure
    asked = {
        "kept": (sure, np.ones(len(truth), dtype=bool)),
        "accuracy": (names == truth, sure),
        "sensitivity": (counted, is_ctc),
        "specificity": (~counted, ~is_ctc),
        "precision": (is_ctc, counted),
    }
    return {
        "threshold": threshold,
        "cells": int(sure.sum()),
        "missed": int((is_ctc & sure & ~counted).sum()),
        "false": int((counted & ~is_ctc).sum()),
        **{name: vars(share_of(hits, among, patients, weights)) for name, (hits, among) in asked.items()},
    }


def _error(sure: Floats, right: Bools, patients: NDArray[Any], weights: Floats) -> Estimate:
    value = calibration_error(sure, right)
    drawn = drawn_calibration_error(sure, right, patients, weights)
    if np.ptp(drawn) == 0:  # one patient
        return Estimate(value=value, low=None, high=None, cells=len(sure))
    # A draw adds noise of its own, which the error takes for miscalibration: the draws are moved back to the figure.
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]) - (drawn.mean() - value)
    return Estimate(value=value, low=round(max(float(low), 0.0), 3), high=round(float(high), 3), cells=len(sure))


def _bin(sure: Floats, right: Bools, at: int, patients: NDArray[Any], weights: Floats) -> dict[str, Any]:
    """Mean probability and share that was right of the cells in one bin."""
    inside = bin_of(sure) == at
    if not inside.any():
        return {"said": None, "right": vars(NOTHING)}
    share = share_of(right, inside, patients, weights)
    return {"said": float(sure[inside].mean()), "right": vars(share)}
