"""Survival of a workspace's patients: by model and by hand, from day 0 and from the landmark, and how far readings move it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from ctcml.clinical import COVARIATE
from ctcml.cohort import Choice, cohort_report, cohort_rows
from ctcml.concordances import compare_concordances
from ctcml.hazard_spread import Spread, reader_changes, spread_of, tubes_of
from ctcml.params import Counts, Survival
from ctcml.records import Duty
from ctcml.tables import CLINICAL, COUNTS, EMBEDDING, MANIFEST, OPINIONS, read_folder, read_table
from ctcml.workspace import Workspace

ALL = "all"
SOURCES: tuple[Literal["model", "manual"], ...] = ("model", "manual")


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the tables say that every analysis starts from."""

    samples: pd.DataFrame
    counts: pd.DataFrame
    groups: tuple[str, ...]  # all patients, then each cancer type that has a cut-off and a sample from before therapy


def tables_of(ws: Workspace, survival: Survival) -> Told:
    """Read the clinical table and the counts."""
    samples = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE)
    patients = samples[samples["sample_kind"] == "patient"]
    types = set(patients["cancer_type"]) & {*survival.cutoffs, *survival.exploratory_cutoffs}
    return Told(samples=samples, counts=read_table(ws.counts, COUNTS), groups=(ALL, *sorted(types)))


def reports(told: Told, *, counts: Counts, survival: Survival, landmark: bool) -> Iterator[dict[str, Any]]:
    """One report a source and group, with both names; from the landmark only where anyone gave blood until then."""
    day, types = told.samples["draw_day"], told.samples["cancer_type"]
    later = types[(told.samples["sample_kind"] == "patient") & (day > 0) & (day <= survival.landmark_days)]
    groups = [one for one in told.groups if (later == one).any() or (one == ALL and len(later))]
    for source in SOURCES:
        for group in groups if landmark else told.groups:
            found = cohort_report(
                told.samples,
                told.counts,
                _choice(counts, survival, source, group, landmark=landmark),
                min_events=survival.min_events,
                cutoffs=survival.cutoffs,
                exploratory_cutoffs=survival.exploratory_cutoffs,
            )
            yield found.to_dict() | {"source": source, "group": group}


def concordances(told: Told, *, counts: Counts, survival: Survival) -> list[dict[str, Any]]:
    """For each group: who puts the patients' deaths in the better order, model or hand, on those whom both counted."""
    found = []
    for group in told.groups:
        by_model, by_hand = (
            cohort_rows(told.samples, told.counts, _choice(counts, survival, source, group)) for source in SOURCES
        )
        both = by_model.assign(manual=by_model["sample_uid"].map(by_hand.set_index("sample_uid")["count"]))
        both = both.dropna(subset=["duration", "event", "count", "manual"])
        if both["event"].sum() >= max(survival.min_events, 1):
            columns = (both[name].to_numpy(dtype=np.float64) for name in ("duration", "event", "count", "manual"))
            found.append({"group": group} | asdict(compare_concordances(*columns)))
    return found


def spreads(ws: Workspace, told: Told, *, counts: Counts, survival: Survival, seed: int) -> dict[str, Spread]:
    """The hazard ratio of each group under every way to count."""
    classes = [str(one) for one in json.loads((ws.champion / "model.json").read_text(encoding="utf-8"))["classes"]]
    cells = read_folder(ws.embeddings, EMBEDDING, columns=["cell_uid", "sample_uid", "predicted", "probabilities"])
    cells = cells.merge(read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "proposed"]), on="cell_uid")
    opinions = read_table(ws.opinions, OPINIONS)
    counted = cells if counts.denominator == ALL else cells[cells["proposed"].eq(True)]
    changes = reader_changes(counted, opinions[opinions["duty"] == Duty.READER.value], told.samples)
    rows = cohort_rows(told.samples, told.counts, _choice(counts, survival, "model", ALL))
    tubes = tubes_of(
        cells,
        list(rows["sample_uid"]),
        classes=classes,
        denominator=counts.denominator,
        frequency_events=counts.frequency_events,
        calibration=_calibration(ws),
    )
    by_hand = told.samples.set_index("sample_uid")["manual_ctc"]
    return {
        group: spread_of(
            rows if group == ALL else rows[rows["cancer_type"] == group],
            by_hand,
            changes,
            tubes,
            min_events=survival.min_events,
            draws=survival.draws,
            rng=np.random.default_rng([seed, at]),
        )
        for at, group in enumerate(told.groups)
    }


def _calibration(ws: Workspace) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(ws.calibration.read_text(encoding="utf-8"))
    return found


def _choice(
    counts: Counts, survival: Survival, source: Literal["model", "manual"], group: str, *, landmark: bool = False
) -> Choice:
    return Choice(
        endpoint=survival.endpoint,
        source=source,
        denominator=counts.denominator,
        cancer_types=() if group == ALL else (group,),
        landmark_days=survival.landmark_days if landmark else None,
        covariates=survival.covariates,
    )
