"""The archive counted again by another model, and what that changes for each patient: what a person signs a promotion by."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctcml.agreement import exact_agreement
from ctcml.calibration import Calibration, calibrate, reading_error
from ctcml.clinical import COVARIATE
from ctcml.counts import ARG_MAX, CTC, count_cells
from ctcml.params import Counts, Survival
from ctcml.records import Purpose, Role
from ctcml.shards import sample_uids
from ctcml.tables import CLINICAL, EMBEDDING, MANIFEST, OPINIONS, TRUTH, read_folder, read_table
from ctcml.truth import evaluation_cells
from ctcml.workspace import Workspace

SAMPLE = ["sample_uid", "patient_uid", "cancer_type", "denominator"]
FIGURES = ["count", "per_7_5_ml", "low", "high", "side"]


def calibrated(ws: Workspace, model: Path, embeddings: Path, *, counts: Counts) -> Calibration:
    """Measure what a model's probabilities are worth, on the settled cells of steering patients."""
    # The evaluation arm is drawn at random, so its readers differ as often as readers do; the queue seeks hard cells.
    same, read_twice = exact_agreement(read_table(ws.opinions, OPINIONS), Purpose.EVALUATION)
    return calibrate(
        read_folder(embeddings, EMBEDDING, columns=["cell_uid", "sample_uid", "probabilities"]),
        evaluation_cells(read_table(ws.truth, TRUTH), Role.STEERING),
        classes=_classes(model),
        temperature_sd=counts.temperature_sd,
        spread=counts.patient_spread,
        spread_sd=counts.patient_spread_sd,
        frequency_events=counts.frequency_events,
        reading_error=reading_error(
            None if same is None else 1 - same,
            read_twice,
            prior=counts.readers_differ,
            prior_cells=counts.readers_differ_cells,
        ),
        read_twice=read_twice,
    )


def counted(
    ws: Workspace,
    model: Path,
    embeddings: Path,
    calibration: Mapping[str, Any],
    *,
    counts: Counts,
    survival: Survival,
) -> pd.DataFrame:
    """Count the cells of every sample as a model names them; `calibration` is what `Calibration.to_dict` says of it."""
    cells = read_folder(embeddings, EMBEDDING, columns=["cell_uid", "sample_uid", "predicted", "probabilities"])
    cells = cells.merge(read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "proposed"]), on="cell_uid")
    samples = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE)
    return count_cells(
        cells,
        samples[samples["sample_uid"].isin(sample_uids(ws.manifest))],
        classes=_classes(model),
        thresholds=counts.thresholds,
        interval=counts.interval,
        cutoffs=survival.cutoffs,
        exploratory_cutoffs=survival.exploratory_cutoffs,
        frequency_events=counts.frequency_events,
        **{name: calibration[name] for name in ("temperature", "usual", "spread", "reading_error")},
    )


def recounted(ws: Workspace, model: Path, embeddings: Path, *, counts: Counts, survival: Survival) -> pd.DataFrame:
    """`tables.COUNTS` as the stages would make them with this model for a champion, from its `embeddings`."""
    found = calibrated(ws, model, embeddings, counts=counts).to_dict()
    return counted(ws, model, embeddings, found, counts=counts, survival=survival)


def changes(before: pd.DataFrame, after: pd.DataFrame, *, denominator: str = "proposed") -> pd.DataFrame:
    """What becomes of the CTC count of every sample between two `tables.COUNTS`, flips first; a row a sample.

    A count *flips* when it crosses the cut-off: that is what a clinician would have read off. `side_changes` also where
    only the interval came to hold the cut-off or let it go. Counts are arg-max, over `denominator`, or over all events
    where a sample has no other. A sample that one of the two does not have is there with nothing in its place.
    """
    both = _ctcs(before, denominator).merge(
        _ctcs(after, denominator), on=SAMPLE, how="outer", suffixes=("_before", "_after")
    )
    cutoff = both["cutoff_after"].fillna(both["cutoff_before"])
    old, new = both["per_7_5_ml_before"], both["per_7_5_ml_after"]
    known = old.notna() & new.notna() & cutoff.notna()
    found = both[SAMPLE].assign(
        cutoff=cutoff,
        exploratory=both["exploratory_after"].fillna(both["exploratory_before"]).astype(bool),
        **{f"{name}_{when}": both[f"{name}_{when}"] for name in FIGURES for when in ("before", "after")},
        flips=known & ((old >= cutoff) != (new >= cutoff)),
        side_changes=both["side_before"].notna()
        & both["side_after"].notna()
        & (both["side_before"] != both["side_after"]),
    )
    found = found.assign(moved=(new - old).abs().fillna(np.inf))
    order = ["flips", "side_changes", "moved", "patient_uid", "sample_uid"]
    return found.sort_values(order, ascending=[False, False, False, True, True], ignore_index=True).drop(
        columns="moved"
    )


def as_csv(table: pd.DataFrame) -> str:
    """The table of changes as text; the same table gives the same bytes."""
    return str(table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))


def flips_in_words(table: pd.DataFrame) -> list[str]:
    """One sentence for each flip of a table of changes, with the samples' names as the workspace has them."""
    return [
        f"patient {one['patient_uid']}, sample {one['sample_uid']} ({one['cancer_type']}): "
        f"{_plainly(one['per_7_5_ml_before'])} -> {_plainly(one['per_7_5_ml_after'])} CTC per 7.5 ml, now "
        f"{'at or over' if one['per_7_5_ml_after'] >= one['cutoff'] else 'under'} the cut-off of {one['cutoff']:g}"
        f"{' (exploratory)' if one['exploratory'] else ''}"
        for one in table[table["flips"]].to_dict("records")
    ]


def _plainly(number: float) -> str:
    """
    >>> _plainly(4.0), _plainly(4.96)
    ('4', '4.96')
    """
    return f"{number:.2f}".rstrip("0").rstrip(".")


def _ctcs(table: pd.DataFrame, denominator: str) -> pd.DataFrame:
    """The one count of CTCs of each sample."""
    chosen = table[(table["class_id"] == CTC) & (table["threshold"] == ARG_MAX)]
    wanted = chosen[chosen["denominator"] == denominator]
    others = chosen[(chosen["denominator"] == "all") & ~chosen["sample_uid"].isin(wanted["sample_uid"])]
    return pd.concat([wanted, others])[[*SAMPLE, "cutoff", "exploratory", *FIGURES]].astype(
        {"count": "Int32", "exploratory": "boolean"}
    )


def _classes(model: Path) -> list[str]:
    return [str(one) for one in json.loads((model / "model.json").read_text(encoding="utf-8"))["classes"]]
