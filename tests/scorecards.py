"""A whole score card of SIMULATED decisions, for the tests of what is drawn and written of it."""

from typing import Any

import numpy as np
import pandas as pd

from ctcml.scorecard import full_scorecard
from ctcml.tables import OPINIONS

CLASSES = ["ctc", "tdev", "wbc", "bare_nucleus"]


def a_scorecard(cells: int = 240, *, simulated: bool = True) -> dict[str, Any]:
    """Eight patients, three cancer types of which one has a long name, a class that the model does not know."""
    rng = np.random.default_rng(7)
    truth = rng.choice([*CLASSES, "cd45ev"], cells, p=[0.2, 0.25, 0.35, 0.15, 0.05])
    logits = rng.normal(0, 1, (cells, len(CLASSES)))
    logits[np.arange(cells), [CLASSES.index(one) if one in CLASSES else 2 for one in truth]] += 3
    patient = rng.integers(0, 8, cells)
    cells_of = pd.DataFrame(
        {
            "cell_uid": [f"c{at}" for at in range(cells)],
            "patient_uid": [f"patient-{at}" for at in patient],
            "class_id": truth,
            "cancer_type": np.array(["breast", "benign breast", "cell line <SKBR-3> & more"])[patient % 3],
            "instrument": np.array(["CellTracks 1", "CellTracks 2"])[patient % 2],
            "cluster": [f"appearance {1 + at % 6:02}" for at in range(cells)],
        }
    )
    wavering = np.where(rng.random(cells) < 0.9, truth, rng.choice(CLASSES, cells))
    readers = pd.DataFrame(
        [
            (uid, patient_uid, "evaluation", "round-1", reader, "reader", label, "", "", 2.0, "2026-03-02T12:00:00+00:00", False)
            for reader, labels in (("anna", truth), ("ben", wavering))
            for uid, patient_uid, label in zip(cells_of["cell_uid"], cells_of["patient_uid"], labels, strict=True)
        ],
        columns=list(OPINIONS),
    )  # fmt: skip
    said = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=1, keepdims=True)
    card = full_scorecard(
        cells_of, said, CLASSES, temperature=1.4, thresholds=(0.5, 0.75, 0.9), bootstrap=100, rng=rng, readers=readers
    )
    return card | {"judged_on": "steering patients", "simulated": simulated}
