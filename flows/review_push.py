"""Review push: chosen cells go to two readers each, on a server of their own; what these differ on, to a third person."""

import shutil

from prefect import flow

from ctcml.identity import load_key
from ctcml.ledger import Ledger
from ctcml.tables import QUEUE, read_table
from ctcml.versioning import commit
from flows.steps import local, now, over_network, say, workspace_and_params
from labelstudio.desk import renew_protocol
from labelstudio.rounds import open_round, send_waiting


@local
def choose(root: str, occasion: str) -> int:
    """Open the round and keep what it was opened on: the next discovery replaces the contact sheets and the map."""
    ws, params = workspace_and_params(root)
    kept = ws.reports / occasion
    if not kept.exists():
        unfinished = ws.reports / f".{occasion}"
        shutil.rmtree(unfinished, ignore_errors=True)
        for name in ("clusters", "map"):
            shutil.copytree(ws.pictures / name, unfinished / name, ignore=shutil.ignore_patterns("*.svg"))
        shutil.copyfile(ws.clusters, unfinished / ws.clusters.name)
        unfinished.rename(kept)
        commit(ws.root, f"Evidence for {occasion}", [kept])
    return open_round(Ledger(ws.ledger), read_table(ws.queue, QUEUE), occasion=occasion, seed=params.seed, now=now())


@local
def explain(root: str) -> None:
    """Renew the reading protocol where classes have changed."""
    ws, params = workspace_and_params(root)
    if renew_protocol(ws, seed=params.seed, now=now()):
        say()(f"reading protocol renewed: {ws.review / 'reading_protocol.md'}")


@over_network
def send(root: str) -> dict[str, int]:
    """Send everybody what is open and not on their server yet."""
    ws, _ = workspace_and_params(root)
    sent = send_waiting(ws, key=load_key(ws.key))
    for reader, cells in sent.items():
        if cells:
            say()(f"{cells} cells sent to {reader}")
    return sent


@flow
def review_push(root: str, occasion: str | None = None) -> dict[str, int]:
    """Open a round, if one is named, and fill the queues of all who are asked; repeated, it sends only what is missing."""
    if occasion is not None:
        choose(root, occasion)
    explain(root)
    return send(root)
