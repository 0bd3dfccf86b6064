"""The gate at work: the only code that opens the sealed set, writes down that it did, and asks the rule for a verdict."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ctcml.errors import CannotTrain
from ctcml.evaluation import predictions
from ctcml.ledger import Draft, Ledger
from ctcml.params import Gate
from ctcml.promotion import Predictions, judge
from ctcml.records import Role
from ctcml.scorecard import score_card
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
    says, said = predictions(ws, challenger, cells), predictions(ws, champion, cells)
    verdict = judge(
        says, said, truth, patients, rng=np.random.default_rng([seed, 7]), **gate.model_dump(exclude={"unattended"})
    )
    say(f"{len(cells)} settled cells of {len(set(patients))} sealed patients: {verdict.verdict}")

    def card(one: Predictions) -> dict[str, Any]:
        rng = np.random.default_rng([seed, 8])
        return score_card(
            truth, one.probabilities, list(one.classes), patients, bootstrap=gate.bootstrap, rng=rng
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
