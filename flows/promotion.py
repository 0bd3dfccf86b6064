"""Promotion: the gate compares a challenger with the champion on sealed patients; the reasons are written down."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from prefect import flow

from ctcml.dataversions import anchor
from ctcml.gate import hold_gate
from ctcml.ledger import Draft, Ledger
from ctcml.pictures import confusion_plot
from ctcml.records import Verdict
from ctcml.registry import download_model, get_alias, log_scorecard, set_alias
from ctcml.stages import simulated, write_json
from ctcml.versioning import commit, track
from flows.steps import now, over_network, run_stages, say, workspace_and_params


@over_network
def crown(root: str, tracking_uri: str, version: str, *, by: str, why: str) -> None:
    """Make a registered version the champion: the stages' copy of it, the alias, the ledger."""
    ws, _ = workspace_and_params(root)
    before = get_alias(tracking_uri, "champion")
    with tempfile.TemporaryDirectory(dir=ws.private) as folder:
        fetched = download_model(tracking_uri, version, Path(folder) / "model")
        (fetched / "version.json").write_text(json.dumps({"version": version}) + "\n")
        ws.champion.parent.mkdir(exist_ok=True)
        shutil.rmtree(ws.champion, ignore_errors=True)
        fetched.rename(ws.champion)
    pointer = track(ws.root, ws.champion)
    set_alias(tracking_uri, "champion", version)
    ledger = Ledger(ws.ledger)
    done = [event.body["version"] for event in ledger.events("promotion")]
    if not done or done[-1] != version:
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
    return report | {"champion_version": champion, "unattended": params.gate.unattended}


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


@flow
def promotion(root: str, tracking_uri: str, version: str) -> dict[str, Any]:
    """Judge a challenger; promote it when the gate says so and unattended promotion is switched on."""
    set_alias(tracking_uri, "challenger", version)
    run_stages(root, ["settle"])
    report = compare(root, tracking_uri, version)
    promoted = report["verdict"] == Verdict.PROMOTE and report["unattended"]
    signature = "unattended promotion, switched on in params.yaml" if promoted else None
    publish(root, tracking_uri, report | {"promoted": promoted, "signed_by": signature})
    if promoted:
        crown(root, tracking_uri, version, by="unattended", why="; ".join(report["reasons"]))
    return report | {"promoted": promoted, "signed_by": signature}
