"""How far the readers agree at this moment: from the living ledger, beside the model where there is one."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from ctcml.agreement import agreement_report
from ctcml.class_registry import aliases_of
from ctcml.ledger import Event, Ledger
from ctcml.opinions import opinions_of
from ctcml.readings import UNREADABLE_TO_ALL, canonical
from ctcml.records import Duty, Role
from ctcml.settlement import Round
from ctcml.tables import DISCOVERY, EMBEDDING, MANIFEST, read_folder, read_table, write_json
from ctcml.workspace import Workspace


def write_agreement(ws: Workspace, outcome: Round, *, bootstrap: int, seed: int) -> dict[str, Any]:
    """Write `review/agreement.json`: the report of `agreement_report` and where the open cells stand."""
    events = list(Ledger(ws.ledger).events())
    patient_of = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "patient_uid"]).set_index("cell_uid")
    settled = {event.body["cell_uid"]: event.body["class_id"] for event in events if event.kind == "settlement"}
    how = Counter(
        {event.body["cell_uid"]: event.body["how"] for event in events if event.kind == "settlement"}.values()
    )
    opinions, aliases = opinions_of(events, patient_of["patient_uid"]), aliases_of(events)
    report = agreement_report(
        opinions.assign(label=[canonical(label, aliases) for label in opinions["label"]]),
        settled=settled,
        cluster=_by_cell(ws, "cluster_name"),
        # How the model does on sealed patients is for the gate, which counts its looks.
        predicted=_open_cells(_by_cell(ws, "predicted"), events, patient_of["patient_uid"]),
        classes=[event.body["class_id"] for event in events if event.kind == "class_added"],
        bootstrap=bootstrap,
        rng=np.random.default_rng([seed, 13]),
    )
    kinds = Counter(event.kind for event in events)
    report |= {
        "settled": len(settled),
        "adjudicated": how["adjudicator"],
        "waiting": len({one.case for one in outcome.waiting}),
        "contested": sum(one.duty == Duty.ADJUDICATOR for one in outcome.third) + len(outcome.without_third),
        "checks_waiting": sum(one.duty == Duty.CHECK for one in outcome.third),
        "unreadable": sum(one.why == UNREADABLE_TO_ALL for one in outcome.left_out),
        "left_out": len(outcome.left_out),
        "unnamed": outcome.unnamed,
        "proposals": list(outcome.proposals),
        "rejected": kinds["reading_rejected"],
        "disturbed": kinds["reading_disturbed"],
        "historic": kinds["historic_label"],
    }
    write_json(ws.agreement, report, allow_nan=False)
    return report


def _open_cells(said: dict[str, str], events: list[Event], patient_of: pd.Series) -> dict[str, str]:
    """What was said of cells of patients who are not sealed."""
    closed = {
        event.body["patient_uid"]
        for event in events
        if event.kind == "patient_assigned" and event.body["role"] == Role.SEALED
    }
    cells = set(patient_of.index[patient_of.isin(closed)])
    return {uid: label for uid, label in said.items() if uid not in cells}


def _by_cell(ws: Workspace, column: str) -> dict[str, str]:
    """What discovery or the champion says of each cell; nothing before there is any."""
    if column == "predicted":
        if not ws.embeddings.exists():
            return {}
        table = read_folder(ws.embeddings, EMBEDDING, columns=["cell_uid", column])
    elif ws.cell_discovery.exists():
        table = read_table(ws.cell_discovery, DISCOVERY, columns=["cell_uid", column])
    else:
        return {}
    return dict(zip(table["cell_uid"], table[column], strict=True))
