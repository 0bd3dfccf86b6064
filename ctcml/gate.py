"""The gate at work: the only code that opens the sealed set, writes down that it did, and asks the rule for a verdict."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctcml.embed import load_scorer, score
from ctcml.errors import CannotTrain
from ctcml.ledger import Draft, Ledger
from ctcml.params import Gate
from ctcml.promotion import Predictions, judge
from ctcml.records import Role
from ctcml.scorecard import score_card
from ctcml.shards import read_inputs
from ctcml.tables import TRUTH, read_table
from ctcml.truth import evaluation_cells
from ctcml.workspace import Workspace


def hold_gate(
    ws: Workspace,
    challenger: Path,
    champion: Path,
    *,
    version: str,
    gate: Gate,
    seed: int,
    now: datetime,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Compare two model folders on the sealed evaluation arm; returns the report that goes to people.

    The look is in the ledger before the labels are read. Raises `CannotTrain` when no sealed cell is settled yet.
    """
    Ledger(ws.ledger).append(
        [Draft(kind="sealed_look", by="gate", why=f"challenger version {version}", body={"version": version})], now=now
    )
    cells = evaluation_cells(read_table(ws.truth, TRUTH), Role.SEALED)
    if cells.empty:
        raise CannotTrain("the gate: no cell of a sealed patient is settled; let the readers finish the evaluation arm")
    truth, patients = cells["class_id"].to_numpy(), cells["patient_uid"].to_numpy()
    says, said = _predict(ws, challenger, cells), _predict(ws, champion, cells)
    verdict = judge(
        says, said, truth, patients, rng=np.random.default_rng([seed, 7]), **gate.model_dump(exclude={"unattended"})
    )
    say(f"{len(cells)} settled cells of {len(set(patients))} sealed patients: {verdict.verdict}")

    def card(predictions: Predictions) -> dict[str, Any]:
        rng = np.random.default_rng([seed, 8])
        return score_card(
            truth, predictions.probabilities, list(predictions.classes), patients, bootstrap=gate.bootstrap, rng=rng
        ).to_dict()

    return verdict.to_dict() | {
        "version": version,
        "at": now.isoformat(),
        "champion": card(said),
        "challenger": card(says),
        "champion_classes": list(said.classes),
        "challenger_classes": list(says.classes),
        "requirements": [one.to_dict() for one in verdict.requirements],
    }


def _predict(ws: Workspace, folder: Path, cells: pd.DataFrame) -> Predictions:
    scorer = load_scorer(folder)
    about = json.loads((folder / "model.json").read_text())
    uids, images = read_inputs(
        ws.shards, sorted(set(cells["sample_uid"])), cell_uids=set(cells["cell_uid"]), **about["image"]
    )
    place = {uid: number for number, uid in enumerate(uids)}
    order = [place[uid] for uid in cells["cell_uid"]]
    return Predictions(classes=tuple(about["classes"]), probabilities=score(scorer, images[order]).probabilities)
