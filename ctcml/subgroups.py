"""Which group a cell belongs to, by where it comes from and by what it looks like; no label and no model has a say.

A model may do well on the whole and badly on what only one instrument or one kind of patient shows. Cancer type and instrument
are the laboratory's own words; the groups by appearance are clusters of what can be measured in the thumbnail, fitted to
cells of training patients, so they are the same for every model that is judged on one data version.
"""

import json
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_argmin
from sklearn.preprocessing import StandardScaler

from ctcml.appearance import appearance
from ctcml.clinical import COVARIATE
from ctcml.errors import BadInput
from ctcml.grouping import group
from ctcml.records import Role
from ctcml.shards import read_inputs, read_shard, shard_paths
from ctcml.tables import CLINICAL, MANIFEST, read_folder, read_table
from ctcml.workspace import Workspace

GROUPS = 12  # ours: two for each of six classes, so that 960 sealed cells leave about 80 in each
FEWEST = 20  # ours: training cells in a group, else there are fewer groups
FITTED = 4000  # ours: training cells that the groups are made of, at most; reading them takes seconds
SEED = 20  # the groups must not depend on which model, or which seed, is looked at
LOOKS: dict[str, Any] = {"recipe": "asinh", "background_percentile": 10.0, "asinh_scale": 60.0}  # as in params.yaml
UNKNOWN = "not known"

Floats = NDArray[np.float64]


def describe(ws: Workspace, cells: pd.DataFrame) -> pd.DataFrame:
    """Add `cancer_type`, `instrument` and `cluster` to cells (`cell_uid`, `sample_uid`, …), in their order.

    Clusters are called "appearance 01" and so on, the first being the one with most training cells. Raises `BadInput`
    when there is no cell of a training patient, or a sample without a row in the clinical table.
    """
    known = samples_of(ws)
    absent = sorted(set(cells["sample_uid"]) - set(known.index))
    if absent:
        raise BadInput(
            f"sample {absent[0]}: no row in the clinical table ({len(absent)} such); take it in with its row"
        )
    return cells.assign(
        cancer_type=known["cancer_type"].reindex(cells["sample_uid"]).to_numpy(),
        instrument=known["instrument"].reindex(cells["sample_uid"]).to_numpy(),
        cluster=_alike(_looks(ws, _training_cells(ws)), _looks(ws, cells)),
    )


def samples_of(ws: Workspace) -> pd.DataFrame:
    """Cancer type and instrument of each sample; benign samples, cell lines and controls stand apart, as in the paper."""
    samples = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE).set_index("sample_uid")
    kind = samples["sample_kind"].str.replace("_", " ") + " "
    cancer_type = kind.where(samples["sample_kind"] != "patient", "") + samples["cancer_type"]
    return pd.DataFrame(
        {"cancer_type": cancer_type, "instrument": samples["instrument"].fillna("").replace("", UNKNOWN)}
    )


def _training_cells(ws: Workspace) -> pd.DataFrame:
    """Cells of training patients, labelled or not; of very many, as many at random."""
    roles = json.loads(ws.roles.read_text())
    cells = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "sample_uid", "patient_uid"])
    cells = cells[cells["patient_uid"].map(roles) == Role.TRAIN.value]
    if cells.empty:
        raise BadInput("groups by appearance: there is no cell of a training patient; take in more patients first")
    return cells.sample(min(FITTED, len(cells)), random_state=SEED).sort_values("cell_uid", ignore_index=True)


def _looks(ws: Workspace, cells: pd.DataFrame) -> Floats:
    """Appearance of cells, in their order (`appearance.NAMES`)."""
    if cells.empty:
        return np.empty((0, 0))
    samples = sorted(set(cells["sample_uid"]))
    came_as = next(iter(read_shard(shard_paths(ws.shards, samples[0])[0]))).recipe
    image = LOOKS | {"recipe": "given"} if came_as else LOOKS
    uids, images = read_inputs(ws.shards, samples, cell_uids=set(cells["cell_uid"]), **image)
    place = pd.Series(np.arange(len(uids)), index=uids)
    return np.asarray(appearance(images)[place[cells["cell_uid"]].to_numpy()], dtype=np.float64)


def _alike(training: Floats, looks: Floats) -> list[str]:
    """The name of the group whose middle is nearest, after standardising as the training cells are spread."""
    if not len(looks):
        return []
    scaler = StandardScaler().fit(training)
    placed = scaler.transform(training)
    member = group(placed, method="kmeans", clusters=GROUPS, min_cells=FEWEST, seed=SEED).member
    by_size = np.argsort(-np.bincount(member), kind="stable")
    middles = np.stack([placed[member == one].mean(axis=0) for one in by_size])
    return [f"appearance {at + 1:02}" for at in pairwise_distances_argmin(scaler.transform(looks), middles)]
