"""The standing random arm as a gauge: how often the champion is wrong on cells that were drawn blindly, round by round."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ctcml.bootstrap import patient_sums, patient_weights, ratio, share_interval
from ctcml.ledger import Event
from ctcml.records import Purpose


def first_labels(events: Iterable[Event]) -> dict[str, int]:
    """The place in the ledger at which each cell first got a label."""
    found: dict[str, int] = {}
    for event in events:
        if event.kind in ("settlement", "historic_label"):
            found.setdefault(event.body["cell_uid"], event.seq)
    return found


def learnt_until(events: Iterable[Event], version: str | None) -> float:
    """The place in the ledger up to which model `version` could learn: its data version.

    Infinite where its training is not in these events: they were frozen before it, so all was there to learn from.
    """
    frozen: dict[str, int] = {}
    for event in events:
        if event.kind == "data_version":
            frozen[event.body["tag"]] = event.seq
        elif event.kind == "training" and str(event.body["version"]) == version:
            return frozen.get(event.body["data_version"], event.seq)
    return np.inf


def random_arm(
    events: Sequence[Event],
    cells: pd.DataFrame,
    *,
    version: str | None,
    classes: Sequence[str],
    bootstrap: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """A row an occasion, in order: the error on cells (cell_uid, patient_uid, class_id, predicted) that were drawn at random.

    `learnt` says that the model `version`, which knows `classes`, may know some of them by heart.
    """
    occasion: dict[str, str] = {}
    for event in events:
        body = event.body
        if event.kind == "queued" and body["purpose"] == Purpose.TRAINING and body["reason"] == "random":
            occasion.setdefault(body["cell_uid"], body["occasion"])
    settled, until = first_labels(events), learnt_until(events, version)
    drawn = cells[cells["cell_uid"].isin(occasion) & cells["cell_uid"].isin(settled)]
    drawn = drawn.assign(occasion=drawn["cell_uid"].map(occasion), at=drawn["cell_uid"].map(settled))
    found = []
    for name in dict.fromkeys(occasion.values()):
        rows = drawn[drawn["occasion"] == name]
        if len(rows):
            learnt = bool((rows["at"] < until).any())
            found.append({"occasion": name, **error_of(rows, classes, bootstrap, rng), "learnt": learnt})
    return found


def error_of(cells: pd.DataFrame, classes: Sequence[str], bootstrap: int, rng: np.random.Generator) -> dict[str, Any]:
    """Share of cells that the model calls otherwise than they were settled, with a 95 % interval over patients; None without any.

    `unknown` are those among them that are of none of the model's classes.
    """
    if not len(cells):
        return {"cells": 0, "patients": 0, "wrong": 0, "unknown": 0, "error": None, "low": None, "high": None}
    wrong = (cells["class_id"] != cells["predicted"]).to_numpy(dtype=np.float64)
    sums = patient_sums(np.stack([wrong, np.ones(len(wrong))], axis=1), cells["patient_uid"].to_numpy(dtype=str))
    drawn = patient_weights(len(sums), draws=bootstrap, rng=rng) @ sums
    low, high = share_interval(wrong.sum(), len(wrong), ratio(drawn[:, 0], drawn[:, 1]), confidence=0.95)
    told = {
        "wrong": int(wrong.sum()),
        "unknown": int((~cells["class_id"].isin(classes)).sum()),
        "error": round(float(wrong.mean()), 4),
        "low": low,
        "high": high,
    }
    return {"cells": len(wrong), "patients": len(sums)} | told
