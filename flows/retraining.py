"""Retraining: when there is reason to, train, judge and recount; never two at once."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from filelock import FileLock, Timeout
from prefect import flow

from ctcml.ledger import Ledger
from ctcml.retraining import reasons_to_train
from ctcml.workspace import Workspace
from flows.intake import freeze
from flows.progress import announce
from flows.promotion import promotion
from flows.recount import recount
from flows.review_pull import begin
from flows.steps import local, run_stages, say, workspace_and_params
from flows.training import training


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """What a look of the clock came to: why it trained (nothing when it did not), and the gate's report."""

    because: tuple[str, ...] = ()
    busy: bool = False
    report: dict[str, Any] | None = None


@local
def reasons(root: str) -> tuple[str, ...]:
    ws, params = workspace_and_params(root)
    report = json.loads(ws.drift.read_text()) if ws.drift.exists() else {"alarmed": [], "alarms": []}
    drift = dict(zip(report["alarmed"], report["alarms"], strict=True))
    numbers = params.retrain.model_dump(exclude={"schedule"})
    found = reasons_to_train(Ledger(ws.ledger).events(), drift, **numbers)
    for line in found or ("nothing new enough to train on",):
        say()(f"retraining: {line}")
    return found


@contextmanager
def one_at_a_time(ws: Workspace, *, wait_s: float = -1) -> Iterator[None]:
    """Hold the place of the one retraining of a workspace, waiting for it for so long (`Timeout`); without end by default.

    It is a lock of the file system: the kernel frees that of a process that dies.
    """
    with FileLock(ws.private / "retraining.lock", timeout=wait_s):
        yield


@flow
def learn(root: str, tracking_uri: str) -> dict[str, Any]:
    """Train on the present data version, judge what came out, recount."""
    ws, _ = workspace_and_params(root)
    announce(ws, "retraining")
    version = training(root, tracking_uri)
    announce(ws, "promotion")
    report = promotion(root, tracking_uri, version)
    announce(ws, "recount")
    recount(root)
    return report


@flow
def retraining(root: str, tracking_uri: str) -> Retrained:
    """What the clock calls: retrain when enough was learnt, a class is new, or an instrument drifts."""
    ws, _ = workspace_and_params(root)
    try:
        with one_at_a_time(ws, wait_s=0):
            run_stages(root, ["drift"])
            because = reasons(root)
            if not because:
                return Retrained()
            begin(root, freeze(root, f"retraining: {because[0]}"))
            return Retrained(because=because, report=learn(root, tracking_uri))
    except Timeout:
        return Retrained(busy=True)
