"""Kill -9 while the gate judges, the archive is looked at ahead, the champion is made and everything is recounted."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctcml.dataversions import create_workspace, new_data_version, set_start, verify_ledger
from ctcml.identity import load_key, pseudonym
from ctcml.intake import take_in
from ctcml.ledger import Draft, Ledger
from ctcml.params import load_params
from ctcml.registry import set_alias
from ctcml.servers import mlflow_client_environment, mlflow_service, prefect_client_environment, prefect_service
from ctcml.services import Services, free_port
from ctcml.tables import MANIFEST, read_folder
from ctcml.versioning import commit
from ctcml.workspace import Workspace
from flows.demo import changed_params
from tests.factories import NOON

pytestmark = [pytest.mark.trial, pytest.mark.timeout(10_800)]

KILLS = 35  # with the 15 of a training in test_training_survives.py they are fifty
SMALL = {
    "train.profiles.modern.epochs": [1, 1, 4, 1], "replay.networks": ["standard"], "replay.cells": 60,
    "replay.epochs": [1, 1, 1], "replay.prevalences": [], "discover.clusters": 8, "discover.map_cells": 60,
    "discover.draws": 2, "gate.bootstrap": 100, "gate.unattended": True, "gate.min_ctc": 1,
    "gate.cluster_min_cells": 1, "gate.class_min_cells": 1,
} | {
    f"gate.{name}": 1.0
    for name in (
        "ctc_sensitivity_margin", "ctc_specificity_margin", "cluster_f1_margin", "count_error_margin", "anchor_margin",
        "recall_margin", "calibration_margin", "drift_margin",
    )
}  # fmt: skip
STEPS = """
import sys
root, uri, step, version = sys.argv[1:]
from flows.promotion import promotion
from flows.recount import discovery, recount
from flows.training import training
if step == "first":
    training(root, uri)
    discovery(root)
elif step == "train":
    print("VERSION", training(root, uri))
else:
    print("VERDICT", promotion(root, uri, version)["verdict"], flush=True)
    recount(root)
    print("RECOUNTED", flush=True)
"""


@dataclass(frozen=True)
class Lab:
    """A workspace whose challenger, version 2, waits for the gate; `kept` is a copy of it as it stood then."""

    ws: Workspace
    kept: Path
    uri: str
    environment: dict[str, str]

    def step(self, name: str, version: str = "") -> "subprocess.Popen[str]":
        arguments = [sys.executable, "-c", STEPS, str(self.ws.root), self.uri, name, version]
        return subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment,
            start_new_session=True,
        )  # fmt: skip

    def done(self, name: str, version: str = "") -> str:
        process = self.step(name, version)
        told, _ = process.communicate(timeout=1200)
        assert process.returncode == 0, told
        return told

    def as_it_stood(self) -> None:
        shutil.rmtree(self.ws.root)
        shutil.copytree(self.kept, self.ws.root, symlinks=True)
        for alias in ("champion", "anchor"):
            set_alias(self.uri, alias, "1")


def settlements(ws: Workspace, truth: dict[str, str], *, of_training: int) -> list[Draft]:
    """What two SIMULATED readers would settle: held-out cells for evaluation, some of the training patients' too."""
    roles = {one.body["patient_uid"]: one.body["role"] for one in Ledger(ws.ledger).events("patient_assigned")}
    cells = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "patient_uid"])
    drafts = []
    for uid, patient in cells.itertuples(index=False):
        purpose = "training" if roles[patient] == "train" else "evaluation"
        if purpose == "training" and (of_training := of_training - 1) < 0:
            continue
        label = truth[uid] if truth[uid] != "cd45ev" else "other"
        body = {"cell_uid": uid, "class_id": label, "how": "both readers", "purpose": purpose, "occasion": "round-1"}
        drafts.append(Draft(kind="settlement", by="ctcml", body=body | {"before": None}))
    return drafts


@pytest.fixture(scope="module")
def lab(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("promotion")
    ws = Workspace(home / "lab")
    create_workspace(ws, now=NOON)
    ws.params.write_text(changed_params([f"{name}={json.dumps(value)}" for name, value in SMALL.items()]))
    commit(ws.root, "Parameters of the trial", [ws.params])
    params, key = load_params(ws.params), load_key(ws.key)
    take_in(
        laboratory / "export", laboratory / "clinical.csv", laboratory / "historic_labels.csv", ws,
        key=key, block=(5, 1, 2), seed=params.seed, now=NOON,
    )  # fmt: skip
    with (laboratory / "simulated_truth.csv").open(newline="") as file:
        truth = {
            pseudonym(key, "cell", one["sample"], one["object_index"]): one["true_class"]
            for one in csv.DictReader(file)
        }
    ledger = Ledger(ws.ledger)
    ledger.append(settlements(ws, truth, of_training=0), now=NOON)
    new_data_version(ws, why="first", by="test", now=NOON)
    with pytest.MonkeyPatch.context() as patched, Services(home / "state.json") as services:
        prefect = prefect_service(home / "prefect", "127.0.0.1", free_port())
        mlflow = mlflow_service(home / "mlflow", "127.0.0.1", free_port())
        services.start_all([prefect, mlflow])
        ours = prefect_client_environment(f"{prefect.url}/api", home / "prefect") | mlflow_client_environment(
            mlflow.url
        )
        for name, value in (ours | {"OMP_NUM_THREADS": "1"}).items():
            patched.setenv(name, value)
        made = Lab(ws, home / "kept", mlflow.url, dict(os.environ))
        made.done("first")
        ledger.append(settlements(ws, truth, of_training=60), now=NOON)
        set_start(ws, data_version=new_data_version(ws, why="more", by="test", now=NOON).tag)
        assert "VERSION 2" in made.done("train")
        shutil.copytree(ws.root, made.kept, symlinks=True)
        yield made


def outcome(ws: Workspace) -> dict[str, Any]:
    """Everything that must be the same however often it was killed, the times of the clock aside."""
    report = json.loads((ws.reports / "promotion-2.json").read_text())
    files = [ws.counts, ws.survival, ws.calibration, ws.champion / "weights.safetensors", ws.reports / "changes-2.csv"]
    files += sorted(ws.embeddings.glob("*.parquet"))
    looks = report.pop("budget", None), report.pop("at")
    assert looks
    return {file.name: file.read_bytes() for file in files} | {"report": report}


def test_killed_at_any_moment_the_next_call_ends_as_if_nothing_had_happened(
    lab: Lab, figure: Callable[[str, str], None]
) -> None:
    begun = time.monotonic()
    told = lab.done("judge", "2")
    took, wanted, promotions = time.monotonic() - begun, outcome(lab.ws), 1 + ("VERDICT promote" in told)
    rng, hit = np.random.default_rng(7), 0
    for number in range(KILLS):
        lab.as_it_stood()
        process = lab.step("judge", "2")
        time.sleep(float(rng.uniform(0.05, 0.97) * took))
        hit += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        lab.done("judge", "2")
        assert outcome(lab.ws) == wanted, f"kill {number}"
        verify_ledger(lab.ws)
        kinds = [event.kind for event in Ledger(lab.ws.ledger).events("promotion", "sealed_look")]
        assert kinds.count("promotion") == promotions, f"kill {number}"
        assert kinds.count("sealed_look") == 1, f"kill {number}"  # the same comparison again is the same look
    figure(
        "kill -9 of gate, promotion and recount, random moments",
        f"0 of {KILLS} lost anything or ended otherwise; {hit} hit it; {promotions - 1} promoted",
    )
    assert hit >= KILLS * 0.7
