"""The gate's rule: may a challenger replace the champion? Pure figures in, a verdict with its reasons out.

Each requirement is a one-sided test at 95 % confidence on the same sealed cells, with patients resampled in pairs
(both models see the same draw). A requirement is met when the whole of the confidence lies on the good side of its
limit; it is undecided when the point estimate does but the confidence does not (more readings would help); it fails
when the point estimate lies beyond the limit. One failure refuses, else one undecided requirement leaves the case
open, else the challenger is promoted.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm

from ctcml.bootstrap import Floats, patient_sums, patient_weights, ratio
from ctcml.errors import BadInput
from ctcml.records import Verdict

CONFIDENCE = 0.95  # one-sided


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What one model says of the sealed cells: probabilities (cells, classes) in the order of `classes`."""

    classes: tuple[str, ...]
    probabilities: NDArray[Any]

    def __post_init__(self) -> None:
        if self.probabilities.ndim != 2 or self.probabilities.shape[1] != len(self.classes):
            raise BadInput(
                f"predictions: probabilities of shape {self.probabilities.shape}, expected one column for each of "
                f"{len(self.classes)} classes; embed these cells again"
            )
        if not np.isfinite(self.probabilities).all():
            raise BadInput("predictions: a probability is not a finite number; embed these cells again")

    @property
    def predicted(self) -> NDArray[Any]:
        """The most probable class of each cell."""
        return np.asarray(np.array(self.classes, dtype=object)[self.probabilities.argmax(axis=1)])


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One requirement and how it came out; `figure` is a difference (challenger − champion) or, for a new class, a
    recall."""

    name: str
    outcome: Verdict
    challenger: float | None
    champion: float | None
    figure: float | None
    low: float | None
    high: float | None
    limit: float
    cells: int
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "outcome": self.outcome.value}


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdict, a sentence for each requirement, and the figures behind them."""

    verdict: Verdict
    reasons: tuple[str, ...]
    requirements: tuple[Requirement, ...]
    figures: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for JSON."""
        return {"verdict": self.verdict.value, "reasons": list(self.reasons), "figures": self.figures}


def judge(
    challenger: Predictions,
    champion: Predictions,
    truth: NDArray[Any],
    patients: NDArray[Any],
    *,
    ctc_sensitivity_margin: float,
    ctc_specificity_margin: float,
    shared_accuracy_margin: float,
    new_class_floor: float,
    min_ctc: int,
    bootstrap: int,
    rng: np.random.Generator,
    retired: Collection[str] = (),
    ctc: str = "ctc",
) -> Judgement:
    """Judge a challenger against the champion on the same settled, sealed cells (one label and one patient a cell).

    The challenger must not be worse in CTC sensitivity, CTC specificity (over all cells that are no CTC) and accuracy
    on the classes that both know, by more than the margins; each class which only the challenger knows must reach
    `new_class_floor`. A class of the champion may only be missing if it is `retired`. Raises `BadInput` for lengths
    that differ or no cell at all.
    """
    truth, patients = np.asarray(truth, dtype=object), np.asarray(patients).astype(str)
    _check(challenger, champion, truth, patients, ctc)
    weights = patient_weights(len(np.unique(patients)), draws=bootstrap, rng=rng)
    is_ctc = truth == ctc
    shared = np.isin(truth.astype(str), sorted(set(challenger.classes) & set(champion.classes)))
    says, said = challenger.predicted, champion.predicted
    requirements = [
        _not_worse(
            "CTC sensitivity",
            is_ctc,
            says == ctc,
            said == ctc,
            patients,
            weights,
            ctc_sensitivity_margin,
            "CTCs",
            min_ctc,
        ),
        _not_worse(
            "CTC specificity",
            ~is_ctc,
            says != ctc,
            said != ctc,
            patients,
            weights,
            ctc_specificity_margin,
            "other cells",
        ),
        _not_worse(
            "accuracy on shared classes",
            shared,
            says == truth,
            said == truth,
            patients,
            weights,
            shared_accuracy_margin,
            "cells",
        ),
    ]
    for name in [name for name in challenger.classes if name not in champion.classes]:
        requirements.append(_reaches(name, truth == name, says == name, patients, weights, new_class_floor))
    lost = [name for name in champion.classes if name not in challenger.classes and name not in retired]
    requirements += [_lost(name, int((truth == name).sum())) for name in lost]
    return Judgement(
        verdict=_verdict(requirements),
        reasons=tuple(requirement.reason for requirement in requirements),
        requirements=tuple(requirements),
        figures={
            "cells": len(truth),
            "patients": weights.shape[1],
            "ctc": int(is_ctc.sum()),
            "confidence": CONFIDENCE,
            "bootstrap": bootstrap,
            "requirements": [requirement.to_dict() for requirement in requirements],
        },
    )


def ctc_needed(margin: float, *, floor: int = 0) -> int:
    """Fewest CTCs with which any model can be shown not to lose more than `margin`: even without a single loss among n
    cells a loss of 1 − 0.05^(1/n) cannot be excluded (the exact form of the "rule of three").

    >>> ctc_needed(0.05), ctc_needed(0.10)
    (59, 29)
    """
    return max(floor, math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - margin))) if 0 < margin < 1 else floor


def _check(
    challenger: Predictions, champion: Predictions, truth: NDArray[Any], patients: NDArray[Any], ctc: str
) -> None:
    lengths = {len(truth), len(patients), len(challenger.probabilities), len(champion.probabilities)}
    if len(lengths) != 1:
        raise BadInput(
            f"gate: {len(truth)} labels, {len(patients)} patients, "
            f"{len(challenger.probabilities)} cells of the challenger, {len(champion.probabilities)} of the champion; "
            "expected the same cells; embed them again with both models"
        )
    if len(truth) == 0:
        raise BadInput("gate: there is no settled sealed cell; have the evaluation arm read first")
    for who, model in (("challenger", challenger), ("champion", champion)):
        if ctc not in model.classes:
            raise BadInput(f"gate: the {who} has no class {ctc!r} (it knows {list(model.classes)}); train with CTCs")


def _not_worse(
    name: str,
    asked: NDArray[Any],
    right: NDArray[Any],
    was_right: NDArray[Any],
    patients: NDArray[Any],
    weights: Floats,
    margin: float,
    what: str,
    fewest: int = 1,
) -> Requirement:
    """Paired difference of two shares among the `asked` cells, required to lie above −margin."""
    cells = int(asked.sum())
    if cells < max(1, fewest):
        needed = max(1, fewest)
        reason = (
            f"{name}: cannot decide with {cells} settled sealed {what}; at least {needed} are needed, "
            f"have {needed - cells} more read"
        )
        return _requirement(name, Verdict.CANNOT_DECIDE, None, None, None, (None, None), -margin, cells, reason)
    now, before = float(right[asked].mean()), float(was_right[asked].mean())
    tallies = patient_sums(np.stack([asked & right, asked & was_right, asked], axis=1), patients)
    drawn = weights @ tallies
    differences = ratio(drawn[:, 0] - drawn[:, 1], drawn[:, 2])
    low, high, error = _limits(differences)
    lost = int((asked & was_right & ~right).sum())
    if lost == 0:  # resampling cannot invent a loss that was never seen, see ctc_needed
        low = min(low, -float(beta.ppf(CONFIDENCE, 1, cells)))
    difference = now - before
    outcome = _outcome(difference, low, -margin)
    reason = (
        f"{name}: {now:.1%} against {before:.1%} on {cells} {what}, difference {100 * difference:+.1f} points "
        f"(lower 95 % limit {100 * low:+.1f}, allowed {-100 * margin:.1f}): {_words(outcome)}"
    )
    if outcome is Verdict.CANNOT_DECIDE:
        room = difference + margin
        steady = math.ceil(cells * (norm.ppf(CONFIDENCE) * error / room) ** 2) if room > 0 else cells
        needed = max(steady, ctc_needed(margin), cells + 1)
        reason += f"; about {needed} {what} are needed if the difference stays, have about {needed - cells} more read"
    return _requirement(name, outcome, now, before, difference, (low, high), -margin, cells, reason)


def _reaches(
    class_id: str, asked: NDArray[Any], right: NDArray[Any], patients: NDArray[Any], weights: Floats, floor: float
) -> Requirement:
    """Recall of a class that only the challenger knows, required to lie above `floor`."""
    name, cells = f"recall of the new class {class_id}", int(asked.sum())
    if cells == 0:
        reason = f"{name}: cannot decide, no settled sealed cell has this label; have more of the evaluation arm read"
        return _requirement(name, Verdict.CANNOT_DECIDE, None, None, None, (None, None), floor, 0, reason)
    hits = int((asked & right).sum())
    drawn = weights @ patient_sums(np.stack([asked & right, asked], axis=1), patients)
    low, high, error = _limits(ratio(drawn[:, 0], drawn[:, 1]))
    if error == 0:  # one patient, or all cells alike: exact limit over the cells, see bootstrap.share_interval
        low = float(beta.ppf(1 - CONFIDENCE, hits, cells - hits + 1)) if hits else 0.0
    recall = hits / cells
    outcome = _outcome(recall, low, floor)
    reason = f"{name}: {recall:.1%} of {cells} cells (lower 95 % limit {low:.1%}, floor {floor:.1%}): {_words(outcome)}"
    if outcome is Verdict.CANNOT_DECIDE:
        reason += "; have more of the evaluation arm read"
    return _requirement(name, outcome, recall, None, recall, (low, high), floor, cells, reason)


def _lost(class_id: str, cells: int) -> Requirement:
    name = f"class {class_id} is kept"
    reason = f"{name}: not met, the challenger does not know it and the class is not retired; train with its labels"
    return _requirement(name, Verdict.REFUSE, None, None, None, (None, None), 0.0, cells, reason)


def _limits(resampled: Floats) -> tuple[float, float, float]:
    """Lower and upper one-sided limits and the standard error; a draw without a single such cell says nothing and is
    left out."""
    seen = resampled[np.isfinite(resampled)]
    low, high = np.quantile(seen, [1 - CONFIDENCE, CONFIDENCE])
    return float(low), float(high), float(seen.std())


def _outcome(figure: float, low: float, limit: float) -> Verdict:
    if low >= limit:
        return Verdict.PROMOTE
    return Verdict.CANNOT_DECIDE if figure >= limit else Verdict.REFUSE


def _words(outcome: Verdict) -> str:
    return {Verdict.PROMOTE: "met", Verdict.REFUSE: "not met", Verdict.CANNOT_DECIDE: "undecided"}[outcome]


def _verdict(requirements: Sequence[Requirement]) -> Verdict:
    outcomes = {requirement.outcome for requirement in requirements}
    return next((worst for worst in (Verdict.REFUSE, Verdict.CANNOT_DECIDE) if worst in outcomes), Verdict.PROMOTE)


def _requirement(
    name: str,
    outcome: Verdict,
    challenger: float | None,
    champion: float | None,
    figure: float | None,
    interval: tuple[float | None, float | None],
    limit: float,
    cells: int,
    reason: str,
) -> Requirement:
    return Requirement(
        name=name, outcome=outcome, challenger=challenger, champion=champion, figure=figure,
        low=interval[0], high=interval[1], limit=limit, cells=cells, reason=reason,
    )  # fmt: skip
