"""Review pull: validated answers enter the ledger, what two readers agree on is settled, decisions signed elsewhere are executed."""

import shutil
from collections import Counter

from prefect import flow
from prefect.futures import wait

from ctcml.class_evidence import ask_again, flagged_clusters, write_evidence
from ctcml.class_registry import classes_of
from ctcml.dataversions import anchor, set_start
from ctcml.identity import load_key
from ctcml.ledger import Ledger
from ctcml.live_agreement import write_agreement
from ctcml.people import people_of
from ctcml.settlement import Round, settle_readings
from ctcml.versioning import commit
from ctcml.withdrawal import withdrawn_cells
from flows.intake import freeze
from flows.steps import local, now, over_network, say, workspace_and_params
from labelstudio.desk import class_decisions, execute_requests
from labelstudio.rounds import Pulled, pull_reads, queue_of


@over_network
def fetch(root: str, reader: str, from_the_beginning: bool) -> Pulled:
    ws, _ = workspace_and_params(root)
    queue, _ = queue_of(ws, reader)
    classes = classes_of(Ledger(ws.ledger).events("class_added"))
    pulled = pull_reads(ws, queue, classes, key=load_key(ws.key), now=now(), from_the_beginning=from_the_beginning)
    if pulled.new or pulled.rejected or pulled.disturbed:
        more = f", {pulled.disturbed} deleted or changed after they were taken in" if pulled.disturbed else ""
        say()(f"{reader}: {pulled.new} new readings, {pulled.rejected} rejected, {pulled.open} open{more}")
    return pulled


@local
def settle(root: str) -> Round:
    ws, params = workspace_and_params(root)
    outcome = settle_readings(
        Ledger(ws.ledger),
        rule=params.settlement.rule,
        check_share=params.settlement.check_share,
        new_class_min=params.settlement.new_class_min,
        key=load_key(ws.key),
        now=now(),
        withdrawn=withdrawn_cells(ws),
        clusters=flagged_clusters(ws),
    )
    ask_again(ws, look_alikes=params.review.look_alikes, seed=params.seed, now=now())
    anchor(ws)
    duties = Counter(one.duty.value for one in outcome.third)
    told = [
        f"{outcome.settled} cells settled",
        f"{len(outcome.waiting)} readings open",
        *(f"{number} wait for the {duty}" for duty, number in sorted(duties.items())),
        *(f"class {one} is proposed" for one in outcome.proposals),
        *([f"{len(outcome.without_third)} need a third person: add one"] if outcome.without_third else []),
    ]
    say()(", ".join(told))
    return outcome


@local
def execute(root: str) -> int:
    """Carry out what experts decided about classes on the dashboard, each once; what cannot be done is refused with its reason."""
    ws, params = workspace_and_params(root)
    handlers = class_decisions(ws, look_alikes=params.review.look_alikes, seed=params.seed, now=now())
    told = execute_requests(ws, handlers, now=now())
    for line in told:
        say()(line)
    if told:
        anchor(ws)
    return len(told)


@local
def figures(root: str, outcome: Round) -> None:
    """Readers' agreement and the evidence for proposed classes, as of now."""
    ws, params = workspace_and_params(root)
    write_agreement(ws, outcome, bootstrap=params.review.bootstrap, seed=params.seed)
    write_evidence(ws)


@flow
def review_pull(root: str, from_the_beginning: bool = False) -> Round:
    """Pull everybody side by side, carry out signed decisions, and settle what can be settled.

    A server that does not answer holds up nobody else; the run fails in the end, and the next one pulls what is missing.
    `from_the_beginning` looks at every answer again, for what a server did not date because it was killed.
    """
    ws, _ = workspace_and_params(root)
    people = people_of(Ledger(ws.ledger).events("reader_added", "reader_removed"))
    pulls = [fetch.submit(root, person.name, from_the_beginning) for person in people]
    wait(pulls)
    execute(root)
    outcome = settle(root)
    figures(root, outcome)
    for pull in pulls:
        pull.result()
    return outcome


@local
def begin(root: str, data_version: str) -> bool:
    ws, _ = workspace_and_params(root)
    return set_start(ws, data_version=data_version)


@local
def keep_figures(root: str, occasion: str) -> None:
    """Keep how far the readers agreed when the round was closed."""
    ws, _ = workspace_and_params(root)
    kept = ws.reports / occasion / "agreement.json"
    if ws.agreement.exists() and not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ws.agreement, kept)
        classes = [ws.reports / "classes"] if (ws.reports / "classes").exists() else []
        commit(ws.root, f"Readers' agreement in {occasion}", [kept, *classes])


@flow
def enlarge(root: str, occasion: str) -> str:
    """End the reading of a round: freeze the enlarged ground truth as a data version."""
    keep_figures(root, occasion)
    version = freeze(root, f"readings of {occasion}")
    begin(root, version)
    return version
