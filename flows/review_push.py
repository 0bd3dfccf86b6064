"""Review push: the chosen cells go to two readers, each on a server of their own; contested ones to the adjudicator."""

import shutil

from prefect import flow

from ctcml.identity import load_key
from ctcml.ledger import Ledger
from ctcml.tables import QUEUE, read_table
from ctcml.versioning import commit
from flows.steps import local, now, over_network, say, workspace_and_params
from labelstudio.rounds import cells_of, open_round, push_round, queue_of


@local
def choose(root: str, occasion: str) -> int:
    """Open the round and keep what it was opened on: the next discovery replaces the contact sheets and the map."""
    ws, _ = workspace_and_params(root)
    kept = ws.reports / occasion
    if not kept.exists():
        unfinished = ws.reports / f".{occasion}"
        shutil.rmtree(unfinished, ignore_errors=True)
        for name in ("clusters", "map"):
            shutil.copytree(ws.pictures / name, unfinished / name, ignore=shutil.ignore_patterns("*.svg"))
        shutil.copyfile(ws.clusters, unfinished / ws.clusters.name)
        unfinished.rename(kept)
        commit(ws.root, f"Evidence for {occasion}", [kept])
    return open_round(Ledger(ws.ledger), read_table(ws.queue, QUEUE), occasion=occasion, now=now())


@over_network
def send(root: str, reader: str, cells: list[str], occasion: str) -> int:
    ws, _ = workspace_and_params(root)
    queue, pictures = queue_of(ws, reader)
    sent = push_round(ws, queue, cells, key=load_key(ws.key), occasion=occasion, pictures=pictures)
    say()(f"{sent} of {len(cells)} cells sent to {reader}")
    return sent


@flow
def review_push(root: str, occasion: str) -> dict[str, int]:
    """Open a round and fill both readers' queues; repeated, it sends only what is missing."""
    choose(root, occasion)
    ws, params = workspace_and_params(root)
    cells = sorted(cells_of(Ledger(ws.ledger), occasion))
    return {reader: send(root, reader, cells, occasion) for reader in params.review.readers}


@flow
def adjudication_push(root: str, occasion: str, contested: list[str]) -> int:
    """Send what two readers see differently to a third, who is told neither answer."""
    _, params = workspace_and_params(root)
    return send(root, params.review.adjudicator, sorted(contested), occasion)
