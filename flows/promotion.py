"""Promotion: steering first, then the gate on sealed patients; a person signs, the archive is recounted, and can go back."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.events import emit_event

from ctcml.archive import embed_archive
from ctcml.dataversions import anchor
from ctcml.drift import drift_share
from ctcml.errors import BadInput, ProtocolBreach
from ctcml.executor import open_executor
from ctcml.gate import hold_gate, judge_steering, sealed_budget
from ctcml.ledger import Draft, Ledger
from ctcml.records import Verdict
from ctcml.recount_pictures import changes_plot
from ctcml.recounting import as_csv, changes, flips_in_words, recounted
from ctcml.registry import download_model, get_alias, log_scorecard, set_alias
from ctcml.requests import Request
from ctcml.retraining import champions, require_former, rolled_back
from ctcml.scorecard_page import write_page
from ctcml.shards import file_hash
from ctcml.stages import simulated
from ctcml.tables import COUNTS, atomic_path, read_table, write_json
from ctcml.versioning import commit, track, versions
from ctcml.workspace import Workspace
from flows.recount import recount
from flows.steps import local, now, over_network, run_stages, say, workspace_and_params
from labelstudio.desk import execute_requests

PROMOTED = "ctcml.promotion"  # the event for which the deployment `recount` waits


@contextmanager
def fetched(ws: Workspace, tracking_uri: str, *names: str) -> Iterator[list[Path]]:
    """Models of the registry, by version, in folders that are gone afterwards."""
    with tempfile.TemporaryDirectory(dir=ws.private) as folder:
        yield [download_model(tracking_uri, name, Path(folder) / name) for name in names]


@over_network
def point(root: str, tracking_uri: str, alias: str, version: str, *, why: str) -> None:
    """Point an alias of the registry to a version, and write down that it was."""
    ws, _ = workspace_and_params(root)
    before = get_alias(tracking_uri, alias)
    set_alias(tracking_uri, alias, version)
    if before != version:
        body = {"alias": alias, "version": version, "before": before}
        Ledger(ws.ledger).append([Draft(kind="alias", by="flow", why=why, body=body)], now=now())


@over_network
def crown(root: str, tracking_uri: str, version: str, *, by: str, why: str, kind: str = "promotion") -> None:
    """Make a registered version the champion: the stages' copy of it, the aliases, the ledger; the first is the anchor too.

    The last thing that it writes is the ledger's event, so a call that was cut off can be made again.
    """
    ws, _ = workspace_and_params(root)
    ledger = Ledger(ws.ledger)
    former = champions(ledger.events("promotion", "rollback"))
    if former[-1:] == (version,) and get_alias(tracking_uri, "champion") == version:
        return
    with fetched(ws, tracking_uri, version) as (model,):
        (model / "version.json").write_text(json.dumps({"version": version}) + "\n")
        ws.champion.parent.mkdir(exist_ok=True)
        shutil.rmtree(ws.champion, ignore_errors=True)
        model.rename(ws.champion)
    pointer = track(ws.root, ws.champion)
    set_alias(tracking_uri, "champion", version)
    if get_alias(tracking_uri, "anchor") is None:
        point.fn(root, tracking_uri, "anchor", former[0] if former else version, why="the first champion, frozen")
    if former[-1:] != (version,):
        body = {
            "version": version,
            "before": former[-1] if former else None,
            "counts_before": sha256_of(ws.counts),
            "changes": sha256_of(changes_of(ws, version)),
        }
        ledger.append([Draft(kind=kind, by=by, why=why, body=body)], now=now())
    commit(ws.root, f"Champion is version {version}: {why}", [pointer])
    anchor(ws)
    emit_event(PROMOTED, resource={"prefect.resource.id": f"ctcml.model.{version}"}, payload={"kind": kind})


def sha256_of(file: Path) -> str | None:
    return file_hash(file) if file.exists() else None


def present_champion(ws: Workspace) -> tuple[str, ...]:
    """Its version, alone in a tuple; empty before the first."""
    return champions(Ledger(ws.ledger).events("promotion", "rollback"))[-1:]


def changes_of(ws: Workspace, version: str) -> Path:
    """The table of every patient's counts before and after a challenger would be promoted."""
    return ws.reports / f"changes-{version}.csv"


@over_network
def on_steering(root: str, tracking_uri: str, version: str) -> dict[str, Any]:
    """Would the challenger pass on steering patients? Only then is the sealed set opened for it."""
    ws, params = workspace_and_params(root)
    champion = get_alias(tracking_uri, "champion")
    with fetched(ws, tracking_uri, version, str(champion)) as (challenger, present):
        report = judge_steering(
            ws,
            challenger,
            present,
            version=version,
            gate=params.gate,
            counts=params.counts,
            seed=params.seed,
            now=now(),
        )
    for line in report["reasons"][-1:]:
        say()(line)
    return report | {
        "champion_version": champion,
        "data_version": versions(ws.root)[-1].tag,
        "unattended": params.gate.unattended,
    }


@over_network
def look_ahead(root: str, tracking_uri: str, version: str) -> dict[str, Any]:
    """Embed and count the whole archive by the challenger before anybody signs.

    Returns a sentence for each patient whose count crosses the cut-off, and the shares of samples that drift with it and
    with the champion (None where too few samples tell).
    """
    ws, params = workspace_and_params(root)
    embeddings = ws.preview
    shutil.rmtree(embeddings, ignore_errors=True)
    with fetched(ws, tracking_uri, version) as (model,), open_executor(**params.executor.model_dump()) as pool:
        embed_archive(ws, model, embeddings, executor=pool, say=say())
        after = recounted(ws, model, embeddings, counts=params.counts, survival=params.survival)
        numbers = params.drift.model_dump(include={"rate", "min_cells", "reference_cells"}) | {"seed": params.seed}
        shares = drift_share(ws, embeddings, **numbers), drift_share(ws, ws.embeddings, **numbers)
    table = changes(read_table(ws.counts, COUNTS), after)
    ws.reports.mkdir(exist_ok=True)
    with atomic_path(changes_of(ws, version)) as unfinished:
        unfinished.write_text(as_csv(table), encoding="utf-8")
    changes_plot(table, ws.reports / f"changes-{version}.png", simulated=simulated(ws))
    shutil.rmtree(embeddings, ignore_errors=True)
    flips = flips_in_words(table)
    say()(f"{len(flips)} of {len(table)} counts would cross their cut-off: {changes_of(ws, version)}")
    return {"flips": flips, "drift": None if any(isnan(one) for one in shares) else list(shares)}


@over_network
def compare(root: str, tracking_uri: str, version: str, ahead: dict[str, Any]) -> dict[str, Any]:
    """Load the models back from the registry and hold the gate; without a look left it cannot decide, and says what to do."""
    ws, params = workspace_and_params(root)
    champion, first = str(get_alias(tracking_uri, "champion")), str(get_alias(tracking_uri, "anchor"))
    names = tuple(dict.fromkeys((version, champion, first)))
    with fetched(ws, tracking_uri, *names) as folders:
        of = dict(zip(names, folders, strict=True))
        try:
            report = hold_gate(
                ws,
                of[version],
                of[champion],
                of[first],
                version=version,
                gate=params.gate,
                counts=params.counts,
                drift=tuple(ahead["drift"]) if ahead["drift"] else None,
                seed=params.seed,
                now=now(),
                say=say(),
            )
        except ProtocolBreach as closed:
            left = sealed_budget(ws, params.gate)
            if not left.spent:
                raise
            # The scorecards stay those of the steering patients.
            report = {"verdict": Verdict.CANNOT_DECIDE.value, "reasons": [str(closed)], "budget": left.to_dict()}
    promoted = report["verdict"] == Verdict.PROMOTE and params.gate.unattended
    return report | {
        "anchor_version": first,
        "flips": ahead["flips"],
        "changes": changes_of(ws, version).name,
        "changes_sha256": sha256_of(changes_of(ws, version)),
        "promoted": promoted,
        "signed_by": "unattended promotion, switched on in params.yaml" if promoted else None,
    }


@over_network
def publish(root: str, tracking_uri: str, report: dict[str, Any]) -> None:
    """Keep the verdict with its scorecards and pictures in the workspace and in MLflow."""
    ws, _ = workspace_and_params(root)
    version, pages = report["version"], []
    for who in ("champion", "challenger"):
        if report.get(who):
            where = ws.reports / f"scorecard-{version}-{who}"
            about = {"model": f"{who}", "version": report["champion_version"] if who == "champion" else version}
            pages += write_page(
                report[who], where, title=f"{who} on {report['set']} patients", simulated=simulated(ws), about=about
            )
    write_json(ws.reports / f"promotion-{version}.json", report)
    # Pseudonyms of patients stay in the workspace: the registry names none.
    log_scorecard(tracking_uri, version, {name: told for name, told in report.items() if name != "flips"}, pages)
    commit(ws.root, f"Gate: {report['verdict']} version {version}", [ws.reports])
    anchor(ws)


@local
def judged_before(root: str, version: str) -> dict[str, Any] | None:
    """The verdict on this version with this data and champion, if there is one: nobody looks into the sealed set twice.

    The champion itself is not judged.
    """
    ws, _ = workspace_and_params(root)
    present = present_champion(ws)
    file = ws.reports / f"promotion-{version}.json"
    found: dict[str, Any] | None = json.loads(file.read_text()) if file.exists() else None
    if found and (
        found["data_version"] != versions(ws.root)[-1].tag or present not in ((version,), (found["champion_version"],))
    ):
        found = None
    if found is None and present == (version,):
        said = f"version {version} is the champion: the training brought nothing new"
        return {"version": version, "verdict": None, "promoted": False, "reasons": [said]}
    return found


@local
def note_mode(root: str) -> None:
    """Whether promotions need no signature is a fact with a date: the ledger says when it was switched."""
    ws, params = workspace_and_params(root)
    ledger = Ledger(ws.ledger)
    said = [event.body["unattended"] for event in ledger.events("mode") if "unattended" in event.body]
    if (said[-1] if said else False) != params.gate.unattended:
        why = f"gate.unattended is {str(params.gate.unattended).lower()} in params.yaml"
        ledger.append([Draft(kind="mode", by="flow", why=why, body={"unattended": params.gate.unattended})], now=now())


@local
def taken_back(root: str, version: str) -> bool:
    """Whether people rolled this version back; then only people promote it again."""
    ws, _ = workspace_and_params(root)
    found = version in rolled_back(Ledger(ws.ledger).events("promotion", "rollback"))
    if found:
        say()(f"version {version} was rolled back: it is not promoted again without a signature")
    return found


@flow
def promotion(root: str, tracking_uri: str, version: str) -> dict[str, Any]:
    """Judge a challenger; promote it when the gate says so and unattended promotion is switched on."""
    run_stages(root, ["settle", "count"])
    note_mode(root)
    report = judged_before(root, version)
    if report is None:
        point(root, tracking_uri, "challenger", version, why="trained and registered")
        report = on_steering(root, tracking_uri, version)
        if report["passes"]:
            report |= compare(root, tracking_uri, version, look_ahead(root, tracking_uri, version))
        publish(root, tracking_uri, report)
    if report["promoted"] and not taken_back(root, version):
        crown(root, tracking_uri, version, by=report["signed_by"], why="; ".join(report["reasons"]))
    return report


@flow
def sign(root: str, tracking_uri: str, version: str, signed_by: str, why: str) -> dict[str, Any]:
    """Promote what the gate found fit, on a person's word; `ProtocolBreach` for any other verdict."""
    ws, _ = workspace_and_params(root)
    file = ws.reports / f"promotion-{version}.json"
    if not file.exists():
        raise BadInput(f"version {version}: the gate has not judged it; run `ctcml loop` first")
    report: dict[str, Any] = json.loads(file.read_text())
    if report["verdict"] != Verdict.PROMOTE:
        raise ProtocolBreach(f"version {version}: the gate says {report['verdict']}; only 'promote' can be signed")
    if present_champion(ws) == (version,) and report["promoted"]:
        raise ProtocolBreach(f"version {version}: promoted already, signed by {report['signed_by']}; nothing to sign")
    _require_still_true(ws, report)
    crown(root, tracking_uri, version, by=signed_by, why=why)  # first: a call that was cut off can be made again
    report |= {"promoted": True, "signed_by": signed_by}
    write_json(file, report)
    commit(ws.root, f"Version {version} signed by {signed_by}: {why}", [file])
    recount(root)
    return report


def _require_still_true(ws: Workspace, report: dict[str, Any]) -> None:
    """What a person signs is the comparison with the present champion, and the table of changes, as they were judged."""
    version, judged = report["version"], report["champion_version"]
    present = present_champion(ws)
    if present not in ((judged,), (version,)):
        raise ProtocolBreach(
            f"version {version}: was compared with champion {judged}, the champion is {''.join(present)} by now; run "
            "`ctcml retrain` or `ctcml loop` to have it judged again"
        )
    if sha256_of(changes_of(ws, version)) != report.get("changes_sha256"):
        raise ProtocolBreach(
            f"{changes_of(ws, version)}: is not the table of changes that was judged; bring it back from git"
        )


@flow
def rollback(root: str, tracking_uri: str, version: str, signed_by: str, why: str) -> bool:
    """Make a former champion the champion again and recount; says whether the counts are those from before, to the byte."""
    ws, _ = workspace_and_params(root)
    events = list(Ledger(ws.ledger).events("promotion", "rollback"))
    require_former(events, version)
    before = next((one.body.get("counts_before") for one in events[::-1] if one.body["before"] == version), None)
    crown(root, tracking_uri, version, by=signed_by, why=why, kind="rollback")
    recount(root)
    return before is not None and sha256_of(ws.counts) == before


@flow
def carry_out(root: str, tracking_uri: str) -> int:
    """Execute promotions and rollbacks that people signed on the dashboard; returns how many, refused ones included."""
    ws, _ = workspace_and_params(root)

    def promote(one: Request) -> str:
        sign(root, tracking_uri, str(one.body.get("version")), one.by, str(one.body.get("reason") or ""))
        return "promoted"

    def go_back(one: Request) -> str:
        same = rollback(root, tracking_uri, str(one.body.get("version")), one.by, str(one.body.get("reason") or ""))
        return "rolled back; counts as before" if same else "rolled back; counts of the present data"

    told = execute_requests(ws, {"promote": promote, "rollback": go_back}, now=now())
    if told:
        report_lines(root, told)
        anchor(ws)
    return len(told)


@local
def report_lines(root: str, lines: list[str]) -> None:
    for line in lines:
        say()(line)
