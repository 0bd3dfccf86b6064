"""The tables of the paper's experiment: how the standard CNN and the AE-CNN do on the same cells, and their paired difference.

Intervals resample patients; both networks, and all seeds of them, are weighed by the same draws, so differences are paired.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.bootstrap import Floats, patient_weights, ratio, share_interval
from ctcml.mistakes import find_mistakes, judged_cells, mistakes_by_cancer_type, mistakes_by_probability
from ctcml.paired import paired
from ctcml.published import MISTAKES, WRONG_BY_CANCER_TYPE, published
from ctcml.reliability import decided_with
from ctcml.scorecard import CURVE, score_card
from ctcml.tallies import CONFIDENCE, FEW_PATIENTS, confusion_by_patient, estimate

CTC = "ctc"
NETWORKS = ("standard", "autoencoder")
TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "ctc_sensitivity": "CTC sensitivity",
    "ctc_specificity": "CTC specificity",
    "sensitivity": "Sensitivity",
    "ppv": "Positive predictive value",
    "f1": "F1",
}

Probabilities = Sequence[NDArray[Any]]  # (cells, classes), one a seed
Shares = tuple[Floats, Floats]  # a figure of confusions (..., Q, Q), and the cells that inform it


def set_tables(
    truth: NDArray[Any],
    patients: NDArray[Any],
    classes: Sequence[str],
    said: Mapping[str, Probabilities],
    *,
    bootstrap: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Every figure of both networks on one class set, ready for JSON: means over the seeds, and the difference AE − standard.

    `truth` and `patients` name a class and a patient a cell; every true class is one of `classes`. Where fewer than 10
    patients have such cells a difference gets no interval: resampling so few of them would make it too narrow.
    """
    names = list(classes)
    tallies = {
        network: [confusion_by_patient(truth, one.argmax(axis=1), names, len(names), patients) for one in said[network]]
        for network in NETWORKS
    }
    weights = patient_weights(len(np.unique(patients)), draws=bootstrap, rng=rng)
    rows = [_row(figure, class_id, shares, tallies, weights, names) for figure, class_id, shares in _figures(names)]
    of_class = {name: int((truth == name).sum()) for name in names}
    return {
        "classes": names,
        "cells": len(truth),
        "patients": len(np.unique(patients)),
        "cells_per_class": of_class,
        "seeds": len(said["standard"]),
        "figures": rows,
    }


def _figures(names: Sequence[str]) -> list[tuple[str, str, Callable[[Floats], Shares]]]:
    """(figure, class or empty, its share of confusions), in the order of the tables."""
    every = np.ones(len(names), dtype=bool)
    found: list[tuple[str, str, Callable[[Floats], Shares]]] = [
        ("accuracy", "", lambda tables: _recall(tables, every)),
        ("balanced_accuracy", "", _balanced),
    ]
    if CTC in names:
        is_ctc = np.array([name == CTC for name in names])
        found += [
            ("ctc_sensitivity", "", lambda tables: _recall(tables, is_ctc)),
            ("ctc_specificity", "", lambda tables: _block(tables, ~is_ctc)),
        ]
    for at, name in enumerate(names):
        one = np.arange(len(names)) == at
        found += [
            ("sensitivity", name, lambda tables, one=one: _recall(tables, one)),  # type: ignore[misc]
            ("ppv", name, lambda tables, one=one: _recall(np.swapaxes(tables, -1, -2), one)),  # type: ignore[misc]
            ("f1", name, lambda tables, at=at: _f1(tables, at)),  # type: ignore[misc]
        ]
    return found


def _recall(tables: Floats, rows: NDArray[np.bool_]) -> Shares:
    """Of the cells of some rows, the share on the diagonal."""
    right, cells = np.diagonal(tables, axis1=-2, axis2=-1)[..., rows].sum(-1), tables[..., rows, :].sum((-2, -1))
    return ratio(right, cells), cells


def _block(tables: Floats, members: NDArray[np.bool_]) -> Shares:
    """Of the cells of some rows, the share that was called one of these rows: the specificity of what is not among them."""
    cells = tables[..., members, :].sum((-2, -1))
    return ratio(tables[..., members, :][..., members].sum((-2, -1)), cells), cells


def _balanced(tables: Floats) -> Shares:
    """Mean recall of the classes that occur."""
    recalls = ratio(np.diagonal(tables, axis1=-2, axis2=-1), tables.sum(-1))
    seen = np.isfinite(recalls)
    return ratio(np.where(seen, recalls, 0.0).sum(-1), seen.sum(-1).astype(float)), tables.sum((-2, -1))


def _f1(tables: Floats, at: int) -> Shares:
    """2 TP / (2 TP + FP + FN)."""
    both = tables[..., at, :].sum(-1) + tables[..., :, at].sum(-1)
    return ratio(2 * tables[..., at, at], both), both / 2


def _row(
    figure: str,
    class_id: str,
    shares: Callable[[Floats], Shares],
    tallies: Mapping[str, Sequence[Floats]],
    weights: Floats,
    names: Sequence[str],
) -> dict[str, Any]:
    """One figure of both networks, and its difference."""
    values: dict[str, list[float]] = {}
    drawn: dict[str, Floats] = {}
    row: dict[str, Any] = {"figure": figure, "class_id": class_id, "title": TITLES[figure]}
    informed = 0
    for network, of_seeds in tallies.items():
        whole = [shares(one.sum(axis=0)) for one in of_seeds]
        values[network] = [float(share) for share, _ in whole]
        drawn[network] = np.mean([shares(np.tensordot(weights, one, axes=1))[0] for one in of_seeds], axis=0)
        informed = int(np.count_nonzero(shares(of_seeds[0])[1]))
        value, cells = float(np.mean(values[network])), float(np.mean([cells for _, cells in whole]))
        one = estimate(value * cells, cells, drawn[network], patients=informed) if np.isfinite(value) else None
        row[network] = asdict(one) if one else {"value": None, "low": None, "high": None, "cells": 0}
        row[network]["paper"] = published(names, figure, network) if not class_id else None
        row[network]["seeds"] = values[network]
    apart = np.subtract(values["autoencoder"], values["standard"])
    row["difference"] = _difference(apart, drawn["autoencoder"] - drawn["standard"], informed)
    return row


def _difference(of_seeds: Floats, drawn: Floats, patients: int) -> dict[str, Any]:
    value = float(np.mean(of_seeds))
    seen = drawn[np.isfinite(drawn)]
    found: dict[str, Any] = {
        "value": value if np.isfinite(value) else None,
        "low": None,
        "high": None,
        "patients": patients,
    }
    if found["value"] is not None and patients >= FEW_PATIENTS and len(seen) and np.ptp(seen) > 0:
        low, high = np.quantile(seen, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        found |= {"low": float(low), "high": float(high)}
    if len(of_seeds) > 1 and np.isfinite(of_seeds).all():
        over = paired(of_seeds)
        limits = (over.low, over.high) if np.isfinite(over.low) else (None, None)
        found["over_seeds"] = {"low": limits[0], "high": limits[1], "p": over.p_t}
    return found


def threshold_tables(
    truth: NDArray[Any],
    patients: NDArray[Any],
    classes: Sequence[str],
    said: Mapping[str, Probabilities],
    *,
    thresholds: Sequence[float],
    bootstrap: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """What is left of each network's decisions (first seed) from each probability on, the paper's missed and false CTCs beside."""
    weights = patient_weights(len(np.unique(patients)), draws=bootstrap, rng=rng)

    def decided(network: str, at: Sequence[float]) -> list[dict[str, Any]]:
        return [decided_with(one, truth, said[network][0], classes, patients, weights, ctc=CTC) for one in at]

    listed = sorted({0.0, *thresholds})
    return {
        network: {"thresholds": decided(network, listed), "curve": decided(network, CURVE)} for network in NETWORKS
    } | {"paper": {kind: {f"{at:g}": n for at, n in found.items()} for kind, found in MISTAKES.items()}}


def cards(
    truth: NDArray[Any],
    patients: NDArray[Any],
    classes: Sequence[str],
    said: Mapping[str, Probabilities],
    *,
    bootstrap: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """A `Scorecard` of each network's first seed, for the pictures of the confusion."""
    return {
        network: score_card(
            truth, said[network][0], classes, patients, bootstrap=bootstrap, rng=np.random.default_rng([seed, 31])
        ).to_dict()
        for network in NETWORKS
    }


def mistake_tables(
    cells: pd.DataFrame,
    classes: Sequence[str],
    probabilities: NDArray[Any],
    *,
    thresholds: Sequence[float],
    bootstrap: int,
    rng: np.random.Generator,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Mistakes by cancer type and by probability as the paper lists them (Results, Supplementary Fig. 1), and the cells themselves.

    `cells` has cell_uid, patient_uid, sample_uid, class_id and cancer_type.
    """
    judged = judged_cells(cells, list(cells["cancer_type"]), probabilities, classes)
    by_type = mistakes_by_cancer_type(judged, thresholds=thresholds, bootstrap=bootstrap, rng=rng)
    rows = [
        asdict(one)
        | {"paper": dict(zip(("wrong", "cells"), WRONG_BY_CANCER_TYPE.get(one.cancer_type, (None, None)), strict=True))}
        for one in by_type
    ]
    for row in rows:
        if row["patients"] < FEW_PATIENTS:
            for kind in ("wrong", "missed", "false"):
                _widen(row[kind])
    report = {
        "thresholds": list(thresholds),
        "by_cancer_type": rows,
        "by_probability": [asdict(one) for one in mistakes_by_probability(judged)],
    }
    return report, find_mistakes(judged)


def _widen(share: dict[str, Any]) -> None:
    """Few patients are too much alike in all draws: their interval reaches at least as far as the binomial limits over the cells."""
    if share["low"] is not None:
        low, high = share_interval(share["mistakes"], share["cells"], np.empty(0), confidence=CONFIDENCE)
        share |= {"low": min(low, share["low"]), "high": max(high, share["high"])}
