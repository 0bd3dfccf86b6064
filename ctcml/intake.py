"""Intake: from what a laboratory has on disk to packed, pseudonymised thumbnails; nothing is lost and nothing is doubled."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import pandas as pd

from ctcml.cartridges import Cartridge
from ctcml.clinical import COVARIATE, read_clinical
from ctcml.errors import BadInput, BrokenRecord
from ctcml.executor import Executor, cores, open_executor
from ctcml.historic import HistoricLabel, read_historic, record_historic
from ctcml.identity import pseudonym
from ctcml.ledger import Draft, Ledger, withdrawn_patients
from ctcml.packing import PackedSample, PackingJob, is_known, no_intake, pack_sample, verify_sample, write_receipt
from ctcml.quarantine import set_aside, write_overview
from ctcml.records import PLANES, Patient, Role
from ctcml.sources import Source, find_sources, kind_of
from ctcml.splits import assign_patients
from ctcml.tables import CLINICAL, MANIFEST, read_folder, read_table, write_table
from ctcml.thumbnails import Refused, checked_page_order
from ctcml.workspace import Workspace

FEW_SAMPLES = 8  # up to here, starting processes costs more than it saves

Progress = Callable[[int, int], None]  # samples done, of how many


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one intake did; `samples_grown` are samples known before that brought further objects."""

    samples: int
    samples_known: int
    samples_grown: int
    thumbnails: int
    refused: int
    patients: int
    historic_labels: int
    historic_labels_refused: int
    clinical_without_export: int

    @property
    def anything_new(self) -> bool:
        return bool(self.samples or self.samples_grown or self.patients or self.historic_labels)

    def __str__(self) -> str:
        """One line for the person who takes in."""
        parts = [f"{self.thumbnails} thumbnails of {self.samples} new samples taken in, {self.samples_known} known"]
        if self.samples_grown:
            parts.append(f"{self.samples_grown} known samples have more objects than before")
        if self.historic_labels or self.historic_labels_refused:
            parts.append(f"{self.historic_labels} labels from before, {self.historic_labels_refused} refused")
        if self.clinical_without_export:
            parts.append(f"{self.clinical_without_export} rows of the clinical table without a sample here")
        parts.append(f"{self.refused} refused" + (" (see quarantine/refused.csv)" if self.refused else ""))
        return "; ".join(parts)


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
    page_order: tuple[str, ...] = PLANES,
    verify: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Taken:
    """Pack what is new below `export` into shards and manifests, and record patients and labels from before.

    `block` holds patients per block for train, steering and sealed; patients who have withdrawn are refused. A sample
    whose files have the names, sizes and times of last time is not read again, unless `verify`. A killed intake is
    finished by the next one. Without an `executor` samples go to processes of this machine, one a core or `workers`; cartridges
    are always read by those. Raises `BadInput` before anything is written when the export or a table as a whole cannot be used, and
    `ServiceDown` while another intake is at work.
    """
    checked_page_order(page_order)
    if not export.exists():
        raise BadInput(f"{export}: no such folder; name the folder that holds the thumbnails or cartridges")
    sources, refused = find_sources(export)
    if not sources and not refused:
        raise BadInput(
            f"{export}: no sample folder with thumbnails (frames/<sample>/Thumbs), no manifest.csv, no labelled array and no"
            " cartridge found; name the folder that holds one"
        )
    table, uid_of = read_clinical(clinical, key)
    labels = read_historic(historic) if historic else None
    patient_of = dict(zip(table["sample_uid"], table["patient_uid"], strict=True))
    ledger = Ledger(ws.ledger)
    with no_intake(ws):
        sweep(ws.data)
        withdrawn = withdrawn_patients(ledger.events(), key, set(patient_of.values()))
        usable, unusable = _usable(sources, uid_of, {uid for uid, who in patient_of.items() if who in withdrawn})
        refused += unusable
        table = table[~table["patient_uid"].isin(withdrawn)]
        jobs = [
            PackingJob(
                source=one,
                sample_uid=uid_of[one.sample_id],
                patient_uid=patient_of[uid_of[one.sample_id]],
                ws=ws,
                key=key,
                page_order=page_order,
                now=now,
            )
            for one in usable
            if verify or not is_known(one, uid_of[one.sample_id], ws, key)
        ]
        set_aside(refused, source=export.name, folder=export, quarantine=ws.quarantine, now=now)
        _write_clinical(table, ws)
        patients = _assign(table, ledger, block=block, seed=seed, now=now)
        packed = []
        for done, one in enumerate(_pack_all(jobs, workers or cores(), executor), start=1):
            packed.append(one)
            if not one.labels:  # those with labels wait until the ledger has them
                write_receipt(one, ws)
            if progress:
                progress(done, len(jobs))
        written, unlabelled = record_historic(
            _labels(labels, packed, uid_of, key), _cells(ws, labels, packed), ledger, now=now
        )
        for one in packed:
            if one.labels:
                write_receipt(one, ws)
        set_aside(unlabelled, source=f"{export.name} labels", folder=export, quarantine=ws.quarantine, now=now)
        write_overview(ws.quarantine)
        taken = Taken(
            samples=sum(not one.grown and not one.known for one in packed),
            samples_known=len(usable) - len(jobs) + sum(bool(one.known) and not one.grown for one in packed),
            samples_grown=sum(one.grown for one in packed),
            thumbnails=sum(one.new for one in packed),
            refused=len(refused) + sum(one.refused for one in packed),
            patients=patients,
            historic_labels=written,
            historic_labels_refused=len(unlabelled),
            clinical_without_export=len(set(uid_of) - {one.sample_id for one in sources}),
        )
        _record(taken, usable, page_order, ledger, now)
    return taken


def verify_data(ws: Workspace, *, workers: int | None = None, progress: Progress | None = None) -> int:
    """Hash every shard and every picture again; returns how many cells hold, `BrokenRecord` names what does not."""
    cells = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "sample_uid"])
    samples = sorted(cells["sample_uid"].unique())
    wrong: list[str] = []
    with open_executor(kind="here" if workers == 1 else "processes", workers=workers or 0) as executor:
        for done, found in enumerate(executor.stream(partial(verify_sample, ws), samples), start=1):
            wrong += found
            if progress:
                progress(done, len(samples))
    if wrong:
        raise BrokenRecord(f"{len(wrong)} shard(s) do not verify: " + "; ".join(wrong[:5]))
    return len(cells)


def sweep(folder: Path) -> None:
    """Remove what a killed intake left unfinished below `data/`, or the next data version would hold it."""
    for place, _, names in os.walk(folder):
        for name in names:
            if name.startswith("."):
                (Path(place) / name).unlink()


def _usable(
    sources: Sequence[Source], uid_of: dict[str, str], withdrawn: Collection[str]
) -> tuple[list[Source], list[Refused]]:
    """Sort out the samples that would be miscounted, could belong to nobody, or may not be used."""
    times = Counter(one.sample_id for one in sources)
    usable, refused = [], []
    for one in sources:
        if one.sample_id not in uid_of:
            reason = "sample has no row in the clinical table"
        elif uid_of[one.sample_id] in withdrawn:
            reason = "the patient has withdrawn; delete the files"
        elif times[one.sample_id] > 1:
            reason = f"exported {times[one.sample_id]} times below this folder; take in one of the exports"
        elif getattr(one, "events", "all") == "selection":
            reason = "only a selection was exported, a capped random draw; export all events, or the counts are wrong"
        else:
            usable.append(one)
            continue
        refused.append(Refused(file=one.sample_id, reason=reason))
    return usable, refused


def _pack_all(jobs: Sequence[PackingJob], workers: int, executor: Executor | None) -> Iterator[PackedSample]:
    """Take in samples side by side, in their order; a cartridge is large enough to have all processes to itself."""
    alone = [replace(job, workers=workers) for job in jobs if isinstance(job.source, Cartridge)]
    together = [job for job in jobs if not isinstance(job.source, Cartridge)]
    if workers == 1 or len(together) <= FEW_SAMPLES:
        yield from map(pack_sample, together)
    else:
        with nullcontext(executor) if executor else open_executor(kind="processes", workers=workers) as hands:
            yield from hands.stream(pack_sample, together)
    yield from map(pack_sample, alone)


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


def _labels(
    table: pd.DataFrame | None, packed: Sequence[PackedSample], uid_of: dict[str, str], key: bytes
) -> Iterator[HistoricLabel]:
    for one in packed:
        for cell_uid, label in one.labels.items():
            yield HistoricLabel(
                where=f"{one.sample_id}, {cell_uid}", cell_uid=cell_uid, label=label, source="came with the images"
            )
    for line, row in enumerate(table.to_dict("records") if table is not None else [], start=2):
        known = row["sample"] in uid_of  # a label of a sample without a clinical row belongs to nobody
        yield HistoricLabel(
            where=f"historic labels, line {line}",
            cell_uid=pseudonym(key, "cell", row["sample"], row["object_index"]) if known else "",
            label=row["label"],
            source=row["source"],
        )


def _cells(ws: Workspace, table: pd.DataFrame | None, packed: Sequence[PackedSample]) -> set[str]:
    if table is None and not any(one.labels for one in packed):
        return set()
    return set(read_folder(ws.manifest, MANIFEST, columns=["cell_uid"])["cell_uid"])


def _record(
    taken: Taken, sources: Sequence[Source], page_order: tuple[str, ...], ledger: Ledger, now: datetime
) -> None:
    if taken.anything_new:
        kinds = dict(Counter(kind_of(one) for one in sources))
        body = {**vars(taken), "kinds": kinds, "page_order": list(page_order)}
        ledger.append([Draft(kind="intake", by="intake", why="new samples, objects or labels", body=body)], now=now)
