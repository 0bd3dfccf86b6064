"""The ground truth follows from the ledger, and the sets never mix."""

from pathlib import Path

import pandas as pd
import pytest
from factories import a_ledger, a_manifest, a_patient

from ctcml.errors import ProtocolBreach
from ctcml.ledger import Draft
from ctcml.records import Role
from ctcml.truth import evaluation_cells, ground_truth, training_cells, without_sealed_labels

MANIFEST = a_manifest({"c1": "p1", "c2": "p1", "c3": "p2", "c4": "p3"})
PEOPLE = (a_patient("p1", "train"), a_patient("p2", "sealed"), a_patient("p3", "steering"))


def historic(cell: str, class_id: str) -> Draft:
    return Draft(kind="historic_label", by="lab", body={"cell_uid": cell, "class_id": class_id, "source": "lab"})


def settled(cell: str, class_id: str, purpose: str = "training", how: str = "both readers") -> Draft:
    return Draft(
        kind="settlement", by="ctcml", body={"cell_uid": cell, "class_id": class_id, "how": how, "purpose": purpose}
    )


def labels(tmp_path: Path, *drafts: Draft) -> dict[str, str]:
    truth = ground_truth(a_ledger(tmp_path / "l.jsonl", *PEOPLE, *drafts).events(), MANIFEST)
    return dict(zip(truth.cells["cell_uid"], truth.cells["class_id"], strict=True))


def test_the_last_settlement_stands_and_outweighs_a_historic_label(tmp_path: Path) -> None:
    drafts = [settled("c1", "ctc"), historic("c1", "wbc"), historic("c2", "wbc"), settled("c1", "tdev")]
    assert labels(tmp_path, *drafts) == {"c1": "tdev", "c2": "wbc"}


def test_historic_labels_of_held_out_patients_stay_closed_and_are_counted(tmp_path: Path) -> None:
    ledger = a_ledger(
        tmp_path / "l.jsonl", *PEOPLE, historic("c3", "ctc"), historic("c4", "ctc"), historic("c1", "ctc")
    )
    truth = ground_truth(ledger.events(), MANIFEST)
    assert (truth.cells["cell_uid"].tolist(), truth.historic_unused) == (["c1"], 2)


def test_a_training_label_of_a_sealed_patient_stops_everything(tmp_path: Path) -> None:
    with pytest.raises(ProtocolBreach, match="sealed"):
        labels(tmp_path, settled("c3", "ctc", purpose="training"))


def test_an_evaluation_label_of_a_training_patient_stops_everything(tmp_path: Path) -> None:
    with pytest.raises(ProtocolBreach, match="cross the sets"):
        labels(tmp_path, settled("c1", "ctc", purpose="evaluation"))


def test_trainer_steering_and_gate_see_disjoint_cells(tmp_path: Path) -> None:
    drafts = [settled("c1", "ctc"), settled("c3", "ctc", "evaluation"), settled("c4", "wbc", "evaluation")]
    truth = ground_truth(a_ledger(tmp_path / "l.jsonl", *PEOPLE, *drafts).events(), MANIFEST)
    assert training_cells(truth.cells)["cell_uid"].tolist() == ["c1"]
    assert evaluation_cells(truth.cells, Role.STEERING)["cell_uid"].tolist() == ["c4"]
    assert truth.sealed["cell_uid"].tolist() == ["c3"]
    assert sorted(truth.cells["cell_uid"]) == ["c1", "c4"]
    with pytest.raises(ProtocolBreach, match="for the gate alone"):
        evaluation_cells(truth.cells, Role.SEALED)


def test_readings_of_sealed_patients_are_alike_or_not_and_have_no_name() -> None:
    said = [("c3", "p2", "ctc"), ("c3", "p2", "new:ctc"), ("c3", "p2", "unreadable"), ("c4", "p3", "wbc")]
    opinions = pd.DataFrame(said, columns=["cell_uid", "patient_uid", "label"]).assign(reasons="debris")
    told = without_sealed_labels(opinions, {"p2": Role.SEALED, "p3": Role.STEERING})
    assert told["label"].tolist() == ["sealed_0", "sealed_0", "unreadable", "wbc"]
    assert told["reasons"].tolist() == ["", "", "debris", "debris"]
    assert without_sealed_labels(opinions.iloc[:0], {}).empty


def test_classes_keep_the_order_in_which_they_were_added(tmp_path: Path) -> None:
    new = Draft(kind="class_added", by="both readers", body={"class_id": "cd45ev", "name": "CD45EV", "definition": "x"})
    truth = ground_truth(a_ledger(tmp_path / "l.jsonl", new).events(), MANIFEST)
    assert [one.class_id for one in truth.classes] == ["ctc", "tdev", "wbc", "bare_nucleus", "other", "cd45ev"]
