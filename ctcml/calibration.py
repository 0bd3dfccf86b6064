"""What the network's probabilities are worth: calibrated on settled cells of steering patients.

Four things turn the network's p into the chance that two experts and their adjudicator settle an event as a class:

* the temperature: softmax(log p / T) is right on average over all patients (Guo et al. 2017, ICML);
* the patient's own frequencies: a network knows how frequent a class usually is, while CTCs are rare in one patient
  and common in the next, and the same doubtful event means less in the first. Each sample's frequencies are found
  from its own events by expectation maximisation (Saerens et al. 2002, Neural Computation 14:21), no label is needed;
* the patient's common error: staining and storage move all events of one patient together. In "is it of this class"
  the error is a normal random intercept on the logit scale; `spread` is its standard deviation. The logits are
  stretched by sqrt(1 + pi spread² / 8), which undoes what the average over the errors shrinks (MacKay 1992, Neural
  Computation 4:720);
* the reading error r: where two readers differ on a share d of the cells, each of three readings of a plain cell is
  wrong with a chance of about d / 2, and two of them must be wrong for a wrong settlement: r is about d² / 2. On
  doubtful cells experts err more often, but these have middling probabilities already. Over the laboratory, readings
  lose as many cells of a class as they gain: with a usual share s of the class, a cell of the rarer side is settled
  wrongly with chance r, one of the other side with r min(s, 1 - s) / max(s, 1 - s). So no event is surer than experts
  are, and thousands of plain leucocytes do not make CTCs out of nothing.

Temperature and spread are maximum a posteriori estimates, because a steering set may hold 80 cells or none: without
any cell the priors stand.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit, logsumexp, softmax

from ctcml.errors import BadInput

Floats = NDArray[np.float64]

NODES, WEIGHTS = hermegauss(15)  # Gauss-Hermite: points of a standard normal error, and their weights
WEIGHTS = WEIGHTS / WEIGHTS.sum()
STEPS = 30  # of expectation maximisation
SMALLEST = 1e-9  # a probability of 0 has no logit
SEARCHED = 4.0  # logs of temperature and spread are sought within this many prior standard deviations


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was fitted, and from how much; `usual` frequency and `spread` (logit scale) by class."""

    temperature: float
    usual: Mapping[str, float]
    spread: Mapping[str, float]
    reading_error: float
    cells: int
    patients: int
    read_twice: int  # cells from whose two readings the reading error was estimated

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        return asdict(self)


def calibrate(
    cells: pd.DataFrame,
    settled: pd.DataFrame,
    *,
    classes: Sequence[str],
    temperature_sd: float,
    spread: float,
    spread_sd: float,
    frequency_events: float,
    reading_error: float,
    read_twice: int,
) -> Calibration:
    """Fit to the `settled` cells (cell_uid, patient_uid, class_id), which are drawn at random.

    `cells` has cell_uid, sample_uid and the network's own probabilities (lists in the order of `classes`) of every
    event, also of those that nobody read. Priors: log temperature is normal around 0 with `temperature_sd`, log
    spread normal around log(`spread`) with `spread_sd`. A settled class that the network does not have says that the
    cell is of none of its classes; it is left out of the temperature. Raises `BadInput` if a settled cell is not there.
    """
    absent = sorted(set(settled["cell_uid"]) - set(cells["cell_uid"]))
    if absent:
        raise BadInput(f"cell {absent[0]}: is settled but has no probabilities ({len(absent)} such); embed it again")
    said = probabilities_of(cells, classes)
    row = pd.Series(np.arange(len(cells)), index=cells["cell_uid"])[settled["cell_uid"]].to_numpy(dtype=np.int64)
    place = np.array([classes.index(one) if one in classes else -1 for one in settled["class_id"]], dtype=np.int64)
    known = place >= 0
    temperature = fit_temperature(said[row[known]], place[known], prior_sd=temperature_sd, reading_error=reading_error)
    chances = tempered(said, temperature)
    usual = chances.mean(axis=0) if len(chances) else np.full(len(classes), 1 / len(classes))
    for rows in cells.reset_index(drop=True).groupby("sample_uid").indices.values():
        chances[rows] = at_own_frequencies(chances[rows], usual, frequency_events)
    patient = np.unique(settled["patient_uid"].to_numpy(dtype=str), return_inverse=True)[1]
    return Calibration(
        temperature=temperature,
        usual=dict(zip(classes, usual.tolist(), strict=True)),
        spread={
            name: fit_spread(
                chances[row, at],
                place == at,
                patient,
                usual=float(usual[at]),
                prior=spread,
                prior_sd=spread_sd,
                reading_error=reading_error,
            )
            for at, name in enumerate(classes)
        },
        reading_error=reading_error,
        cells=len(settled),
        patients=settled["patient_uid"].nunique(),
        read_twice=read_twice,
    )


def probabilities_of(cells: pd.DataFrame, classes: Sequence[str]) -> Floats:
    """The lists of a table as one array (cells, classes); `BadInput` names a sample with lists of another length."""
    if cells.empty:
        return np.empty((0, len(classes)))
    lengths = {len(row) for row in cells["probabilities"]}
    if lengths != {len(classes)}:
        raise BadInput(
            f"sample {cells['sample_uid'].iloc[0]}: {sorted(lengths)} probabilities a cell, "
            f"expected {len(classes)}; embed it again"
        )
    return np.stack(cells["probabilities"].to_list()).astype(np.float64)


def reading_error(share_differing: float | None, cells: int, *, prior: float, prior_cells: float) -> float:
    """Chance that a plain cell is settled wrongly, from the share of `cells` on which two readers differ.

    The prior share counts like `prior_cells` cells; without any cell it stands alone.

    >>> reading_error(None, 0, prior=0.1, prior_cells=50)
    0.005000000000000001
    """
    differing = prior_cells * prior + (cells * share_differing if share_differing is not None else 0.0)
    both = prior_cells + (cells if share_differing is not None else 0)
    return (differing / both) ** 2 / 2


def tempered(probabilities: NDArray[Any], temperature: float) -> Floats:
    """Probabilities (..., classes) at another temperature: above 1 they become less sure.

    >>> tempered(np.array([0.9, 0.1]), 2.0).round(2).tolist()
    [0.75, 0.25]
    """
    return np.asarray(softmax(_logs(probabilities) / temperature, axis=-1))


def at_own_frequencies(chances: Floats, usual: Floats, frequency_events: float) -> Floats:
    """Chances (events, classes) of one sample's events, at that sample's own frequencies of the classes.

    The frequencies start at the `usual` ones (classes,), which weigh like `frequency_events` events all along, so that
    few events do not wipe out a class.
    """
    usual = np.maximum(usual, SMALLEST)
    own, moved = usual, chances
    for _ in range(STEPS):
        moved = chances * (own / usual)
        moved = moved / moved.sum(axis=1, keepdims=True)
        own = (frequency_events * usual + moved.sum(axis=0)) / (frequency_events * usual.sum() + len(chances))
    return moved


def given_error(chances: Floats, spread: float | Floats) -> Floats:
    """Chances of a class (...) under each error that the patient's events may have in common: (nodes, ...).

    The mean over the nodes, weighted by `WEIGHTS`, is about `chances` again. `spread` is broadcast against `chances`.
    """
    nodes = NODES.reshape(-1, *(1,) * np.ndim(chances))
    stretched = logit(np.clip(chances, SMALLEST, 1 - SMALLEST)) * np.sqrt(1 + np.pi * np.square(spread) / 8)
    return np.asarray(expit(stretched + spread * nodes))


def as_settled(chances: Floats, usual: float | Floats, reading_error: float) -> Floats:
    """Chance that experts settle an event as the class; `usual` share of the class, broadcast against `chances`."""
    missed = reading_error * np.minimum(1, (1 - usual) / np.maximum(usual, SMALLEST))
    false = reading_error * np.minimum(1, usual / np.maximum(1 - usual, SMALLEST))
    return np.asarray(chances * (1 - missed) + (1 - chances) * false)


def fit_temperature(probabilities: Floats, place: NDArray[np.int64], *, prior_sd: float, reading_error: float) -> float:
    """The most probable temperature, given the place of each cell's settled class; a settlement may be wrong.

    It is never below 1: few cells that happen to be right would make intervals narrower than they should be.
    """
    logs, each = _logs(probabilities), np.arange(len(place))

    def loss(log_temperature: float) -> float:
        fitting = np.exp(log_softmax(logs / np.exp(log_temperature), axis=1)[each, place])
        lapsing = (1 - reading_error) * fitting + reading_error / logs.shape[1]
        return float(-np.log(lapsing).sum() + (log_temperature / prior_sd) ** 2 / 2)

    return _most_probable(loss, 0.0, SEARCHED * prior_sd)


def fit_spread(
    chances: Floats,
    of_class: NDArray[np.bool_],
    patient: NDArray[np.int64],
    *,
    usual: float,
    prior: float,
    prior_sd: float,
    reading_error: float,
) -> float:
    """The most probable standard deviation of the patients' errors: each patient's cells share one, integrated out."""
    patients = int(patient.max(initial=-1)) + 1

    def loss(log_spread: float) -> float:
        settled = as_settled(given_error(chances, np.exp(log_spread)), usual, reading_error)
        log_each = np.log(np.clip(np.where(of_class, settled, 1 - settled), SMALLEST, None))
        of_patient = np.zeros((patients, len(NODES)))
        np.add.at(of_patient, patient, log_each.T)
        fitting = logsumexp(of_patient, axis=1, b=WEIGHTS).sum()
        return float(-fitting + ((log_spread - np.log(prior)) / prior_sd) ** 2 / 2)

    middle = float(np.log(prior))
    return _most_probable(loss, middle - SEARCHED * prior_sd, middle + SEARCHED * prior_sd)


def _most_probable(loss: Callable[[float], float], low: float, high: float) -> float:
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4}).x
    return round(float(np.exp(found)), 3)


def _logs(probabilities: NDArray[Any]) -> Floats:
    return np.asarray(np.log(np.clip(np.asarray(probabilities, dtype=np.float64), SMALLEST, None)))
