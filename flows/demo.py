"""`ctcml demo`: the whole loop on a SIMULATED laboratory, on real servers, in a workspace of its own."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from ctcml.class_evidence import decide_class
from ctcml.class_registry import classes_of
from ctcml.dataversions import SOURCE, create_workspace
from ctcml.errors import BadInput
from ctcml.identity import load_key, pseudonym
from ctcml.ledger import READINGS, Draft, Ledger
from ctcml.params import load_params
from ctcml.people import Person, adding, people_of
from ctcml.services import Services, stop_recorded
from ctcml.simulate import simulate_laboratory
from ctcml.tables import CLINICAL, COUNTS, read_table, write_json
from ctcml.versioning import commit
from ctcml.workspace import Workspace
from flows.progress import announce, start_clock
from flows.serving import Engines, start_dashboard, start_engines, start_reading_rooms
from labelstudio.rounds import queue_of, server_home, waiting_reads
from labelstudio.server import login_for, read_login
from labelstudio.simulated_readers import answer_all

OCCASION = "round-1"
# Minutes instead of a night for the replay; and about 100 sealed CTCs, with which the anchor's own limits decide nothing.
DEMO = (
    "gate.unattended=true",
    "gate.anchor_margin=0.05",
    "gate.anchor_confidence=0.95",
    "replay.cells=400",
    "replay.networks=[autoencoder]",
)
if TYPE_CHECKING:
    from flows.loop import Standing

DEFINITIONS = {"cd45ev": "Leukocyte-derived extracellular vesicle: CD45+, DAPI−, CK−"}
READERS, ADJUDICATOR = ("reader-a", "reader-b"), "reader-c"


def run_demo(ws: Workspace, *, human: bool, resume: bool, changes: Sequence[str] = ()) -> None:
    """Run the loop to its end, or with `human` to the readers; `resume` goes on where a former run stopped."""
    prepare(ws, human=human, resume=resume, changes=changes)
    start_clock(ws)
    if not (ws.inbox / "simulated_truth.csv").exists():
        announce(ws, "simulated laboratory")
        simulate(ws)
    people = register_readers(ws)
    with Services(ws.services / "running.json") as services:
        announce(ws, "services")
        engines = start_engines(services, ws)
        start_reading_rooms(services, ws, people)
        standing = turn(ws, engines)
        if human and standing.waits_for:
            services.keep = True  # people read while this process is gone
            tell_readers(ws, people, standing)
            return
        while standing.waits_for:
            if standing.proposals:
                simulated_experts(ws, standing.proposals)
            else:
                announce(ws, "adjudicator" if standing.waits_for == (ADJUDICATOR,) else "readers")
                simulated_reading(ws, standing.waits_for)
            standing = turn(ws, engines)
        announce(ws, "dashboard")
        take_picture(services, ws)
        summary = summarise(ws, standing.report or {})
    write_json(ws.root / "summary.json", summary)
    commit(ws.root, "Summary of the demo", [ws.root / "summary.json"])
    show(ws, summary)


def prepare(ws: Workspace, *, human: bool, resume: bool, changes: Sequence[str]) -> None:
    """Make the workspace new, or say where an old one stands."""
    if resume:
        if not ws.params.exists():
            raise BadInput(f"{ws.root}: nothing to resume; run the demo without --resume")
        survivors = stop_recorded(ws.services / "running.json")
        ledger = Ledger(ws.ledger)
        done = {
            kind: sum(1 for _ in ledger.events(kind))
            for kind in ("patient_assigned", "training", "queued", "reading", "settlement", "promotion")
        }
        print(f"resuming {ws.root}: " + ", ".join(f"{count} {kind} events" for kind, count in done.items()))
        if survivors:
            print(f"        stopped what the former run left: {', '.join(survivors)}")
        return
    params = changed_params([*DEMO, *changes])
    if ws.root.exists() and any(ws.root.iterdir()):
        if not (ws.private / "simulated").exists():
            raise BadInput(f"{ws.root}: not the workspace of a demo; name another with --workspace")
        stop_recorded(ws.services / "running.json")
        shutil.rmtree(ws.root)
    ws.private.mkdir(parents=True, mode=0o700)
    (ws.private / "simulated").touch()
    create_workspace(ws, now=datetime.now(UTC))
    ws.params.write_text(params)
    commit(ws.root, "Parameters of the demo", [ws.params])
    body = {"unattended": True, "simulated_readers": not human}
    Ledger(ws.ledger).append(
        [Draft(kind="mode", by="ctcml demo", why="demo on simulated data", body=body)], now=datetime.now(UTC)
    )
    print(f"SIMULATED data throughout. Unattended promotion is switched on for this demo. Workspace: {ws.root}")


def register_readers(ws: Workspace) -> list[str]:
    """Two readers and an adjudicator, each with a login of their own; who is registered stays."""
    ledger = Ledger(ws.ledger)
    for name in (*READERS, ADJUDICATOR):
        people = people_of(ledger.events())
        if name not in [one.name for one in people]:
            login_for(name, server_home(ws, name))
            joining = Person(name=name, adjudicates=name == ADJUDICATOR)
            ledger.append([adding(people, joining, by="ctcml demo")], now=datetime.now(UTC))
    return [one.name for one in people_of(ledger.events())]


def simulated_experts(ws: Workspace, proposals: Sequence[str]) -> None:
    """Let two SIMULATED experts accept what is proposed, as people would at the desk."""
    params = load_params(ws.params)
    for class_id in proposals:
        for expert in READERS:
            said = decide_class(
                ws,
                class_id,
                expert=expert,
                accepts=True,
                definition=DEFINITIONS.get(class_id, "Named by two simulated readers"),
                why="SIMULATED: accepted by the demo",
                look_alikes=params.review.look_alikes,
                seed=params.seed,
                now=datetime.now(UTC),
            )
            print(f"        simulated expert {expert}: {said}", flush=True)


def changed_params(changes: Sequence[str]) -> str:
    """The shipped params.yaml with changes, as text; `BadInput` for a change that is not section.name=value."""
    found = yaml.safe_load((SOURCE / "params.yaml").read_text())
    for change in changes:
        name, _, value = change.partition("=")
        *path, key = name.split(".")
        place: Any = found
        for step in path:
            place = place.get(step) if isinstance(place, dict) else None
        if not path or not isinstance(place, dict) or key not in place:
            raise BadInput(
                f"--set {change!r}: expected section.name=value with a name of params.yaml; look it up there"
            )
        place[key] = yaml.safe_load(value)
    header = f"# Changed by the demo, on simulated data: {', '.join(changes)}\n"
    return header + yaml.safe_dump(found, sort_keys=False)


def simulate(ws: Workspace) -> None:
    params = load_params(ws.params)
    numbers = params.simulate.model_dump(exclude={"reader_error"})
    made = simulate_laboratory(ws.inbox, **numbers, seed=params.seed)
    print(f"        {made.patients} simulated patients, {made.thumbnails} thumbnails: {made.by_class}")


def turn(ws: Workspace, engines: Engines) -> Any:
    """Turn the loop as far as it goes."""
    from flows.loop import loop  # prefect reads its settings when it is imported: the server must be known by then
    from flows.steps import say_goodbye

    sources = [str(ws.inbox / name) for name in ("export", "clinical.csv", "historic_labels.csv")]
    try:
        return loop(str(ws.root), engines.mlflow, *sources, OCCASION)
    finally:
        say_goodbye()


def simulated_reading(ws: Workspace, waits_for: Sequence[str]) -> None:
    """Let SIMULATED readers answer what is open, through the real servers."""
    params = load_params(ws.params)
    key = load_key(ws.key)
    with (ws.inbox / "simulated_truth.csv").open(newline="") as file:
        truth = {
            pseudonym(key, "cell", row["sample"], row["object_index"]): row["true_class"]
            for row in csv.DictReader(file)
        }
    waiting = waiting_reads(ws, key=key)
    queues, truths = [], []
    for reader in waits_for:
        queue, _ = queue_of(ws, reader)
        queues.append(replace(queue, token=read_login(server_home(ws, reader) / "login.json").reader_token))
        truths.append({one.read_uid: truth[one.asked.cell_uid] for one in waiting if one.asked.reader == reader})

    def told(reader: str, done: int, all_: int) -> None:
        if done % 200 == 0 or done == all_:
            print(f"        simulated {reader}: {done}/{all_} cells read", flush=True)

    answer_all(
        queues,
        truths,
        classes=classes_of(Ledger(ws.ledger).events("class_added")),
        reader_error=params.simulate.reader_error,
        rng=np.random.default_rng([params.seed, 3]),
        told=told,
    )


def take_picture(services: Services, ws: Workspace) -> None:
    """Open the dashboard once in a real browser and keep what it shows."""
    dashboard = start_dashboard(services, ws)
    path = ws.pictures / "dashboard.png"
    done = subprocess.run(
        [sys.executable, "-m", "dashboards.screenshot", dashboard.url, str(path)], capture_output=True, text=True
    )
    print(
        f"        {path}"
        if done.returncode == 0
        else f"        no picture of the dashboard: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
    )


def summarise(ws: Workspace, report: dict[str, Any]) -> dict[str, Any]:
    """The figures of the before/after table, all read from what the stages and the gate made."""
    survival = json.loads(ws.survival.read_text())
    whole = next((one for one in survival["reports"] if one["group"] == "all" and one["source"] == "model"), None)
    counts = read_table(ws.counts, COUNTS)
    ctc = counts[(counts["class_id"] == "ctc") & (counts["threshold"] == 0) & (counts["denominator"] == "proposed")]
    ledger = Ledger(ws.ledger)
    agreement = json.loads(ws.agreement.read_text())
    return {
        "simulated": True,
        "verdict": report.get("verdict"),
        "promoted": report.get("promoted"),
        "reasons": report.get("reasons"),
        "before": report.get("champion"),
        "after": report.get("challenger"),
        "classes_before": report.get("champion_classes"),
        "classes_after": report.get("challenger_classes"),
        "kappa": agreement["kappa"],
        "ac1": agreement["ac1"],
        "exact_share": agreement["exact_share"],
        "readings": sum(1 for _ in ledger.events(*READINGS)),
        "settled": sum(1 for _ in ledger.events("settlement")),
        "sealed_looks": sum(1 for _ in ledger.events("sealed_look")),
        "patients": int(read_table(ws.clinical, CLINICAL, columns=["patient_uid"])["patient_uid"].nunique()),
        "ctc_total": int(ctc["count"].sum()),
        "sides": {side: int((ctc["side"] == side).sum()) for side in ("above", "below", "undecided")},
        "logrank_p": whole["logrank"]["p"] if whole and whole["logrank"] else None,
        "hazard_ratio": whole["cox"] if whole else None,
    }


def show(ws: Workspace, summary: dict[str, Any]) -> None:
    """Print the table and where everything lies."""

    def share(card: dict[str, Any] | None, name: str) -> str:
        one = card[name] if card else None
        return _estimate(one)

    def recall(card: dict[str, Any] | None, class_id: str) -> str:
        found = [one for one in card["classes"] if one["class_id"] == class_id] if card else []
        return _estimate(found[0]["recall"]) if found else "not in the sealed set"

    before, after = summary["before"], summary["after"]
    rows = [
        ("classes", str(len(summary["classes_before"] or [])), str(len(summary["classes_after"] or []))),
        ("accuracy", share(before, "accuracy"), share(after, "accuracy")),
        ("CTC sensitivity", share(before, "ctc_sensitivity"), share(after, "ctc_sensitivity")),
        ("CTC specificity", share(before, "ctc_specificity"), share(after, "ctc_specificity")),
        ("recall of CD45EV", recall(before, "cd45ev"), recall(after, "cd45ev")),
    ]
    print("\nSIMULATED data; sealed patients, evaluation arm, 95 % patient-bootstrap intervals")
    print(f"  {'':18} {'before':26} after")
    for name, old, new in rows:
        print(f"  {name:18} {old:26} {new}")
    print(f"  verdict of the gate: {summary['verdict']} ({'promoted' if summary['promoted'] else 'not promoted'})")
    for reason in summary["reasons"] or []:
        print(f"    - {reason}")
    print(
        f"  readers' agreement: kappa {_estimate(summary['kappa'])}, AC1 {_estimate(summary['ac1'])}, "
        f"exact {_estimate(summary['exact_share'])}"
    )
    sides = ", ".join(f"{patients} {side}" for side, patients in summary["sides"].items())
    print(f"  CTCs counted (proposed events): {summary['ctc_total']}; patients against their cut-off: {sides}")
    print(f"  survival by CTC count: log-rank p {_number(summary['logrank_p'])}")
    print(f"\nall of it lies in {ws.root}: summary.json, pictures/, reports/, derived/, ledger/, models/")
    print("serve it for daily use: make up     stop it: make down     research use only")


def _estimate(one: dict[str, Any] | None) -> str:
    if one is None or one["value"] is None:
        return "-"
    return f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def tell_readers(ws: Workspace, readers: Sequence[str], standing: "Standing") -> None:
    """Print addresses and logins once, for people."""
    if standing.proposals:
        print(
            f"\nclass {', '.join(standing.proposals)} is proposed; two experts decide: ctcml classes accept ... --workspace {ws.root}"
        )
    else:
        who = " and ".join(standing.waits_for)
        print(
            f"\n{standing.open_cells} cells wait for {who}. The servers go on running; each reader has one of their own:"
        )
        for reader in readers:
            login = read_login(server_home(ws, reader) / "login.json")
            print(f"  {reader}: {queue_of(ws, reader)[0].page}\n      {login.reader_email}   {login.reader_password}")
    print("go on with: make demo ARGS='--human --resume'     stop the servers: make down")
