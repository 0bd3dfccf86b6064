"""What the readers are handed, the reading protocol with examples of each class, and what they ask for on the dashboard."""

import json
from datetime import datetime

import numpy as np
import pandas as pd

from ctcml.class_desk import ballots_of
from ctcml.class_evidence import decide_class
from ctcml.class_registry import classes_of
from ctcml.errors import CtcmlError, ProtocolBreach
from ctcml.images import Picture
from ctcml.ledger import Draft, Ledger
from ctcml.people import people_of
from ctcml.requests import Request, require_signed_by, waiting_requests
from ctcml.shards import read_overlays
from ctcml.tables import MANIFEST, atomic_path, read_folder
from ctcml.truth import ground_truth, training_cells
from ctcml.workspace import Workspace
from labelstudio.protocol import write_protocol
from labelstudio.rounds import server_home
from labelstudio.server import read_login

EXAMPLES = 8  # of each class


def renew_protocol(ws: Workspace, *, seed: int) -> bool:
    """Write `review/reading_protocol.md` and the examples anew when classes or proposals have changed; says whether.

    Examples are drawn at random from settled training cells that are not asked of anybody at the time.
    """
    events = list(Ledger(ws.ledger).events())
    ballots = ballots_of(events)
    stamp = {
        "classes": [event.body for event in events if event.kind == "class_added"],
        "ballots": [[one.class_id, one.status] for one in ballots],
        "has_settled": any(event.kind == "settlement" for event in events),
    }
    mark = ws.review / "protocol.json"
    if mark.exists() and json.loads(mark.read_text()) == stamp and (ws.review / "reading_protocol.md").exists():
        return False
    manifest = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "sample_uid", "patient_uid"])
    asked = {event.body["cell_uid"] for event in events if event.kind == "queued"}
    settled = training_cells(ground_truth(events, manifest).cells)
    unasked = settled[~settled["cell_uid"].isin(asked)]
    write_protocol(
        ws.review,
        classes=classes_of(events),
        examples=_examples(ws, unasked if len(unasked) else settled, np.random.default_rng([seed, 12])),
        proposed=[one.proposed.body["name"] for one in ballots if one.status == "open"],
        rejected=[one.proposed.body["name"] for one in ballots if one.status == "rejected"],
    )
    with atomic_path(mark) as unfinished:
        unfinished.write_text(json.dumps(stamp) + "\n")
    return True


def _examples(ws: Workspace, settled: pd.DataFrame, rng: np.random.Generator) -> dict[str, list[Picture]]:
    chosen = {}
    for class_id, members in settled.groupby("class_id"):
        cells = members.iloc[np.sort(rng.permutation(len(members))[:EXAMPLES])]
        chosen[str(class_id)] = list(read_overlays(ws.shards, cells[["cell_uid", "sample_uid"]]).values())
    return chosen


def execute_requests(ws: Workspace, *, look_alikes: int, seed: int, now: datetime) -> list[str]:
    """Carry out what people signed on the dashboard, each once; a line for each, also for those that are refused.

    A request is refused when its signature is not that of the person's password, or when what it asks for cannot be done.
    """
    ledger, told = Ledger(ws.ledger), []
    for one in waiting_requests(ws.requests, ledger.events("request")):
        try:
            outcome = _execute(ws, one, look_alikes=look_alikes, seed=seed, now=now)
        except CtcmlError as error:
            outcome = f"refused: {error}"
        body = {"request": one.request, "action": one.action, "outcome": outcome}
        ledger.append([Draft(kind="request", by=one.by, why="signed on the dashboard", body=body)], now=now)
        told.append(f"{one.action} by {one.by}: {outcome}")
    return told


def _execute(ws: Workspace, one: Request, *, look_alikes: int, seed: int, now: datetime) -> str:
    if any(event.body["request"] == one.request for event in Ledger(ws.ledger).events("class_vote")):
        return "done before"  # a run that was killed wrote the vote and not its receipt
    if one.by not in [person.name for person in people_of(Ledger(ws.ledger).events())]:
        raise ProtocolBreach(f"{one.by!r} is not registered; expected a reader or an adjudicator")
    require_signed_by(one, read_login(server_home(ws, one.by) / "login.json").reader_password)
    return decide_class(
        ws,
        str(one.body.get("class_id")),
        expert=one.by,
        accepts=one.action == "accept_class",
        definition=str(one.body.get("definition") or ""),
        why=str(one.body.get("reason") or ""),
        look_alikes=look_alikes,
        seed=seed,
        now=now,
        request=one.request,
    )
