"""Which patients, which count, which cut-off: from the workspace's tables to one comparison of survival.

The dashboard asks here for every change of a filter, and the stage for what it writes. Whatever departs from the
prespecified question (CTC among the events that CellSearch presents, by arg-max, at the validated cut-off) is stamped
exploratory here, once, for everyone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from ctcml.cutpoint import Search
from ctcml.kaplan_meier import SAME
from ctcml.landmark import DAYS_PER_MONTH, from_landmark, last_samples
from ctcml.survival import SurvivalReport, analyse

CTC = "ctc"
COLUMNS = [
    "patient_uid", "sample_uid", "cancer_type", "blood_volume_ml", "duration", "event", "count", "cutoff", "exploratory",
    "draw_day",
]  # fmt: skip

Limits = Mapping[str, tuple[float, bool]]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to compare; an empty tuple takes all, and without a `cutoff` each patient has that of her cancer type."""

    endpoint: str = "os"
    source: Literal["model", "manual"] = "model"
    class_id: str = CTC
    denominator: str = "proposed"
    threshold: float = 0.0  # arg-max
    cutoff: float | None = None
    cancer_types: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    landmark_days: float | None = None
    covariates: tuple[str, ...] = ()
    searched: bool = False


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    rows: pd.DataFrame
    notes: tuple[str, ...]
    refusals: tuple[str, ...]


def cohort_rows(samples: pd.DataFrame, counts: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    """One row a patient with follow-up (months) and a count (per 7.5 ml), by the cut-offs that `counts` name.

    `samples` are `tables.CLINICAL` with its further columns, `counts` are `tables.COUNTS`. With a landmark, `duration`
    begins there. `exploratory` says of each row whether its cut-off is one that was not validated for this count.
    """
    known = counts[(counts["class_id"] == CTC) & (counts["threshold"] == 0) & counts["cutoff"].notna()]
    # A denominator of all events is exploratory by itself; what the cut-off is worth is told by the other one.
    by_type = known.sort_values("exploratory", kind="stable").drop_duplicates("cancer_type").set_index("cancer_type")
    limits = {str(name): (float(one["cutoff"]), not bool(one["exploratory"])) for name, one in by_type.iterrows()}
    return _choose(samples, counts, choice, limits).rows


def cohort_report(
    samples: pd.DataFrame,
    counts: pd.DataFrame,
    choice: Choice,
    *,
    min_events: int,
    cutoffs: Mapping[str, float],
    exploratory_cutoffs: Mapping[str, float],
    seed: int = 0,
    permutations: int = 0,
    label: str | None = None,
) -> SurvivalReport:
    """Compare survival as chosen; `permutations` correct the p of a searched cut-off, which is refused without them."""
    limits = {name: (float(limit), False) for name, limit in exploratory_cutoffs.items()} | {
        name: (float(limit), True) for name, limit in cutoffs.items()
    }
    chosen = _choose(samples, counts, choice, limits)
    rows = chosen.rows
    return analyse(
        rows,
        cutoff=_common(rows, choice),
        label=label or label_of(choice),
        min_events=min_events,
        exploratory=bool(rows["exploratory"].any()) or not _as_planned(choice),
        endpoint=choice.endpoint,
        denominator="proposed" if choice.source == "manual" else choice.denominator,
        landmark_months=None if choice.landmark_days is None else choice.landmark_days / DAYS_PER_MONTH,
        covariates=choice.covariates,
        search=Search(permutations=permutations, seed=seed) if choice.searched else None,
        notes=chosen.notes,
        refusals=chosen.refusals,
    )


def label_of(choice: Choice) -> str:
    """What is compared, in words.

    >>> label_of(Choice(source="manual", cancer_types=("breast", "lung"), landmark_days=42))
    'manual count, breast and lung patients, from day 42'
    """
    what = "" if choice.class_id == CTC else f" of {choice.class_id}"
    over = " over all events" if choice.denominator == "all" and choice.source == "model" else ""
    surely = f" at p ≥ {choice.threshold:g}" if choice.threshold and choice.source == "model" else ""
    where = [f"site {' or '.join(choice.sites)}"] * bool(choice.sites)
    where += [f"line {' or '.join(choice.lines)}"] * bool(choice.lines)
    where += [f"from day {choice.landmark_days:g}"] if choice.landmark_days is not None else []
    who = " and ".join(choice.cancer_types) or "all"
    return ", ".join([f"{choice.source} count{what}{over}{surely}", f"{who} patients", *where])


def _choose(samples: pd.DataFrame, counts: pd.DataFrame, choice: Choice, limits: Limits) -> _Chosen:
    patients = samples[(samples["sample_kind"] == "patient") & _within(samples, choice)]
    sampled = last_samples(patients, choice.landmark_days)
    notes, refusals = _without_sample(patients, sampled, choice.landmark_days)
    rows = sampled.assign(
        duration=sampled[f"{choice.endpoint}_months"].astype(float),
        event=sampled[f"{choice.endpoint}_event"].astype(float),
        count=_counts_of(sampled, counts, choice),
    )
    own = rows["cancer_type"].map({name: limit for name, (limit, _) in limits.items()}).astype(float)
    cleared = rows["cancer_type"].map({name: validated for name, (_, validated) in limits.items()}).eq(True)
    if choice.class_id != CTC:
        own = own * np.nan  # cut-offs are those of CTC
    same = True if choice.cutoff is None else (own - choice.cutoff).abs() <= SAME
    rows = rows.assign(
        cutoff=own if choice.cutoff is None else choice.cutoff,
        exploratory=~(cleared & _as_planned(choice) & same),
    )
    if choice.cutoff is None and not choice.searched:
        rows, unlimited = rows[rows["cutoff"].notna()], rows[rows["cutoff"].isna()]
        notes += _without_cutoff(unlimited)
        if not len(rows) and len(unlimited):
            what = "class" if choice.class_id != CTC else "cancer type"
            refusals.append(
                f"no cut-off is prespecified for {what} "
                f"{choice.class_id if choice.class_id != CTC else ', '.join(sorted(unlimited['cancer_type'].unique()))}; choose one, and it is exploratory"
            )
    if choice.source == "manual" and choice.class_id != CTC:
        refusals.append(f"nobody counted {choice.class_id} by hand; choose the model's count")
    if choice.landmark_days is not None:
        reached = from_landmark(rows, choice.landmark_days)
        rows, notes = reached.rows, [*notes, *reached.notes]
    columns = [*COLUMNS, *(name for name in choice.covariates if name in rows and name not in COLUMNS)]
    return _Chosen(rows=rows[columns].reset_index(drop=True), notes=tuple(notes), refusals=tuple(refusals))


def _as_planned(choice: Choice) -> bool:
    """Whether the count is the one for which cut-offs were validated, whatever the cut-off."""
    presented = choice.source == "manual" or (choice.denominator == "proposed" and choice.threshold == 0)
    return choice.class_id == CTC and presented and not choice.searched


def _within(samples: pd.DataFrame, choice: Choice) -> pd.Series:
    inside = pd.Series(True, index=samples.index)
    for column, wanted in (
        ("cancer_type", choice.cancer_types), ("site", choice.sites), ("line_of_therapy", choice.lines)
    ):  # fmt: skip
        if wanted:
            inside &= samples[column].isin(wanted)
    return inside


def _counts_of(sampled: pd.DataFrame, counts: pd.DataFrame, choice: Choice) -> pd.Series:
    """The chosen count of each sample; NaN for a sample without any."""
    if choice.source == "manual":
        return sampled["manual_ctc"].astype(float) if choice.class_id == CTC else sampled["manual_ctc"] * np.nan
    chosen = counts[
        (counts["class_id"] == choice.class_id)
        & (counts["denominator"] == choice.denominator)
        & np.isclose(counts["threshold"], choice.threshold)
    ]
    return sampled["sample_uid"].map(chosen.set_index("sample_uid")["per_7_5_ml"]).astype(float)


def _without_sample(
    patients: pd.DataFrame, sampled: pd.DataFrame, landmark_days: float | None
) -> tuple[list[str], list[str]]:
    """A note about patients who gave no blood in time, and a refusal when nobody did before therapy."""
    without = patients["patient_uid"].nunique() - len(sampled)
    if not without:
        return [], []
    if landmark_days is not None:
        return [f"{without} patients gave no blood between day 0 and day {landmark_days:g} and are left out"], []
    if not len(sampled):
        return [], ["all samples were drawn during therapy; no curve from day 0, choose a landmark"]
    return [f"{without} patients whose samples were all drawn during therapy are left out; they need a landmark"], []


def _without_cutoff(unlimited: pd.DataFrame) -> list[str]:
    types: Sequence[str] = sorted(unlimited["cancer_type"].unique())
    return [f"{len(unlimited)} patients have no cut-off ({', '.join(types)}) and are left out"] if types else []


def _common(rows: pd.DataFrame, choice: Choice) -> float | None:
    """The one cut-off of all rows, or None when patients have their own or it has to be searched."""
    if choice.searched:
        return None
    if choice.cutoff is not None:
        return choice.cutoff
    found = rows["cutoff"].unique()
    return float(found[0]) if len(found) == 1 else None
