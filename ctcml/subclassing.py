"""Subclasses in a workspace: found among the champion's cells, counted in every tube, drawn, and set beside survival."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctcml.clinical import COVARIATE
from ctcml.subclass_pictures import draw_map, draw_sheets, hazards_plot
from ctcml.subclasses import Found, count_subclasses, find_subclasses, subclass_survival
from ctcml.tables import (
    CLINICAL,
    EMBEDDING,
    MANIFEST,
    MAP,
    SUBCLASS_CELLS,
    SUBCLASS_COUNTS,
    read_folder,
    read_table,
    write_table,
)
from ctcml.workspace import Workspace

MAP_KIND = "tsne"  # as the paper's Fig. 2d

Say = Callable[[str], None]


def subclass_workspace(
    ws: Workspace,
    pictures: Path,
    *,
    classes: Mapping[str, int],
    min_cells: int,
    draws: int,
    exemplars: int,
    interval: float,
    endpoint: str,
    min_events: int,
    seed: int,
    simulated: bool,
    say: Say,
) -> dict[str, Any]:
    """Find, count and draw the subclasses of each class named in `classes`; writes `tables.SUBCLASS_COUNTS` and `SUBCLASS_CELLS`.

    A class that the champion does not know, or of which there are too few cells, is refused with a sentence. Returns the
    report, fit for JSON.
    """
    cells, known = _cells(ws)
    samples = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE)
    every, counts, told = [], [], []
    for class_id, number in classes.items():
        chances = [float(one[known.index(class_id)]) if class_id in known else np.nan for one in cells["probabilities"]]
        found = find_subclasses(
            cells.assign(p_class=chances), class_id, number, min_cells=min_cells, draws=draws, seed=seed
        )
        every.append(found.cells)
        counted = count_subclasses(found, cells, samples, interval=interval)
        counts.append(counted)
        reports = subclass_survival(counted, samples, endpoint=endpoint, min_events=min_events)
        told.append(_of_class(found, reports) | _draw(ws, found, reports, pictures, most=exemplars, endpoint=endpoint, seed=seed, simulated=simulated))  # fmt: skip
        say(found.refusal or _in_words(found))
    write_table(_joined(every, SUBCLASS_CELLS), SUBCLASS_CELLS, ws.subclass_cells)
    write_table(_joined(counts, SUBCLASS_COUNTS), SUBCLASS_COUNTS, ws.subclasses)
    return {"simulated": simulated, "endpoint": endpoint, "denominator": "all", "classes": told}


def _cells(ws: Workspace) -> tuple[pd.DataFrame, list[str]]:
    """Every cell with what the champion says and the set of its patient, and the champion's classes."""
    columns = ["cell_uid", "sample_uid", "predicted", "probabilities", "latent", "appearance"]
    roles = json.loads(ws.roles.read_text())
    manifest = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "patient_uid", "proposed"])
    cells = read_folder(ws.embeddings, EMBEDDING, columns=columns).merge(manifest, on="cell_uid")
    known = json.loads((ws.champion / "model.json").read_text())["classes"]
    return cells.assign(role=cells["patient_uid"].map(roles)), [str(one) for one in known]


def _of_class(found: Found, reports: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "class_id": found.class_id,
        "wanted": found.wanted,
        "refusal": found.refusal,
        "cells": len(found.cells),
        "subclasses": list(found.subclasses),
        "survival": reports,
    }


def _draw(
    ws: Workspace,
    found: Found,
    reports: list[dict[str, Any]],
    pictures: Path,
    *,
    most: int,
    endpoint: str,
    seed: int,
    simulated: bool,
) -> dict[str, Any]:
    """Draw sheets, map and hazard ratios of one class; returns the names of the pictures."""
    if found.refusal:
        return {"sheets": {}, "map": None, "hazards": None}
    rng = np.random.default_rng([seed, 33])
    sheets = draw_sheets(found, ws.shards, pictures, most=most, simulated=simulated, rng=rng)
    for ending in ("svg", "png"):
        draw_map(
            found, read_table(ws.map, MAP), pictures / f"{found.class_id}-map.{ending}", kind=MAP_KIND, simulated=simulated
        )  # fmt: skip
        if reports:
            hazards_plot(
                reports, pictures / f"{found.class_id}-hazards.{ending}", endpoint=endpoint, simulated=simulated
            )
    return {
        "sheets": {str(number): name for number, name in sheets.items()},
        "map": f"{found.class_id}-map.png",
        "hazards": f"{found.class_id}-hazards.png" if reports else None,
    }


def _joined(parts: list[pd.DataFrame], schema: Mapping[str, Any]) -> pd.DataFrame:
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=list(schema))


def _in_words(found: Found) -> str:
    steady = sum((one["stability"] or 0) >= 0.75 for one in found.subclasses)
    return (
        f"{found.class_id}: {len(found.subclasses)} subclasses of {len(found.cells):,} cells, {steady} of them stable "
        f"(Jaccard 0.75 or more); exploratory"
    )
