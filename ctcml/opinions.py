"""Everything that readers ever said, as one table: settlement throws nothing away, and disagreement is information."""

from collections.abc import Iterable

import pandas as pd

from ctcml.ledger import READINGS, Event
from ctcml.queries import repeat_cases
from ctcml.tables import OPINIONS


def opinions_of(events: Iterable[Event], patient_of: pd.Series) -> pd.DataFrame:
    """All readings of cells that are in the data (`tables.OPINIONS`), in the order of the ledger.

    `patient_of` gives the patient_uid by cell_uid.
    """
    events, patients = list(events), patient_of.to_dict()
    repeats = repeat_cases(event.body for event in events if event.kind == "queued")
    rows = [
        (
            body["cell_uid"],
            patients[body["cell_uid"]],
            body["purpose"],
            body["occasion"],
            body["reader"],
            body["duty"],
            body["label"],
            body["confidence"] or "",
            " ".join(body["reasons"]),
            body["lead_time_s"],
            event.at,
            (body["cell_uid"], body["occasion"]) in repeats,
        )
        for event in events
        if event.kind in READINGS and (body := event.body)["cell_uid"] in patients
    ]
    return pd.DataFrame(rows, columns=list(OPINIONS)).astype({"lead_time_s": "float32", "repeat": bool})
