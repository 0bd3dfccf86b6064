"""The check of a workspace for leaks between the three sets of patients."""

from collections import Counter

import pandas as pd

from ctcml.ledger import Ledger
from ctcml.records import Role
from ctcml.splits import leaks
from ctcml.tables import MANIFEST, QUEUE, TRUTH, read_folder, read_table
from ctcml.workspace import Workspace


def find_leaks(ws: Workspace) -> tuple[list[str], str]:
    """Every leak as a sentence, and how much was looked at."""
    events = list(Ledger(ws.ledger).events())
    cells = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "patient_uid", "content_sha256"])
    assigned = [(event.body["patient_uid"], event.body["role"]) for event in events if event.kind == "patient_assigned"]
    labels = _rows([event.body for event in events if event.kind == "settlement"])
    learnt = read_table(ws.truth, TRUTH)[["cell_uid", "purpose"]] if ws.truth.exists() else _rows([])
    queue = [event.body for event in events if event.kind == "queued"]
    waiting = read_table(ws.queue, QUEUE)[["cell_uid", "purpose"]] if ws.queue.exists() else _rows([])
    both = [pd.concat(pair, ignore_index=True) for pair in ((labels, learnt), (_rows(queue), waiting))]
    found = leaks(assigned, cells, *both)
    sets = Counter(dict(assigned).values())
    told = ", ".join(f"{sets[role.value]} {role.value}" for role in Role)
    return found, f"{len(cells)} cells of {told} patients, {len(both[0])} labels, {len(both[1])} queued cells"


def _rows(bodies: list[dict[str, str]]) -> pd.DataFrame:
    rows = [(body["cell_uid"], str(body["purpose"])) for body in bodies]
    return pd.DataFrame(rows, columns=["cell_uid", "purpose"])
