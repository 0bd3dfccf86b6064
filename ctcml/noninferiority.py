"""The requirements that hold a challenger against another model: it may not be worse than it by more than a margin.

CTC sensitivity and specificity, F1 in the worst cluster, and the error of the patients' CTC counts. Each is met only when
the whole of the confidence lies on the good side of the margin; where it is undecided, the reason says how many are needed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm

from ctcml.bootstrap import Floats, patient_sums, ratio
from ctcml.records import Verdict
from ctcml.requirements import CONFIDENCE, JudgedCells, Predictions, Requirement, limits, outcome_of, words_of
from ctcml.tallies import macro_f1


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A model to be compared with, and how much worse than it the challenger may be."""

    against: str
    said: Predictions
    confidence: float
    sensitivity: float
    specificity: float
    cluster_f1: float
    count_error: float


def of_ctc(cells: JudgedCells, challenger: Predictions, rival: Rival, min_ctc: int) -> list[Requirement]:
    """Sensitivity and specificity: which cells are, or are no CTCs, and are called so."""
    is_ctc, says, said = cells.truth == cells.ctc, challenger.predicted == cells.ctc, rival.said.predicted == cells.ctc
    return [
        _right_share(
            cells, rival, "CTC sensitivity", is_ctc, says, said, rival.sensitivity, what="CTCs", fewest=min_ctc
        ),
        _right_share(cells, rival, "CTC specificity", ~is_ctc, ~says, ~said, rival.specificity, what="other cells"),
    ]


def of_worst_cluster(
    cells: JudgedCells, challenger: Predictions, rival: Rival, cluster_min_cells: int, class_min_cells: int
) -> Requirement:
    """F1 of the classes that both know, each model in the cluster in which it does worst."""
    name, what = "F1 in the worst cluster", "cells"
    shared = [one for one in rival.said.classes if one in challenger.classes]
    known = np.isin(cells.truth.astype(str), shared)
    names, place = np.unique(cells.clusters, return_inverse=True)
    sizes = np.bincount(place[known], minlength=len(names))
    if sizes.max() < cluster_min_cells:
        largest = f"{what} in the largest cluster"
        return _too_few(name, rival.against, rival.cluster_f1, int(sizes.max()), cluster_min_cells, largest)
    judged = np.flatnonzero(sizes >= cluster_min_cells)
    inside = known & np.isin(place, judged)
    where = np.searchsorted(judged, place[inside])
    (now, worst, drawn), (before, was_worst, drawn_before) = (
        _worst(cells, model.predicted, shared, inside, where, class_min_cells) for model in (challenger, rival.said)
    )
    return _not_worse(
        name,
        rival,
        now,
        before,
        drawn - drawn_before,
        margin=rival.cluster_f1,
        cells=int(inside.sum()),
        patients=len(np.unique(cells.patients[inside])),
        what=what,
        where=f" ({names[judged[worst]]})",
        where_before=f" ({names[judged[was_worst]]})",
    )


def of_counts(cells: JudgedCells, challenger: Predictions, rival: Rival, min_ctc: int) -> Requirement:
    """How far the patients' CTC counts are off: the sum of |called − settled| over patients / all settled CTCs."""
    name = "error of patients' CTC counts"
    is_ctc = cells.truth == cells.ctc
    settled, now, before = (
        patient_sums(one.astype(float), cells.patients)
        for one in (is_ctc, challenger.predicted == cells.ctc, rival.said.predicted == cells.ctc)
    )
    if settled.sum() < max(1, min_ctc):
        return _too_few(name, rival.against, -rival.count_error, int(settled.sum()), max(1, min_ctc), "CTCs")
    off, was_off = np.abs(now - settled), np.abs(before - settled)
    drawn = cells.weights @ np.stack([off - was_off, settled], axis=1)
    return _not_worse(
        name,
        rival,
        float(off.sum() / settled.sum()),
        float(was_off.sum() / settled.sum()),
        ratio(drawn[:, 0], drawn[:, 1]),
        margin=rival.count_error,
        cells=int(settled.sum()),
        patients=len(settled),
        what="CTCs",
        lower_is_better=True,
    )


def ctc_needed(margin: float, *, confidence: float = CONFIDENCE, floor: int = 0) -> int:
    """Fewest CTCs with which any model can be shown not to lose more than `margin`: even without a single loss among n
    cells a loss of 1 − (1 − confidence)^(1/n) cannot be excluded (the exact form of the "rule of three").

    >>> ctc_needed(0.05), ctc_needed(0.10), ctc_needed(0.03, confidence=0.99)
    (59, 29, 152)
    """
    return max(floor, math.ceil(math.log(1 - confidence) / math.log(1 - margin))) if 0 < margin < 1 else floor


def _right_share(
    cells: JudgedCells,
    rival: Rival,
    name: str,
    asked: NDArray[Any],
    right: NDArray[Any],
    was_right: NDArray[Any],
    margin: float,
    *,
    what: str,
    fewest: int = 1,
) -> Requirement:
    """Paired difference of two shares among the `asked` cells."""
    count = int(asked.sum())
    if count < max(1, fewest):
        return _too_few(name, rival.against, margin, count, max(1, fewest), what)
    drawn = cells.drawn(asked & right, asked & was_right, asked)
    lost = int((asked & was_right & ~right).sum())
    # Resampling cannot invent a loss that was never seen, see ctc_needed.
    unseen = -float(beta.ppf(rival.confidence, 1, count)) if lost == 0 else math.inf
    return _not_worse(
        name,
        rival,
        float(right[asked].mean()),
        float(was_right[asked].mean()),
        ratio(drawn[:, 0] - drawn[:, 1], drawn[:, 2]),
        margin=margin,
        cells=count,
        patients=len(np.unique(cells.patients[asked])),
        what=what,
        unseen=unseen,
        enough=ctc_needed(margin, confidence=rival.confidence),
    )


def _worst(
    cells: JudgedCells,
    called: NDArray[Any],
    shared: Sequence[str],
    inside: NDArray[np.bool_],
    where: NDArray[np.int64],
    class_min_cells: int,
) -> tuple[float, int, Floats]:
    """Lowest F1 of a cluster, its place, and the lowest of each draw; `where` is the place of each cell `inside`."""
    true, said = (_places(one[inside], shared) for one in (cells.truth, called))
    shape = (cells.weights.shape[1], int(where.max()) + 1, len(shared), len(shared) + 1)
    flat = np.ravel_multi_index((cells.patients[inside], where, true, said), shape)
    tally = np.bincount(flat, minlength=math.prod(shape)).reshape(shape)
    drawn = np.tensordot(cells.weights, tally, axes=1)
    found, lowest = [], np.full(len(drawn), np.inf)
    for at in range(shape[1]):
        total = tally[:, at].sum(axis=0)
        sizes = total.sum(axis=1)
        # A class with a handful of cells would make the figure jump; a cluster may have no other.
        counted = sizes >= min(class_min_cells, sizes.max())
        found.append(float(macro_f1(total.astype(float), counted)))
        of_draw = macro_f1(drawn[:, at], counted)
        lowest = np.minimum(lowest, np.where(np.isfinite(of_draw), of_draw, np.inf))
    return min(found), int(np.argmin(found)), np.where(np.isfinite(lowest), lowest, np.nan)


def _places(names: NDArray[Any], classes: Sequence[str]) -> NDArray[np.int64]:
    """The place of each name among the classes; behind the last for any other."""
    place = np.full(len(names), len(classes), dtype=np.int64)
    for at, name in enumerate(classes):
        place[names == name] = at
    return place


def _not_worse(
    name: str,
    rival: Rival,
    now: float,
    before: float,
    differences: Floats,
    *,
    margin: float,
    cells: int,
    patients: int,
    what: str,
    lower_is_better: bool = False,
    unseen: float = math.inf,
    enough: int = 0,
    where: str = "",
    where_before: str = "",
) -> Requirement:
    """The resampled `differences` (challenger − rival) required to lie on the good side of the margin; a lower limit of
    the gain is no better than `unseen`."""
    sign = -1 if lower_is_better else 1
    gain = sign * (now - before)
    low, high, error = limits(sign * differences, gain, rival.confidence, patients)
    low = min(low, unseen)
    outcome = outcome_of(gain, low, -margin)
    side, percent = "upper" if lower_is_better else "lower", f"{100 * rival.confidence:g} %"
    reason = (
        f"{name}: {now:.1%}{where} against the {_possessive(rival.against)} {before:.1%}{where_before} on {cells} {what}, "
        f"difference {100 * (now - before):+.1f} points ({side} {percent} limit {100 * sign * low:+.1f}, "
        f"allowed {-sign * 100 * margin:+.1f}): {words_of(outcome)}"
    )
    if outcome is Verdict.CANNOT_DECIDE:
        room = gain + margin
        steady = math.ceil(cells * (norm.ppf(rival.confidence) * error / room) ** 2) if room > 0 else cells
        needed = max(steady, enough, cells + 1)
        reason += f"; about {needed} {what} are needed if the difference stays, have about {needed - cells} more read"
    return Requirement(
        name=name, against=rival.against, outcome=outcome, challenger=now, champion=before, figure=now - before,
        low=min(sign * low, sign * high), high=max(sign * low, sign * high), limit=-sign * margin,
        lower_is_better=lower_is_better, cells=cells, reason=reason,
    )  # fmt: skip


def _too_few(name: str, against: str, margin: float, cells: int, needed: int, what: str) -> Requirement:
    reason = (
        f"{name} against the {against}: cannot decide with {cells} settled {what}; at least {needed} are needed, "
        f"have {needed - cells} more read"
    )
    return Requirement(
        name=name, against=against, outcome=Verdict.CANNOT_DECIDE, challenger=None, champion=None, figure=None,
        low=None, high=None, limit=-margin, lower_is_better=margin < 0, cells=cells, reason=reason,
    )  # fmt: skip


def _possessive(against: str) -> str:
    return {"champion": "champion's", "anchor": "anchor's"}.get(against, "champion's and anchor's")
