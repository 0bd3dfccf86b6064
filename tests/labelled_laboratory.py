"""The SIMULATED laboratory of the tests with every cell of training patients labelled as it was drawn: enough to train on."""

import json
from pathlib import Path

import pandas as pd
from factories import NOON
from test_intake import taken

from ctcml import stages
from ctcml.dataversions import create_workspace, new_data_version
from ctcml.identity import KEY_BYTES, load_key, pseudonym
from ctcml.tables import MANIFEST, TRUTH, read_folder, write_table
from ctcml.workspace import Workspace


def labelled_laboratory(laboratory: Path, root: Path) -> Workspace:
    """A workspace with one data version, settled; labels are the simulator's own instead of a few historic ones."""
    ws = Workspace(root)
    ws.private.mkdir(parents=True, mode=0o700)
    ws.key.write_text(bytes(range(KEY_BYTES)).hex())  # by another key other patients are held out, and few are here
    create_workspace(ws, now=NOON)
    key = load_key(ws.key)
    taken(laboratory, ws, key=key)
    new_data_version(ws, why="intake", by="test", now=NOON)
    stages.settle(ws, say=lambda _: None)
    drawn = pd.read_csv(laboratory / "simulated_truth.csv")
    drawn["sample_uid"] = [pseudonym(key, "sample", name) for name in drawn["sample"]]
    cells = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "sample_uid", "patient_uid", "object_index"])
    cells = cells.merge(drawn, on=["sample_uid", "object_index"]).rename(columns={"true_class": "class_id"})
    cells["role"] = cells["patient_uid"].map(json.loads(ws.roles.read_text()))
    cells = cells[cells["role"] == "train"].assign(purpose="training", how="historic")
    write_table(cells[list(TRUTH)], TRUTH, ws.truth)
    classes = json.loads(ws.classes.read_text())
    newest = {"class_id": "cd45ev", "name": "CD45EV", "definition": "CD45+, DAPI-, CK-"}
    ws.classes.write_text(json.dumps([*classes, newest]))
    return ws
