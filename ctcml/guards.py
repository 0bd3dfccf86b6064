"""The gate's guards, recall of each shared class, calibration and drift, and what it asks of classes that one model lacks.

A guard refuses a loss against the champion that was shown. One that could not look says so, and leaves no case open.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import beta

from ctcml.bootstrap import Floats, ratio
from ctcml.records import Verdict
from ctcml.reliability import calibration_error, called_with, drawn_calibration_error
from ctcml.requirements import CONFIDENCE, JudgedCells, Predictions, Requirement, limits, outcome_of, words_of


def of_recall(
    cells: JudgedCells, challenger: Predictions, champion: Predictions, class_id: str, margin: float
) -> Requirement:
    """A guard: a class whose labels were spoilt loses its recall, and is named."""
    name, asked = f"recall of {class_id}", cells.truth == class_id
    if not asked.any():
        return _not_judged(name, -margin, "no settled cell is of this class")
    right, was_right = challenger.predicted == class_id, champion.predicted == class_id
    drawn = cells.drawn(asked & right, asked & was_right, asked)
    return _guard(
        name,
        float(right[asked].mean()),
        float(was_right[asked].mean()),
        ratio(drawn[:, 0] - drawn[:, 1], drawn[:, 2]),
        margin=margin,
        cells=int(asked.sum()),
        patients=len(np.unique(cells.patients[asked])),
    )


def of_calibration(
    cells: JudgedCells, challenger: Predictions, champion: Predictions, shared: Sequence[str], margin: float
) -> Requirement:
    """A guard: the probabilities at their fitted temperature, on cells of the classes that both know."""
    name, known = "calibration error", np.isin(cells.truth.astype(str), shared)
    if not known.any():
        return _not_judged(name, margin, "no settled cell is of a class that both know")
    patients = cells.patients[known]
    present, patients = np.unique(patients, return_inverse=True)
    (now, drawn), (before, drawn_before) = (
        (calibration_error(sure, right), drawn_calibration_error(sure, right, patients, cells.weights[:, present]))
        for sure, right in (
            called_with(one.probabilities[known], one.classes, cells.truth[known], temperature=one.temperature)
            for one in (challenger, champion)
        )
    )
    count = int(known.sum())
    return _guard(
        name, now, before, drawn - drawn_before, margin=margin, cells=count, patients=len(present), lower_is_better=True
    )


def of_drift(drift: tuple[float, float] | None, margin: float) -> Requirement:
    """A guard on shares of samples, which were all looked at: there is nothing to be unsure of."""
    name = "samples that drift"
    if drift is None:
        return _not_judged(name, margin, "too few samples of the archive can be compared")
    now, before = drift
    outcome = Verdict.PROMOTE if now - before <= margin else Verdict.REFUSE
    reason = (
        f"{name}: {now:.1%} in the challenger's eyes against the champion's {before:.1%}, difference "
        f"{100 * (now - before):+.1f} points (allowed {100 * margin:+.1f}): {words_of(outcome)}"
    )
    return Requirement(
        name=name, against="champion", outcome=outcome, challenger=now, champion=before, figure=now - before,
        low=None, high=None, limit=margin, lower_is_better=True, cells=0, reason=reason,
    )  # fmt: skip


def of_new_class(cells: JudgedCells, challenger: Predictions, class_id: str, floor: float) -> Requirement:
    """Recall of a class that only the challenger knows, required to lie above `floor`."""
    name, asked = f"recall of the new class {class_id}", cells.truth == class_id
    right, count = challenger.predicted == class_id, int(asked.sum())
    if count == 0:
        reason = f"{name}: cannot decide, no settled cell has this label; have more of the evaluation arm read"
        return _of_floor(name, Verdict.CANNOT_DECIDE, None, (None, None), floor, 0, reason)
    hits = int((asked & right).sum())
    drawn = cells.drawn(asked & right, asked)
    low, high, error = limits(
        ratio(drawn[:, 0], drawn[:, 1]), hits / count, CONFIDENCE, len(np.unique(cells.patients[asked]))
    )
    if error == 0:  # one patient, or all cells alike: exact limit over the cells, see bootstrap.share_interval
        low = float(beta.ppf(1 - CONFIDENCE, hits, count - hits + 1)) if hits else 0.0
    recall = hits / count
    outcome = outcome_of(recall, low, floor)
    reason = (
        f"{name}: {recall:.1%} of {count} cells (lower 95 % limit {low:.1%}, floor {floor:.1%}): {words_of(outcome)}"
    )
    if outcome is Verdict.CANNOT_DECIDE:
        reason += "; have more of the evaluation arm read"
    return _of_floor(name, outcome, recall, (low, high), floor, count, reason)


def of_lost_class(class_id: str, cells: int) -> Requirement:
    """Never met: a class of the champion that the challenger does not know, with `cells` settled cells."""
    name = f"class {class_id} is kept"
    reason = f"{name}: not met, the challenger does not know it and the class is not retired; train with its labels"
    return _of_floor(name, Verdict.REFUSE, None, (None, None), 0.0, cells, reason)


def _guard(
    name: str,
    now: float,
    before: float,
    differences: Floats,
    *,
    margin: float,
    cells: int,
    patients: int,
    lower_is_better: bool = False,
) -> Requirement:
    """Refuses when more than the margin is lost and chance alone would not lose it; undecided when it might."""
    sign = -1 if lower_is_better else 1
    gain = sign * (now - before)
    low, high, _ = limits(sign * differences, gain, CONFIDENCE, patients)
    beyond = Verdict.REFUSE if high < 0 else Verdict.CANNOT_DECIDE
    outcome = Verdict.PROMOTE if gain >= -margin else beyond
    reason = (
        f"{name}: {now:.1%} against the champion's {before:.1%} on {cells} cells, difference "
        f"{100 * (now - before):+.1f} points (allowed {-sign * 100 * margin:+.1f}): {words_of(outcome)}"
    )
    if outcome is Verdict.CANNOT_DECIDE:
        reason += "; it may be chance, have about as many cells again read"
    return Requirement(
        name=name, against="champion", outcome=outcome, challenger=now, champion=before, figure=now - before,
        low=min(sign * low, sign * high), high=max(sign * low, sign * high), limit=-sign * margin,
        lower_is_better=lower_is_better, cells=cells, reason=reason,
    )  # fmt: skip


def _not_judged(name: str, limit: float, why: str) -> Requirement:
    """A guard that could not look says so, and does not keep the case open."""
    return Requirement(
        name=name, against="champion", outcome=Verdict.PROMOTE, challenger=None, champion=None, figure=None,
        low=None, high=None, limit=limit, lower_is_better=limit > 0, cells=0, reason=f"{name}: not judged, {why}",
    )  # fmt: skip


def _of_floor(
    name: str,
    outcome: Verdict,
    recall: float | None,
    interval: tuple[float | None, float | None],
    floor: float,
    cells: int,
    reason: str,
) -> Requirement:
    return Requirement(
        name=name, against="floor", outcome=outcome, challenger=recall, champion=None, figure=recall,
        low=interval[0], high=interval[1], limit=floor, lower_is_better=False, cells=cells, reason=reason,
    )  # fmt: skip
