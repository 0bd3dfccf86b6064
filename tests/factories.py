"""Small, true-to-life records for the tests; everything is seeded."""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctcml.class_registry import class_body
from ctcml.ledger import Draft, Ledger
from ctcml.records import PAPER_CLASSES, PLANES, Duty, Purpose, Reading
from ctcml.shards import Packed, pack_shard
from ctcml.tables import MANIFEST, read_folder, write_table
from ctcml.workspace import Workspace

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
KEY = b"k" * 32


def a_reading(
    cell: str,
    reader: str,
    label: str,
    *,
    purpose: Purpose = Purpose.TRAINING,
    occasion: str = "round-1",
    duty: Duty = Duty.READER,
    **more: Any,
) -> Reading:
    return Reading(
        read_uid=f"{cell}-{reader}-{occasion}",
        cell_uid=cell,
        reader=reader,
        label=label,
        occasion=occasion,
        purpose=purpose,
        duty=duty,
        **more,
    )


def reading_draft(one: Reading, name: str | None = None) -> Draft:
    body: dict[str, Any] = {
        **vars(one),
        "purpose": one.purpose.value,
        "duty": one.duty.value,
        "confidence": one.confidence.value if one.confidence else None,
        "reasons": list(one.reasons),
        "name": name,
        "source": "test",
    }
    return Draft(kind="reading" if one.duty == Duty.READER else "adjudication", by=one.reader, body=body)


def a_queued(
    *cells: str,
    occasion: str = "round-1",
    readers: tuple[str, ...] = ("reader-a", "reader-b"),
    reason: str = "random",
    purpose: Purpose = Purpose.TRAINING,
) -> list[Draft]:
    """Cells that two readers are asked about."""
    return [
        Draft(
            kind="queued",
            by="query",
            why=reason,
            body={
                "cell_uid": cell,
                "purpose": purpose.value,
                "reason": reason,
                "occasion": occasion,
                "readers": list(readers),
            },
        )
        for cell in cells
    ]


def a_historic(*cells: str, class_id: str = "tdev") -> list[Draft]:
    """Labels from before ctcml."""
    return [
        Draft(kind="historic_label", by="lab", body={"cell_uid": cell, "class_id": class_id, "source": "x"})
        for cell in cells
    ]


def named_by_both(*cells: str, readers: tuple[str, str] = ("reader-a", "reader-b")) -> list[Draft]:
    """Readings in which both readers call these cells by the name of a class that is not there yet."""
    return [reading_draft(a_reading(cell, reader, "new:cd45ev"), name="CD45EV") for cell in cells for reader in readers]


def people(*readers: str, adjudicators: tuple[str, ...] = ()) -> list[Draft]:
    """The events by which people are registered."""
    return [
        Draft(kind="reader_added", by="test", body={"reader": name, "adjudicates": adjudicates, "server": "ours"})
        for names, adjudicates in ((readers, False), (adjudicators, True))
        for name in names
    ]


def a_ledger(path: Path, *drafts: Draft) -> Ledger:
    """A ledger that opens with the paper's five classes."""
    ledger = Ledger(path)
    opening = [Draft(kind="class_added", by="paper", body=class_body(one, authors=["paper"])) for one in PAPER_CLASSES]
    ledger.append([*opening, *drafts], now=NOON)
    return ledger


def a_patient(patient_uid: str, role: str, cancer_type: str = "breast") -> Draft:
    return Draft(
        kind="patient_assigned",
        by="intake",
        body={"patient_uid": patient_uid, "cancer_type": cancer_type, "role": role},
    )


def a_manifest(cells: dict[str, str]) -> pd.DataFrame:
    """A manifest of cells by cell_uid -> patient_uid, one sample a patient."""
    return pd.DataFrame(
        {
            "cell_uid": list(cells),
            "sample_uid": [f"s-{one}" for one in cells.values()],
            "patient_uid": list(cells.values()),
        }
    )


def a_cell(rng: np.random.Generator, height: int = 30, width: int = 26) -> np.ndarray:
    """Counts of four planes with one bright round object."""
    y, x = np.mgrid[:height, :width]
    blob = np.exp(-((y - height / 2) ** 2 + (x - width / 2) ** 2) / 40)
    levels = np.array([60, 900, 1400, 30])[:, None, None]
    return (levels * blob + rng.normal(120, 6, (4, height, width))).clip(0, 4095).astype(np.uint16)


def put(path: Path, text: str) -> None:
    """Write a file as all of ours are written: a new one under the old name, never into one that DVC has linked."""
    path.unlink(missing_ok=True)
    path.write_text(text)


def a_sample(ws: Workspace, cells: Sequence[str], *, sample: str = "s1", patient: str = "p1") -> None:
    """Pack made-up cells of one patient as a shard with its manifest."""
    rng = np.random.default_rng(3)
    packed = [
        Packed(
            cell_uid=cell,
            sample_uid=sample,
            object_index=number,
            planes=PLANES,
            pixels=a_cell(rng)[:3],
            mask=None,
            source_bit_depth=16,
            source_order="CD45,DAPI,CK",
        )
        for number, cell in enumerate(cells)
    ]
    rows = {name: [None] * len(cells) for name in MANIFEST} | {
        "cell_uid": list(cells),
        "sample_uid": sample,
        "patient_uid": patient,
        "object_index": range(len(cells)),
        "content_sha256": [one.content_sha256 for one in packed],
        "shard_sha256": pack_shard(packed, ws.shards / f"{sample}.parquet"),
    }
    write_table(pd.DataFrame(rows), MANIFEST, ws.manifest / f"{sample}.parquet")


def read_and_settled(cell: str, *, agreed: bool, training: bool) -> list[Draft]:
    """Two readers call a cell a CTC, or only one does and the adjudicator calls it a leukocyte."""
    purpose = Purpose.TRAINING if training else Purpose.EVALUATION
    labels = {"reader-a": "ctc", "reader-b": "ctc" if agreed else "wbc"}
    readings = [a_reading(cell, reader, label, purpose=purpose) for reader, label in labels.items()]
    if not agreed:
        readings.append(a_reading(cell, "reader-c", "wbc", purpose=purpose, duty=Duty.ADJUDICATOR))
    body = {"cell_uid": cell, "class_id": labels["reader-b"], "purpose": purpose.value, "occasion": "round-1"}
    how = "both readers" if agreed else "adjudicator"
    return [
        *map(reading_draft, readings),
        Draft(kind="settlement", by="test", body={**body, "how": how, "before": None}),
    ]


def counted_laboratory(laboratory: Path, new_workspace: Path, root: Path) -> Workspace:
    """Take a SIMULATED laboratory in, have four cells of each patient read twice, embed all of it and count."""
    from ctcml import stages
    from ctcml.bench_score import write_random_model
    from ctcml.dataversions import new_data_version
    from ctcml.identity import load_key
    from ctcml.intake import take_in
    from ctcml.params import load_params

    ws = Workspace(Path(shutil.copytree(new_workspace, root, symlinks=True)))
    sources = (laboratory / "export", laboratory / "clinical.csv", laboratory / "historic_labels.csv")
    take_in(*sources, ws, key=load_key(ws.key), block=(2, 1, 1), seed=1, now=NOON)
    training = {
        one.body["patient_uid"] for one in Ledger(ws.ledger).events("patient_assigned") if one.body["role"] == "train"
    }
    cells = read_folder(ws.manifest, MANIFEST).groupby("patient_uid").head(4)
    said = []
    for number, (cell, patient) in enumerate(zip(cells["cell_uid"], cells["patient_uid"], strict=True)):
        said += read_and_settled(cell, agreed=bool(number % 2), training=patient in training)
    Ledger(ws.ledger).append(said, now=NOON)
    new_data_version(ws, why="test", by="test", now=NOON)
    write_random_model(ws.champion, seed=1)
    (ws.champion / "version.json").write_text('{"version": "1"}')
    params = load_params(ws.params)
    stages.settle(ws, say=lambda _: None)
    stages.embed(ws, executor=params.executor.model_copy(update={"kind": "here"}), say=lambda _: None)
    stages.calibrate(ws, counts=params.counts, say=lambda _: None)
    stages.count(ws, counts=params.counts, survival=params.survival, say=lambda _: None)
    return ws
