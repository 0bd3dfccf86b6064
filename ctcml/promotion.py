"""The gate's rule: may a challenger replace the champion? Pure figures in, a verdict with its reasons out.

Each requirement is a one-sided test on the same settled cells, with patients resampled in pairs (all models see the same
draw). A requirement is met when the whole of the confidence lies on the good side of its limit; it is undecided when the
point estimate does but the confidence does not (more readings would help); it fails when the point estimate lies beyond
the limit. One failure refuses, else one undecided requirement leaves the case open, else the challenger is promoted.

The challenger is compared with the champion, at 95 %, and with the anchor: the laboratory's first accepted model. Step by
step, each loss too small to be seen, a champion could drift downhill; against the anchor the losses add up and are seen.
There the confidence is higher, because one slip in twenty would be a slip in most years.

Three requirements are guards: the recall of each shared class, calibration and drift. A guard refuses a loss that was
shown and asks nothing else, so that a class with five settled cells leaves no case open for ever.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctcml.bootstrap import patient_weights
from ctcml.errors import BadInput
from ctcml.guards import of_calibration, of_drift, of_lost_class, of_new_class, of_recall
from ctcml.noninferiority import Rival, of_counts, of_ctc, of_worst_cluster
from ctcml.records import Verdict
from ctcml.requirements import CONFIDENCE, JudgedCells, Predictions, Requirement


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
    anchor: Predictions | None,
    truth: NDArray[Any],
    patients: NDArray[Any],
    clusters: NDArray[Any],
    *,
    drift: tuple[float, float] | None,
    ctc_sensitivity_margin: float,
    ctc_specificity_margin: float,
    cluster_f1_margin: float,
    count_error_margin: float,
    anchor_margin: float,
    anchor_confidence: float,
    recall_margin: float,
    calibration_margin: float,
    drift_margin: float,
    cluster_min_cells: int,
    class_min_cells: int,
    new_class_floor: float,
    min_ctc: int,
    bootstrap: int,
    rng: np.random.Generator,
    retired: Collection[str] = (),
    ctc: str = "ctc",
) -> Judgement:
    """Judge a challenger on settled cells: one label, one patient and one cluster (a grouping that knows no model) a cell.

    Against the champion, and against the anchor with `anchor_confidence`, it must not be worse by more than the margins
    in CTC sensitivity, CTC specificity (over all cells that are no CTC), F1 of the shared classes in the worst cluster,
    and the error of the patients' counts. Sensitivity and specificity may lie below the anchor's by `anchor_margin` at the
    most, be their own margins as wide as they are. An anchor that is the champion is judged once, by the stricter of both.

    A cluster is judged from `cluster_min_cells` cells on, a class in it from `class_min_cells` on. `drift` holds the
    shares of samples that drift in the challenger's and in the champion's eyes; None is not measured. Each class which only
    the challenger knows must reach `new_class_floor`; one of the champion may only be missing if it is `retired`.
    Raises `BadInput` for lengths that differ or no cell at all.
    """
    truth = np.asarray(truth, dtype=object)
    _check({"challenger": challenger, "champion": champion, "anchor": anchor}, truth, patients, clusters, ctc)
    number = np.unique(np.asarray(patients).astype(str), return_inverse=True)[1]
    weights = patient_weights(int(number.max()) + 1, draws=bootstrap, rng=rng)
    cells = JudgedCells(
        truth=truth, patients=number, clusters=np.asarray(clusters).astype(str), weights=weights, ctc=ctc
    )
    margins = (ctc_sensitivity_margin, ctc_specificity_margin, cluster_f1_margin, count_error_margin)
    requirements = []
    for rival in _rivals(champion, anchor, margins, anchor_margin, anchor_confidence):
        requirements += [
            *of_ctc(cells, challenger, rival, min_ctc),
            of_worst_cluster(cells, challenger, rival, cluster_min_cells, class_min_cells),
            of_counts(cells, challenger, rival, min_ctc),
        ]
    shared = [name for name in champion.classes if name in challenger.classes]
    requirements += [of_recall(cells, challenger, champion, name, recall_margin) for name in shared]
    requirements.append(of_calibration(cells, challenger, champion, shared, calibration_margin))
    requirements.append(of_drift(drift, drift_margin))
    new = [name for name in challenger.classes if name not in champion.classes]
    requirements += [of_new_class(cells, challenger, name, new_class_floor) for name in new]
    lost = [name for name in champion.classes if name not in challenger.classes and name not in retired]
    requirements += [of_lost_class(name, int((truth == name).sum())) for name in lost]
    return Judgement(
        verdict=_verdict(requirements),
        reasons=tuple(requirement.reason for requirement in requirements),
        requirements=tuple(requirements),
        figures={
            "cells": len(truth),
            "patients": weights.shape[1],
            "ctc": int((truth == ctc).sum()),
            "confidence": CONFIDENCE,
            "anchor_confidence": anchor_confidence,
            "bootstrap": bootstrap,
            "requirements": [requirement.to_dict() for requirement in requirements],
        },
    )


def _check(
    models: dict[str, Predictions | None],
    truth: NDArray[Any],
    patients: NDArray[Any],
    clusters: NDArray[Any],
    ctc: str,
) -> None:
    there = {who: model for who, model in models.items() if model is not None}
    lengths = {len(truth), len(patients), len(clusters), *(len(model.probabilities) for model in there.values())}
    if len(lengths) != 1:
        said = ", ".join(f"{len(model.probabilities)} cells of the {who}" for who, model in there.items())
        raise BadInput(
            f"gate: {len(truth)} labels, {len(patients)} patients, {len(clusters)} clusters, {said}; "
            "expected the same cells; embed them again with all models"
        )
    if len(truth) == 0:
        raise BadInput("gate: there is no settled cell; have the evaluation arm read first")
    for who, model in there.items():
        if ctc not in model.classes:
            raise BadInput(f"gate: the {who} has no class {ctc!r} (it knows {list(model.classes)}); train with CTCs")


def _rivals(
    champion: Predictions,
    anchor: Predictions | None,
    margins: tuple[float, float, float, float],
    anchor_margin: float,
    anchor_confidence: float,
) -> list[Rival]:
    names = ("sensitivity", "specificity", "cluster_f1", "count_error")
    first = Rival(against="champion", said=champion, confidence=CONFIDENCE, **dict(zip(names, margins, strict=True)))
    if anchor is None:
        return [first]
    strict = (min(margins[0], anchor_margin), min(margins[1], anchor_margin), *margins[2:])
    second = Rival(against="anchor", said=anchor, confidence=anchor_confidence, **dict(zip(names, strict, strict=True)))
    if anchor.classes == champion.classes and np.array_equal(anchor.probabilities, champion.probabilities):
        confidence = max(CONFIDENCE, anchor_confidence)
        return [Rival(**{**vars(second), "against": "champion and anchor", "confidence": confidence})]
    return [first, second]


def _verdict(requirements: Sequence[Requirement]) -> Verdict:
    outcomes = {requirement.outcome for requirement in requirements}
    return next((worst for worst in (Verdict.REFUSE, Verdict.CANNOT_DECIDE) if worst in outcomes), Verdict.PROMOTE)
