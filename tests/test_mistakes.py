import numpy as np
import pandas as pd
import pytest

from ctcml.bootstrap import share_interval
from ctcml.mistakes import (
    ALL,
    OfCancerType,
    find_mistakes,
    judged_cells,
    mistakes_by_cancer_type,
    mistakes_by_probability,
)
from ctcml.tables import MISTAKES, check

CLASSES = ["ctc", "tdev", "other"]
CELLS = [  # patient, cancer type, settled label, p(ctc), p(tdev), p(other)
    ("p1", "breast", "ctc", 0.90, 0.05, 0.05),
    ("p1", "breast", "ctc", 0.04, 0.95, 0.01),  # missed, and the model is sure
    ("p1", "breast", "tdev", 0.10, 0.80, 0.10),
    ("p2", "breast", "ctc", 0.20, 0.30, 0.50),  # missed, in doubt
    ("p2", "breast", "other", 0.60, 0.10, 0.30),  # false, in doubt
    ("p2", "breast", "tdev", 0.10, 0.20, 0.70),  # wrong, but no matter of CTCs
    ("p3", "lung", "ctc", 1.00, 0.00, 0.00),
    ("p3", "lung", "other", 0.92, 0.04, 0.04),  # false, and the model is sure
    ("p3", "lung", "cd45ev", 0.80, 0.10, 0.10),  # false, of a class that the model does not know
]


def judged(classes: list[str] = CLASSES) -> pd.DataFrame:
    table = pd.DataFrame(CELLS, columns=["patient_uid", "type", "class_id", "a", "b", "c"])
    table = table.assign(cell_uid=[f"c{at}" for at in range(len(CELLS))], sample_uid="s-" + table["patient_uid"])
    return judged_cells(table, table["type"].tolist(), table[["a", "b", "c"]].to_numpy(np.float32), classes)


def by_type(cells: pd.DataFrame) -> dict[str, OfCancerType]:
    found = mistakes_by_cancer_type(cells, thresholds=(0.75, 0.9), bootstrap=500, rng=np.random.default_rng(1))
    return {one.cancer_type: one for one in found}


def test_the_mistakes_are_listed_by_cancer_type_and_the_surest_first() -> None:
    found = find_mistakes(judged())
    check(found, MISTAKES, "mistakes")
    assert list(found.columns) == list(MISTAKES)
    assert found[["kind", "cancer_type", "cell_uid"]].to_numpy().tolist() == [
        ["missed", "breast", "c1"],
        ["missed", "breast", "c3"],
        ["false", "breast", "c4"],
        ["false", "lung", "c7"],
        ["false", "lung", "c8"],
    ]
    assert found["predicted"].tolist() == ["tdev", "other", "ctc", "ctc", "ctc"]
    assert found["p_ctc"].tolist() == pytest.approx([0.04, 0.2, 0.6, 0.92, 0.8])
    assert found["p_predicted"].tolist() == pytest.approx([0.95, 0.5, 0.6, 0.92, 0.8])


def test_each_cancer_type_is_counted_as_one_counts_by_hand() -> None:
    found = by_type(judged())
    assert list(found) == ["breast", "lung", ALL]
    breast, lung, everything = found["breast"], found["lung"], found[ALL]
    assert (breast.patients, lung.patients, everything.patients) == (2, 1, 3)
    assert [(one.wrong.mistakes, one.wrong.cells) for one in found.values()] == [(4, 6), (2, 3), (6, 9)]
    assert [(one.missed.mistakes, one.missed.cells) for one in found.values()] == [(2, 3), (0, 1), (2, 4)]
    assert [(one.false.mistakes, one.false.cells) for one in found.values()] == [(1, 3), (2, 2), (3, 5)]


def test_mistakes_are_counted_by_how_sure_the_decision_was_and_by_class_as_in_the_paper() -> None:
    everything = by_type(judged())[ALL]
    assert everything.missed.above == (1, 1)
    assert everything.false.above == (2, 1)
    assert everything.missed.classes == {"other": 1, "tdev": 1}  # what the missed ones were called
    assert everything.false.classes == {"cd45ev": 1, "other": 2}  # what the readers said of the false ones
    assert everything.wrong.classes == {"cd45ev": 1, "ctc": 2, "other": 2, "tdev": 1}


def test_one_patient_is_not_enough_for_an_interval() -> None:
    found = by_type(judged())
    assert (found["lung"].false.low, found["lung"].false.high) == (None, None)
    # Of breast, p1 missed one CTC of two and p2 one of one: a draw gives 1/2, 2/3 or 1.
    assert (found["breast"].missed.low, found["breast"].missed.high) == (0.5, 1.0)


def test_an_interval_resamples_patients_and_is_wider_than_one_that_resamples_cells() -> None:
    patients = np.repeat([f"p{at:02}" for at in range(20)], 20)
    bad = np.isin(patients, ["p00", "p01", "p02", "p03"])  # all CTCs of four patients are missed, none of the others
    cells = pd.DataFrame({"cell_uid": "c", "patient_uid": patients, "sample_uid": "s", "class_id": "ctc"})
    said = np.where(bad[:, None], [[0.1, 0.9, 0.0]], [[0.9, 0.1, 0.0]])
    missed = by_type(judged_cells(cells, ["breast"] * 400, said, CLASSES))["breast"].missed
    drawn = np.random.default_rng(1).binomial(400, 0.2, 500) / 400
    low, high = share_interval(80, 400, drawn, confidence=0.95)
    assert missed.low < 0.1 < low
    assert missed.high > 0.3 > high


def test_the_bins_of_probability_hold_each_cell_once_and_certainty_lies_in_the_last() -> None:
    bins = mistakes_by_probability(judged())
    assert [one.low for one in bins] == pytest.approx([at / 10 for at in range(10)])
    assert sum(one.ctc + one.not_ctc for one in bins) == len(CELLS)
    assert [(one.ctc, one.missed, one.not_ctc, one.false) for one in bins] == [
        (1, 1, 0, 0), (0, 0, 2, 0), (1, 1, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 1, 1), (0, 0, 0, 0),
        (0, 0, 1, 1), (2, 0, 1, 1),
    ]  # fmt: skip


def test_a_model_that_does_not_know_ctcs_misses_them_all() -> None:
    cells = judged(["wbc", "tdev", "other"])
    assert (cells["p_ctc"] == 0).all()
    assert by_type(cells)[ALL].missed.mistakes == 4
    assert by_type(cells)[ALL].false.mistakes == 0


def test_a_model_without_a_mistake_has_an_empty_list() -> None:
    right = judged().query("true_class == predicted")
    assert find_mistakes(right).empty
    assert list(find_mistakes(right).columns) == list(MISTAKES)
    assert by_type(right)["lung"].false.cells == 0
