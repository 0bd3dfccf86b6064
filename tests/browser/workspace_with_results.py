"""A small workspace after one round, seeded, made by the functions that make a real one where they are quick.

Run as a script to look at it: `python tests/browser/workspace_with_results.py DIR`.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

if __name__ == "__main__":  # as a script: the folder of tests is not on the path
    sys.path.insert(0, str(Path(__file__).parents[1]))

from browser.pixels import draw_models, thumbnail
from ctcml import stages, tables
from ctcml.agreement import agreement_report
from ctcml.appearance import NAMES
from ctcml.cohort import Choice, cohort_report, cohort_rows
from ctcml.concordances import compare_concordances
from ctcml.counts import count_cells
from ctcml.hazard_spread import reader_changes, spread_of, tubes_of
from ctcml.identity import create_key
from ctcml.images import contact_sheet, encode_png
from ctcml.ledger import Draft, Ledger
from ctcml.novelty import density_ratio, uncertainty
from ctcml.params import load_params
from ctcml.promotion import judge
from ctcml.readings import ADJUDICATED, BOTH_AGREE
from ctcml.records import PAPER_CLASSES, Role
from ctcml.recounting import as_csv, changes
from ctcml.requests import append_request
from ctcml.requirements import Predictions
from ctcml.scorecard import full_scorecard, score_card
from ctcml.shards import pack_shard
from ctcml.truth import without_sealed_labels
from ctcml.workspace import Workspace

KINDS = ("ctc", "tdev", "wbc", "bare_nucleus", "other", "cd45ev")  # what the objects really are
KNOWN = KINDS[:5]
TYPES = ("breast", "prostate", "colorectal", "lung")
CUTOFFS, EXPLORATORY = {"breast": 5, "prostate": 5, "colorectal": 3}, {"lung": 5}
PER_PATIENT = 30
FOLLOWED_UP = 2  # each second patient gives blood again
LANDMARK_DAYS = 42
CALIBRATION: dict[str, Any] = {
    "temperature": 1.1,
    "usual": dict.fromkeys(KNOWN, 1 / len(KNOWN)),
    "spread": dict.fromkeys(KNOWN, 0.7),
    "reading_error": 0.005,
}
FREQUENCY_EVENTS = 10
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def build(root: Path, *, patients: int = 48, per_sample: int = PER_PATIENT, seed: int = 5) -> Workspace:
    """Fill `root` with every file that the dashboard reads; `per_sample` objects a sample besides its tumour cells."""
    rng = np.random.default_rng(seed)
    ws = Workspace(root)
    root.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(__file__).parents[2] / "params.yaml", ws.params)
    create_key(ws.key)
    samples = _clinical(patients, rng)
    cells = _cells(samples, per_sample, rng)
    samples["manual_ctc"] = samples["sample_uid"].map(cells.groupby("sample_uid")["assigned"].sum()).astype(float)
    tables.write_table(samples.drop(columns="burden"), tables.CLINICAL, ws.clinical, extra_prefix="covariate_")
    _write_manifest_and_embeddings(ws, cells)
    _write_discovery(ws, cells)
    counts = count_cells(
        cells[["cell_uid", "sample_uid", "proposed", "predicted", "probabilities"]],
        samples,
        classes=KNOWN,
        thresholds=(0.5, 0.75, 0.9),
        interval=0.95,
        cutoffs=CUTOFFS,
        exploratory_cutoffs=EXPLORATORY,
        frequency_events=FREQUENCY_EVENTS,
        **CALIBRATION,
    )
    tables.write_table(counts, tables.COUNTS, ws.counts)
    opinions = _write_review(ws, cells)
    _write_survival(ws, samples, counts, cells)
    _write_changes(ws, counts)
    _write_gate(ws, cells.merge(samples[["sample_uid", "cancer_type", "instrument"]], on="sample_uid"), opinions, rng)
    _write_drift(ws)
    _write_data_room(ws, samples)
    _write_champion(ws, cells)
    _write_by_hand(ws)
    _write_subclasses(ws)
    return ws


def _clinical(patients: int, rng: np.random.Generator) -> pd.DataFrame:
    burden = np.minimum(rng.negative_binomial(0.55, 0.055, patients), 900)
    months = rng.weibull(1.2, patients) * 34 * np.exp(-0.28 * np.log1p(burden))
    seen = rng.uniform(12, 60, patients)
    told = np.random.default_rng(patients)
    first = pd.DataFrame(
        {
            "sample_uid": [_uid(number) for number in rng.integers(1, 2**62, patients)],
            "patient_uid": [_uid(number) for number in rng.integers(2**60, 2**62, patients)],
            "sample_kind": "patient",
            "cancer_type": [TYPES[at % 4] for at in range(patients)],
            "blood_volume_ml": 7.5,
            "manual_ctc": np.nan,  # filled in from the events that the operator called
            "os_months": np.minimum(months, seen),
            "os_event": (months <= seen).astype(float),
            "pfs_months": np.minimum(months, seen) * 0.6,
            "pfs_event": (months <= seen).astype(float),
            "draw_day": 0.0,
            "line_of_therapy": told.choice(["1", "2", "3"], patients, p=(0.55, 0.3, 0.15)),
            "site": told.choice(["A", "B", "C"], patients, p=(0.5, 0.3, 0.2)),
            "instrument": told.choice(["CTA-1", "CTA-2"], patients),
            "age": rng.normal(63, 9, patients).round(),
            "ecog": rng.integers(0, 3, patients).astype(float),
            "covariate_simulated": "yes",
            "burden": burden,
        }
    )
    again = first.iloc[::FOLLOWED_UP].copy()  # durations stay those since the first draw
    again["sample_uid"] = [_uid(number) for number in told.integers(1, 2**62, len(again))]
    again["draw_day"] = told.integers(25, 40, len(again)).astype(float)
    again["burden"] = (again["burden"] * told.choice([0.2, 0.5, 1.3], len(again))).astype(int)
    return pd.concat([first, again], ignore_index=True)


def _uid(number: int) -> str:
    """24 hexadecimal digits, as `ctcml.identity.pseudonym` makes them; in the order of the numbers."""
    return (f"{number:016x}" * 2)[:24]


def _cells(samples: pd.DataFrame, per_sample: int, rng: np.random.Generator) -> pd.DataFrame:
    centres = rng.normal(0, 2.4, (len(KINDS), 50)) * (rng.random((len(KINDS), 50)) < 0.5)
    rows: list[dict[str, Any]] = []
    for sample in samples.itertuples():
        few = rng.choice(range(1, 6), size=per_sample, p=(0.27, 0.35, 0.1, 0.1, 0.18))
        for kind in [0] * int(sample.burden) + few.tolist():
            latent = centres[kind] + rng.normal(0, 0.9, 50)
            logits = -0.5 * ((latent - centres[: len(KNOWN)]) ** 2).sum(axis=1) / 45
            odds = np.exp(logits - logits.max())
            rows.append(
                {
                    "cell_uid": _uid(rng.integers(1, 2**62)),
                    "sample_uid": sample.sample_uid,
                    "patient_uid": sample.patient_uid,
                    "true": KINDS[kind],
                    "proposed": bool(rng.random() < (0.97 if kind == 0 else 0.25)),
                    "latent": latent.astype(np.float32),
                    "probabilities": (odds / odds.sum()).astype(np.float32),
                    "predicted": KNOWN[int(odds.argmax())],
                }
            )
    cells = pd.DataFrame(rows)
    cells["known"] = (cells["true"] != "cd45ev") & (rng.random(len(cells)) < 0.6)
    called = rng.random(len(cells)) < cells["true"].map({"ctc": 0.9, "tdev": 0.06, "other": 0.03}).fillna(0.005)
    cells["assigned"] = cells["proposed"] & called  # by the operator, who is strict and now and then wrong
    return cells.sort_values(["sample_uid", "cell_uid"], ignore_index=True)


def _write_manifest_and_embeddings(ws: Workspace, cells: pd.DataFrame) -> None:
    rng = np.random.default_rng(77)
    models = draw_models(KINDS, rng)
    for sample_uid, rows in cells.groupby("sample_uid"):
        named = zip(rows["cell_uid"], rows["true"], strict=True)
        packed = [
            thumbnail(uid, str(sample_uid), at, models[kind], rng) for at, (uid, kind) in enumerate(named, start=1)
        ]
        listed = rows[["cell_uid", "sample_uid", "patient_uid", "proposed"]].assign(
            object_index=np.arange(1, len(rows) + 1),
            assigned=rows["assigned"].where(rows["proposed"]),
            height=[one.pixels.shape[1] for one in packed],
            width=[one.pixels.shape[2] for one in packed],
            has_mask=False,
            oversize=False,
            frame=rng.integers(1, 176, len(rows)),
            x_px=rng.uniform(40, 1340, len(rows)),
            y_px=rng.uniform(40, 990, len(rows)),
            content_sha256=[one.content_sha256 for one in packed],
            shard_sha256=pack_shard(packed, ws.shards / f"{sample_uid}.parquet"),
        )
        tables.write_table(listed, tables.MANIFEST, ws.manifest / f"{sample_uid}.parquet")
        scored = rows[["cell_uid", "sample_uid", "predicted", "probabilities", "latent"]].assign(
            reconstruction_error=[[0.1, 0.2, 0.1]] * len(rows),
            energy=-1.0,
            appearance=_looks(rows["true"]),
        )
        tables.write_table(scored, tables.EMBEDDING, ws.embeddings / f"{sample_uid}.parquet")


def _looks(kinds: pd.Series) -> list[np.ndarray]:
    """Appearance with the stains that define each kind, so that marker signs can be told."""
    found = np.random.default_rng(len(kinds)).normal(20, 3, (len(kinds), len(NAMES)))
    stained = {"cd45": ("wbc", "cd45ev"), "dapi": ("ctc", "wbc", "bare_nucleus"), "ck": ("ctc", "tdev")}
    for plane, kinds_with in stained.items():
        has = kinds.isin(kinds_with).to_numpy()
        found[:, NAMES.index(f"{plane}_brightness")] += np.where(has, 0, -16)
        found[:, NAMES.index(f"{plane}_peak")] += np.where(has, 150, 0)
    return list(found.astype(np.float32))


def _write_by_hand(ws: Workspace) -> None:
    """As the stage makes it, on this workspace's own tables and pixels."""
    params = load_params(ws.params)
    few = params.compare.model_copy(update={"bootstrap": 200})
    stages.compare(ws, seed=params.seed, counts=params.counts, compare=few, say=lambda line: None)


def _write_subclasses(ws: Workspace) -> None:
    params = load_params(ws.params)
    few = params.subclasses.model_copy(update={"draws": 2})
    stages.subclass(
        ws, seed=params.seed, subclasses=few, counts=params.counts, survival=params.survival, say=lambda line: None
    )


def _write_discovery(ws: Workspace, cells: pd.DataFrame) -> None:
    latents, probabilities, known = (
        np.stack(cells["latent"]),
        np.stack(cells["probabilities"]),
        cells["known"].to_numpy(),
    )
    of_cell = np.array([2 * (len(KINDS) - 1 - KINDS.index(kind)) for kind in cells["true"]]) + (
        latents[:, 0] > np.median(latents[:, 0])
    )
    found = pd.DataFrame(
        {
            "cell_uid": cells["cell_uid"],
            "cluster": of_cell,
            "cluster_name": [f"k-{number:012d}" for number in of_cell],
            "novelty": np.where(known, np.nan, density_ratio(latents, known)),
            "uncertainty": uncertainty(probabilities),
            "in_reference": known,
            "shifted": False,
            "flagged": cells["true"] == "cd45ev",
        }
    )
    tables.write_table(found, tables.DISCOVERY, ws.cell_discovery)
    clusters = pd.DataFrame([_cluster(number, cells[of_cell == number]) for number in np.unique(of_cell)])
    tables.write_table(clusters, tables.CLUSTERS, ws.clusters)
    calm = {
        "verdict": "comparable with its own labelled cells (most classes moved by 0.11 standard deviations)",
        "shifted": False,
    }
    moved = {
        "verdict": "shifted against its own labelled cells: nothing of it is called new; have cells of it read",
        "shifted": True,
    }
    ws.discovery_report.write_text(json.dumps({"instruments": {"CellTracks 1": calm, "CellTracks 2": moved}}))
    for number in clusters.loc[clusters["flagged"], "cluster"]:
        _save(ws.pictures / "clusters" / f"cluster-{number}.png", contact_sheet(_vesicles(24, seed=number), columns=12))
    flat = (latents - latents.mean(axis=0)) @ np.linalg.svd(latents - latents.mean(axis=0), full_matrices=False)[2][
        :2
    ].T
    maps = {"tsne_x": flat[:, 1], "tsne_y": flat[:, 0], "umap_x": flat[:, 0], "umap_y": flat[:, 1]}
    tables.write_table(pd.DataFrame({"cell_uid": cells["cell_uid"], **maps}), tables.MAP, ws.map)


def _cluster(number: int, cells: pd.DataFrame) -> dict[str, Any]:
    flagged = bool((cells["true"] == "cd45ev").any())
    archive = cells[~cells["known"]]
    return {
        "cluster": number,
        "name": f"k-{number:012d}",
        "came_from": "",
        "size": len(cells),
        "archive": len(archive),
        "reference": int(cells["known"].sum()),
        "noise": 0,
        "ratio": 18.5 - number if flagged else 0.9,
        "label_entropy": 0.4 if flagged else 0.1,
        "novelty": 0.9 if flagged else 0.4,
        "uncertainty": 0.3,
        "stability": 0.93 if flagged else 0.41,
        "nearest_class": cells["predicted"].mode()[0],
        "profile": "CD45 +, DAPI -, CK -" if flagged else "CD45 -, DAPI +, CK +",
        "samples": archive["sample_uid"].nunique(),
        "patients": archive["sample_uid"].nunique(),
        "largest_sample_share": archive["sample_uid"].value_counts(normalize=True).iloc[0],
        **dict.fromkeys(("largest_frame_share", "largest_region_share", "largest_date_share"), np.nan),
        "flagged": flagged,
        "verdict": "new kind of object" if flagged else "known",
        "exemplars": archive["cell_uid"].tolist()[:24],
        "border_exemplars": [],
        "random_exemplars": [],
    }


def _vesicles(number: int, *, seed: int) -> list[np.ndarray]:
    """Small red blobs, as CD45+ vesicles look on an overlay."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:44, :44] - 22
    pictures = []
    for _ in range(number):
        blob = np.exp(
            -((down - rng.normal(0, 3)) ** 2 + (across - rng.normal(0, 3)) ** 2) / rng.uniform(8, 40)
        ) * rng.uniform(150, 255)
        picture = rng.poisson(9, (44, 44, 3)).astype(float)
        picture[..., 0] += blob
        pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
    return pictures


def _write_survival(ws: Workspace, samples: pd.DataFrame, counts: pd.DataFrame, cells: pd.DataFrame) -> None:
    """What the stage `survive` writes: by model and by hand, for each cancer type, from day 0 and from a landmark."""

    def compared(**about: Any) -> dict[str, Any]:
        report = cohort_report(
            samples,
            counts,
            Choice(**about),
            min_events=5,
            cutoffs=CUTOFFS,
            exploratory_cutoffs=EXPLORATORY,
        )
        return report.to_dict()

    reports, landmarks, spread, concordance = [], [], [], []
    for group in ("all", *TYPES):
        chosen = () if group == "all" else (group,)
        for source in ("model", "manual"):
            about = {"source": source, "group": group}
            reports.append(
                compared(source=source, cancer_types=chosen, covariates=("age", "ecog", "line_of_therapy")) | about
            )
            landmarks.append(
                compared(
                    source=source,
                    cancer_types=chosen,
                    landmark_days=LANDMARK_DAYS,
                    covariates=("age", "ecog", "line_of_therapy"),
                )
                | about
            )
        spread.append(_spread(ws, samples, counts, cells, chosen) | {"group": group})
        concordance.append(_concordance(samples, counts, chosen) | {"group": group})
    _json(
        ws.survival,
        {
            "simulated": True,
            "endpoint": "os",
            "denominator": "proposed",
            "reports": reports,
            "landmarks": landmarks,
            "spread": spread,
            "concordance": concordance,
        },
    )


def _spread(
    ws: Workspace, samples: pd.DataFrame, counts: pd.DataFrame, cells: pd.DataFrame, types: tuple[str, ...]
) -> dict[str, Any]:
    rows = cohort_rows(samples, counts, Choice(cancer_types=types))
    opinions = tables.read_table(ws.opinions, tables.OPINIONS)
    proposed = cells[cells["proposed"]]
    tubes = tubes_of(
        cells,
        list(rows["sample_uid"]),
        classes=KNOWN,
        denominator="proposed",
        frequency_events=FREQUENCY_EVENTS,
        calibration=CALIBRATION,
    )
    found = spread_of(
        rows,
        samples.set_index("sample_uid")["manual_ctc"],
        reader_changes(proposed, opinions, samples),
        tubes,
        min_events=5,
        draws=200,
        rng=np.random.default_rng(17),
    )
    return found.to_dict()


def _concordance(samples: pd.DataFrame, counts: pd.DataFrame, types: tuple[str, ...]) -> dict[str, Any]:
    model, hand = (cohort_rows(samples, counts, Choice(cancer_types=types, source=one)) for one in ("model", "manual"))
    both = model.merge(hand[["patient_uid", "count"]], on="patient_uid", suffixes=("", "_manual"))
    columns = (both[name].to_numpy(dtype=np.float64) for name in ("duration", "event", "count", "count_manual"))
    return asdict(compare_concordances(*columns))


def _write_review(ws: Workspace, cells: pd.DataFrame) -> pd.DataFrame:
    _json(
        ws.classes,
        [{"class_id": one.class_id, "name": one.name, "definition": one.definition} for one in PAPER_CLASSES],
    )
    rng = np.random.default_rng(31)
    asked = cells[cells["known"] | (cells["true"] == "cd45ev")]
    read = asked.iloc[np.sort(rng.permutation(len(asked))[:774])]
    said = _opinions(read, rng)
    _write_labels(ws, read, said)
    report = agreement_report(
        said,
        classes=list(KNOWN),
        settled=dict(zip(read["cell_uid"], read["true"], strict=True)),
        cluster={uid: f"k-{KINDS.index(kind):012d}" for uid, kind in zip(read["cell_uid"], read["true"], strict=True)},
        predicted=dict(zip(read["cell_uid"], read["predicted"], strict=True)),
        bootstrap=200,
        rng=rng,
    )
    state = {
        "settled": 748,
        "waiting": 21,
        "contested": 34,
        "checks_waiting": 6,
        "unreadable": 5,
        "proposals": ["cd45ev"],
    }
    _json(ws.agreement, report | state)
    _write_desk(ws)
    reasons = (
        [("training", "novel")] * 160
        + [("training", "uncertain")] * 50
        + [("training", "random")] * 30
        + [("evaluation", "random")] * 560
    )
    queued = pd.DataFrame(reasons, columns=["purpose", "reason"]).iloc[: len(cells)]
    queued = queued.assign(cell_uid=cells["cell_uid"].to_numpy()[: len(queued)], rank=np.arange(len(queued)))
    tables.write_table(queued, tables.QUEUE, ws.queue)
    return said


def _roles(patients: Iterable[str]) -> dict[str, Role]:
    """Each third patient, in order of pseudonym, is sealed, as in `_write_gate`; some are steering."""
    order = sorted(set(patients))
    return {
        patient: Role.SEALED if at % 3 == 0 else Role.STEERING if at % 7 == 1 else Role.TRAIN
        for at, patient in enumerate(order)
    }


def _write_labels(ws: Workspace, read: pd.DataFrame, said: pd.DataFrame) -> None:
    """What was settled and said of these cells, as far as the dashboard may know: nothing of what sealed cells were called."""
    roles = _roles(read["patient_uid"])
    _json(ws.roles, {patient: role.value for patient, role in roles.items()})
    tables.write_table(without_sealed_labels(said, roles), tables.OPINIONS, ws.opinions)
    settled = read[read["true"].isin(KNOWN)].assign(class_id=read["true"], role=read["patient_uid"].map(roles))
    asked_again = set(said.loc[said["duty"] == "check", "cell_uid"])
    how = [ADJUDICATED if uid in asked_again else BOTH_AGREE for uid in settled["cell_uid"]]
    purpose = np.where(settled["role"] == Role.TRAIN, "training", "evaluation")
    settled = settled.assign(how=how, purpose=purpose)
    tables.write_table(settled.loc[settled["role"] != Role.SEALED, list(tables.TRUTH)], tables.TRUTH, ws.truth)


def _opinions(cells: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """SIMULATED readings in four rounds: two of three people a cell, of whom the third is the less practised."""
    right = {"anna": 0.97, "ben": 0.95, "carla": 0.88}
    roles = _roles(cells["patient_uid"])
    rows = []
    for place, cell in enumerate(cells.itertuples()):
        occasion = f"round-{1 + 4 * place // len(cells)}"

        def read(
            reader: str, duty: str = "reader", *, repeat: bool = False, cell: Any = cell, occasion: str = occasion
        ) -> None:
            knows = rng.random() < right[reader]
            label = cell.true if knows else str(rng.choice([*KNOWN[1:], "unreadable"], p=(0.3, 0.3, 0.2, 0.17, 0.03)))
            rows.append(
                {
                    "cell_uid": cell.cell_uid,
                    "patient_uid": cell.patient_uid,
                    "purpose": "training" if roles[cell.patient_uid] == Role.TRAIN else "evaluation",
                    "occasion": "round-4" if repeat else occasion,
                    "reader": reader,
                    "duty": duty,
                    "label": "new:cd45ev" if label == "cd45ev" else label,
                    "confidence": str(rng.choice(["sure", "probable", "doubtful", "guess"], p=(0.7, 0.2, 0.07, 0.03))),
                    "reasons": "",
                    "lead_time_s": float(rng.gamma(4, 0.7)),
                    "at": f"2026-0{2 + int(occasion[-1])}-02T12:00:00+00:00",
                    "repeat": repeat,
                }
            )

        pair = [str(name) for name in rng.choice(list(right), 2, replace=False)]
        for reader in pair:
            read(reader)
            if rng.random() < 0.06:
                read(reader, repeat=True)
        if rng.random() < 0.08:
            read(next(name for name in right if name not in pair), "check")
    return tables.check(pd.DataFrame(rows), tables.OPINIONS, "opinions").to_pandas()


def _write_data_room(ws: Workspace, samples: pd.DataFrame) -> None:
    """One intake with a finding and a refusal, one withdrawal, and two data versions in a git of the workspace's own."""
    brought = {
        "samples": len(samples), "samples_known": 0, "samples_grown": 0, "thumbnails": 2000, "refused": 1,
        "patients": samples["patient_uid"].nunique(), "historic_labels": 0, "historic_labels_refused": 0,
        "clinical_without_export": 0, "kinds": {"ACCEPT export": len(samples)}, "page_order": ["CD45", "DAPI", "CK"],
    }  # fmt: skip
    gone = {"withdrawn_uid": "0" * 24, "samples": 1, "cells": 31, "models": ["1"], "data_versions": ["data-v1"]}
    Ledger(ws.ledger).append(
        [
            Draft(kind="intake", by="intake", why="new samples, objects or labels", body=brought),
            Draft(kind="withdrawal", by="ctcml withdraw", why="consent withdrawn", body=gone),
        ],
        now=NOON,
    )
    for place, sample_uid in enumerate(samples["sample_uid"]):
        clipped = {"level": "note", "code": "clipped", "message": "2 of 31 thumbnails (4, 9): the mask touches the thumbnail's border"}  # fmt: skip
        _json(ws.receipts / f"{sample_uid}.json", {"files": 31, "findings": [clipped] if place % 9 == 0 else []})
    ws.quarantine.mkdir()
    (ws.quarantine / "refused.csv").write_text(
        f'at,source,file,reason\n{NOON.isoformat()},SIM-0009.1.1,SIM-0009.1.1_thumb_7.tif,"2 pages, expected 3"\n'
    )
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    for number in (1, 2):
        (ws.root / "data.dvc").write_text(f"outs:\n- md5: {number:032x}.dir\n  hash: md5\n  path: data\n")
        for command in (["init", "--quiet"], ["add", "data.dvc"], ["commit", "--quiet", "--message", "data"], ["tag", f"data-v{number}"]):  # fmt: skip
            subprocess.run([*git, *command], cwd=ws.root, check=True, capture_output=True)
        body = {"tag": f"data-v{number}", "data_md5": f"{number:032x}.dir", "commit": "c0ffee"}
        why = "intake of 56 samples" if number == 1 else "readings of round-1"
        Ledger(ws.ledger).append([Draft(kind="data_version", by="flow", why=why, body=body)], now=NOON)


def _write_desk(ws: Workspace) -> None:
    """One open proposal with a vote, one that was rejected, the people who may vote, and a request that waits."""
    people = [
        Draft(
            kind="reader_added",
            by="ctcml readers add",
            body={"reader": name, "adjudicates": name == "dora", "server": "ours"},
        )
        for name in ("anna", "ben", "carla", "dora")
    ]
    Ledger(ws.ledger).append(people, now=NOON)
    _save(ws.review / "gallery" / "cd45ev.png", contact_sheet(_vesicles(24, seed=3), columns=8))
    definition = "CD45+ alone: no nucleus, no cytokeratin, smaller than a leukocyte, smooth outline"
    vote = {
        "by": "anna",
        "vote": "accept",
        "at": NOON.isoformat(),
        "definition": definition,
        "reason": "seen in three patients",
    }
    against = [
        {"by": name, "vote": "reject", "at": NOON.isoformat(), "definition": "", "reason": "dust on the cartridge"}
        for name in ("anna", "ben")
    ]
    offered = {
        "class_id": "cd45ev",
        "name": "CD45EV",
        "aliases": ["leukocyte_vesicle"],
        "proposed_at": NOON.isoformat(),
        "why": "named alike by both readers, blinded",
        "cells": 96,
        "readers": ["anna", "ben", "carla"],
        "nearest_class": "tdev (71 of 96 cells)",
        "marker_profile": "CD45 +, DAPI -, CK - (88 of 96 cells)",
        "cluster": "k-000000000000 (90 of 96 cells)",
        "status": "open",
        "votes": [vote],
        "gallery": "gallery/cd45ev.png",
    }
    dust = {"class_id": "dust", "name": "Dust", "cells": 12, "status": "rejected", "votes": against, "gallery": None}
    _json(ws.proposals, [offered, offered | dust | {"aliases": [], "cluster": None, "marker_profile": None}])
    append_request(
        ws.requests,
        by="dora",
        password="of-dora",
        action="reject_class",
        body={"class_id": "speck", "definition": "", "reason": "the same as dust"},
        now=NOON,
    )


def _write_changes(ws: Workspace, counts: pd.DataFrame) -> None:
    """The counts of a challenger that finds half as many CTCs again in each third sample."""
    more = np.where(counts["sample_uid"].map(lambda uid: int(uid[-1], 16) % 3 == 0), 1.5, 1.0)
    after = counts.assign(**{name: counts[name] * more for name in ("per_7_5_ml", "low", "high")})
    decided = np.where(after["low"] >= after["cutoff"], "above", "below")
    open_still = (after["low"] < after["cutoff"]) & (after["high"] >= after["cutoff"])
    after["side"] = np.where(after["cutoff"].isna(), "none", np.where(open_still, "undecided", decided))
    ws.reports.mkdir()
    (ws.reports / "changes-4.csv").write_text(as_csv(changes(counts, after)))
    _save(ws.reports / "changes-4.png", contact_sheet(_vesicles(24, seed=9), columns=8))


def _write_gate(ws: Workspace, cells: pd.DataFrame, opinions: pd.DataFrame, rng: np.random.Generator) -> None:
    """Two champions, judged before reports held all that they hold now, a challenger that was refused on steering patients,
    and one that was found fit and waits for a signature."""
    sealed = cells[cells["patient_uid"].isin(sorted(cells["patient_uid"].unique())[::3])]
    latents = np.stack(sealed["latent"])
    looks = 1 + (latents[:, 0] > np.median(latents[:, 0])) + 2 * (latents[:, 1] > np.median(latents[:, 1]))
    sealed = sealed.assign(class_id=sealed["true"], cluster=[f"appearance {number:02d}" for number in looks])
    truth, patients = sealed["true"].to_numpy(), sealed["patient_uid"].to_numpy()
    said = {
        name: Predictions(classes=classes, probabilities=_right(truth, classes, share, rng), temperature=0.7)
        for name, classes, share in (("first", KNOWN, 0.88), ("champion", KNOWN, 0.9), ("fit", KINDS, 0.97))
    }
    plain = {name: _plain_card(one, truth, patients) for name, one in said.items()}
    full = {name: _full_card(said[name], sealed, opinions) for name in ("champion", "fit")}
    numbers = load_params(ws.params).gate.model_dump(exclude={"unattended", "sealed_looks", "fresh_share", "bootstrap"})
    judged = judge(
        said["fit"],
        said["champion"],
        said["first"],
        truth,
        patients,
        sealed["cluster"].to_numpy(),
        drift=(0.02, 0.04),
        bootstrap=200,
        rng=np.random.default_rng(2),
        **numbers,
    )
    first = {
        "verdict": "promote",
        "reasons": ["first model: there is no champion to compare with"],
        "signed_by": "demo",
        "unattended": True,
        "champion": None,
        "challenger": plain["first"],
    }
    second = first | {
        "reasons": ["CTC sensitivity: met"],
        "signed_by": "anna",
        "promoted": True,
        "champion": plain["first"],
        "challenger": plain["champion"],
    }
    third = second | {
        "set": "steering",
        "verdict": "refuse",
        "reasons": [
            "recall of wbc: 41.0% against the champion's 96.0%: not met",
            "steering: does not pass for recall of wbc; the sealed set stays closed",
        ],
        "promoted": False,
        "signed_by": None,
        "passes": False,
    }
    fourth = judged.to_dict() | {
        "set": "sealed",
        "requirements": [one.to_dict() for one in judged.requirements],
        "promoted": False,
        "signed_by": None,
        "champion": full["champion"],
        "challenger": full["fit"],
        "anchor": plain["first"],
        "champion_version": "2",
        "anchor_version": "1",
        "changes": "changes-4.csv",
        "changes_sha256": hashlib.sha256((ws.reports / "changes-4.csv").read_bytes()).hexdigest(),
        "budget": {
            "allowed": 20,
            "used": 3,
            "looks": 3,
            "patients": 16,
            "missing": 4,
            "spent": False,
            "advice": "17 of 20 looks are left; 4 more sealed patients, read through the evaluation arm, renew the budget",
        },
    }
    for version, report in enumerate((first, second, third, fourth), start=1):
        _json(ws.reports / f"promotion-{version}.json", report | {"version": str(version)})
    crowned = [
        ("1", None, "demo", "first model: there is no champion to compare with"),
        ("2", "1", "anna", "more of the small CTCs are found"),
    ]
    for days, (version, before, by, why) in enumerate(crowned):
        body = {"version": version, "before": before, "counts_before": None, "changes": None}
        Ledger(ws.ledger).append([Draft(kind="promotion", by=by, why=why, body=body)], now=NOON + timedelta(days=days))


def _plain_card(said: Predictions, truth: np.ndarray, patients: np.ndarray) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return score_card(truth, said.probabilities, said.classes, patients, bootstrap=200, rng=rng).to_dict()


def _full_card(said: Predictions, described: pd.DataFrame, opinions: pd.DataFrame) -> dict[str, Any]:
    return full_scorecard(
        described,
        said.probabilities,
        said.classes,
        temperature=said.temperature,
        thresholds=(0.5, 0.75, 0.9),
        bootstrap=100,
        rng=np.random.default_rng(3),
        readers=opinions,
    )


def _write_drift(ws: Workspace) -> None:
    """One instrument is calm, another alarms, and the random arm was read twice."""
    calm = {
        "samples": 30,
        "judged": 29,
        "drifting": 1,
        "latest": 20,
        "latest_drifting": 1,
        "most_by_chance": 4,
        "martingale": 0.4,
        "highest": 2.1,
        "bound": 100,
        "order": "intake",
        "alarm": False,
        "says": "no drift seen",
    }
    told = "9 of its last 20 samples look unlike the training cells of own instrument and site (chance gives 4 at most)"
    loud = calm | {"samples": 18, "judged": 18, "drifting": 9, "latest_drifting": 9, "martingale": 140.2}
    error = {"cells": 60, "patients": 21, "wrong": 3, "error": 0.05, "low": 0.017, "high": 0.12}
    report = {
        "simulated": True,
        "alarm": True,
        "alarms": [f"CTA-2: {told}"],
        "alarmed": ["instrument CTA-2"],
        "rate": 0.05,
        "usual_from": "what is usual comes from 12 steering samples",
        "samples": 48,
        "judged": 47,
        "drifting": 10,
        "instruments": {"CTA-1": calm, "CTA-2": loud | {"alarm": True, "says": told}},
        "groups": [],
        "random_arm": {
            "alarm": False,
            "says": "error 5.0% (1.7% to 12.0%) on 60 random cells of round-2",
            "rounds": [
                {"occasion": "round-1", **error, "learnt": True},
                {"occasion": "round-2", **error, "learnt": False},
            ],
            "steering": error | {"cells": 160, "wrong": 8},
        },
    }
    _json(ws.drift, report)
    for name in ("random-arm", "samples"):
        _save(ws.pictures / "drift" / f"{name}.png", contact_sheet(_vesicles(24, seed=13), columns=8))


def _write_champion(ws: Workspace, cells: pd.DataFrame) -> None:
    _json(
        ws.champion / "model.json",
        {
            "classes": list(KNOWN),
            "recipe": "asinh-v1(p10,60)",
            "input": "80x80x3 uint8 CD45,DAPI,CK",
            "architecture": "aecnn",
            "hidden": "linear",
            "keep_phase": 3,
            "seed": 20,
            "n_train_per_class": {kind: int((cells["true"] == kind).sum()) for kind in KNOWN},
            "weights_sha256": "4f" * 32,
        },
    )
    _json(ws.champion / "version.json", {"version": "2"})
    _json(ws.champion / "history.json", list(_history()))
    for beta in (0, 10, 100, 1000):
        _save(
            ws.champion / f"reconstructions-beta-{beta}.png",
            contact_sheet(_vesicles(40, seed=beta), columns=20, scale=1),
        )


def _right(truth: np.ndarray, classes: tuple[str, ...], share: float, rng: np.random.Generator) -> np.ndarray:
    """Probabilities of a model that is right in this share of the cells of its classes, and less sure where it is wrong."""
    right = np.array([classes.index(kind) if kind in classes else 1 for kind in truth])
    said = np.where(rng.random(len(truth)) < share, right, rng.integers(0, len(classes), len(truth)))
    sure = np.where(said == right, rng.beta(9, 1, len(truth)), rng.beta(4, 3, len(truth)))[:, None]
    return np.eye(len(classes))[said] * sure + (1 - sure) / len(classes)


def _history() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for phase, (beta, epochs) in enumerate(((0.0, 2), (10.0, 2), (100.0, 8), (1000.0, 2)), start=1):
        for epoch in range(1, epochs + 1):
            at = len(rows)
            learnt = 0 if phase == 1 else 1 - np.exp(-0.45 * (at - 1))
            rows.append(
                {
                    "phase": phase,
                    "beta": beta,
                    "epoch": epoch,
                    "loss": 900 * np.exp(-0.2 * at) + 60,
                    "reconstruction": 800 * np.exp(-0.2 * at) + 50,
                    "cross_entropy": 1.7 - 1.55 * learnt,
                    "latent_norm": 3.1,
                    "accuracy": 0.2 + 0.77 * learnt,
                    "sse_ratio": 0.42 + 0.5 * np.exp(-0.7 * at),
                    "dead_units": 0,
                    "seconds": 6.1,
                    "steering_accuracy": 0.2 + 0.75 * learnt,
                }
            )
    return rows


def _json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(picture))


if __name__ == "__main__":
    build(Path(sys.argv[1]))
