"""Withdrawal: everything that the live data hold of one patient goes, and the ledger keeps the fact but not the person.

The event is written first, so that no intake brings the patient back meanwhile, and the clinical rows go last, because they
say which samples are the patient's: killed anywhere between, the same call again finishes it.
"""

import csv
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from ctcml.clinical import COVARIATE
from ctcml.errors import BadInput, ProtocolBreach
from ctcml.identity import pseudonym
from ctcml.ledger import Draft, Event, Ledger, withdrawn_uid
from ctcml.quarantine import COLUMNS, TABLE, folder_name, write_overview
from ctcml.records import Purpose, Role
from ctcml.tables import CLINICAL, MANIFEST, atomic_path, read_folder, read_table, write_table
from ctcml.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a workspace holds of one patient; `files` are shards, features, receipts, kept embeddings and manifests, in the order they go."""

    patient_uid: str
    samples: tuple[str, ...]
    cells: tuple[str, ...]
    files: tuple[Path, ...]
    quarantined: tuple[Path, ...]
    clinical_rows: int


def find_patient(ws: Workspace, patient: str, *, key: bytes) -> str:
    """The patient_uid of a laboratory's own patient id, or of a patient_uid; `BadInput` for a patient who was never here."""
    known = {event.body["patient_uid"] for event in Ledger(ws.ledger).events("patient_assigned")}
    known |= set(_clinical_rows(ws)["patient_uid"]) if ws.clinical.exists() else set()
    for uid in (patient, pseudonym(key, "patient", patient)):
        if uid in known:
            return uid
    raise BadInput(
        f"patient {patient!r}: no such patient was taken in; give the id as the clinical table had it, or the patient_uid"
    )


def find_held(ws: Workspace, patient_uid: str, *, key: bytes) -> Held:
    """Everything of one patient in the live data, nothing where it is gone already."""
    manifest = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "sample_uid", "patient_uid"])
    mine = manifest[manifest["patient_uid"] == patient_uid]
    samples, rows = set(mine["sample_uid"]), 0
    if ws.clinical.exists():
        clinical = _clinical_rows(ws)
        of_patient = clinical.loc[clinical["patient_uid"] == patient_uid, "sample_uid"]
        samples, rows = samples | set(of_patient), len(of_patient)
    worked_out = (*sorted(ws.kept_embeddings.glob("*/")), ws.preview)
    files = [
        file
        for sample in sorted(samples)
        for folder in (ws.shards, ws.given_features, ws.receipts, *worked_out, ws.manifest)
        # The second pattern finds what a killed intake left unfinished.
        for pattern in (f"{sample}*", f".{sample}*")
        for file in sorted(folder.glob(pattern))
    ]
    return Held(
        patient_uid=patient_uid,
        samples=tuple(sorted(samples)),
        cells=tuple(mine["cell_uid"]),
        files=tuple(files),
        quarantined=tuple(sorted({path for _, _, copies in _refused(ws, samples, key) for path in copies})),
        clinical_rows=rows,
    )


def trained_with(events: Iterable[Event], patient_uid: str, cells: Collection[str]) -> tuple[str, ...]:
    """Versions of the models that were trained with these cells of a patient.

    A training on a data version used the patient if the patient belongs to the training set and a cell had a label, from
    before ctcml or settled for training, when that version was frozen.
    """
    of_patient = set(cells)
    role, labelled, models = "", False, []
    with_label: dict[str, bool] = {}
    for event in events:
        body = event.body
        if event.kind == "patient_assigned" and body["patient_uid"] == patient_uid:
            role = body["role"]
        elif event.kind == "historic_label" or (event.kind == "settlement" and body["purpose"] == Purpose.TRAINING):
            labelled = labelled or body["cell_uid"] in of_patient
        elif event.kind == "data_version":
            with_label[body["tag"]] = labelled
        # A version whose event was lost in a crash is counted as frozen when the training was written down.
        elif event.kind == "training" and role == Role.TRAIN and with_label.get(body["data_version"], labelled):
            models.append(body["version"])
    return tuple(models)


def holding(files_of: Mapping[str, Iterable[str]], samples: Iterable[str]) -> tuple[str, ...]:
    """The data versions, of those whose files are given by name below `data/`, that hold shards of these samples.

    >>> holding({"data-v1": ["shards/a.parquet"], "data-v2": ["shards/b-2.parquet"]}, ["b"])
    ('data-v2',)
    """
    starts = tuple(f"shards/{sample}" for sample in samples)
    return tuple(tag for tag, files in files_of.items() if any(name.startswith(starts) for name in files))


def record_withdrawal(
    ledger: Ledger, held: Held, *, key: bytes, why: str, data_versions: Collection[str], now: datetime
) -> Event:
    """Write the fact down, once; returns the event, which on a second call is that of the first."""
    events = list(ledger.events())
    before = {event.body["withdrawn_uid"]: event for event in events if event.kind == "withdrawal"}
    uid = withdrawn_uid(key, held.patient_uid)
    if uid in before:
        return before[uid]
    body = {
        "withdrawn_uid": uid,
        "samples": len(held.samples),
        "cells": len(held.cells),
        "models": list(trained_with(events, held.patient_uid, held.cells)),
        "data_versions": list(data_versions),
    }
    ledger.append([Draft(kind="withdrawal", by="ctcml withdraw", why=why, body=body)], now=now)
    return next(event for event in ledger.events("withdrawal") if event.body["withdrawn_uid"] == uid)


def remove(ws: Workspace, held: Held, *, key: bytes) -> None:
    """Take the patient out of the live data, the receipts and the quarantine."""
    _empty_quarantine(ws, set(held.samples), key)
    for file in held.files:
        file.unlink(missing_ok=True)
    if held.clinical_rows:
        table = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE)
        left = table[table["patient_uid"] != held.patient_uid]
        write_table(left, CLINICAL, ws.clinical, extra_prefix=COVARIATE)


def account(event: Event) -> list[str]:
    """What a person is told at the end: which models learnt from the patient, and where the pixels still are."""
    models, tags = (", ".join(event.body[name]) for name in ("models", "data_versions"))
    return [
        f"withdrawn on {event.at[:10]}: {event.body['samples']} samples, {event.body['cells']} cells",
        f"models trained with them: {models}; a training that starts from one of these carries it on (train.new_class_from)"
        if models
        else "no model was trained with them",
        f"still holding the pixels: data versions {tags}, with their store and backups"
        if tags
        else "no data version holds the pixels",
        "still holding the pixels: the instrument's own export, also where it lies in inbox/; delete it there",
        "still showing some of them: derived/ and pictures/ until `ctcml repro`; reports/paper/ and .ctcml/paper/ until the next"
        " `ctcml reproduce`; galleries of accepted classes and contact sheets in reports/, pictures of reconstructions and the latents of flat maps kept with models, for good",
        "on the readers' servers, open tasks of theirs stand without pictures; no answer to them is taken in",
    ]


def withdrawn_cells(ws: Workspace) -> set[str]:
    """Cells that were queued and are in the data no more, because their patients withdrew: nobody waits for them.

    Raises `ProtocolBreach` when more are missing than have been withdrawn: then `data/` is not what was queued from.
    """
    events = list(Ledger(ws.ledger).events("queued", "withdrawal"))
    present = set(read_folder(ws.manifest, MANIFEST, columns=["cell_uid"])["cell_uid"])
    missing = {event.body["cell_uid"] for event in events if event.kind == "queued"} - present
    gone = sum(int(event.body["cells"]) for event in events if event.kind == "withdrawal")
    if len(missing) > gone:
        raise ProtocolBreach(
            f"{len(missing)} queued cells are not in the data, and {gone} were withdrawn; bring the data version back"
        )
    return missing


def _clinical_rows(ws: Workspace) -> pd.DataFrame:
    return read_table(ws.clinical, CLINICAL, columns=["sample_uid", "patient_uid"])


def _refused(ws: Workspace, samples: Collection[str], key: bytes) -> list[tuple[Path, list[list[str]], list[Path]]]:
    """For each table of the quarantine with a row of these samples: the rows that stay, and the copies that go.

    A folder that is about these samples alone goes whole.
    """
    found = []

    def is_theirs(*names: str) -> bool:
        return any(pseudonym(key, "sample", name) in samples for name in names)

    for folder in sorted(one for one in ws.quarantine.glob("*") if one.is_dir()):
        table = folder / TABLE
        rows = _read_rows(table)
        theirs = [row for row in rows if is_theirs(row[1], row[2].split(", ")[0], *Path(row[2]).parts)]
        if theirs and len(theirs) < len(rows):
            names = [[folder_name(part) for part in Path(row[2]).parts] for row in theirs]
            copies = [copy for parts in names if parts and (copy := folder.joinpath("files", *parts)).exists()]
            found.append((table, [row for row in rows if row not in theirs], copies))
        elif theirs or is_theirs(folder.name):
            found.append((table, [], [folder / "files", folder]))  # the table last: it says whose the files are
    return found


def _empty_quarantine(ws: Workspace, samples: Collection[str], key: bytes) -> None:
    for table, stay, copies in _refused(ws, samples, key):
        for copy in copies:
            if copy.is_dir():
                shutil.rmtree(copy)
            else:
                copy.unlink(missing_ok=True)
        if stay:
            with (
                atomic_path(table) as unfinished,
                unfinished.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
            ):
                csv.writer(file).writerows([COLUMNS, *stay])
    write_overview(ws.quarantine)


def _read_rows(table: Path) -> list[list[str]]:
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file))[1:]
