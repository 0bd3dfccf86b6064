"""What is weak somewhere is found where it is, and nothing is called the worst on a handful of cells."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ctcml.bootstrap import patient_weights
from ctcml.by_group import FEWEST_CELLS, figures_by_group, worst_of

CLASSES = ["ctc", "wbc"]


def figures(groups: list[str], truth: list[str], called: list[str]) -> list[dict[str, Any]]:
    probabilities = np.array([[0.9 if name == call else 0.1 for name in CLASSES] for call in called])
    patients = np.array([f"p{at % 7}" for at in range(len(truth))])
    weights = patient_weights(len(set(patients)), draws=100, rng=np.random.default_rng(0))
    return figures_by_group(
        pd.Series(groups), np.array(truth, dtype=object), probabilities, CLASSES, patients, weights, ctc="ctc"
    )


def test_a_model_that_fails_on_one_instrument_alone_fails_there_and_nowhere_else() -> None:
    truth = ["ctc", "wbc"] * 60
    groups = ["one"] * 60 + ["other"] * 60
    first, second = figures(groups, truth, truth[:60] + ["wbc"] * 60)
    assert [first["name"], first["cells"], first["patients"]] == ["one", 60, 7]
    assert first["accuracy"]["value"] == first["macro_f1"]["value"] == 1
    assert (second["ctc_sensitivity"]["value"], second["ctc_specificity"]["value"]) == (0, 1)
    assert second["accuracy"]["value"] == 0.5
    assert second["macro_f1"]["value"] == pytest.approx((0 + 2 / 3) / 2)
    assert second["macro_f1"]["low"] < 1 / 3 < second["macro_f1"]["high"]
    assert worst_of([first, second]) == {
        "name": "other", "cells": 60, "patients": 7, "macro_f1": second["macro_f1"], "of": 2,
    }  # fmt: skip


def test_a_class_with_two_cells_has_no_say_in_the_f1_of_a_group() -> None:
    rows = figures(["a"] * 22, ["wbc"] * 20 + ["ctc"] * 2, ["wbc"] * 22)
    assert rows[0]["macro_f1"]["value"] == pytest.approx(2 * 20 / (2 * 20 + 2))
    assert figures(["a", "a"], ["wbc", "ctc"], ["wbc", "ctc"])[0]["macro_f1"]["value"] is None


def test_a_group_without_a_ctc_has_no_sensitivity() -> None:
    (row,) = figures(["a"] * 10, ["wbc"] * 10, ["wbc"] * 10)
    assert row["ctc_sensitivity"] == {"value": None, "low": None, "high": None, "cells": 0}
    assert row["ctc_specificity"]["low"] < 1  # ten of ten is not "100 % for certain"


def test_nothing_is_called_the_worst_on_a_handful_of_cells() -> None:
    few = FEWEST_CELLS - 1
    rows = figures(["bad"] * few + ["good"] * 30, ["wbc"] * (few + 30), ["ctc"] * few + ["wbc"] * 30)
    worst = worst_of(rows)
    assert worst is not None
    assert worst["name"] == "good"
    assert worst_of(rows[:1]) is None
