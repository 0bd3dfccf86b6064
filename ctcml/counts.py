"""Cells per sample and per 7.5 ml with intervals, the side of the cut-off, and the way back to the pixels.

Two questions have different answers, and both are given:

* **How many cells of the class are in this tube**, as another pair of experts would settle every event? Each event is
  a coin with the calibrated chance of `ctcml.calibration`, so that their number follows the Poisson-binomial
  distribution; the coins of one patient share an error, so that distributions are mixed over it (Gauss-Hermite).
  More reading narrows this interval to nothing: it says which cells are worth a reader's time (`tube_*`).
* **How many cells per 7.5 ml does the patient's blood hold?** A tube is one draw of it, so the number in it is Poisson
  around the concentration (Tibbe et al. 2007, Cytometry A 71:154). Given k cells the concentration per tube is taken
  as gamma(k + 1/2) (Jeffreys prior). No reading removes this uncertainty; it is what a clinician has to know
  (`low`, `high`, `side`, `flip_risk`).

Neither knows of cells that the instrument never presented.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from scipy.special import gammainc, gammaincinv, gammaln

from ctcml.calibration import WEIGHTS, as_settled, at_own_frequencies, given_error, probabilities_of, tempered
from ctcml.errors import BadInput
from ctcml.tables import COUNTS

TUBE_ML = 7.5
ARG_MAX = 0.0  # the threshold of a count by the most probable class alone
CTC = "ctc"
BLOCK = 128  # events that are added one by one; longer lists are cut up and joined by FFT, which is n log n
HALVINGS = 32  # bisections of a quantile: 2^-32 of the largest concentration, more than a column of the table keeps
SMALLEST = 1e-300  # a concentration of 0 has no logarithm

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class CellsInTube:
    """What is known of several counts: `weights` (counts, numbers) of 0, 1, 2, … cells really being in the tube."""

    weights: Floats

    def fewer_than(self, cells: Floats) -> Floats:
        """Chance that the tube holds fewer than `cells` (counts,) cells."""
        return np.asarray((self.weights * (np.arange(self.weights.shape[1]) < cells[:, None])).sum(axis=1))

    def quantile(self, chance: float) -> Floats:
        """The smallest number of cells that is not exceeded with this chance (counts,)."""
        return np.asarray((self.weights.cumsum(axis=1) >= chance - 1e-12).argmax(axis=1), dtype=np.float64)

    @cached_property
    def more_than(self) -> Floats:
        """Chance (counts, numbers - 1) of more than 0, 1, 2, … cells."""
        return np.asarray(1 - self.weights.cumsum(axis=1)[:, :-1])

    def concentration_below(self, cells: Floats) -> Floats:
        """Chance that the concentration lies below `cells` (..., counts), in cells per tube.

        P(k + 1/2, x) = P(1/2, x) - the sum over j < k of x^(j + 1/2) exp(-x) / Gamma(j + 3/2), so one incomplete gamma
        function serves all k.
        """
        powers = np.arange(self.more_than.shape[1]) + 0.5
        at = np.maximum(cells, SMALLEST)[..., None]
        steps = np.exp(powers * np.log(at) - at - gammaln(powers + 1))
        return np.asarray(np.clip(gammainc(0.5, cells) - np.einsum("rk,...rk->...r", self.more_than, steps), 0, 1))

    def concentration_quantile(self, chance: float | Floats) -> Floats:
        """Concentration (..., counts), in cells per tube, below which it lies with each `chance` (...)."""
        wanted = np.asarray(chance)[..., None]
        high = np.broadcast_to(gammaincinv(self.weights.shape[1] - 0.5, wanted), (*np.shape(chance), len(self.weights)))
        low = np.zeros_like(high)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            below = self.concentration_below(middle) < wanted
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return high


def number_of_cells(chances: Floats) -> Floats:
    """Poisson-binomial distribution (..., n + 1) of the number of hits among coins with `chances` (..., n).

    >>> number_of_cells(np.array([0.5, 0.5])).tolist()
    [0.25, 0.5, 0.25]
    """
    events = chances.shape[-1]
    pieces = max(1, -(-events // BLOCK))
    size = -(-events // pieces)
    missing = [*[(0, 0)] * (chances.ndim - 1), (0, pieces * size - events)]
    parts = _one_by_one(np.pad(chances, missing).reshape(*chances.shape[:-1], pieces, size))
    while parts.shape[-2] > 1:
        if parts.shape[-2] % 2:
            parts = np.concatenate([parts, np.zeros_like(parts[..., :1, :])], axis=-2)
            parts[..., -1, 0] = 1
        parts = fftconvolve(parts[..., ::2, :], parts[..., 1::2, :], axes=-1)
    return np.clip(parts[..., 0, : events + 1], 0, None)


def _one_by_one(chances: Floats) -> Floats:
    """The same by recursion over the events, which is exact; they come first in memory, because that is faster."""
    coins = np.ascontiguousarray(np.moveaxis(chances, -1, 0))
    weights = np.zeros((len(coins) + 1, *coins.shape[1:]))
    weights[0] = 1
    for at, coin in enumerate(coins, start=1):
        moved = weights[:at] * coin
        weights[:at] -= moved
        weights[1 : at + 1] += moved
    return np.moveaxis(weights, 0, -1)


def cells_in_tube(
    chances: NDArray[Any],
    at_stake: Flags,
    *,
    spread: float | Floats = 0.0,
    usual: float | Floats = 0.0,
    reading_error: float = 0.0,
) -> CellsInTube:
    """What calibrated `chances` (counts, events) say of the events `at_stake` (counts, events) of one patient.

    `spread` and `usual` share of each count's class, (counts, 1), are those of `ctcml.calibration`, as is `reading_error`.
    """
    width = int(at_stake.sum(axis=1).max(initial=0))
    first = np.argsort(~at_stake, axis=1, kind="stable")[:, :width]  # the events at stake move to the front
    chosen = np.take_along_axis(np.asarray(chances, dtype=np.float64), first, axis=1)
    settled = as_settled(given_error(chosen, spread), usual, reading_error)
    settled = np.where(np.take_along_axis(at_stake, first, axis=1), settled, 0.0)
    mixed = np.tensordot(WEIGHTS, number_of_cells(settled), axes=1)
    possible = np.flatnonzero(mixed.max(axis=0) > 1e-12)[-1] + 1  # numbers beyond are not worth their time
    return CellsInTube(weights=mixed[:, :possible] / mixed[:, :possible].sum(axis=1, keepdims=True))


def count_cells(
    cells: pd.DataFrame,
    samples: pd.DataFrame,
    *,
    classes: Sequence[str],
    thresholds: Sequence[float],
    interval: float,
    cutoffs: Mapping[str, float],
    exploratory_cutoffs: Mapping[str, float],
    temperature: float,
    usual: Mapping[str, float],
    spread: Mapping[str, float],
    frequency_events: float,
    reading_error: float,
) -> pd.DataFrame:
    """Count every class in every sample, by arg-max (threshold 0) and at each threshold, over each known denominator.

    `cells` has cell_uid, sample_uid, proposed, predicted and probabilities (lists in the order of `classes`);
    `samples` has the columns of `tables.CLINICAL`. The denominator `proposed` is counted where the export says of
    every cell of the sample whether CellSearch presented it. Cut-offs (CTC per 7.5 ml, by cancer type) apply to `ctc`;
    they are stamped exploratory unless they come from `cutoffs` and the count is the arg-max among proposed events,
    the nearest to what they were validated on.

    Thresholds and arg-max look at the network's own probabilities; the intervals use calibrated ones: `temperature`,
    `usual` frequency and `spread` by class, `frequency_events` and `reading_error` as in `ctcml.calibration`. `low`, `high`, `flip_risk` and `side` speak of
    the concentration in the patient's blood, `tube_low`, `tube_high` and `tube_flip_risk` of what experts would count
    in this tube; all per 7.5 ml. A flip risk is the chance that the truth lies on the other side of the cut-off than
    the count; `side` is `undecided` while the interval holds the cut-off. A sample without any cell gets no row: no
    thumbnails are not the same as no tumour cells. Returns `tables.COUNTS`. Raises `BadInput` for a sample that
    `samples` lacks or names twice, probabilities of another length, or a class without a spread.
    """
    known = _clinical(cells, samples)
    lacking = sorted(set(classes) - (set(spread) & set(usual)))
    if lacking:
        raise BadInput(f"calibration: class {lacking[0]!r} is not in it, found {sorted(spread)}; run `ctcml calibrate`")
    errors = Errors(
        usual=np.array([usual[name] for name in classes]),
        spread=np.array([spread[name] for name in classes]),
        reading_error=reading_error,
    )
    blocks = []
    for sample_uid, of_sample in cells.groupby("sample_uid", sort=True):
        sample = known.loc[sample_uid]
        limits = [_cutoff(name, str(sample["cancer_type"]), cutoffs, exploratory_cutoffs) for name in classes]
        about = {"sample_uid": sample_uid, "patient_uid": sample["patient_uid"], "cancer_type": sample["cancer_type"]}
        tubes = float(sample["blood_volume_ml"]) / TUBE_ML
        said = probabilities_of(of_sample, classes)
        chances = chances_among(of_sample, tempered(said, temperature), errors.usual, frequency_events)
        for threshold in (ARG_MAX, *thresholds):
            counts = sample_counts(of_sample, said, chances, classes, threshold, errors)
            blocks.append(about | _block(counts, classes, threshold, limits, interval, tubes))
    return _as_table(blocks)


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Usual frequency and spread of each class (classes,), and the reading error, as in `ctcml.calibration`."""

    usual: Floats
    spread: Floats
    reading_error: float


@dataclass(frozen=True, kw_only=True)
class SampleCounts:
    """The counts of one sample at one threshold, classes within denominators: (denominators x classes,) each."""

    denominators: list[str]
    counted: NDArray[np.int64]
    events: NDArray[np.int64]
    tube: CellsInTube


def chances_among(of_sample: pd.DataFrame, chances: Floats, usual: Floats, frequency_events: float) -> Floats:
    """Chances (denominators, classes, events) at the frequencies that the sample has among each denominator's events.

    To be presented by CellSearch says something of an event, so frequencies differ between the denominators.
    """
    found = []
    for _, eligible in _denominators(of_sample):
        own = chances.copy()
        own[eligible] = at_own_frequencies(chances[eligible], usual, frequency_events)
        found.append(own.T)
    return np.stack(found)


def sample_counts(
    of_sample: pd.DataFrame, said: Floats, chances: Floats, classes: Sequence[str], threshold: float, errors: Errors
) -> SampleCounts:
    """Count what the network `said` (events, classes), and judge it by the calibrated chances of `chances_among`."""
    names, eligible = zip(*_denominators(of_sample), strict=True)
    among = np.repeat(np.stack(eligible), len(classes), axis=0)
    called = np.stack([_called(of_sample, said[:, at], name, threshold) for at, name in enumerate(classes)])
    counted = among & np.tile(called, (len(names), 1))
    tube = cells_in_tube(
        chances.reshape(-1, len(of_sample)),
        # A threshold is part of what is counted: events below it are not cells that were missed.
        among if threshold == ARG_MAX else counted,
        spread=np.tile(errors.spread, len(names))[:, None],
        usual=np.tile(errors.usual, len(names))[:, None],
        reading_error=errors.reading_error,
    )
    return SampleCounts(denominators=list(names), counted=counted.sum(axis=1), events=among.sum(axis=1), tube=tube)


def _block(
    counts: SampleCounts,
    classes: Sequence[str],
    threshold: float,
    limits: Sequence[tuple[float, bool]],
    interval: float,
    tubes: float,
) -> dict[str, Any]:
    """The columns of `tables.COUNTS` that belong to one sample and threshold."""
    repeats = len(counts.denominators)
    denominator = np.repeat(counts.denominators, len(classes))
    cutoff = np.tile([limit for limit, _ in limits], repeats)
    validated = (
        np.tile([cleared for _, cleared in limits], repeats) & (denominator == "proposed") & (threshold == ARG_MAX)
    )
    return {
        "class_id": np.tile(np.array(classes, dtype=object), repeats),
        "denominator": denominator.astype(object),
        "threshold": threshold,
        "count": counts.counted,
        "events": counts.events,
        "cutoff": cutoff,
        "exploratory": ~np.isnan(cutoff) & ~validated,
    } | _figures(counts.counted, counts.tube, cutoff, interval, tubes)


def _figures(
    counted: NDArray[np.int64], tube: CellsInTube, cutoff: Floats, interval: float, tubes: float
) -> dict[str, NDArray[Any]]:
    """Normalised counts, both intervals and flip risks, and the side; an interval always holds the count itself."""
    tail, normal = (1 - interval) / 2, counted / tubes
    low, high = tube.concentration_quantile(np.array([tail, 1 - tail])) / tubes
    low, high = np.minimum(low, normal), np.maximum(high, normal)
    below, fewer = tube.concentration_below(cutoff * tubes), tube.fewer_than(cutoff * tubes)
    flipped = np.where(normal >= cutoff, [below, fewer], [1 - below, 1 - fewer])
    flip_risk, tube_flip_risk = np.where(np.isnan(cutoff), np.nan, flipped)
    return {
        "per_7_5_ml": normal,
        "low": low,
        "high": high,
        "flip_risk": flip_risk,
        "side": np.select(
            [np.isnan(cutoff), low >= cutoff, high < cutoff],
            np.array(["none", "above", "below"], dtype=object),
            np.array("undecided", dtype=object),
        ),
        "tube_low": np.minimum(tube.quantile(tail) / tubes, normal),
        "tube_high": np.maximum(tube.quantile(1 - tail) / tubes, normal),
        "tube_flip_risk": tube_flip_risk,
    }


def _as_table(blocks: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    if not blocks:
        return pd.DataFrame(columns=list(COUNTS))
    sizes = [len(block["count"]) for block in blocks]
    return pd.DataFrame(
        {
            name: np.concatenate([np.broadcast_to(one[name], size) for one, size in zip(blocks, sizes, strict=True)])
            for name in COUNTS
        }
    )


def counted_cells(
    cells: pd.DataFrame,
    sample_uid: str,
    *,
    classes: Sequence[str],
    class_id: str,
    denominator: str,
    threshold: float = ARG_MAX,
) -> list[str]:
    """Name the very cells behind one count, the surest first: the way back from a number to its pixels.

    Takes the `cells` of `count_cells`. Raises `BadInput` for an unknown class or a denominator that the sample does
    not have.
    """
    of_sample = cells[cells["sample_uid"] == sample_uid]
    eligible = dict(_denominators(of_sample)).get(denominator)
    if class_id not in classes or eligible is None:
        raise BadInput(
            f"sample {sample_uid}: no count of {class_id!r} over {denominator!r}; choose a class of {list(classes)} "
            f"and a denominator of {[name for name, _ in _denominators(of_sample)]}"
        )
    chance = probabilities_of(of_sample, classes)[:, list(classes).index(class_id)]
    counted = np.flatnonzero(eligible & _called(of_sample, chance, class_id, threshold))
    surest = counted[np.argsort(-chance[counted], kind="stable")]
    return [str(uid) for uid in of_sample["cell_uid"].to_numpy()[surest]]


def _clinical(cells: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    known = samples.set_index("sample_uid")
    if not known.index.is_unique:
        raise BadInput(
            f"clinical table: sample {known.index[known.index.duplicated()][0]} is there twice; keep one row"
        )
    absent = sorted(set(cells["sample_uid"]) - set(known.index))
    if absent:
        raise BadInput(
            f"sample {absent[0]}: has cells but no row in the clinical table ({len(absent)} such samples); add its row"
        )
    volumes = known["blood_volume_ml"]
    wrong = known.index[~(volumes > 0)]
    if len(wrong):
        raise BadInput(
            f"sample {wrong[0]}: blood_volume_ml is {volumes[wrong[0]]}, expected more than 0; look it up in the log"
        )
    return known


def _denominators(of_sample: pd.DataFrame) -> Iterator[tuple[str, Flags]]:
    yield "all", np.ones(len(of_sample), dtype=bool)
    if not of_sample["proposed"].isna().any():
        yield "proposed", of_sample["proposed"].to_numpy(dtype=bool)


def _called(of_sample: pd.DataFrame, chance: Floats, class_id: str, threshold: float) -> Flags:
    return np.asarray((of_sample["predicted"] == class_id).to_numpy(dtype=bool) & (chance >= threshold))


def _cutoff(
    class_id: str, cancer_type: str, cutoffs: Mapping[str, float], exploratory_cutoffs: Mapping[str, float]
) -> tuple[float, bool]:
    """The cut-off of a cancer type, NaN without one, and whether it is a cleared one."""
    if class_id != CTC:
        return np.nan, False
    cleared = cancer_type in cutoffs
    return float((cutoffs if cleared else exploratory_cutoffs).get(cancer_type, np.nan)), cleared
