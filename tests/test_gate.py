"""The gate writes down each look before it looks, sees sealed cells only, and asks steering patients first."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from factories import NOON, a_cell, a_ledger, a_patient, a_reading, reading_draft

from ctcml.clinical import COVARIATE
from ctcml.errors import CannotTrain, ProtocolBreach
from ctcml.gate import hold_gate, is_shown_to_fail, judge_steering, sealed_budget
from ctcml.ledger import Draft, Ledger
from ctcml.model import AECNN, save_weights
from ctcml.params import load_params
from ctcml.records import Purpose, Verdict
from ctcml.requirements import Requirement
from ctcml.shards import Packed, pack_shard
from ctcml.stages import settle
from ctcml.tables import CLINICAL, MANIFEST, TRUTH, write_table
from ctcml.workspace import Workspace

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
GATE = PARAMS.gate.model_copy(update={"bootstrap": 50, "sealed_looks": 2})
FIVE = ["ctc", "tdev", "wbc", "bare_nucleus", "other"]

pytestmark = pytest.mark.usefixtures("one_thread")


def a_model(folder: Path, classes: list[str], seed: int, *, always: str = "") -> Path:
    """An untrained network, or one that says the same of every cell."""
    torch.manual_seed(seed)
    folder.mkdir()
    model = AECNN(len(classes))
    if always:
        with torch.no_grad():
            model.output.weight.zero_()
            model.output.bias.copy_(torch.tensor([3.0 * (one == always) for one in classes]))
    digest = save_weights(model, folder / "weights.safetensors")
    image = {"recipe": "asinh", "background_percentile": 10.0, "asinh_scale": 60.0}
    card = {
        "classes": classes,
        "hidden": "linear",
        "architecture": "AE-CNN",
        "recipe": "asinh",
        "image": image,
        "weights_sha256": digest,
    }
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def put_cells(ws: Workspace, sample: str, patient: str, cells: int, rng: np.random.Generator) -> list[str]:
    packed = [
        Packed(
            cell_uid=f"{sample}-{number}", sample_uid=sample, object_index=number, planes=("CD45", "DAPI", "CK", "FITC"),
            pixels=a_cell(rng), mask=None, source_bit_depth=16, source_order="CD45,DAPI,CK,FITC", restore_low=(),
            restore_high=(),
        )
        for number in range(cells)
    ]  # fmt: skip
    rows = {name: [None] * cells for name in MANIFEST} | {
        "cell_uid": [one.cell_uid for one in packed],
        "sample_uid": sample,
        "patient_uid": patient,
        "object_index": range(cells),
        "content_sha256": [one.content_sha256 for one in packed],
        "shard_sha256": pack_shard(packed, ws.shards / f"{sample}.parquet"),
    }
    write_table(pd.DataFrame(rows), MANIFEST, ws.manifest / f"{sample}.parquet")
    return [one.cell_uid for one in packed]


def settle_all(ws: Workspace) -> None:
    """The stage, on the ledger as it is now."""
    ws.ledger_snapshot.mkdir(parents=True, exist_ok=True)
    (ws.ledger_snapshot / "000000000001.jsonl").write_bytes(ws.ledger.read_bytes())
    settle(ws, say=lambda line: None)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """Thirty cells of a training patient; a settled cell of each of twelve sealed and four steering patients."""
    ws, rng = Workspace(tmp_path / "lab"), np.random.default_rng(2)
    put_cells(ws, "t", "t", 30, rng)
    drafts, samples = [a_patient("t", "train")], [("t", "t")]
    for number in range(16):
        patient, role = f"p{number:02}", "sealed" if number < 12 else "steering"
        (cell,) = put_cells(ws, f"s-{patient}", patient, 1, rng)
        label = [*FIVE, "cd45ev"][number % 6]
        body = {"cell_uid": cell, "class_id": label, "how": "both readers", "purpose": "evaluation"}
        readings = [a_reading(cell, reader, label, purpose=Purpose.EVALUATION) for reader in ("anna", "ben")]
        drafts += [a_patient(patient, role), *map(reading_draft, readings)]
        drafts += [Draft(kind="settlement", by="ctcml", body=body)]
        samples.append((f"s-{patient}", patient))
    a_ledger(ws.ledger, *drafts)
    clinical = pd.DataFrame(samples, columns=["sample_uid", "patient_uid"]).assign(
        **{f"{COVARIATE}simulated": "yes"}, blood_volume_ml=7.5, sample_kind="patient", cancer_type="breast"
    )
    write_table(
        clinical.reindex(columns=[*CLINICAL, f"{COVARIATE}simulated"]), CLINICAL, ws.clinical, extra_prefix=COVARIATE
    )
    settle_all(ws)
    return ws


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "challenger": a_model(folder / "challenger", [*FIVE, "cd45ev"], 1),
        "champion": a_model(folder / "champion", FIVE, 2),
        "anchor": a_model(folder / "anchor", FIVE, 3),
        "wbc": a_model(folder / "wbc", FIVE, 4, always="wbc"),
        "ctc": a_model(folder / "ctc", FIVE, 4, always="ctc"),
    }


def held(
    ws: Workspace, models: dict[str, Path], *, version: str = "2", anchor: str | None = "anchor"
) -> dict[str, Any]:
    return hold_gate(
        ws, models["challenger"], models["champion"], models[anchor], version="2", gate=GATE,
        counts=PARAMS.counts, drift=None, seed=20, now=NOON, say=lambda line: None,
    )  # fmt: skip


def steered(ws: Workspace, challenger: Path, champion: Path) -> dict[str, Any]:
    report = judge_steering(ws, challenger, champion, version="2", gate=GATE, counts=PARAMS.counts, seed=20, now=NOON)
    assert json.dumps(report, allow_nan=False)
    return report


def test_a_report_covers_the_sealed_cells_and_all_models_and_a_second_one_is_the_same_look(
    ws: Workspace, models: dict[str, Path]
) -> None:
    report = held(ws, models)
    for who, classes in (("champion", FIVE), ("challenger", [*FIVE, "cd45ev"])):
        assert (report[who]["n"], report[who]["patients"]) == (12, 12)
        assert report[f"{who}_classes"] == classes
        assert report[who]["kappa"]["readers"]["n"] == 12  # what readers called sealed cells is there for the gate
        assert report[who]["kappa"]["readers"]["exact_share"]["value"] == 1
    assert (report["set"], report["anchor"]["n"], report["anchor"]["patients"]) == ("sealed", 12, 12)
    assert {one["against"] for one in report["requirements"]} == {"champion", "anchor", "floor"}
    assert report["verdict"] in ("refuse", "cannot decide")  # untrained networks
    assert (report["budget"]["looks"], report["budget"]["used"], report["budget"]["patients"]) == (1, 1, 12)
    assert json.loads(json.dumps(report, allow_nan=False))["version"] == "2"
    assert held(ws, models) == report
    assert sealed_budget(ws, GATE).looks == 1


def test_an_anchor_that_is_the_champion_is_not_judged_twice(ws: Workspace, models: dict[str, Path]) -> None:
    report = held(ws, models, anchor="champion")
    compared = {one["against"] for one in report["requirements"] if "CTC s" in one["name"]}
    assert compared == {"champion and anchor"}


def test_a_look_is_in_the_ledger_even_when_there_is_nothing_to_see(ws: Workspace, models: dict[str, Path]) -> None:
    write_table(pd.DataFrame(columns=list(TRUTH)), TRUTH, ws.sealed)
    with pytest.raises(CannotTrain, match="let the readers finish"):
        held(ws, models)
    (look,) = Ledger(ws.ledger).events("sealed_look")
    assert look.body["version"] == "2"
    assert set(look.body["models"]) == {"challenger", "champion", "anchor"}


def test_the_gate_opens_nothing_when_its_looks_are_spent(ws: Workspace, models: dict[str, Path]) -> None:
    ledger = Ledger(ws.ledger)
    ledger.append([Draft(kind="sealed_look", by="gate", body={"version": one}) for one in "01"], now=NOON)
    ws.sealed.unlink()  # nobody comes as far as to read it
    with pytest.raises(ProtocolBreach, match="stays closed, it was opened 2 times since it had 12 patients"):
        held(ws, models)
    assert len(list(ledger.events("sealed_look"))) == 2


def test_steering_is_judged_without_any_look_at_the_sealed_set(ws: Workspace, models: dict[str, Path]) -> None:
    ws.sealed.unlink()
    report = steered(ws, models["challenger"], models["champion"])
    assert (report["set"], report["champion"]["n"], report["challenger"]["n"]) == ("steering", 4, 4)
    assert (report["passes"], report["verdict"], report["promoted"]) == (True, "cannot decide", False)
    assert "nothing shown against the challenger on 4 settled cells" in report["reasons"][-1]
    assert not list(Ledger(ws.ledger).events("sealed_look"))


def test_a_challenger_that_is_shown_to_be_worse_on_steering_patients_gets_no_look(
    ws: Workspace, models: dict[str, Path]
) -> None:
    """Four steering cells, a white blood cell, a bare nucleus, another object and a CD45EV: to call all of them CTC is worse."""
    report = steered(ws, models["ctc"], models["wbc"])
    assert (report["passes"], report["verdict"]) == (False, "refuse")
    assert "does not pass for CTC specificity" in report["reasons"][-1]


def test_a_laboratory_without_settled_steering_cells_asks_the_sealed_set(
    ws: Workspace, models: dict[str, Path]
) -> None:
    write_table(pd.DataFrame(columns=list(TRUTH)), TRUTH, ws.truth)
    report = steered(ws, models["challenger"], models["champion"])
    assert (report["passes"], report["champion"]) == (True, None)
    assert "no cell is settled yet" in report["reasons"][0]


@pytest.mark.parametrize(
    ("outcome", "low", "high", "limit", "lower_is_better", "shown"),
    [
        (Verdict.REFUSE, -0.3, -0.1, -0.05, False, True),
        (Verdict.REFUSE, -0.3, 0.1, -0.05, False, False),
        (Verdict.REFUSE, 0.2, 0.4, 0.1, True, True),
        (Verdict.REFUSE, -0.1, 0.4, 0.1, True, False),
        (Verdict.REFUSE, None, None, 0.0, False, True),  # a class that is lost
        (Verdict.CANNOT_DECIDE, None, None, 0.0, False, False),
    ],
)
def test_on_steering_only_what_is_shown_stops(
    outcome: Verdict, low: float | None, high: float | None, limit: float, lower_is_better: bool, shown: bool
) -> None:
    one = Requirement(
        name="x", against="champion", outcome=outcome, challenger=None, champion=None, figure=None, low=low, high=high,
        limit=limit, lower_is_better=lower_is_better, cells=1, reason="",
    )  # fmt: skip
    assert is_shown_to_fail(one) == shown
