"""How a model did on settled cells: accuracy, CTC sensitivity and specificity, each class, with intervals over
patients."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctcml.bootstrap import Floats, patient_sums, patient_weights, ratio, share_interval
from ctcml.errors import BadInput

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A share with its 95 % interval; all three are None when no cell can inform it (`cells` is 0)."""

    value: float | None
    low: float | None
    high: float | None
    cells: int


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
    ctc: str = "ctc",
) -> Scorecard:
    """Score arg-max predictions against settled labels, with percentile intervals from resampled patients.

    `truth` and `patients` hold one name a cell, `probabilities` is (cells, classes) in the order of `classes`.
    Balanced accuracy is the mean recall of the classes that occur in `truth`. A true class that the model does not
    know has recall 0, and a note says so. Raises `BadInput` for an empty set or shapes that do not match.
    """
    truth, patients, probabilities = np.asarray(truth), np.asarray(patients), np.asarray(probabilities)
    _check(truth, probabilities, classes, patients)
    rows = [*classes, *sorted(set(truth.tolist()) - set(classes))]
    tallies = _confusion_by_patient(truth, probabilities, classes, rows, patients)
    weights = patient_weights(len(tallies), draws=bootstrap, rng=rng)
    drawn = np.tensordot(weights, tallies, axes=1)
    total = tallies.sum(axis=0)

    def share(hits: tuple[Any, ...], cells: tuple[Any, ...]) -> Estimate:
        return _estimate(_sum(total[hits]), _sum(total[cells]), ratio(_sums(drawn[:, *hits]), _sums(drawn[:, *cells])))

    everything = slice(None)
    right = (np.arange(len(classes)), np.arange(len(classes)))
    is_ctc = np.array([name == ctc for name in rows])
    called_ctc = np.array([name == ctc for name in classes])
    scores = tuple(
        ClassScore(
            class_id=name,
            known=at < len(classes),
            recall=share((at, [at] if at < len(classes) else []), (at, everything)),
            precision=share((at, [at]), (everything, at)) if at < len(classes) else _estimate(0, 0, np.empty(0)),
        )
        for at, name in enumerate(rows)
    )
    return Scorecard(
        n=len(truth),
        patients=len(tallies),
        accuracy=share(right, (everything, everything)),
        balanced_accuracy=_balanced(total, drawn, len(classes)),
        ctc_sensitivity=share(np.ix_(is_ctc, called_ctc), (is_ctc, everything)),
        ctc_specificity=share(np.ix_(~is_ctc, ~called_ctc), (~is_ctc, everything)),
        classes=scores,
        true_classes=tuple(rows),
        predicted_classes=tuple(classes),
        confusion=tuple(tuple(int(cell) for cell in row) for row in total),
        notes=tuple(_notes(scores)),
    )


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


def _confusion_by_patient(
    truth: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str], rows: list[str], patients: NDArray[Any]
) -> Floats:
    """Count cells as (patients, true classes, predicted classes)."""
    row_of = {name: at for at, name in enumerate(rows)}
    one_hot = np.zeros((len(truth), len(rows), len(classes)))
    one_hot[np.arange(len(truth)), [row_of[name] for name in truth.tolist()], probabilities.argmax(axis=1)] = 1
    return patient_sums(one_hot, patients)


def _sum(cells: Any) -> float:
    return float(np.sum(cells))


def _sums(cells: Any) -> Floats:
    return np.asarray(np.reshape(cells, (len(cells), -1)).sum(axis=1), dtype=np.float64)


def _estimate(hits: float, cells: float, resampled: Floats) -> Estimate:
    if cells == 0:
        return Estimate(value=None, low=None, high=None, cells=0)
    low, high = share_interval(hits, cells, resampled, confidence=CONFIDENCE)
    return Estimate(value=hits / cells, low=low, high=high, cells=int(cells))


def _balanced(total: Floats, drawn: Floats, known: int) -> Estimate:
    """Mean recall; in a draw that lacks a class, the mean of the classes which it has."""

    def mean_recall(confusion: Floats) -> Floats:
        cells = confusion.sum(axis=-1)
        right = np.zeros_like(cells)
        right[..., :known] = np.diagonal(confusion[..., :known, :], axis1=-2, axis2=-1)
        recalls = ratio(right, cells)
        return np.asarray(np.nansum(recalls, axis=-1) / np.isfinite(recalls).sum(axis=-1))

    value, cells = float(mean_recall(total)), _sum(total)
    low, high = share_interval(value * cells, cells, mean_recall(drawn), confidence=CONFIDENCE)
    return Estimate(value=value, low=low, high=high, cells=int(cells))


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
