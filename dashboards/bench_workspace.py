"""A SIMULATED laboratory of many patients for `ctcml bench pages`: its tables and thumbnails are written as stages would, at once.

No network has seen these cells, so nothing on the pages means anything; the amount of it is what a real archive brings.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml import tables
from ctcml.appearance import NAMES
from ctcml.counts import count_cells
from ctcml.measuring import run_measured
from ctcml.params import load_params
from ctcml.records import PLANES
from ctcml.shards import Packed, pack_shard
from ctcml.workspace import Workspace

KINDS = ("ctc", "tdev", "wbc", "bare_nucleus", "other")
SHARES = (0.06, 0.14, 0.42, 0.12, 0.26)
NAMES_OF = {"ctc": "CTC", "tdev": "tdEV", "wbc": "WBC", "bare_nucleus": "Bare nucleus", "other": "Other object"}
STAINS = {"ctc": (20, 700, 900), "tdev": (10, 30, 600), "wbc": (500, 700, 20), "bare_nucleus": (20, 800, 15), "other": (150, 60, 150)}  # fmt: skip
TYPES, CUTOFFS, EXPLORATORY = ("breast", "prostate", "colorectal", "lung"), {"breast": 5, "prostate": 5, "colorectal": 3}, {"lung": 5}  # fmt: skip
CLUSTERS, LATENT, SIDE = 24, 50, 36  # SIDE: pixels, the median of CellSearch events
CALIBRATION: dict[str, Any] = {
    "temperature": 1.1,
    "usual": dict.fromkeys(KINDS, 1 / len(KINDS)),
    "spread": dict.fromkeys(KINDS, 0.7),
    "reading_error": 0.005,
}
LABELLED = 0.05  # share of the cells of training patients


def write_laboratory(ws: Workspace, *, patients: int, cells: int, seed: int, analysed: bool = True) -> None:
    """Fill an empty workspace with that many patients, one sample each, and cells.

    Survival and the comparison with counts by hand are left to their own stages, which run unless `analysed` is False.
    """
    rng = np.random.default_rng(seed)
    source = Path(__file__).parents[1] / "params.yaml"
    ws.root.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, ws.params)
    samples = _clinical(patients, rng)
    tables.write_table(samples, tables.CLINICAL, ws.clinical, extra_prefix="covariate_")
    found = _cells(samples, cells, rng)
    _write_samples(ws, found, rng)
    _write_map_and_discovery(ws, found, rng)
    _write_labels(ws, found, samples, rng)
    params = load_params(source)
    counts = count_cells(
        found[["cell_uid", "sample_uid", "proposed", "predicted", "probabilities"]],
        samples,
        classes=KINDS,
        thresholds=tuple(params.counts.thresholds),
        interval=0.95,
        cutoffs=CUTOFFS,
        exploratory_cutoffs=EXPLORATORY,
        frequency_events=10,
        **CALIBRATION,
    )
    tables.write_table(counts, tables.COUNTS, ws.counts)
    tables.write_json(ws.calibration, CALIBRATION | {"cells": 900, "patients": 60, "read_twice": 1000})
    for stage in ("survive", "compare") if analysed else ():
        run_measured([sys.executable, "-m", "ctcml", stage, "--workspace", str(ws.root)])


def _clinical(patients: int, rng: np.random.Generator) -> pd.DataFrame:
    months, seen = rng.weibull(1.2, patients) * 24, rng.uniform(12, 60, patients)
    return pd.DataFrame(
        {
            "sample_uid": _uids(patients, rng),
            "patient_uid": _uids(patients, rng),
            "sample_kind": "patient",
            "cancer_type": [TYPES[at % 4] for at in range(patients)],
            "blood_volume_ml": 7.5,
            "manual_ctc": rng.negative_binomial(0.55, 0.055, patients).astype(float),
            "os_months": np.minimum(months, seen),
            "os_event": (months <= seen).astype(float),
            "pfs_months": np.minimum(months, seen) * 0.6,
            "pfs_event": (months <= seen).astype(float),
            "draw_day": 0.0,
            "line_of_therapy": rng.choice(["1", "2"], patients),
            "site": rng.choice(["A", "B", "C"], patients),
            "instrument": rng.choice(["CellTracks 1", "CellTracks 2"], patients),
            "age": rng.normal(63, 9, patients).round(),
            "ecog": rng.integers(0, 3, patients).astype(float),
            "covariate_simulated": "yes",
        }
    )


def _uids(number: int, rng: np.random.Generator) -> list[str]:
    return [f"{one:024x}" for one in rng.integers(1, 2**62, number)]


def _cells(samples: pd.DataFrame, number: int, rng: np.random.Generator) -> pd.DataFrame:
    """Cells of all samples in order of sample, with class, probabilities and cluster."""
    of_sample = np.sort(rng.integers(0, len(samples), number))
    kinds = rng.choice(len(KINDS), number, p=SHARES)
    chances = rng.dirichlet(np.full(len(KINDS), 0.15), number) * 0.45
    chances[np.arange(number), kinds] += 0.55
    return pd.DataFrame(
        {
            "cell_uid": _uids(number, rng),
            "sample_uid": samples["sample_uid"].to_numpy()[of_sample],
            "patient_uid": samples["patient_uid"].to_numpy()[of_sample],
            "object_index": np.arange(number) + 1,
            "proposed": rng.random(number) < np.where(kinds == 0, 0.97, 0.25),
            "assigned": (kinds == 0) & (rng.random(number) < 0.85),
            "predicted": np.array(KINDS)[chances.argmax(axis=1)],
            "probabilities": list(chances.astype(np.float32)),
            "kind": np.array(KINDS)[kinds],
            "cluster": kinds * 5 + rng.integers(0, 5, number) - 1,
        }
    )


def _write_samples(ws: Workspace, cells: pd.DataFrame, rng: np.random.Generator) -> None:
    """Shard, manifest and embeddings of each sample."""
    blob = np.exp(-((np.mgrid[:SIDE, :SIDE] - SIDE / 2) ** 2).sum(axis=0) / 60)
    for sample_uid, rows in cells.groupby("sample_uid", sort=False):
        packed = [_thumbnail(one, blob, rng) for one in rows.itertuples()]
        shard = pack_shard(packed, ws.shards / f"{sample_uid}.parquet")
        listed = rows[["cell_uid", "sample_uid", "patient_uid", "object_index", "proposed", "assigned"]].assign(
            height=SIDE, width=SIDE, has_mask=False, oversize=False, frame=None, x_px=None, y_px=None,
            content_sha256=[one.content_sha256 for one in packed], shard_sha256=shard,
        )  # fmt: skip
        tables.write_table(listed, tables.MANIFEST, ws.manifest / f"{sample_uid}.parquet")
        scored = rows[["cell_uid", "sample_uid", "predicted", "probabilities"]].assign(
            latent=list(rng.normal(size=(len(rows), LATENT)).astype(np.float32)),
            reconstruction_error=[[0.1, 0.2, 0.1]] * len(rows),
            energy=-1.0,
            appearance=[[0.0] * len(NAMES)] * len(rows),
        )
        tables.write_table(scored, tables.EMBEDDING, ws.embeddings / f"{sample_uid}.parquet")


def _thumbnail(cell: Any, blob: NDArray[np.float64], rng: np.random.Generator) -> Packed:
    stain = np.array(STAINS[cell.kind])[:, None, None] * rng.uniform(0.5, 1.5)
    noise = np.frombuffer(rng.bytes(3 * SIDE * SIDE), np.uint8).reshape(3, SIDE, SIDE) % 24
    return Packed(
        cell_uid=cell.cell_uid,
        sample_uid=cell.sample_uid,
        object_index=int(cell.object_index),
        planes=PLANES,
        pixels=(stain * blob + 120 + noise).astype(np.uint16),
        mask=None,
        source_bit_depth=12,
        source_order=",".join(PLANES),
    )


def _write_map_and_discovery(ws: Workspace, cells: pd.DataFrame, rng: np.random.Generator) -> None:
    number, cluster = len(cells), cells["cluster"].clip(lower=-1)
    angle = 2 * np.pi * cells["cluster"].to_numpy() / CLUSTERS
    x, y = (40 * turn(angle) + rng.normal(0, 7, number) for turn in (np.cos, np.sin))
    maps = {"tsne_x": x, "tsne_y": y, "umap_x": x / 4 + y / 9, "umap_y": y / 4}
    tables.write_table(pd.DataFrame({"cell_uid": cells["cell_uid"], **maps}), tables.MAP, ws.map)
    known = rng.random(number) < LABELLED
    found = pd.DataFrame(
        {
            "cell_uid": cells["cell_uid"],
            "cluster": cluster,
            "cluster_name": [f"k-{one:012d}" for one in cluster],
            "novelty": np.where(known, np.nan, rng.random(number)),
            "uncertainty": rng.random(number),
            "in_reference": known,
            "shifted": False,
            "flagged": cluster == CLUSTERS - 1,
        }
    )
    tables.write_table(found, tables.DISCOVERY, ws.cell_discovery)
    rows = [_cluster(int(one), members) for one, members in cells.groupby(cluster) if one >= 0]
    tables.write_table(pd.DataFrame(rows), tables.CLUSTERS, ws.clusters)


def _cluster(number: int, members: pd.DataFrame) -> dict[str, Any]:
    flagged, some = number == CLUSTERS - 1, members["cell_uid"].head(24).tolist()
    return dict.fromkeys(tables.CLUSTERS, np.nan) | {
        "cluster": number, "name": f"k-{number:012d}", "came_from": "", "size": len(members), "archive": len(members),
        "reference": 0, "noise": 0, "ratio": 9.0 if flagged else 1.0, "label_entropy": 0.2, "novelty": 0.5,
        "uncertainty": 0.3, "stability": 0.8, "nearest_class": members["predicted"].mode()[0],
        "profile": "CD45 -, DAPI +, CK +", "samples": members["sample_uid"].nunique(),
        "patients": members["patient_uid"].nunique(), "flagged": flagged,
        "verdict": "new kind of object" if flagged else "known",
        "exemplars": some, "border_exemplars": some, "random_exemplars": some,
    }  # fmt: skip


def _write_labels(ws: Workspace, cells: pd.DataFrame, samples: pd.DataFrame, rng: np.random.Generator) -> None:
    """Sets, class registry, settled labels of training patients, and what the champion says of itself."""
    sets = dict(
        zip(
            samples["patient_uid"],
            rng.choice(["train", "steering", "sealed"], len(samples), p=(0.6, 0.2, 0.2)),
            strict=True,
        )
    )
    ws.roles.write_text(json.dumps(sets))
    labelled = cells[(cells["patient_uid"].map(sets) == "train") & (rng.random(len(cells)) < LABELLED)]
    truth = labelled[["cell_uid", "sample_uid", "patient_uid"]].assign(
        class_id=labelled["kind"], role="train", purpose="training", how="both readers"
    )
    tables.write_table(truth, tables.TRUTH, ws.truth)
    tables.write_table(pd.DataFrame(columns=list(tables.OPINIONS)), tables.OPINIONS, ws.opinions)
    tables.write_json(
        ws.classes, {"classes": [{"class_id": one, "name": NAMES_OF[one], "retired": False} for one in KINDS]}
    )
    model = {"classes": list(KINDS), "recipe": "asinh", "seed": 0, "weights_sha256": "0" * 64, "image": {}}
    tables.write_json(ws.champion / "model.json", model)
    tables.write_json(ws.champion / "version.json", {"version": "1"})
    (ws.derived / "discovery.json").write_text('{"instruments": {}}')
