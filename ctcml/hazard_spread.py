"""How much of a hazard ratio hangs on who read the cells: under each reader, by hand, by the model, and over what the
tubes may really hold.

A reader's count is the model's count with the reader's own labels put over the model's on the cells that he or she read; of
most cells nobody but the model said anything, so these counts lie between the model's and the reader's. Labels of sealed
patients are masked before they come here.

The draws take each patient's number of cells from the distribution of `ctcml.counts` (calibrated probabilities, errors
common to the patient). Each draw gives a hazard ratio; together with its limits they are pooled as Rubin (1987, Multiple
Imputation, 3.1) pools imputed data: the pooled limits carry the uncertainty of patients and of reading. The draws do not
know the outcome, so where many cells are doubtful the pooled ratio lies nearer to 1 than the truth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from ctcml.calibration import at_own_frequencies, probabilities_of, tempered
from ctcml.counts import CTC, TUBE_ML, cells_in_tube
from ctcml.cox import NoFit, fit_cox
from ctcml.records import UNREADABLE
from ctcml.risk_sets import hazards_of_many
from ctcml.truth import MASKED

Floats = NDArray[np.float64]

WALD = float(norm.ppf(0.975))


@dataclass(frozen=True, kw_only=True)
class Source:
    """The hazard ratio of the arms by one way to count; what could not be computed is None and `refusal` says why.

    `cells` and `patients`: of how many the reader's labels changed the count; None for the other ways.
    """

    name: str
    n: int
    hr: float | None
    low: float | None
    high: float | None
    proportional_p: float | None
    refusal: str | None
    cells_read: int | None = None
    cells_changed: int | None = None
    patients_changed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Hazard ratios over draws of the counts: their median and middle 95 %, and the pooled ratio with its limits."""

    n: int
    refused: int  # draws in which an arm had too few events or the ratio did not converge
    low: float
    median: float
    high: float
    pooled: float
    pooled_low: float
    pooled_high: float


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One hazard ratio under every way to count."""

    sources: tuple[Source, ...]
    draws: Drawn | None

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for JSON."""
        return asdict(self)


def spread_of(
    rows: pd.DataFrame,
    manual: pd.Series,
    changes: Mapping[str, pd.DataFrame],
    tubes: Mapping[str, Floats],
    *,
    min_events: int,
    draws: int,
    rng: np.random.Generator,
) -> Spread:
    """Recompute the hazard ratio of the arms for the patients of `rows` (`cohort.cohort_rows`, the model's counts).

    `manual` gives the count by hand by sample_uid, `changes` the table of `reader_changes` by the reader's name, `tubes`
    the distribution of the number of cells in the tube by sample_uid (`tubes_of`).
    """
    rows = rows.dropna(subset=["duration", "event", "count", "cutoff"]).reset_index(drop=True)
    by_hand = rows.assign(count=rows["sample_uid"].map(manual)).dropna(subset=["count"])
    sources = [_source("manual", by_hand, min_events)]
    for reader, changed in changes.items():
        of_cohort = changed[changed.index.isin(rows["sample_uid"])]
        moved = rows["sample_uid"].map(of_cohort["per_7_5_ml"]).fillna(0.0)
        about = {
            "cells_read": int(of_cohort["read"].sum()),
            "cells_changed": int(of_cohort["changed"].sum()),
            "patients_changed": int((of_cohort["changed"] > 0).sum()),
        }
        sources.append(_source(f"reader {reader}", rows.assign(count=rows["count"] + moved), min_events, **about))
    sources.append(_source("model", rows, min_events))
    return Spread(sources=tuple(sources), draws=_drawn(rows, tubes, min_events, draws, rng))


def reader_changes(cells: pd.DataFrame, opinions: pd.DataFrame, samples: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By reader and sample_uid: cells `read`, cells `changed`, and what they add to the count `per_7_5_ml`.

    `cells` (cell_uid, sample_uid, predicted) are those of the denominator, `opinions` are `tables.OPINIONS`. The last
    word of a reader counts; hidden repeats, cells called unreadable and masked labels of sealed patients do not.
    """
    told = ~opinions["repeat"] & opinions["label"].ne(UNREADABLE) & ~opinions["label"].str.startswith(MASKED)
    said = opinions[told]
    said = said.drop_duplicates(["reader", "cell_uid"], keep="last").merge(
        cells[["cell_uid", "sample_uid", "predicted"]], on="cell_uid"
    )
    volume = samples.set_index("sample_uid")["blood_volume_ml"]
    moved = (said["label"] == CTC).astype(int) - (said["predicted"] == CTC).astype(int)
    said = said.assign(moved=moved, changed=moved != 0, read=1)
    found = {}
    for reader, of_reader in said.groupby("reader", sort=True):
        sums = of_reader.groupby("sample_uid")[["read", "changed", "moved"]].sum()
        found[str(reader)] = sums.assign(per_7_5_ml=sums["moved"] * TUBE_ML / volume.reindex(sums.index))
    return found


def tubes_of(
    cells: pd.DataFrame,
    samples: Sequence[str],
    *,
    classes: Sequence[str],
    denominator: str,
    frequency_events: float,
    calibration: Mapping[str, Any],
) -> dict[str, Floats]:
    """How many CTCs each of the `samples` may hold: the chance of 0, 1, 2, … (see `counts.CellsInTube`).

    `cells` are those of `counts.count_cells`, `calibration` is what `Calibration.to_dict` says.
    """
    usual = np.array([calibration["usual"][name] for name in classes])
    at = list(classes).index(CTC)
    wanted = cells[cells["sample_uid"].isin(samples)]
    found = {}
    for sample_uid, of_sample in wanted.groupby("sample_uid", sort=True):
        if denominator == "proposed":
            if of_sample["proposed"].isna().any():
                continue
            of_sample = of_sample[of_sample["proposed"].to_numpy(dtype=bool)]
        if not len(of_sample):
            found[str(sample_uid)] = np.ones(1)
            continue
        said = tempered(probabilities_of(of_sample, classes), calibration["temperature"])
        chances = at_own_frequencies(said, usual, frequency_events)[:, at]
        tube = cells_in_tube(
            chances[None],
            np.ones((1, len(of_sample)), dtype=bool),
            spread=calibration["spread"][CTC],
            usual=usual[at],
            reading_error=calibration["reading_error"],
        )
        found[str(sample_uid)] = tube.weights[0]
    return found


def _source(name: str, rows: pd.DataFrame, min_events: int, **about: int) -> Source:
    high = (rows["count"] >= rows["cutoff"]).to_numpy()
    durations, events = (rows[column].to_numpy(dtype=np.float64) for column in ("duration", "event"))
    none: dict[str, Any] = dict.fromkeys(("hr", "low", "high", "proportional_p"))
    fewest = int(min(events[high].sum(), events[~high].sum()))
    if fewest < max(min_events, 1):
        refusal = f"an arm has {fewest} events, at least {max(min_events, 1)} are needed"
        return Source(name=name, n=len(rows), **none, refusal=refusal, **about)
    fit = fit_cox(durations, events, pd.DataFrame({"high": high.astype(float)}))
    if isinstance(fit, NoFit):
        return Source(name=name, n=len(rows), **none, refusal=f"the Cox model {fit.why}", **about)
    hazard = fit.hazard("high", name)
    figures = {key: getattr(hazard, key) for key in none}
    return Source(name=name, n=len(rows), **figures, refusal=None, **about)


def _drawn(
    rows: pd.DataFrame, tubes: Mapping[str, Floats], min_events: int, draws: int, rng: np.random.Generator
) -> Drawn | None:
    """None when fewer than two draws gave a ratio."""
    rows = rows[rows["sample_uid"].isin(tubes)].reset_index(drop=True)
    if not len(rows):
        return None
    # Of a drawn number of cells the arms ask only whether it reaches the cut-off.
    needed = np.ceil((rows["cutoff"] * rows["blood_volume_ml"] / TUBE_ML).to_numpy(dtype=np.float64) - 1e-9)
    above = np.array([tubes[uid][int(k) :].sum() for uid, k in zip(rows["sample_uid"], needed, strict=True)])
    high = rng.random((draws, len(rows))) < above
    events = rows["event"].to_numpy(dtype=np.float64)
    fewest = np.minimum((high * events).sum(axis=1), (~high * events).sum(axis=1))
    high = high[fewest >= max(min_events, 1)].astype(np.float64)
    if len(high) < 2:
        return None
    beta, variance = hazards_of_many(rows["duration"].to_numpy(dtype=np.float64), events, high)
    found = np.isfinite(beta)
    beta, variance = beta[found], variance[found]
    if len(beta) < 2:
        return None
    low, median, up = np.exp(np.quantile(beta, (0.025, 0.5, 0.975)))
    pooled = float(beta.mean())
    reach = WALD * float(np.sqrt(variance.mean() + (1 + 1 / len(beta)) * beta.var(ddof=1)))
    return Drawn(
        n=len(beta),
        refused=draws - len(beta),
        low=float(low),
        median=float(median),
        high=float(up),
        pooled=float(np.exp(pooled)),
        pooled_low=float(np.exp(pooled - reach)),
        pooled_high=float(np.exp(pooled + reach)),
    )
