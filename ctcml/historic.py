"""Labels from before ctcml: a laboratory's own table, or those that came with its arrays; into the ledger, each once."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from ctcml.errors import BadInput
from ctcml.ledger import Draft, Ledger
from ctcml.thumbnails import Refused

COLUMNS = ["sample", "object_index", "label", "source"]


@dataclass(frozen=True, kw_only=True)
class HistoricLabel:
    """One label; `where` is its place in the source, for a refusal."""

    where: str
    cell_uid: str
    label: str
    source: str


def read_historic(path: Path) -> pd.DataFrame:
    """Read a table of labels that two experts agreed on: columns sample, object_index, label, source; all as text."""
    try:
        if b"\0" in path.read_bytes():  # pandas would cut the cell there
            raise BadInput(f"{path}: not readable as a CSV table (it holds a NUL character); save it again")
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise BadInput(f"{path}: not readable as a CSV table ({' '.join(str(error).split())}); save it again") from None
    if list(table.columns) != COLUMNS:
        raise BadInput(f"{path}: columns {list(table.columns)}, expected {COLUMNS}; rename them")
    return table


def record_historic(
    labels: Iterable[HistoricLabel], cells: set[str], ledger: Ledger, *, now: datetime
) -> tuple[int, list[Refused]]:
    """Write labels of known cells and registered classes into the ledger; returns how many, and what was refused.

    A cell keeps the first label that it was given: another one is refused, for the readers to settle.
    """
    events = list(ledger.events("historic_label", "class_added"))
    given = {event.body["cell_uid"]: event.body["class_id"] for event in events if event.kind == "historic_label"}
    classes = {event.body["class_id"] for event in events if event.kind == "class_added"}
    drafts, refused = [], []
    for one in labels:
        if one.label not in classes:
            reason = f"class {one.label!r} is not registered; register it or correct the label"
        elif one.cell_uid not in cells:
            reason = "no such thumbnail in the manifest"
        elif given.get(one.cell_uid, one.label) != one.label:
            reason = f"label {one.label!r} contradicts {given[one.cell_uid]!r}, given before; let readers settle it"
        else:
            if one.cell_uid not in given:
                body = {"cell_uid": one.cell_uid, "class_id": one.label, "source": one.source}
                drafts.append(Draft(kind="historic_label", by=one.source, why="labelled before ctcml", body=body))
                given[one.cell_uid] = one.label
            continue
        refused.append(Refused(file=one.where, reason=reason))
    ledger.append(drafts, now=now)
    return len(drafts), refused
