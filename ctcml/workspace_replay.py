"""The replay on a workspace's own settled cells: which patients play the archive, what may be chosen, what is drawn."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctcml.hidden_classes import replay_laboratory
from ctcml.malloc import keep_freed_memory
from ctcml.model import Network
from ctcml.records import Role
from ctcml.replay import APPEARANCE, ARCHIVE_SHARE, Plan, Say
from ctcml.replay_pictures import draw_replay
from ctcml.shards import read_inputs
from ctcml.tables import TRUTH, read_table
from ctcml.truth import evaluation_cells, training_cells
from ctcml.workspace import Workspace


def replay_workspace(
    ws: Workspace,
    pictures: Path,
    *,
    numbers: dict[str, Any],
    image: dict[str, Any],
    network: Network,
    networks: tuple[Network, ...],
    cells: int,
    seeds: int,
    prevalences: tuple[float, ...],
    ratios: tuple[float, ...],
    clusters: int,
    min_cells: int,
    seed: int,
    simulated: bool,
    say: Say,
) -> dict[str, Any]:
    """Replay on training patients and settled cells of steering patients; draw pictures, return the report for JSON.

    Steering patients and two fifths of the training patients play the archive: the networks of the replay have seen none of
    them. A choice is made among what the laboratory's own `network` offers and appearance.
    """
    keep_freed_memory()
    truth = read_table(ws.truth, TRUTH)
    settled = pd.concat([training_cells(truth), evaluation_cells(truth, Role.STEERING)], ignore_index=True)
    of_cell = settled.set_index("cell_uid")
    uids, images = read_inputs(ws.shards, sorted(set(settled["sample_uid"])), cell_uids=set(of_cell.index), **image)
    labels, patients, roles = (
        of_cell.loc[uids, name].to_numpy(dtype=str) for name in ("class_id", "patient_uid", "role")
    )
    training = np.unique(patients[roles == Role.TRAIN.value])
    held_back = np.random.default_rng([seed, 5]).permutation(training)[: round(ARCHIVE_SHARE * len(training))]
    in_archive = np.isin(patients, held_back) | (roles == Role.STEERING.value)
    plan = Plan(
        numbers=numbers, networks=networks, recipe=str(image["recipe"]), cells=cells, prevalences=prevalences,
        ratios=ratios, clusters=clusters, min_cells=min_cells,
    )  # fmt: skip
    report, played = replay_laboratory(
        images, labels, patients, in_archive, seeds=[seed + number for number in range(seeds)], plan=plan,
        spaces=(network, APPEARANCE), workers=min(os.cpu_count() or 1, 8), say=say,
    )  # fmt: skip
    made_of = {
        "simulated": simulated,
        "weights_sha256": json.loads((ws.candidate / "model.json").read_text())["weights_sha256"],
        "steering_cells": int((roles == Role.STEERING.value).sum()),
        "held_back_training_cells": int((np.isin(patients, held_back)).sum()),
    }
    if played:
        draw_replay(report, played, pictures, simulated=simulated)
    say(_told(report["choice"]))
    return made_of | report


def _told(choice: Mapping[str, Any]) -> str:
    rule = f"{choice['score']}, clusters of {choice['representation']} from ratio {choice['ratio']:g} on"
    if not choice["cases"]:
        return f"too few settled cells of three classes to hide any; discovery uses what did best on simulated cells: {rule}"
    return f"chosen over {choice['cases']} cases: {rule} (mean AUROC {choice['mean_auroc']:.3f}, mean F1 {choice['mean_f1']:.2f})"
