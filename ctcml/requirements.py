"""The nouns of the gate: what a model says, the cells that all models are judged on, one requirement and how it came out.

What every requirement needs stands here as well: limits from resampled patients, and the outcome that follows from them.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from ctcml.bootstrap import Floats
from ctcml.errors import BadInput
from ctcml.records import Verdict

CONFIDENCE = 0.95  # one-sided, against the champion


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What one model says of the settled cells: probabilities (cells, classes) in the order of `classes`.

    Calibration is judged at the `temperature`, which was fitted on steering patients.
    """

    classes: tuple[str, ...]
    probabilities: NDArray[Any]
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.probabilities.ndim != 2 or self.probabilities.shape[1] != len(self.classes):
            raise BadInput(
                f"predictions: probabilities of shape {self.probabilities.shape}, expected one column for each of "
                f"{len(self.classes)} classes; embed these cells again"
            )
        if not np.isfinite(self.probabilities).all():
            raise BadInput("predictions: a probability is not a finite number; embed these cells again")
        if not self.temperature > 0:
            raise BadInput(f"predictions: temperature {self.temperature}, expected above 0; calibrate again")

    @property
    def predicted(self) -> NDArray[Any]:
        """The most probable class of each cell."""
        return np.asarray(np.array(self.classes, dtype=object)[self.probabilities.argmax(axis=1)])


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One requirement and how it came out.

    `figure` is a difference, challenger − the model it is judged `against` ("champion", "anchor", or "champion and
    anchor" where they are one), whose own figure is `champion`; against a "floor" it is a share. Of errors
    (`lower_is_better`) the figure must lie below the limit, of all else above it.
    """

    name: str
    against: str
    outcome: Verdict
    challenger: float | None
    champion: float | None
    figure: float | None
    low: float | None
    high: float | None
    limit: float
    lower_is_better: bool
    cells: int
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for JSON; the outcome by its value."""
        return {**vars(self), "outcome": self.outcome.value}


@dataclass(frozen=True, kw_only=True)
class JudgedCells:
    """The settled cells that all models are judged on; `patients` are numbers, `weights` (draws, patients)."""

    truth: NDArray[Any]
    patients: NDArray[np.int64]
    clusters: NDArray[Any]
    weights: Floats
    ctc: str

    def drawn(self, *columns: NDArray[Any]) -> Floats:
        """The sum of each column (cells,) in each draw of patients: (draws, columns)."""
        patients = self.weights.shape[1]
        sums = [np.bincount(self.patients, weights=one, minlength=patients) for one in columns]
        return np.asarray(self.weights @ np.stack(sums, axis=1))


def limits(resampled: Floats, figure: float, confidence: float, patients: int) -> tuple[float, float, float]:
    """Lower and upper one-sided limits and the standard error; a draw without a single such cell says nothing and is
    left out.

    Percentiles of few patients are too narrow, the more so the higher the confidence; so a limit is never nearer to the
    figure than Student's t with as many degrees of freedom as there are patients, less one.
    """
    seen = resampled[np.isfinite(resampled)]
    low, high = np.quantile(seen, [1 - confidence, confidence])
    error = float(seen.std())
    if patients > 1:
        reach = float(t.ppf(confidence, patients - 1)) * error * math.sqrt(patients / (patients - 1))
        low, high = min(low, figure - reach), max(high, figure + reach)
    return float(low), float(high), error


def outcome_of(figure: float, low: float, limit: float) -> Verdict:
    """Met when the lower limit reaches `limit`, undecided when only the figure does; all three point upwards."""
    if low >= limit:
        return Verdict.PROMOTE
    return Verdict.CANNOT_DECIDE if figure >= limit else Verdict.REFUSE


def words_of(outcome: Verdict) -> str:
    """How a reason ends.

    >>> words_of(Verdict.CANNOT_DECIDE)
    'undecided'
    """
    return {Verdict.PROMOTE: "met", Verdict.REFUSE: "not met", Verdict.CANNOT_DECIDE: "undecided"}[outcome]
