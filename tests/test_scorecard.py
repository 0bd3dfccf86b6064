import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    precision_score,
    recall_score,
)

from ctcml.errors import BadInput
from ctcml.scorecard import Scorecard, full_scorecard, score_card
from ctcml.tables import OPINIONS

CLASSES = ["ctc", "tdev", "wbc"]


def card(
    truth: Sequence[str],
    predicted: Sequence[str],
    classes: Sequence[str] = CLASSES,
    patients: Sequence[str] | None = None,
) -> Scorecard:
    probabilities = np.array([[0.9 if name == call else 0.05 for name in classes] for call in predicted])
    whose = patients or [f"p{at % 10}" for at in range(len(truth))]
    rng = np.random.default_rng(0)
    return score_card(np.array(truth), probabilities, classes, np.array(whose), bootstrap=300, rng=rng)


def mixed(cells: int = 400) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(3)
    truth = rng.choice(CLASSES, cells)
    predicted = np.where(rng.random(cells) < 0.8, truth, rng.choice(CLASSES, cells))
    return truth.tolist(), predicted.tolist()


def test_the_figures_are_those_of_scikit_learn() -> None:
    truth, predicted = mixed()
    found = card(truth, predicted)
    assert np.array_equal(found.confusion, confusion_matrix(truth, predicted, labels=CLASSES))
    assert found.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(truth, predicted))
    recalls = recall_score(truth, predicted, labels=CLASSES, average=None)
    precisions = precision_score(truth, predicted, labels=CLASSES, average=None)
    assert [score.recall.value for score in found.classes] == pytest.approx(recalls.tolist())
    assert [score.precision.value for score in found.classes] == pytest.approx(precisions.tolist())


def test_the_36_missed_ctcs_of_the_paper_are_its_sensitivity_of_97_3_percent() -> None:
    """Zeune et al. 2020: 36 of the 1,312 CTCs of the validation set were missed, 21 of them called tdEV."""
    found = card(["ctc"] * 1312, ["ctc"] * 1276 + ["tdev"] * 36)
    assert found.ctc_sensitivity.value == pytest.approx(0.973, abs=5e-4)
    assert found.ctc_specificity.value is None
    assert found.ctc_specificity.cells == 0


def test_every_interval_holds_its_estimate() -> None:
    found = card(*mixed())
    estimates = [found.accuracy, found.balanced_accuracy, found.ctc_sensitivity, found.ctc_specificity]
    estimates += [figure for score in found.classes for figure in (score.recall, score.precision)]
    for figure in estimates:
        assert figure.low is not None
        assert figure.value is not None
        assert figure.high is not None
        assert figure.low < figure.value < figure.high


def test_a_class_that_the_model_does_not_know_has_recall_zero_and_is_named() -> None:
    found = card(["ctc"] * 10 + ["cd45ev"] * 10, ["ctc"] * 10 + ["wbc"] * 10)
    unknown = next(score for score in found.classes if score.class_id == "cd45ev")
    assert not unknown.known
    assert unknown.recall.value == 0
    assert unknown.precision.value is None
    assert found.accuracy.value == 0.5
    assert found.balanced_accuracy.value == 0.5
    assert "cd45ev" in found.notes[0]
    assert "10 cells" in found.notes[0]


def test_a_class_without_a_settled_cell_has_no_recall_and_is_named() -> None:
    found = card(["ctc", "wbc"], ["ctc", "wbc"])
    assert found.classes[1].recall.value is None
    assert "tdev" in found.notes[0]


def test_a_model_that_never_saw_a_ctc_has_sensitivity_zero() -> None:
    found = card(["ctc", "wbc"], ["wbc", "wbc"], classes=["tdev", "wbc"])
    assert found.ctc_sensitivity.value == 0
    assert found.ctc_specificity.value == 1


def test_one_bad_patient_widens_the_interval_more_than_scattered_errors() -> None:
    truth = ["ctc"] * 200
    patients = [f"p{at // 10}" for at in range(200)]
    one_patient = card(truth, ["tdev"] * 10 + ["ctc"] * 190, patients=patients).ctc_sensitivity
    scattered = card(
        truth, [("tdev" if at % 20 == 0 else "ctc") for at in range(200)], patients=patients
    ).ctc_sensitivity
    assert one_patient.value == scattered.value
    assert one_patient.low is not None
    assert scattered.low is not None
    assert one_patient.low < scattered.low


def test_the_same_dice_give_the_same_card() -> None:
    assert card(*mixed()) == card(*mixed())


def test_a_card_survives_json() -> None:
    found = card(*mixed()).to_dict()
    assert json.loads(json.dumps(found))["accuracy"] == found["accuracy"]


@pytest.mark.parametrize(
    ("truth", "probabilities", "words"),
    [
        ([], np.zeros((0, 3)), "no settled cell"),
        (["ctc"], np.ones((1, 2)), r"\(1, 2\)"),
        (["ctc"], np.full((1, 3), np.nan), "finite"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(truth: list[str], probabilities: np.ndarray, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        score_card(
            np.array(truth),
            probabilities,
            CLASSES,
            np.array(["p"] * len(truth)),
            bootstrap=10,
            rng=np.random.default_rng(0),
        )


def full(
    truth: list[str],
    predicted: list[str],
    *,
    classes: Sequence[str] = CLASSES,
    patients: Sequence[str] | None = None,
    readers: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """The whole card, as it comes back from its file."""
    number = range(len(truth))
    described = pd.DataFrame(
        {
            "cell_uid": [f"c{at}" for at in number],
            "patient_uid": list(patients or [f"p{at % 10}" for at in number]),
            "class_id": truth,
            "cancer_type": [("breast", "lung")[at % 2] for at in number],
            "instrument": "CellTracks 1",
            "cluster": [f"appearance {1 + at % 3:02}" for at in number],
        }
    )
    probabilities = np.array([[0.8 if name == call else 0.1 for name in classes] for call in predicted])
    found = full_scorecard(
        described, probabilities, classes, temperature=1.5, thresholds=(0.5, 0.75, 0.9), bootstrap=100,
        rng=np.random.default_rng(0), readers=readers,
    )  # fmt: skip
    read_back: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    return read_back


def said_by(reader: str, labels: Sequence[str]) -> pd.DataFrame:
    rows = [
        (f"c{at}", f"p{at % 10}", "evaluation", "round-1", reader, "reader", label, "", "", 2.0, "2026-03-02T12:00:00+00:00", False)
        for at, label in enumerate(labels)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(OPINIONS))


def test_the_whole_card_holds_the_figures_of_the_short_one_and_says_everything_else_with_intervals() -> None:
    truth, predicted = mixed()
    whole = full(truth, predicted)
    short = json.loads(json.dumps(card(truth, predicted).to_dict()))
    assert {name: whole[name]["value"] for name in ("accuracy", "ctc_sensitivity")} == {
        name: short[name]["value"] for name in ("accuracy", "ctc_sensitivity")
    }
    assert whole["confusion"] == short["confusion"]
    assert {name: [one["cells"] for one in whole["by"][name]] for name in whole["by"]} == {
        "cancer_type": [200, 200], "instrument": [400], "cluster": [134, 133, 133],
    }  # fmt: skip
    lowest = min(whole["by"]["cluster"], key=lambda one: one["macro_f1"]["value"])
    assert whole["worst_cluster"]["name"] == lowest["name"]
    assert [one["threshold"] for one in whole["thresholds"]] == [0.5, 0.75, 0.9]
    assert [one["cells"] for one in whole["thresholds"]] == [400, 400, 0]
    assert whole["thresholds"][2]["sensitivity"]["value"] == 0  # a CTC below the threshold is lost
    assert whole["thresholds"][2]["precision"]["value"] is None
    assert whole["calibration"]["temperature"] == 1.5
    intervals = [whole["calibration"]["ece_before"], whole["kappa"]["model"]["kappa"], whole["count_error"]["share"]]
    for figure in intervals:
        assert figure["low"] < figure["value"] < figure["high"]


def test_the_kappa_of_the_model_is_that_of_scikit_learn_and_stands_beside_that_of_the_readers() -> None:
    truth, predicted = mixed(200)
    rng = np.random.default_rng(5)
    wavering = np.where(rng.random(200) < 0.96, truth, rng.choice(CLASSES, 200)).tolist()
    kappa = full(truth, predicted, readers=pd.concat([said_by("anna", truth), said_by("ben", wavering)]))["kappa"]
    assert kappa["model"]["kappa"]["value"] == pytest.approx(cohen_kappa_score(truth, predicted))
    assert kappa["readers"]["kappa"]["value"] == pytest.approx(cohen_kappa_score(truth, wavering))
    assert kappa["model_as_reader"]["n"] == 200
    assert kappa["model_as_reader"]["difference"]["kappa"]["high"] < 0  # this model is worse than either reader
    assert full(truth, predicted)["kappa"]["readers"] is None


def test_readings_for_training_and_of_other_cells_do_not_count_as_the_readers_of_these() -> None:
    truth, predicted = mixed(50)
    others = pd.concat([said_by("anna", truth), said_by("ben", truth)]).assign(purpose="training")
    elsewhere = pd.concat([said_by("anna", truth), said_by("ben", truth)]).assign(cell_uid="elsewhere")
    for readers in (others, elsewhere):
        assert full(truth, predicted, readers=readers)["kappa"]["readers"]["n"] == 0


def test_ctcs_are_counted_patient_by_patient_so_errors_of_two_patients_do_not_cancel() -> None:
    truth = ["ctc"] * 6 + ["wbc"] * 6
    predicted = ["ctc"] * 3 + ["wbc"] * 3 + ["ctc"] * 3 + ["wbc"] * 3
    errors = full(truth, predicted, patients=["p1"] * 6 + ["p2"] * 6)["count_error"]
    assert (errors["called"], errors["settled"]) == (6, 6)
    assert errors["share"]["value"] == 1
    assert errors["mean_cells"]["value"] == 3
    assert errors["patients"] == [[0, 3], [6, 3]]  # settled and called; no patient is named
    assert full(truth, truth, patients=["p1"] * 6 + ["p2"] * 6)["count_error"]["share"]["value"] == 0


def test_of_few_cells_no_cluster_is_called_the_worst_and_a_note_says_so() -> None:
    found = full(["ctc", "wbc", "tdev"] * 5, ["ctc", "wbc", "wbc"] * 5)
    assert found["worst_cluster"] is None
    assert "no cluster has 20 settled cells" in found["notes"][-1]


def test_a_set_without_a_ctc_and_a_class_that_the_model_lacks_still_have_a_card() -> None:
    found = full(["wbc", "cd45ev"] * 30, ["wbc", "wbc"] * 30, classes=["tdev", "wbc"])
    assert found["count_error"]["share"]["value"] is None
    assert found["ctc_sensitivity"]["value"] is None
    assert found["by"]["cancer_type"][1]["macro_f1"]["value"] == 0  # all of these are of the class it does not know
