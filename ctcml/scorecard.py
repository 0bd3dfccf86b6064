"""How a model did on settled cells: each class, each group of cells, each patient, and what its probabilities are worth,
with intervals over patients."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.agreement import agreement_report
from ctcml.bootstrap import Floats, patient_sums, patient_weights, ratio
from ctcml.by_group import FEWEST_CELLS, figures_by_group, worst_of
from ctcml.contingency import count_pairs, draw_patients, figures
from ctcml.errors import BadInput
from ctcml.records import Purpose
from ctcml.reliability import calibration_report, decided_with
from ctcml.tallies import CONFIDENCE, NOTHING, Estimate, confusion_by_patient, estimate

CTC = "ctc"
BY = ("cancer_type", "instrument", "cluster")
CURVE = (*(at / 20 for at in range(20)), 0.99)  # thresholds of the curve


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """Recall and precision of one class; `known` says whether the model has an output for it (if not, its recall is
    0)."""

    class_id: str
    known: bool
    recall: Estimate
    precision: Estimate


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """All figures of one model on one set; `confusion` has a row a true class and a column a predicted class."""

    n: int
    patients: int
    accuracy: Estimate
    balanced_accuracy: Estimate
    ctc_sensitivity: Estimate
    ctc_specificity: Estimate
    classes: tuple[ClassScore, ...]
    true_classes: tuple[str, ...]
    predicted_classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for JSON."""
        return asdict(self)


def score_card(
    truth: NDArray[Any],
    probabilities: NDArray[Any],
    classes: Sequence[str],
    patients: NDArray[Any],
    *,
    bootstrap: int,
    rng: np.random.Generator,
    ctc: str = CTC,
) -> Scorecard:
    """Score arg-max predictions against settled labels, with percentile intervals from resampled patients.

    `truth` and `patients` hold one name a cell, `probabilities` is (cells, classes) in the order of `classes`.
    Balanced accuracy is the mean recall of the classes that occur in `truth`. A true class that the model does not
    know has recall 0, and a note says so. Raises `BadInput` for an empty set or shapes that do not match.
    """
    truth, patients, probabilities = np.asarray(truth), np.asarray(patients), np.asarray(probabilities)
    _check(truth, probabilities, classes, patients)
    rows = [*classes, *sorted(set(truth.tolist()) - set(classes))]
    tallies = confusion_by_patient(truth, probabilities.argmax(axis=1), rows, len(classes), patients)
    weights = patient_weights(len(tallies), draws=bootstrap, rng=rng)
    drawn = np.tensordot(weights, tallies, axes=1)
    total = tallies.sum(axis=0)

    def share(hits: tuple[Any, ...], cells: tuple[Any, ...]) -> Estimate:
        return estimate(
            _sum(total[hits]),
            _sum(total[cells]),
            ratio(_sums(drawn[:, *hits]), _sums(drawn[:, *cells])),
            patients=int(np.count_nonzero(_sums(tallies[:, *cells]))),
        )

    everything = slice(None)
    right = (np.arange(len(classes)), np.arange(len(classes)))
    is_ctc = np.array([name == ctc for name in rows])
    called_ctc = np.array([name == ctc for name in classes])
    scores = tuple(
        ClassScore(
            class_id=name,
            known=at < len(classes),
            recall=share((at, [at] if at < len(classes) else []), (at, everything)),
            precision=share((at, [at]), (everything, at)) if at < len(classes) else NOTHING,
        )
        for at, name in enumerate(rows)
    )
    return Scorecard(
        n=len(truth),
        patients=len(tallies),
        accuracy=share(right, (everything, everything)),
        balanced_accuracy=_balanced(total, drawn, len(classes), len(tallies)),
        ctc_sensitivity=share(np.ix_(is_ctc, called_ctc), (is_ctc, everything)),
        ctc_specificity=share(np.ix_(~is_ctc, ~called_ctc), (~is_ctc, everything)),
        classes=scores,
        true_classes=tuple(rows),
        predicted_classes=tuple(classes),
        confusion=tuple(tuple(int(cell) for cell in row) for row in total),
        notes=tuple(_notes(scores)),
    )


def full_scorecard(
    described: pd.DataFrame,
    probabilities: NDArray[Any],
    classes: Sequence[str],
    *,
    temperature: float,
    thresholds: Sequence[float],
    bootstrap: int,
    rng: np.random.Generator,
    readers: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """All that is said of one model on one set, ready for JSON: the figures of `score_card` and, beside them,

    - `by`: of each cancer type, instrument and cluster of cells its size, accuracy, CTC sensitivity and specificity, and F1 as the
      mean over the classes with 3 settled cells there or more; `worst_cluster` is the one with the lowest F1 of those with 20 cells;
    - `calibration` as in `reliability.calibration_report`, at a `temperature` that was fitted elsewhere;
    - `thresholds`: what is left when only decisions with at least that probability count (Zeune et al. 2020, Supplementary
      Fig. 1), and `threshold_curve`, the same for the eye;
    - `kappa` of the model beside that of the readers, who are those of `readers` (`tables.OPINIONS`) on these very cells;
    - `count_error`: how far CTCs are miscounted, patient by patient.

    `described` has cell_uid, patient_uid, class_id (settled) and the columns of `subgroups.describe`, a row a cell.
    """
    truth = described["class_id"].to_numpy(dtype=object)
    patients = described["patient_uid"].to_numpy(dtype=str)
    card = score_card(truth, probabilities, classes, patients, bootstrap=bootstrap, rng=rng)
    weights = patient_weights(card.patients, draws=bootstrap, rng=rng)
    by = {
        name: figures_by_group(described[name], truth, probabilities, classes, patients, weights, ctc=CTC)
        for name in BY
    }
    worst = worst_of(by["cluster"])
    return card.to_dict() | {
        "notes": [
            *card.notes,
            *([] if worst else [f"no cluster has {FEWEST_CELLS} settled cells, so none is called the worst"]),
        ],
        "by": by,
        "worst_cluster": worst,
        "calibration": calibration_report(
            probabilities, classes, truth, patients, temperature=temperature, weights=weights, rng=rng
        ),
        "thresholds": [
            decided_with(one, truth, probabilities, classes, patients, weights, ctc=CTC) for one in thresholds
        ],
        "threshold_curve": [
            decided_with(one, truth, probabilities, classes, patients, weights, ctc=CTC) for one in CURVE
        ],
        "kappa": _kappa(described, probabilities, classes, readers, bootstrap, rng),
        "count_error": _count_error(truth, probabilities, classes, patients, weights),
    }


def _kappa(
    described: pd.DataFrame,
    probabilities: NDArray[Any],
    classes: Sequence[str],
    readers: pd.DataFrame | None,
    bootstrap: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Model against settled labels; the readers with each other; the model in the place of a reader, who is the yardstick.

    Settled labels hold the readers' own votes, so only the last comparison is one of equals: each reader is met by the
    model and by the other reader on the same cells.
    """
    cells = described["cell_uid"].to_numpy(dtype=object)
    names = np.array(classes, dtype=object)[probabilities.argmax(axis=1)]
    called = pd.Series(names, index=described.index)
    labels = {*classes, *described["class_id"]}
    draws = draw_patients(set(described["patient_uid"]), labels, bootstrap=bootstrap, rng=rng)
    found = {"model": figures(count_pairs(described["class_id"], called, described["patient_uid"], draws))}
    if readers is None:
        return found | {"readers": None, "model_as_reader": None}
    own = readers[readers["cell_uid"].isin(cells) & (readers["purpose"] == Purpose.EVALUATION.value)]
    said = agreement_report(
        own,
        classes=labels,
        settled={},
        cluster={},
        predicted=dict(zip(cells, names, strict=True)),
        bootstrap=bootstrap,
        rng=rng,
    )
    return found | {
        "readers": said["by_purpose"][Purpose.EVALUATION.value],
        "model_as_reader": said["model_as_reader"][Purpose.EVALUATION.value]["all"],
    }


def _count_error(
    truth: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str], patients: NDArray[Any], weights: Floats
) -> dict[str, Any]:
    """Patient by patient, CTCs called less CTCs settled: the sum of the differences' sizes over the settled CTCs, and their mean."""
    called = np.array(classes, dtype=object)[probabilities.argmax(axis=1)] == CTC
    sums = patient_sums(np.stack([called, truth == CTC], axis=1), patients)
    wrong, settled = np.abs(sums[:, 0] - sums[:, 1]), sums[:, 1]
    drawn, ctcs = weights @ np.stack([wrong, settled, np.ones(len(wrong))], axis=1), int(settled.sum())
    share = float(wrong.sum()) / ctcs if ctcs else None
    return {
        "share": vars(_percentiles(share, ratio(drawn[:, 0], drawn[:, 1]), ctcs)),
        "mean_cells": vars(_percentiles(float(wrong.mean()), drawn[:, 0] / drawn[:, 2], ctcs)),
        "called": int(sums[:, 0].sum()),
        "settled": ctcs,
        "patients": sorted([int(one[1]), int(one[0])] for one in sums),  # settled and called, without names
    }


def _percentiles(value: float | None, drawn: Floats, cells: int) -> Estimate:
    """A figure that is no share of cells: percentiles, or no interval where the draws do not differ."""
    seen = drawn[np.isfinite(drawn)]
    if value is None or not len(seen) or np.ptp(seen) == 0:
        return Estimate(value=value, low=None, high=None, cells=cells)
    low, high = np.quantile(seen, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value=value, low=round(float(low), 3), high=round(float(high), 3), cells=cells)


def _check(truth: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str], patients: NDArray[Any]) -> None:
    if len(truth) == 0:
        raise BadInput("scorecard: there is no settled cell to score; have cells of this set read first")
    if len(patients) != len(truth) or probabilities.shape != (len(truth), len(classes)):
        raise BadInput(
            f"scorecard: {len(truth)} labels, {len(patients)} patients, probabilities of shape {probabilities.shape}; "
            f"expected one row a label and {len(classes)} classes; embed these cells again with this model"
        )
    if not np.isfinite(probabilities).all():
        raise BadInput("scorecard: a probability is not a finite number; embed these cells again")


def _sum(cells: Any) -> float:
    return float(np.sum(cells))


def _sums(cells: Any) -> Floats:
    return np.asarray(np.reshape(cells, (len(cells), -1)).sum(axis=1), dtype=np.float64)


def _balanced(total: Floats, drawn: Floats, known: int, patients: int) -> Estimate:
    """Mean recall; in a draw that lacks a class, the mean of the classes which it has."""

    def mean_recall(confusion: Floats) -> Floats:
        cells = confusion.sum(axis=-1)
        right = np.zeros_like(cells)
        right[..., :known] = np.diagonal(confusion[..., :known, :], axis1=-2, axis2=-1)
        recalls = ratio(right, cells)
        return np.asarray(np.nansum(recalls, axis=-1) / np.isfinite(recalls).sum(axis=-1))

    value, cells = float(mean_recall(total)), _sum(total)
    return estimate(value * cells, cells, mean_recall(drawn), patients=patients)


def _notes(scores: Sequence[ClassScore]) -> list[str]:
    unknown = [
        f"{score.class_id}: the model does not know this class; its {score.recall.cells} cells count as wrong"
        for score in scores
        if not score.known
    ]
    absent = [
        f"{score.class_id}: no settled cell of this class, so its recall is not known"
        for score in scores
        if score.known and score.recall.cells == 0
    ]
    return unknown + absent
