"""Promotion: the gate compares a challenger with the champion on sealed patients; the reasons are written down."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from prefect import flow

from ctcml.dataversions import anchor
from ctcml.errors import BadInput, ProtocolBreach
from ctcml.gate import hold_gate
from ctcml.ledger import Draft, Ledger
from ctcml.pictures import confusion_plot
from ctcml.records import Verdict
from ctcml.registry import download_model, get_alias, log_scorecard, set_alias
from ctcml.stages import simulated
from ctcml.tables import write_json
from ctcml.versioning import commit, track, versions
from flows.steps import local, now, over_network, run_stages, say, workspace_and_params


@over_network
def crown(root: str, tracking_uri: str, version: str, *, by: str, why: str) -> None:
    """Make a registered version the champion: the stages' copy of it, the alias, the ledger."""
    ws, _ = workspace_and_params(root)
    ledger = Ledger(ws.ledger)
    done = [event.body["version"] for event in ledger.events("promotion")]
    before = done[-1] if done else None
    if before == version == get_alias(tracking_uri, "champion"):
        return
    with tempfile.TemporaryDirectory(dir=ws.private) as folder:
        fetched = download_model(tracking_uri, version, Path(folder) / "model")
        (fetched / "version.json").write_text(json.dumps({"version": version}) + "\n")
        ws.champion.parent.mkdir(exist_ok=True)
        shutil.rmtree(ws.champion, ignore_errors=True)
        fetched.rename(ws.champion)
    pointer = track(ws.root, ws.champion)
    set_alias(tracking_uri, "champion", version)
    if before != version:
        ledger.append([Draft(kind="promotion", by=by, why=why, body={"version": version, "before": before})], now=now())
    commit(ws.root, f"Champion is version {version}: {why}", [pointer])
    anchor(ws)


@over_network
def compare(root: str, tracking_uri: str, version: str) -> dict[str, Any]:
    """Load both models back from the registry and hold the gate."""
    ws, params = workspace_and_params(root)
    champion = get_alias(tracking_uri, "champion")
    with tempfile.TemporaryDirectory(dir=ws.private) as folder:
        report = hold_gate(
            ws,
            download_model(tracking_uri, version, Path(folder) / "challenger"),
            download_model(tracking_uri, str(champion), Path(folder) / "champion"),
            version=version,
            gate=params.gate,
            seed=params.seed,
            now=now(),
            say=say(),
        )
    promoted = report["verdict"] == Verdict.PROMOTE and params.gate.unattended
    return report | {
        "champion_version": champion,
        "data_version": versions(ws.root)[-1].tag,
        "unattended": params.gate.unattended,
        "promoted": promoted,
        "signed_by": "unattended promotion, switched on in params.yaml" if promoted else None,
    }


@over_network
def publish(root: str, tracking_uri: str, report: dict[str, Any]) -> None:
    """Keep the verdict with its pictures in the workspace and in MLflow."""
    ws, _ = workspace_and_params(root)
    version = report["version"]
    pictures = []
    for who in ("champion", "challenger"):
        pictures.append(ws.reports / f"confusion-{version}-{who}.png")
        confusion_plot(report[who], pictures[-1], simulated=simulated(ws), title=f"{who} on sealed patients")
    write_json(ws.reports / f"promotion-{version}.json", report)
    log_scorecard(tracking_uri, version, report, pictures)
    commit(ws.root, f"Gate: {report['verdict']} version {version}", [ws.reports])
    anchor(ws)


@local
def judged_before(root: str, version: str) -> dict[str, Any] | None:
    """The verdict on this version with this very data, if there is one: nobody looks into the sealed set twice."""
    ws, _ = workspace_and_params(root)
    file = ws.reports / f"promotion-{version}.json"
    found: dict[str, Any] | None = json.loads(file.read_text()) if file.exists() else None
    return found if found and found["data_version"] == versions(ws.root)[-1].tag else None


@flow
def promotion(root: str, tracking_uri: str, version: str) -> dict[str, Any]:
    """Judge a challenger; promote it when the gate says so and unattended promotion is switched on."""
    run_stages(root, ["settle"])
    report = judged_before(root, version)
    if report is None:
        set_alias(tracking_uri, "challenger", version)
        report = compare(root, tracking_uri, version)
        publish(root, tracking_uri, report)
    if report["promoted"]:
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
    if report["promoted"]:
        raise ProtocolBreach(f"version {version}: promoted already, signed by {report['signed_by']}; nothing to sign")
    crown(root, tracking_uri, version, by=signed_by, why=why)  # first: a call that was cut off can be made again
    report |= {"promoted": True, "signed_by": signed_by}
    write_json(file, report)
    commit(ws.root, f"Version {version} signed by {signed_by}: {why}", [file])
    return report
