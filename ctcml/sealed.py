"""The only door to the labels of sealed patients: each look is written down before it is taken, and there are so many of them.

Whoever may look at the same sealed patients again and again ends with the model that fits them by chance. So the looks are
counted, and when they are used up the door stays shut until new patients have joined the set. Only `ctcml.gate` may import this
module; an import contract says so.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from ctcml.errors import BadTable, ProtocolBreach
from ctcml.ledger import Draft, Event, Ledger
from ctcml.records import Purpose, Role
from ctcml.tables import MANIFEST, TRUTH, check, read_folder
from ctcml.workspace import Workspace

CHANGES_LABELS = ("settlement", "withdrawal")


@dataclass(frozen=True, kw_only=True)
class SealedBudget:
    """How often the sealed set was opened (`looks` ever, `used` since it last grew enough) and what renews the budget."""

    allowed: int
    used: int
    looks: int
    patients: int  # sealed patients with a settled cell
    missing: int  # more of them renew the budget
    spent: bool
    advice: str

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and a sentence, ready for JSON."""
        return asdict(self)


def budget(
    events: Iterable[Event], patient_of: Mapping[str, str], *, sealed_looks: int, fresh_share: float
) -> SealedBudget:
    """Count the looks in the ledger, in its order; `patient_of` gives the patient_uid by cell_uid.

    The count begins anew when the set has grown by `fresh_share` of the settled patients that it had when the count began.
    """
    roles: dict[str, str] = {}
    settled: set[str] = set()
    looks = used = had = 0
    for event in events:
        body = event.body
        if event.kind == "patient_assigned":
            roles[body["patient_uid"]] = body["role"]
        elif event.kind == "settlement" and body["purpose"] == Purpose.EVALUATION:
            patient = patient_of.get(body["cell_uid"], "")
            if roles.get(patient) == Role.SEALED:
                settled.add(patient)
        elif event.kind == "sealed_look":
            if not used or len(settled) >= _renewing(had, fresh_share):
                used, had = 0, len(settled)
            looks, used = looks + 1, used + 1
    if used and len(settled) >= _renewing(had, fresh_share):
        used, had = 0, len(settled)
    missing = _renewing(had if used else len(settled), fresh_share) - len(settled)
    spent = used >= sealed_looks
    return SealedBudget(
        allowed=sealed_looks,
        used=used,
        looks=looks,
        patients=len(settled),
        missing=missing,
        spent=spent,
        advice=_advice(used, sealed_looks, had, missing),
    )


def open_sealed(
    ws: Workspace,
    *,
    version: str,
    why: str,
    models: Mapping[str, str],
    sealed_looks: int,
    fresh_share: float,
    now: datetime,
) -> pd.DataFrame:
    """The settled cells of sealed patients (`tables.TRUTH`), for one comparison of `models` (name: SHA-256 of the weights).

    The look is in the ledger before the labels are read; `ProtocolBreach` when none is left. The same comparison again,
    before any label has changed, is the same look: a gate that was killed goes on, and learns nothing that it did not know.
    """
    ledger, patient_of = Ledger(ws.ledger), patients_of(ws)
    body = {"version": version, "models": dict(models)}

    def look() -> list[Draft]:
        events = list(ledger.events())
        if _goes_on(events, body):
            return []
        left = budget(events, patient_of, sealed_looks=sealed_looks, fresh_share=fresh_share)
        if left.spent:
            raise ProtocolBreach(f"version {version}: the sealed set stays closed, {left.advice}")
        return [Draft(kind="sealed_look", by="gate", why=why, body=body)]

    ledger.decide(look, now=now)
    try:
        labels = pq.read_table(ws.sealed).to_pandas()
    except (OSError, ValueError):  # absent, or no table
        raise BadTable(f"{ws.sealed}: not readable; make it again with `ctcml repro settle`") from None
    check(labels, TRUTH, ws.sealed.name)
    return labels


def patients_of(ws: Workspace) -> dict[str, str]:
    """patient_uid by cell_uid, of the cells that are in the data."""
    manifest = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "patient_uid"])
    return dict(zip(manifest["cell_uid"], manifest["patient_uid"], strict=True))


def _renewing(had: int, fresh_share: float) -> int:
    """Settled patients from which on the set counts as renewed."""
    return had + max(1, math.ceil(fresh_share * had))


def _goes_on(events: list[Event], body: Mapping[str, Any]) -> bool:
    """Whether the last look was this very one and no label has changed since."""
    recent = next((event for event in events[::-1] if event.kind in ("sealed_look", *CHANGES_LABELS)), None)
    return recent is not None and recent.kind == "sealed_look" and recent.body == body


def _advice(used: int, allowed: int, had: int, missing: int) -> str:
    more = f"{missing} more sealed patient{'' if missing == 1 else 's'}"
    if used >= allowed:
        return (
            f"it was opened {used} times since it had {had} patients and {allowed} are allowed; take in new patients "
            f"until {more} can be read through the evaluation arm (raise queue.evaluation_sealed), which renews the budget"
        )
    return f"{allowed - used} of {allowed} looks are left; {more}, read through the evaluation arm, renew the budget"
