"""Facts for the checklists are what the workspace holds; what it does not hold is None."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ctcml.paper_facts import network_facts, patient_facts, reading_facts, result_facts
from ctcml.paper_networks import ClassSet, Split, Task
from ctcml.tables import CLINICAL, OPINIONS, TRUTH, write_table
from ctcml.workspace import Workspace

IMAGE: dict[str, Any] = {"recipe": "asinh", "background_percentile": 10.0, "asinh_scale": 60.0}
NUMBERS: dict[str, Any] = {
    "betas": (0.0, 100.0), "epochs": (2, 8), "batch_size": 16, "double_every": 15, "optimizer": "adadelta",
    "learning_rate": 1.0, "reconstruction": "bce", "augmentation": "paper", "class_weights": "none",
}  # fmt: skip


def a_workspace(root: Path, **columns: Any) -> Workspace:
    ws = Workspace(root)
    rows = {
        "sample_uid": ["s1", "s2", "s2b", "s3"], "patient_uid": ["p1", "p2", "p2", "p3"], "sample_kind": ["patient"] * 3 + ["control"],
        "cancer_type": ["breast", "lung", "lung", ""], "blood_volume_ml": [7.5, 7.5, 10.0, 7.5],
    } | columns  # fmt: skip
    write_table(pd.DataFrame(rows).reindex(columns=list(CLINICAL)), CLINICAL, ws.clinical)
    return ws


def facts(ws: Workspace) -> Any:
    roles = {"p1": "train", "p2": "sealed", "p3": "train"}
    return patient_facts(ws, roles, seed=20, blocks=(5, 1, 2), endpoint="os")


def test_patients_are_counted_once_and_controls_are_none(tmp_path: Path) -> None:
    found = facts(a_workspace(tmp_path, age=[60.0, 70.0, 70.0, 20.0], ecog=[1.0, 0.0, 0.0, np.nan]))
    assert found["patients_by_type"] == "2 patients by cancer type breast (1), lung (1), with 3 samples"
    assert found["demographics"] == "age 65 years in the median (60 to 70), known of 2; ECOG 0: 1, 1: 1"
    assert "2 patients in the workspace: 1 train, 1 sealed" in found["flow"]
    assert "5:1:2" in found["flow"]


def test_what_the_clinical_table_does_not_say_is_not_known(tmp_path: Path) -> None:
    found = facts(a_workspace(tmp_path))
    assert {name: found[name] for name in ("lines", "sites", "instruments", "demographics")} == dict.fromkeys(
        ("lines", "sites", "instruments", "demographics")
    )
    assert found["missing"].startswith("follow-up of 2, count by hand of 2, age of 2")


def test_a_value_that_some_samples_lack_is_told_with_how_many_lack_it(tmp_path: Path) -> None:
    found = facts(a_workspace(tmp_path, site=["north", "", "", "south"]))
    assert found["sites"] == "north (1), south (1), not stated 2"


def read_by(*readers: str) -> pd.DataFrame:
    rows = [{"cell_uid": "c1", "patient_uid": "p1", "reader": one, "label": "ctc", "purpose": "training", "duty": "reader",
             "occasion": "1", "confidence": "", "reasons": "", "at": "", "repeat": False, "lead_time_s": 1.0} for one in readers]  # fmt: skip
    return pd.DataFrame(rows, columns=list(OPINIONS))


@pytest.mark.parametrize(("readers", "known"), [((), False), (("a",), False), (("a", "b"), True)])
def test_agreement_is_told_only_where_two_have_read(tmp_path: Path, readers: tuple[str, ...], known: bool) -> None:
    ws = Workspace(tmp_path)
    opinions = read_by(*readers)
    write_table(opinions.assign(repeat=opinions["repeat"].astype(bool)), OPINIONS, ws.opinions)
    truth = pd.DataFrame([("c1", "s1", "p1", "ctc", "train", "training", "historic")], columns=list(TRUTH))
    found = reading_facts(ws, truth, rule="adjudicate")
    assert (found["agreement"] is not None) == known
    assert (found["readers"] is not None) == known
    assert (found["blinding"] is not None) == known
    assert "1 historic" in str(found["reading"])
    assert "who gave them and how is not recorded" in str(found["reading"])
    if known:
        assert "100.0% of 1 cells read twice" in str(found["agreement"])


def test_networks_are_described_by_the_numbers_that_trained_them() -> None:
    cells = pd.DataFrame({"class_id": ["ctc"] * 3 + ["wbc"] * 2, "patient_uid": ["p1"] * 5})
    split = Split(training=cells, judged=cells[:4], judged_on="held-out patients")
    task = Task(network="autoencoder", classes=("ctc", "wbc"), seed=1, recipe="asinh", numbers=NUMBERS)
    sets = [ClassSet(name="all", classes=("ctc", "wbc"))]
    found = network_facts([task], sets, split, IMAGE, ["other: too few"], seeds=1)
    # Methods: "ADADELTA […] doubled the batch size every 15 epochs starting with a batch of 16 images"
    assert "adadelta with learning rate 1, batches of 16, doubled every 15 epochs" in str(found["training_parameters"])
    assert "2 epochs at β = 0, 8 epochs at β = 100" in str(found["training_parameters"])
    assert found["classes_by_part"] == "Cells trained on and judged on, by class: ctc 3 and 3, wbc 2 and 1."
    assert found["class_notes"] == "Other: too few."
    assert found["imbalance"] == "None was used."


def test_without_survival_its_facts_are_unknown_and_limits_name_what_was_simulated() -> None:
    share = {"value": 0.9, "low": 0.8, "high": 0.95}
    row = {
        "figure": "accuracy",
        "class_id": "",
        "title": "Accuracy",
        "standard": share,
        "autoencoder": {**share, "low": None},
    }
    mistaken = {"mistakes": 1, "cells": 9}
    everything = {"cancer_type": "all", "wrong": mistaken, "missed": mistaken, "false": mistaken}
    results = {
        "sets": [{"name": "all 6 classes", "tables": {"figures": [row]}}], "mistakes": {"by_cancer_type": [everything]}, "seeds": 1,
        "survival": {"reports": [], "denominator": "proposed"}, "simulated": True, "judged_on": "patients that were held out",
    }  # fmt: skip
    found = result_facts(results, bootstrap=2000, min_events=5, cutoffs={})
    assert found["survival_results"] is None
    assert found["cutoffs"] is None
    assert found["results_ctc"] is None
    assert found["results"] == "all 6 classes: Accuracy: standard CNN 90.0% (80.0% to 95.0%), AE-CNN 90.0%."
    assert str(found["limits"]).startswith("Simulated data")
    assert "not drawn at random" in str(found["limits"])
    assert json.dumps(found)
