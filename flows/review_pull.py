"""Review pull: validated answers enter the ledger, what two readers agree on is settled, a shared new name becomes a class."""

from prefect import flow

from ctcml.dataversions import anchor, set_start
from ctcml.identity import load_key
from ctcml.ledger import Ledger
from ctcml.settlement import Round, settle_readings
from ctcml.withdrawal import withdrawn_cells
from flows.intake import freeze
from flows.steps import local, now, over_network, say, workspace_and_params
from labelstudio.rounds import Pulled, cells_of, classes_of, pull_round, queue_of


@over_network
def fetch(root: str, reader: str, occasion: str) -> Pulled:
    ws, _ = workspace_and_params(root)
    ledger = Ledger(ws.ledger)
    queue, _ = queue_of(ws, reader)
    pulled = pull_round(
        ws, queue, cells_of(ledger, occasion), classes_of(ledger), key=load_key(ws.key), occasion=occasion, now=now()
    )
    say()(f"{reader}: {pulled.new} new readings, {pulled.known} known, {pulled.rejected} rejected")
    return pulled


@local
def settle(root: str) -> Round:
    ws, params = workspace_and_params(root)
    outcome = settle_readings(
        Ledger(ws.ledger),
        rule=params.settlement.rule,
        adjudicator=params.review.adjudicator,
        new_class_min=params.settlement.new_class_min,
        now=now(),
        withdrawn=withdrawn_cells(ws),
    )
    anchor(ws)
    new = f", new class {', '.join(one.name for one in outcome.new_classes)}" if outcome.new_classes else ""
    say()(
        f"{outcome.settled} cells settled, {len(outcome.contested)} contested, {len(outcome.waiting)} waiting for a reader{new}"
    )
    return outcome


@flow
def review_pull(root: str, occasion: str) -> Round:
    """Pull both readers and the adjudicator, and settle what can be settled."""
    _, params = workspace_and_params(root)
    for reader in (*params.review.readers, params.review.adjudicator):
        fetch(root, reader, occasion)
    return settle(root)


@local
def begin(root: str, data_version: str) -> bool:
    ws, _ = workspace_and_params(root)
    return set_start(ws, data_version=data_version)


@flow
def enlarge(root: str, occasion: str) -> str:
    """Close a round: freeze the enlarged ground truth as a data version."""
    version = freeze(root, f"readings of {occasion}")
    begin(root, version)
    return version
