"""Training: the stages make a candidate, MLflow remembers it; the first model of a laboratory becomes its champion."""

import json

from prefect import flow

from ctcml.dataversions import SOURCE, anchor
from ctcml.ledger import Draft, Ledger
from ctcml.registry import log_scorecard, log_training
from ctcml.tables import TRUTH, read_table
from ctcml.truth import training_cells
from ctcml.versioning import code_commit, versions
from flows.promotion import crown
from flows.steps import local, now, over_network, run_stages, workspace_and_params


@over_network
def register(root: str, tracking_uri: str) -> str:
    ws, _ = workspace_and_params(root)
    newest = versions(ws.root)[-1]
    return log_training(
        tracking_uri,
        model_folder=ws.candidate,
        cells=training_cells(read_table(ws.truth, TRUTH)),
        data_version=newest.tag,
        data_md5=newest.data_md5,
        code_commit=code_commit(SOURCE),
        beside={"chart": ws.chart, "replay.json": ws.replay, "scorecard.json": ws.evaluation},
    )


@over_network
def mirror_evaluation(root: str, tracking_uri: str, version: str) -> None:
    """The candidate on steering patients; its galleries of thumbnails stay in the workspace."""
    ws, _ = workspace_and_params(root)
    report = json.loads(ws.evaluation.read_text())
    names = ("scorecard.html", "confusion.png", "subgroups.png", "reliability.png", "thresholds.png", "mistakes.png")
    drawn = [ws.pictures / "evaluation" / name for name in names]
    log_scorecard(tracking_uri, version, report, [file for file in drawn if file.exists()], by="steering")


@over_network
def mirror_replay(root: str, tracking_uri: str, version: str) -> None:
    """How well hidden classes are found, and the novelty score and rule that follow: part of what the model is known by."""
    ws, _ = workspace_and_params(root)
    report = json.loads(ws.replay.read_text())
    log_scorecard(tracking_uri, version, report, sorted((ws.pictures / "replay").glob("*.png")), by="replay")


@local
def write_down(root: str, version: str) -> None:
    ws, _ = workspace_and_params(root)
    ledger = Ledger(ws.ledger)
    if version not in {event.body["version"] for event in ledger.events("training")}:
        alarmed = json.loads(ws.drift.read_text())["alarmed"] if ws.drift.exists() else []
        body = {"version": version, "data_version": versions(ws.root)[-1].tag, "alarmed": alarmed}
        ledger.append(
            [Draft(kind="training", by="flow", why="the ground truth or the parameters changed", body=body)], now=now()
        )
    anchor(ws)


@flow
def training(root: str, tracking_uri: str) -> str:
    """Train where something changed and register the result; returns the version in the registry."""
    run_stages(root, ["train", "evaluate", "replay", "chart"])
    version = register(root, tracking_uri)
    mirror_evaluation(root, tracking_uri, version)
    mirror_replay(root, tracking_uri, version)
    write_down(root, version)
    ws, _ = workspace_and_params(root)
    if not (ws.champion / "model.json").exists():
        crown(
            root,
            tracking_uri,
            version,
            by="ctcml",
            why="the laboratory's first model: there is nothing to compare it with",
        )
    return version
