"""Small, true-to-life records for the tests; everything is seeded."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctcml.ledger import Draft, Ledger
from ctcml.records import PAPER_CLASSES, Purpose, Reading

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
KEY = b"k" * 32


def a_reading(
    cell: str, reader: str, label: str, *, purpose: Purpose = Purpose.TRAINING, occasion: str = "round-1"
) -> Reading:
    return Reading(
        read_uid=f"{cell}-{reader}-{occasion}",
        cell_uid=cell,
        reader=reader,
        label=label,
        occasion=occasion,
        purpose=purpose,
    )


def reading_draft(one: Reading, name: str | None = None) -> Draft:
    body: dict[str, Any] = {**vars(one), "purpose": one.purpose.value, "name": name, "source": "test"}
    return Draft(kind="reading", by=one.reader, body=body)


def a_ledger(path: Path, *drafts: Draft) -> Ledger:
    """A ledger that opens with the paper's five classes."""
    ledger = Ledger(path)
    opening = [
        Draft(
            kind="class_added",
            by="paper",
            body={"class_id": one.class_id, "name": one.name, "definition": one.definition},
        )
        for one in PAPER_CLASSES
    ]
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
