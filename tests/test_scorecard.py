import json
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, precision_score, recall_score

from ctcml.errors import BadInput
from ctcml.scorecard import Scorecard, score_card

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
