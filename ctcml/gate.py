"""The gate at work: steering patients first, then the sealed ones, of whom it alone sees the labels; the rule gives a verdict."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctcml.calibration import reading_error
from ctcml.errors import CannotTrain
from ctcml.evaluation import predictions
from ctcml.ledger import Ledger
from ctcml.opinions import opinions_of
from ctcml.params import Counts, Gate
from ctcml.promotion import Judgement, judge
from ctcml.records import Role, Verdict
from ctcml.reliability import fitted_temperature
from ctcml.requirements import Predictions, Requirement
from ctcml.scorecard import full_scorecard, score_card
from ctcml.sealed import SealedBudget, budget, open_sealed, patients_of
from ctcml.subgroups import describe
from ctcml.tables import OPINIONS, TRUTH, read_table
from ctcml.truth import evaluation_cells
from ctcml.workspace import Workspace


def judge_steering(
    ws: Workspace,
    challenger: Path,
    champion: Path,
    *,
    version: str,
    gate: Gate,
    counts: Counts,
    seed: int,
    now: datetime,
) -> dict[str, Any]:
    """Whether a challenger is worth a look at the sealed set (`passes`), by the same rule on settled steering cells.

    Steering sets are small, so whatever is not shown passes: a requirement stops the challenger only if the whole of its
    confidence lies beyond the limit. No cell settled yet passes as well.
    """
    cells = evaluation_cells(read_table(ws.truth, TRUTH), Role.STEERING)
    report = {"set": "steering", "version": version, "at": now.isoformat(), "promoted": False, "signed_by": None}
    if cells.empty:
        said = "steering: no cell is settled yet, so nothing speaks against the challenger; the sealed set decides"
        cards: dict[str, Any] = {"champion": None, "challenger": None}
        nothing = {"verdict": Verdict.CANNOT_DECIDE.value, "reasons": [said], "figures": {}, "requirements": []}
        return report | nothing | cards | {"passes": True}
    described = describe(ws, cells)
    says, said_before = (_said(ws, folder, cells, cells, counts) for folder in (challenger, champion))
    found = _judged(described, says, said_before, None, drift=None, gate=gate, seed=seed)
    stops = [one for one in found.requirements if is_shown_to_fail(one)]
    opinions = read_table(ws.opinions, OPINIONS)
    last = (
        f"steering: does not pass for {', '.join(one.name for one in stops)}; the sealed set stays closed"
        if stops
        else f"steering: nothing shown against the challenger on {len(cells)} settled cells; the sealed set decides"
    )
    return report | {
        "verdict": (Verdict.REFUSE if stops else Verdict.CANNOT_DECIDE).value,
        "passes": not stops,
        "reasons": [*found.reasons, last],
        "figures": found.figures,
        "requirements": [one.to_dict() for one in found.requirements],
        **_cards(described, {"champion": said_before, "challenger": says}, opinions, gate, counts, seed),
    }


def hold_gate(
    ws: Workspace,
    challenger: Path,
    champion: Path,
    anchor: Path | None,
    *,
    version: str,
    gate: Gate,
    counts: Counts,
    drift: tuple[float, float] | None,
    seed: int,
    now: datetime,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Compare model folders on the sealed evaluation arm; returns the report that goes to people.

    `drift` as in `promotion.judge`. The look is in the ledger before the labels are read. Raises `ProtocolBreach` when no
    look is left, and `CannotTrain` when no sealed cell is settled yet.
    """
    folders = {"challenger": challenger, "champion": champion, **({"anchor": anchor} if anchor else {})}
    cells = open_sealed(
        ws,
        version=version,
        why=f"challenger version {version}",
        models={name: _weights(folder) for name, folder in folders.items()},
        sealed_looks=gate.sealed_looks,
        fresh_share=gate.fresh_share,
        now=now,
    )
    if cells.empty:
        raise CannotTrain("the gate: no cell of a sealed patient is settled; let the readers finish the evaluation arm")
    steering = evaluation_cells(read_table(ws.truth, TRUTH), Role.STEERING)
    described = describe(ws, cells)
    said = {name: _said(ws, folder, cells, steering, counts) for name, folder in folders.items()}
    first = said.get("anchor")
    verdict = _judged(described, said["challenger"], said["champion"], first, drift=drift, gate=gate, seed=seed)
    patients = cells["patient_uid"].nunique()
    say(f"{len(cells)} settled cells of {patients} sealed patients: {verdict.verdict}")
    both = {name: said[name] for name in ("champion", "challenger")}
    return verdict.to_dict() | {
        "set": "sealed",
        "version": version,
        "at": now.isoformat(),
        "anchor": None if first is None else _anchor(cells, first, _weights(folders["anchor"]), gate, seed),
        "champion_classes": list(said["champion"].classes),
        "challenger_classes": list(said["challenger"].classes),
        "requirements": [one.to_dict() for one in verdict.requirements],
        "budget": sealed_budget(ws, gate).to_dict(),
        **_cards(described, both, _opinions(ws, cells), gate, counts, seed),
    }


def sealed_budget(ws: Workspace, gate: Gate) -> SealedBudget:
    """How many looks at the sealed set are left; asking is no look."""
    return budget(
        Ledger(ws.ledger).events(), patients_of(ws), sealed_looks=gate.sealed_looks, fresh_share=gate.fresh_share
    )


def is_shown_to_fail(one: Requirement) -> bool:
    """Whether the whole of the confidence lies beyond the limit, or there is nothing to be unsure of."""
    best = one.low if one.lower_is_better else one.high
    if one.outcome is not Verdict.REFUSE or best is None:
        return one.outcome is Verdict.REFUSE
    return best > one.limit if one.lower_is_better else best < one.limit


def _judged(
    described: pd.DataFrame,
    challenger: Predictions,
    champion: Predictions,
    anchor: Predictions | None,
    *,
    drift: tuple[float, float] | None,
    gate: Gate,
    seed: int,
) -> Judgement:
    return judge(
        challenger,
        champion,
        anchor,
        *(described[name].to_numpy() for name in ("class_id", "patient_uid", "cluster")),
        drift=drift,
        rng=np.random.default_rng([seed, 7]),
        **gate.rule(),
    )


def _said(ws: Workspace, folder: Path, cells: pd.DataFrame, steering: pd.DataFrame, counts: Counts) -> Predictions:
    """What a model says of cells, with the temperature that the steering cells give it."""
    said = predictions(ws, folder, cells)
    if steering.empty:
        return said
    there = said if steering is cells else predictions(ws, folder, steering)
    error = reading_error(None, 0, prior=counts.readers_differ, prior_cells=counts.readers_differ_cells)
    temperature = fitted_temperature(
        there.probabilities,
        there.classes,
        steering["class_id"].to_numpy(),
        prior_sd=counts.temperature_sd,
        reading_error=error,
    )
    return replace(said, temperature=temperature)


def _cards(
    described: pd.DataFrame,
    said: Mapping[str, Predictions],
    opinions: pd.DataFrame,
    gate: Gate,
    counts: Counts,
    seed: int,
) -> dict[str, Any]:
    return {
        name: full_scorecard(
            described,
            one.probabilities,
            one.classes,
            temperature=one.temperature,
            thresholds=counts.thresholds,
            bootstrap=gate.bootstrap,
            rng=np.random.default_rng([seed, 8]),
            readers=opinions,
        )
        for name, one in said.items()
    }


def _anchor(cells: pd.DataFrame, said: Predictions, weights: str, gate: Gate, seed: int) -> dict[str, Any]:
    """The anchor's figures, in short."""
    truth, patients = cells["class_id"].to_numpy(), cells["patient_uid"].to_numpy()
    rng = np.random.default_rng([seed, 8])
    card = score_card(truth, said.probabilities, said.classes, patients, bootstrap=gate.bootstrap, rng=rng)
    return card.to_dict() | {"weights_sha256": weights}


def _opinions(ws: Workspace, cells: pd.DataFrame) -> pd.DataFrame:
    """What readers said of sealed cells, which have been opened: the file that everybody may read does not tell."""
    of_cell = cells.set_index("cell_uid")["patient_uid"]
    return opinions_of(Ledger(ws.ledger_snapshot).events(), of_cell)


def _weights(folder: Path) -> str:
    return str(json.loads((folder / "model.json").read_text())["weights_sha256"])
