"""What the readers are handed, the reading protocol with examples of each class, and what they ask for on the dashboard."""

import json
import shutil
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from ctcml.class_desk import ballots_of
from ctcml.class_evidence import decide_class
from ctcml.class_registry import classes_of
from ctcml.errors import CtcmlError, ProtocolBreach
from ctcml.ledger import Draft, Ledger
from ctcml.people import people_of
from ctcml.requests import Request, require_signed_by, waiting_requests
from ctcml.shards import read_overlays
from ctcml.tables import MANIFEST, atomic_path, read_folder
from ctcml.truth import ground_truth, training_cells
from ctcml.workspace import Workspace
from labelstudio.protocol import show_examples, write_protocol
from labelstudio.rounds import server_home
from labelstudio.server import read_login

EXAMPLES = 8  # of each class
STAMP = "protocol.json"  # what the protocol was written from


def renew_protocol(ws: Workspace, *, seed: int, now: datetime) -> bool:
    """Write `review/reading_protocol.md` and the examples anew when classes or proposals have changed; says whether.

    Examples are drawn at random from settled training cells, of those that nobody was asked about as far as there are any;
    the ledger names them, so that they do not come back as hidden repeats.
    """
    ledger = Ledger(ws.ledger)
    events = list(ledger.events())
    ballots = ballots_of(events)
    stamp = {
        "classes": [event.body for event in events if event.kind == "class_added"],
        "ballots": [[one.class_id, one.status] for one in ballots],
        "has_settled": any(event.kind == "settlement" for event in events),
    }
    mark = ws.review / STAMP
    if mark.exists() and json.loads(mark.read_text()) == stamp and (ws.review / "reading_protocol.md").exists():
        return False
    manifest = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "sample_uid", "patient_uid"])
    asked = {event.body["cell_uid"] for event in events if event.kind == "queued"}
    settled = training_cells(ground_truth(events, manifest).cells)
    unasked = settled[~settled["cell_uid"].isin(asked)]
    chosen = _chosen(unasked if len(unasked) else settled, np.random.default_rng([seed, 12]))
    ledger.append([Draft(kind="protocol_renewed", by="ctcml", body={"cells": sorted(chosen["cell_uid"])})], now=now)
    pictures = read_overlays(ws.shards, chosen[["cell_uid", "sample_uid"]])
    write_protocol(
        ws.review,
        classes=classes_of(events),
        examples={
            str(class_id): [pictures[uid] for uid in uids] for class_id, uids in chosen.groupby("class_id")["cell_uid"]
        },
        proposed=[one.proposed.body["name"] for one in ballots if one.status == "open"],
        rejected=[one.proposed.body["name"] for one in ballots if one.status == "rejected"],
    )
    with atomic_path(mark) as unfinished:
        unfinished.write_text(json.dumps(stamp) + "\n")
    return True


def _chosen(settled: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Up to `EXAMPLES` cells of each class."""
    parts = [
        members.iloc[np.sort(rng.permutation(len(members))[:EXAMPLES])] for _, members in settled.groupby("class_id")
    ]
    return pd.concat([settled.iloc[:0], *parts])


def forget_pictures(ws: Workspace) -> None:
    """Remove galleries and examples, also from readers' servers: they may show a patient who withdrew.

    They are drawn anew with the next push.
    """
    for name in ("gallery", "examples"):
        shutil.rmtree(ws.review / name, ignore_errors=True)
    (ws.review / STAMP).unlink(missing_ok=True)
    for file in (ws.services / "labelstudio").glob("*/login.json"):
        login = read_login(file)
        show_examples(ws.review, Path(login.pictures) if login.pictures else file.parent / "pictures")


Carry = Callable[[Request], str]  # does what a verified request asks for, and says what came of it


def execute_requests(ws: Workspace, handlers: Mapping[str, Carry], *, now: datetime) -> list[str]:
    """Carry out what people signed on the dashboard, each once; a line for each, also for those that are refused.

    `handlers` has one for each action that is to be executed; requests for other actions wait. A request is refused when
    its signature is not that of the person's password, or when what it asks for cannot be done.
    """
    ledger, told = Ledger(ws.ledger), []
    for one in waiting_requests(ws.requests, ledger.events("request")):
        if one.action not in handlers:
            continue
        try:
            _require_signature(ws, one)
            outcome = handlers[one.action](one)
        except CtcmlError as error:
            outcome = f"refused: {error}"
        body = {"request": one.request, "action": one.action, "outcome": outcome}
        ledger.append([Draft(kind="request", by=one.by, why="signed on the dashboard", body=body)], now=now)
        told.append(f"{one.action} by {one.by}: {outcome}")
    return told


def class_decisions(ws: Workspace, *, look_alikes: int, seed: int, now: datetime) -> dict[str, Carry]:
    """What to do with experts' decisions about proposed classes."""

    def decide(one: Request) -> str:
        if any(event.body["request"] == one.request for event in Ledger(ws.ledger).events("class_vote")):
            return "done before"  # a run that was killed wrote the vote and not its receipt
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

    return {"accept_class": decide, "reject_class": decide}


def _require_signature(ws: Workspace, one: Request) -> None:
    if one.by not in [person.name for person in people_of(Ledger(ws.ledger).events())]:
        raise ProtocolBreach(f"{one.by!r} is not registered; expected a reader or an adjudicator")
    require_signed_by(one, read_login(server_home(ws, one.by) / "login.json").reader_password)
