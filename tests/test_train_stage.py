"""The stage around the trainer: what the ground truth must hold, said in one line before anything is read."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ctcml import stages
from ctcml.errors import CannotTrain
from ctcml.params import load_params
from ctcml.tables import TRUTH, write_table
from ctcml.workspace import Workspace

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
CLASSES = ["ctc", "wbc"]


def complaint(folder: Path, labels: list[tuple[str, str, str]]) -> str:
    """What the stage says to settled cells (patient, class, role)."""
    ws = Workspace(folder / "lab")
    ws.classes.parent.mkdir(parents=True)
    ws.classes.write_text(json.dumps([{"class_id": name} for name in CLASSES]))
    rows: list[Any] = [
        (f"cell-{at}", f"sample-{patient}", patient, class_id, role, "training", "historic")
        for at, (patient, class_id, role) in enumerate(labels)
    ]
    write_table(pd.DataFrame(rows, columns=list(TRUTH)), TRUTH, ws.truth)
    with pytest.raises(CannotTrain) as caught:
        stages.train(ws, seed=1, image=PARAMS.image, train=PARAMS.train, say=print)
    assert not ws.candidate.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_single_patient_is_no_training_set(tmp_path: Path) -> None:
    said = complaint(tmp_path, [("p1", "ctc", "train"), ("p1", "wbc", "train")])
    assert "all 2 labels are of one patient" in said


def test_a_label_outside_the_registry_is_named(tmp_path: Path) -> None:
    said = complaint(tmp_path, [("p1", "ctc", "train"), ("p2", "emt_ctc", "train")])
    assert "emt_ctc, which the class registry lacks" in said


def test_no_label_of_a_training_patient_is_said(tmp_path: Path) -> None:
    assert "no label of a training patient" in complaint(tmp_path, [])
