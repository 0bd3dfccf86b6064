"""The loop, as a table of contents. Called again and again, it goes on from where the records say that it stands.

No flow waits for people: where readers are due, it ends and says for whom. A call after a crash repeats nothing that is
finished, because every step looks at its records first.
"""

from dataclasses import dataclass
from typing import Any

from prefect import flow

from ctcml.ledger import Ledger
from flows.intake import intake
from flows.progress import announce
from flows.promotion import promotion
from flows.recount import discovery, recount
from flows.review_pull import enlarge, review_pull
from flows.review_push import adjudication_push, review_push
from flows.steps import workspace_and_params
from flows.training import training
from labelstudio.rounds import cells_of


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where the loop came to: for whom it waits (nobody when the round is closed), and the gate's report."""

    waits_for: str
    open_cells: int
    report: dict[str, Any] | None


@flow
def loop(root: str, tracking_uri: str, export: str, clinical: str, historic: str | None, occasion: str) -> Standing:
    """One round: take in, train, discover, ask people; then enlarge, retrain, compare, recount."""
    ws, params = workspace_and_params(root)

    fresh = not cells_of(Ledger(ws.ledger), occasion)
    if fresh:
        announce(ws, "intake")
        intake(root, export, clinical, historic)
        announce(ws, "training")
        training(root, tracking_uri)
        announce(ws, "discovery")
        discovery(root)
        announce(ws, "review push")
    review_push(root, occasion)

    if not fresh:
        announce(ws, "review pull")
    outcome = review_pull(root, occasion)
    if outcome.waiting:
        return Standing(waits_for=" and ".join(params.review.readers), open_cells=len(outcome.waiting), report=None)
    if outcome.contested:
        adjudication_push(root, occasion, [one.cell_uid for one in outcome.contested])
        return Standing(waits_for=params.review.adjudicator, open_cells=len(outcome.contested), report=None)
    enlarge(root, occasion)

    announce(ws, "retraining")
    version = training(root, tracking_uri)
    announce(ws, "promotion")
    report = promotion(root, tracking_uri, version)
    announce(ws, "recount")
    recount(root)
    return Standing(waits_for="", open_cells=0, report=report)
