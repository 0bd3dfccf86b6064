"""The loop, as a table of contents. Called again and again, it goes on from where the records say that it stands.

No flow waits for people: where they are due, it ends and says for whom. A call after a crash repeats nothing that is
finished, because every step looks at its records first.
"""

from dataclasses import dataclass
from typing import Any

from prefect import flow

from ctcml.assignments import open_occasions
from ctcml.dataversions import anchor
from ctcml.ledger import Draft, Ledger
from ctcml.settlement import Round
from flows.intake import intake
from flows.progress import announce
from flows.promotion import carry_out
from flows.recount import discovery
from flows.retraining import learn, one_at_a_time
from flows.review_pull import enlarge, review_pull
from flows.review_push import review_push
from flows.serving import revive_reading_rooms
from flows.steps import local, now, workspace_and_params
from flows.training import training


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where the loop came to: for whom it waits (nobody when the round is closed), and the gate's report."""

    waits_for: tuple[str, ...]  # names of readers, or "two experts" for a class that is proposed
    open_cells: int
    proposals: tuple[str, ...] = ()
    report: dict[str, Any] | None = None


@flow
def loop(root: str, tracking_uri: str, export: str, clinical: str, historic: str | None, occasion: str) -> Standing:
    """One round: take in, train, discover, ask people; then enlarge, retrain, compare, recount."""
    ws, _ = workspace_and_params(root)
    if any(event.body["occasion"] == occasion for event in Ledger(ws.ledger).events("queued")):
        review_push(root)
        return go_on(root, tracking_uri, occasion)
    announce(ws, "intake")
    intake(root, export, clinical, historic)
    announce(ws, "training")
    training(root, tracking_uri)
    announce(ws, "discovery")
    discovery(root)
    announce(ws, "review push")
    review_push(root, occasion)
    return stands(review_pull(root))


@flow
def go_on(root: str, tracking_uri: str, occasion: str) -> Standing:
    """Pull; when nobody is waited for any more, take the next step: enlarge, retrain, compare, recount, close."""
    ws, _ = workspace_and_params(root)
    announce(ws, "review pull")
    standing = stands(review_pull(root))
    if not standing.waits_for:
        standing = stands(review_pull(root, from_the_beginning=True))
    if standing.waits_for:
        review_push(root)  # what came out of it: contested cells, and cells that are read again
        return standing
    with one_at_a_time(ws):
        enlarge(root, occasion)
        report = learn(root, tracking_uri)
    close(root)
    return Standing(waits_for=(), open_cells=0, report=report)


def stands(outcome: Round) -> Standing:
    """For whom a round waits: everybody who has something to read, then experts at the class desk."""
    asked = (*outcome.waiting, *outcome.third)
    if asked:
        names = tuple(sorted({one.reader for one in asked}))
        return Standing(waits_for=names, open_cells=len({one.case for one in asked}))
    if outcome.proposals:
        return Standing(waits_for=("two experts",), open_cells=0, proposals=outcome.proposals)
    return Standing(waits_for=(), open_cells=0)


@local
def close(root: str) -> None:
    ws, _ = workspace_and_params(root)
    ledger = Ledger(ws.ledger)
    drafts = [
        Draft(kind="round_closed", by="flow", why="read, settled, trained on and counted", body={"occasion": occasion})
        for occasion in open_occasions(ledger.events())
    ]
    ledger.append(drafts, now=now())
    anchor(ws)


@flow
def review(root: str, tracking_uri: str) -> Standing | None:
    """What the clock calls: go on with the open round, if there is one; a server of a reader that died is brought back."""
    ws, _ = workspace_and_params(root)
    occasions = open_occasions(Ledger(ws.ledger).events())
    revive_reading_rooms(ws)
    carry_out(root, tracking_uri)
    if not occasions:
        review_pull(root)  # late changes to readings are noticed, signed decisions carried out
        return None
    return go_on(root, tracking_uri, occasions[0])
