"""Discovery in a workspace: the archive beside the labelled cells, shifted batches named first, then clusters and portraits."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.appearance import NAMES
from ctcml.calibration import tempered
from ctcml.clinical import COVARIATE
from ctcml.clusters import ARTEFACT, SHIFTED, Cluster, Rule, clusters_table, find_clusters, place
from ctcml.errors import BrokenRecord
from ctcml.novelty import Seen, density_ratio, novelty_scores, uncertainty
from ctcml.pictures import gallery
from ctcml.shards import read_overlays
from ctcml.shift import Shift, batch_shift
from ctcml.tables import (
    CLINICAL,
    CLUSTERS,
    DISCOVERY,
    EMBEDDING,
    MANIFEST,
    TRUTH,
    read_folder,
    read_table,
    write_table,
)
from ctcml.truth import training_cells
from ctcml.workspace import Workspace

OWN_REFERENCE = 200  # labelled cells of an instrument from which on they are its reference; below, those of all are
LONELY = 0.8  # density ratio above which a cell has next to no labelled neighbours: new or not, it tells of no shift
FEWEST_NEAR = 1 / 3  # of a batch; where fewer have labelled neighbours, all of it is looked at: no class is so frequent
BLIND = 0.7  # deviations: a test that cannot see so large a move clears no instrument without a reference
RUN_DATE = f"{COVARIATE}run_date"  # a column of the clinical table that a laboratory may fill
COLUMNS = 8

Say = Callable[[str], None]


def discover(
    ws: Workspace,
    pictures: Path,
    *,
    clusters: int,
    min_cells: int,
    method: Literal["kmeans", "hdbscan"],
    exemplars: int,
    draws: int,
    seed: int,
    simulated: bool,
    say: Say,
) -> dict[str, Any]:
    """Find what no label explains among cells of training patients; writes `tables.DISCOVERY`, `tables.CLUSTERS` and galleries.

    Score, representation and ratio are those that the replay chose for the champion; uncertainty is the margin of calibrated
    probabilities. Returns what was used and each instrument's shift, fit for JSON.
    """
    cells, seen = _cells_of_training_patients(ws)
    choice = read_choice(ws.champion)
    rule = Rule(
        representation="appearance" if choice["representation"] == "appearance" else "latents",
        ratio=float(choice["ratio"]), clusters=clusters, min_cells=min_cells, method=method,
    )  # fmt: skip
    shifts = shifts_of(cells, seen, np.random.default_rng([seed, 8]))
    aside = {name for name, (shift, own) in shifts.items() if not cleared(shift, own_reference=own)}
    for name in sorted(aside):
        say(f"{name}: {in_words(*shifts[name])}")
    known = cells["in_reference"].to_numpy(dtype=bool)
    novelty = np.full(len(cells), np.nan)
    score = str(choice["score"]).split(".")[-1]
    if not known.all():
        labels = cells.loc[known, "class_id"].tolist()
        novelty[~known] = novelty_scores(seen.take(known), labels, seen.take(~known), names=[score])[score]
    temperature = float(json.loads(ws.calibration.read_text())["temperature"])
    of_cell, found = find_clusters(
        cells, seen, novelty, uncertainty(tempered(seen.probabilities, temperature)), rule, shifted=aside, former=_former_names(ws),
        exemplars_shown=exemplars, draws=draws, seed=seed,
    )  # fmt: skip
    write_table(of_cell, DISCOVERY, ws.cell_discovery)
    table = clusters_table(found, cells["cell_uid"].tolist())
    write_table(table, CLUSTERS, ws.clusters)
    _draw(ws, cells, found, pictures, simulated=simulated)
    artefacts = sum(one.verdict.startswith(ARTEFACT) for one in found)
    say(
        f"{len(found)} clusters: {int(table['flagged'].sum())} unlike anything labelled with {int(of_cell['flagged'].sum())} cells, "
        f"{artefacts} put down to artefacts, {sum(one.verdict == SHIFTED for one in found)} of shifted batches"
    )
    return {
        "simulated": simulated,
        "choice": choice,
        "method": method,
        "cells_above_threshold": None if choice["threshold"] is None else int((novelty >= choice["threshold"]).sum()),
        "instruments": {
            name: asdict(shift) | {"own_reference": own, "verdict": in_words(shift, own)}
            for name, (shift, own) in shifts.items()
        },
    }


def read_choice(model: Path) -> dict[str, Any]:
    """The score and rule that the replay chose for a model, from the report that was registered with it."""
    file = model / "replay.json"
    if not file.exists():
        raise BrokenRecord(
            f"{file}: not there, so nothing says which novelty score to use; run `ctcml loop` to register a model with its replay"
        )
    choice: dict[str, Any] = json.loads(file.read_text())["choice"]
    return choice


def cleared(shift: Shift, *, own_reference: bool) -> bool:
    """Whether a batch may be asked for new classes: not shifted, and a test that would have seen a shift where it matters."""
    if not shift.judged:
        return own_reference
    return not shift.shifted and (own_reference or shift.expected <= BLIND)


def in_words(shift: Shift, own_reference: bool) -> str:
    """One sentence for people."""
    moved = f"most classes moved by {shift.effect:.2f} standard deviations, {shift.strongest} most; {shift.expected:.2f} is usual"
    beside = "its own labelled cells" if own_reference else "the labelled cells of other instruments"
    if not shift.judged:
        return f"too few cells of any class to compare with {beside}"
    if shift.shifted:
        return f"shifted against {beside} ({moved}): nothing of it is called new; have cells of it read"
    if not cleared(shift, own_reference=own_reference):
        return f"no labels of its own, and too few samples to rule out a shift ({moved}): nothing of it is called new; have cells of it read"
    return f"comparable with {beside} ({moved})"


def _cells_of_training_patients(ws: Workspace) -> tuple[pd.DataFrame, Seen]:
    """Nobody looks for classes among the cells of held-out patients."""
    roles = json.loads(ws.roles.read_text())
    manifest = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "patient_uid", "frame", "x_px", "y_px"])
    samples = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE)
    dates = {RUN_DATE: "date"} if RUN_DATE in samples else {}
    cells = read_folder(ws.embeddings, EMBEDDING).merge(manifest, on="cell_uid")
    cells = cells[cells["patient_uid"].map(roles) == "train"]
    cells = cells.merge(
        samples[["sample_uid", "instrument", *dates]].rename(columns=dates), on="sample_uid", how="left"
    )
    cells["instrument"] = cells["instrument"].fillna("unknown instrument").replace("", "unknown instrument")
    truth = training_cells(read_table(ws.truth, TRUTH))[["cell_uid", "class_id"]]
    cells = cells.merge(truth, on="cell_uid", how="left").reset_index(drop=True)
    cells["in_reference"] = cells["class_id"].notna()
    return cells, seen_of(cells)


def seen_of(embeddings: pd.DataFrame) -> Seen:
    """The rows of `tables.EMBEDDING` as arrays."""
    return Seen(
        latents=np.stack(embeddings["latent"].to_list()),
        probabilities=np.stack(embeddings["probabilities"].to_list()),
        energy=embeddings["energy"].to_numpy(dtype=np.float32),
        reconstruction_error=np.stack(embeddings["reconstruction_error"].to_list()),
        appearance=np.stack(embeddings["appearance"].to_list()),
    )


def shifts_of(cells: pd.DataFrame, seen: Seen, rng: np.random.Generator) -> dict[str, tuple[Shift, bool]]:
    """The shift of each instrument's unlabelled cells, and whether they were set beside labelled cells of its own."""
    known = cells["in_reference"].to_numpy(dtype=bool)
    instruments = cells["instrument"].to_numpy(dtype=object)
    shifts = {}
    for name in sorted(set(instruments[~known])):
        own = bool((known & (instruments == name)).sum() >= OWN_REFERENCE)
        reference = known & (instruments == name) if own else known
        rows = np.flatnonzero(reference | (~known & (instruments == name)))
        rows = rows[_comparable(seen.take(rows), known[rows])]
        shift = batch_shift(
            seen.appearance[rows],
            NAMES,
            predicted=cells["predicted"].to_numpy()[rows],
            samples=cells["sample_uid"].to_numpy()[rows],
            in_reference=known[rows],
            rng=rng,
        )
        shifts[str(name)] = shift, own
    return shifts


def _comparable(seen: Seen, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Leave out what may be new, which would be held against the classes that it is taken for.

    Measured on simulated cells with 15 to 45 % of a class that had no label: without this the classes that they were taken
    for had moved, and three of nine batches were called shifted; with it none was, and every shifted batch still was.
    """
    near = known | (density_ratio(place(seen, known, "appearance"), known) <= LONELY)
    return near if near[~known].mean() >= FEWEST_NEAR else np.ones_like(known)


def _former_names(ws: Workspace) -> dict[str, str]:
    """What each cell's cluster was called when the round began."""
    if not ws.start_clusters.exists():
        return {}
    before = read_table(ws.start_clusters, DISCOVERY)
    return dict(zip(before["cell_uid"], before["cluster_name"], strict=True))


def _draw(ws: Workspace, cells: pd.DataFrame, found: list[Cluster], pictures: Path, *, simulated: bool) -> None:
    """A contact sheet of each cluster that is flagged or put down to an artefact: typical, border and random cells."""
    for one in found:
        if not (one.flagged or one.verdict.startswith(ARTEFACT)):
            continue
        shown = {"typical": one.exemplars, "border": one.border_exemplars, "random": one.random_exemplars}
        chosen = cells.iloc[[row for rows in shown.values() for row in rows]]
        pictured = read_overlays(ws.shards, chosen)
        tiles = [pictured[uid] for uid in chosen["cell_uid"]]
        captions = [kind for kind, rows in shown.items() for _ in rows]
        gallery(
            tiles,
            captions,
            pictures / f"cluster-{one.cluster}.png",
            columns=COLUMNS,
            title=f"{one.name}: {one.verdict} · {one.archive} unlabelled cells of {one.samples} samples · {one.profile}",
            simulated=simulated,
        )
