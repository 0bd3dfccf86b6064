"""Intake: from an export on disk to packed, pseudonymised thumbnails; nothing is lost and nothing is taken in twice."""

import csv
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from ctcml.accept import ExportedSample, Refused, find_samples, read_sample
from ctcml.clinical import COVARIATE, read_clinical
from ctcml.errors import BadInput
from ctcml.identity import pseudonym
from ctcml.ledger import Draft, Ledger
from ctcml.records import CLASS_ID, Patient, Role
from ctcml.shards import Packed, content_hash, pack_shard
from ctcml.splits import assign_patients
from ctcml.tables import CLINICAL, MANIFEST, atomic_path, read_folder, read_table, write_table
from ctcml.workspace import Workspace

QUARANTINE_COLUMNS = ("source", "file", "reason")
WINDOW = 80  # pixels; larger objects are cropped by the network's recipe


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one intake did."""

    samples: int
    samples_known: int
    thumbnails: int
    refused: int
    patients: int
    historic_labels: int
    historic_labels_refused: int
    clinical_without_export: int


def take_in(
    export: Path,
    clinical: Path,
    historic: Path | None,
    ws: Workspace,
    *,
    key: bytes,
    block: tuple[int, int, int],
    seed: int,
    now: datetime,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Taken:
    """Pack every new sample of an ACCEPT export into a shard and a manifest, and record patients and historic labels.

    `block` holds patients per block for train, steering and sealed. A killed intake is finished by the next one: a sample
    counts as taken once its manifest is there. Raises `BadInput` before anything is written when the export or the
    clinical table as a whole cannot be used.
    """
    if not export.is_dir():
        raise BadInput(f"{export}: no such folder; name the folder that holds the ACCEPT results")
    samples = find_samples(export)
    if not samples:
        raise BadInput(
            f"{export}: no sample folder with thumbnails (frames/<sample>/Thumbs) found; name the ACCEPT results folder"
        )
    table, uid_of = read_clinical(clinical, key)
    labels = (
        read_historic(historic) if historic else pd.DataFrame(columns=["sample", "object_index", "label", "source"])
    )
    known, refused = _usable(samples, uid_of)
    new = [one for one in known if not (ws.manifest / f"{uid_of[one.sample_id]}.parquet").exists()]
    quarantine(refused, export, ws)
    _write_clinical(table, ws)
    ledger = Ledger(ws.ledger)
    patients = _assign(table, ledger, block=block, seed=seed, now=now)
    thumbnails = 0
    for done, (sample, count, bad) in enumerate(_pack_all(new, table, uid_of, ws, key, workers), start=1):
        thumbnails += count
        refused += bad
        quarantine(bad, sample.folder, ws)
        if progress:
            progress(done, len(new))
    written, unusable = _record_historic(labels, uid_of, ws, ledger, key, now)
    quarantine(unusable, export, ws)
    return Taken(
        samples=len(new),
        samples_known=len(known) - len(new),
        thumbnails=thumbnails,
        refused=len(refused),
        patients=patients,
        historic_labels=written,
        historic_labels_refused=len(unusable),
        clinical_without_export=len(set(uid_of) - {one.sample_id for one in samples}),
    )


def _usable(samples: list[ExportedSample], uid_of: dict[str, str]) -> tuple[list[ExportedSample], list[Refused]]:
    """Sort out the samples that would be miscounted or could belong to nobody."""
    times = Counter(one.sample_id for one in samples)
    usable, refused = [], []
    for one in samples:
        if one.sample_id not in uid_of:
            refused.append(Refused(file=one.sample_id, reason="sample has no row in the clinical table"))
        elif times[one.sample_id] > 1:
            reason = f"exported {times[one.sample_id]} times below this folder; take in one of the exports"
            refused.append(Refused(file=one.sample_id, reason=reason))
        elif not one.all_events:
            reason = "only a selection was exported, a capped random draw; export all events, or the counts are wrong"
            refused.append(Refused(file=one.sample_id, reason=reason))
        else:
            usable.append(one)
    return usable, refused


def _pack_all(
    new: list[ExportedSample],
    table: pd.DataFrame,
    uid_of: dict[str, str],
    ws: Workspace,
    key: bytes,
    workers: int | None,
) -> Iterator[tuple[ExportedSample, int, list[Refused]]]:
    patient_of = dict(zip(table["sample_uid"], table["patient_uid"], strict=True))
    jobs = [(one, uid_of[one.sample_id], patient_of[uid_of[one.sample_id]], ws, key) for one in new]
    if not jobs:
        return
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        for one, (count, bad) in zip(new, pool.map(_pack_one, jobs), strict=True):
            yield one, count, bad


def _pack_one(job: tuple[ExportedSample, str, str, Workspace, bytes]) -> tuple[int, list[Refused]]:
    sample, sample_uid, patient_uid, ws, key = job
    found, refused = read_sample(sample)
    packed = [
        Packed(
            cell_uid=pseudonym(key, "cell", sample.sample_id, str(one.object_index)),
            sample_uid=sample_uid,
            object_index=one.object_index,
            planes=one.planes,
            pixels=one.pixels,
            mask=one.mask,
            source_bit_depth=one.source_bit_depth,
            source_order=one.source_order,
            restore_low=(),
            restore_high=(),
            content_sha256=content_hash(one.planes, one.pixels),
        )
        for one in found
    ]
    shard_sha256 = pack_shard(packed, ws.shards / f"{sample_uid}.parquet")
    manifest = pd.DataFrame(
        {
            "cell_uid": [one.cell_uid for one in packed],
            "sample_uid": sample_uid,
            "patient_uid": patient_uid,
            "object_index": [one.object_index for one in packed],
            "height": [one.pixels.shape[1] for one in packed],
            "width": [one.pixels.shape[2] for one in packed],
            "has_mask": [one.mask is not None for one in packed],
            "oversize": [max(one.pixels.shape[1:]) > WINDOW for one in packed],
            "proposed": pd.array([one.proposed for one in found], dtype="boolean"),
            "content_sha256": [one.content_sha256 for one in packed],
            "shard_sha256": shard_sha256,
        }
    )
    # The manifest is written last: a sample without one is taken in again from the start.
    write_table(manifest, MANIFEST, ws.manifest / f"{sample_uid}.parquet")
    return len(packed), refused


def _write_clinical(table: pd.DataFrame, ws: Workspace) -> None:
    """Replace rows of samples that came again (follow-up grows) and keep the rest."""
    if ws.clinical.exists():
        old = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE)
        table = pd.concat([old[~old["sample_uid"].isin(table["sample_uid"])], table], ignore_index=True)
    write_table(table.sort_values("sample_uid"), CLINICAL, ws.clinical, extra_prefix=COVARIATE)


def _assign(table: pd.DataFrame, ledger: Ledger, *, block: tuple[int, int, int], seed: int, now: datetime) -> int:
    known = {
        event.body["patient_uid"]: (event.body["cancer_type"], Role(event.body["role"]))
        for event in ledger.events("patient_assigned")
    }
    patients = [
        Patient(patient_uid=one, cancer_type=kind)
        for one, kind in zip(table["patient_uid"], table["cancer_type"], strict=True)
    ]
    roles = assign_patients(patients, known, train=block[0], steering=block[1], sealed=block[2], seed=seed)
    cancer_type = {one.patient_uid: one.cancer_type for one in patients}
    ledger.append(
        [
            Draft(
                kind="patient_assigned",
                by="intake",
                why="first intake",
                body={"patient_uid": uid, "cancer_type": cancer_type[uid], "role": role.value},
            )
            for uid, role in roles.items()
        ],
        now=now,
    )
    return len(roles)


def read_historic(path: Path) -> pd.DataFrame:
    """Labels from before ctcml: columns sample, object_index, label, source (both readers agreed)."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise BadInput(f"{path}: not readable as a CSV table ({' '.join(str(error).split())}); save it again") from None
    wanted = ["sample", "object_index", "label", "source"]
    if list(table.columns) != wanted:
        raise BadInput(f"{path}: columns {list(table.columns)}, expected {wanted}; rename them")
    return table


def _record_historic(
    labels: pd.DataFrame, uid_of: dict[str, str], ws: Workspace, ledger: Ledger, key: bytes, now: datetime
) -> tuple[int, list[Refused]]:
    cells = set(read_folder(ws.manifest, MANIFEST, columns=["cell_uid"])["cell_uid"])
    done = {event.body["cell_uid"] for event in ledger.events("historic_label")}
    classes = {event.body["class_id"] for event in ledger.events("class_added")}
    drafts, unusable = [], []
    for line, row in enumerate(labels.to_dict("records"), start=2):
        cell_uid = pseudonym(key, "cell", row["sample"], row["object_index"])
        if row["label"] not in classes or not CLASS_ID.fullmatch(row["label"]):
            unusable.append(
                Refused(file=f"historic labels, line {line}", reason=f"class {row['label']!r} is not registered")
            )
        elif row["sample"] not in uid_of or cell_uid not in cells:
            unusable.append(Refused(file=f"historic labels, line {line}", reason="no such thumbnail in the manifest"))
        elif cell_uid not in done:
            drafts.append(
                Draft(
                    kind="historic_label",
                    by=row["source"],
                    why="labelled before ctcml",
                    body={"cell_uid": cell_uid, "class_id": row["label"], "source": row["source"]},
                )
            )
    ledger.append(drafts, now=now)
    return len(drafts), unusable


def quarantine(refused: list[Refused], folder: Path, ws: Workspace) -> None:
    """Keep what was refused, with its reason, in `quarantine/refused.csv`; regular files are copied beside it."""
    if not refused:
        return
    ws.quarantine.mkdir(parents=True, exist_ok=True, mode=0o700)
    table = ws.quarantine / "refused.csv"
    rows = {(folder.name, one.file, one.reason) for one in refused}
    if table.exists():
        with table.open(newline="", encoding="utf-8") as file:
            rows |= {(row[0], row[1], row[2]) for row in csv.reader(file)} - {QUARANTINE_COLUMNS}
    with atomic_path(table) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([QUARANTINE_COLUMNS, *sorted(rows)])
    for one in refused:
        source = folder / one.file
        if source.is_file() and not source.is_symlink() and source.resolve().is_relative_to(folder.resolve()):
            target = ws.quarantine / folder.parent.name / Path(one.file).name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
