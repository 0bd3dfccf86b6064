"""The gate writes down each look before it looks, and sees sealed cells only."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from factories import NOON, a_cell, a_ledger

from ctcml.errors import CannotTrain
from ctcml.gate import hold_gate
from ctcml.ledger import Ledger
from ctcml.model import AECNN, save_weights
from ctcml.params import load_params
from ctcml.shards import Packed, pack_shard
from ctcml.tables import TRUTH, write_table
from ctcml.workspace import Workspace

GATE = load_params(Path(__file__).parents[1] / "params.yaml").gate.model_copy(update={"bootstrap": 50})
FIVE = ["ctc", "tdev", "wbc", "bare_nucleus", "other"]


def a_model(folder: Path, classes: list[str], seed: int) -> Path:
    torch.manual_seed(seed)
    folder.mkdir()
    digest = save_weights(AECNN(len(classes)), folder / "weights.safetensors")
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


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """Twelve sealed and four steering cells, one patient a cell."""
    ws, rng = Workspace(tmp_path / "lab"), np.random.default_rng(2)
    a_ledger(ws.ledger)
    rows = []
    for number in range(16):
        cell, sample, patient = f"c{number:02}", f"s{number:02}", f"p{number:02}"
        packed = Packed(
            cell_uid=cell, sample_uid=sample, object_index=1, planes=("CD45", "DAPI", "CK", "FITC"), pixels=a_cell(rng),
            mask=None, source_bit_depth=16, source_order="CD45,DAPI,CK,FITC", restore_low=(), restore_high=(),
        )  # fmt: skip
        pack_shard([packed], ws.shards / f"{sample}.parquet")
        role = "sealed" if number < 12 else "steering"
        rows.append((cell, sample, patient, [*FIVE, "cd45ev"][number % 6], role, "evaluation", "both readers"))
    write_table(pd.DataFrame(rows, columns=list(TRUTH)), TRUTH, ws.truth)
    return ws


def held(ws: Workspace, tmp_path: Path) -> dict[str, object]:
    return hold_gate(
        ws, a_model(tmp_path / "challenger", [*FIVE, "cd45ev"], 1), a_model(tmp_path / "champion", FIVE, 2),
        version="2", gate=GATE, seed=20, now=NOON, say=lambda line: None,
    )  # fmt: skip


def test_a_report_covers_the_sealed_cells_and_both_models(ws: Workspace, tmp_path: Path) -> None:
    report = held(ws, tmp_path)
    for who, classes in (("champion", FIVE), ("challenger", [*FIVE, "cd45ev"])):
        card = report[who]
        assert isinstance(card, dict)
        assert (card["n"], card["patients"]) == (12, 12)
        assert report[f"{who}_classes"] == classes
    assert report["verdict"] in ("refuse", "cannot decide")  # untrained networks
    assert json.loads(json.dumps(report))["version"] == "2"


def test_a_look_is_in_the_ledger_even_when_there_is_nothing_to_see(ws: Workspace, tmp_path: Path) -> None:
    write_table(pd.DataFrame(columns=list(TRUTH)), TRUTH, ws.truth)
    with pytest.raises(CannotTrain, match="let the readers finish"):
        held(ws, tmp_path)
    looks = list(Ledger(ws.ledger).events("sealed_look"))
    assert [look.body for look in looks] == [{"version": "2"}]


def test_the_same_models_give_the_same_report(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert held(ws, tmp_path / "a") == held(ws, tmp_path / "b")
