"""The figures of a model for each group of cells, so that what is weak somewhere does not hide behind the whole."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.bootstrap import Floats
from ctcml.tallies import NOTHING, Estimate, confusion_by_patient, estimate, macro_f1, share_of

FEWEST_CELLS = 20  # ours: settled cells of a group, else it cannot be called the worst
FEWEST_OF_CLASS = 3  # ours: settled cells of a class in a group, else its F1 there is one reader's word


def figures_by_group(
    groups: pd.Series,
    truth: NDArray[Any],
    probabilities: NDArray[Any],
    classes: Sequence[str],
    patients: NDArray[Any],
    weights: Floats,
    *,
    ctc: str,
) -> list[dict[str, Any]]:
    """Size, accuracy, CTC sensitivity and specificity and mean F1 of each group, in order of name; a row a cell.

    F1 is the mean over the classes with 3 settled cells or more in the group. `weights` are those of `patient_weights`.
    """
    rows = [*classes, *sorted(set(truth.tolist()) - set(classes))]
    called = probabilities.argmax(axis=1)
    names = np.array(classes, dtype=object)[called]
    found = []
    for name in sorted(set(groups)):
        inside = (groups == name).to_numpy()
        asked = {
            "accuracy": (names == truth, inside),
            "ctc_sensitivity": (names == ctc, inside & (truth == ctc)),
            "ctc_specificity": (names != ctc, inside & (truth != ctc)),
        }
        found.append(
            {"name": str(name), "cells": int(inside.sum()), "patients": len(set(patients[inside]))}
            | {each: vars(share_of(hits, among, patients, weights)) for each, (hits, among) in asked.items()}
            | {"macro_f1": vars(_group_f1(inside, truth, called, rows, len(classes), patients, weights))}
        )
    return found


def _group_f1(
    inside: NDArray[np.bool_],
    truth: NDArray[Any],
    called: NDArray[np.int64],
    rows: list[str],
    columns: int,
    patients: NDArray[Any],
    weights: Floats,
) -> Estimate:
    _, whose = np.unique(patients, return_inverse=True)
    of_own = confusion_by_patient(truth[inside], called[inside], rows, columns, whose[inside])
    total = of_own.sum(axis=0)
    counted = total.sum(axis=1) >= FEWEST_OF_CLASS
    if not counted.any():
        return NOTHING
    value, cells = float(macro_f1(total, counted)), float(total.sum())
    drawn = macro_f1(np.tensordot(weights[:, np.unique(whose[inside])], of_own, axes=1), counted)
    return estimate(value * cells, cells, drawn, patients=len(of_own))


def worst_of(clusters: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The group with the lowest F1 of those with 20 cells or more; with few cells chance has a part in which one that is."""
    judged = [one for one in clusters if one["cells"] >= FEWEST_CELLS and one["macro_f1"]["value"] is not None]
    worst = min(judged, key=lambda one: float(one["macro_f1"]["value"]), default=None)
    return worst and {name: worst[name] for name in ("name", "cells", "patients", "macro_f1")} | {"of": len(judged)}
