"""The loop on real servers: killed in the middle of training, gone on with, and everything that must hold afterwards."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from ctcml.chain import read_head
from ctcml.ledger import Ledger
from ctcml.services import Services
from ctcml.stages import STAGES
from ctcml.tables import COUNTS, MANIFEST, QUEUE, TRUTH, read_folder, read_table
from ctcml.versioning import repro, versions
from ctcml.workspace import Workspace
from flows.serving import start_engines

pytestmark = pytest.mark.timeout(2700)  # the whole demo is the first test's set-up, and other tests run beside it

SMALL = {
    "simulate.patients": 24,
    "simulate.objects_per_patient": 40,
    "train.profiles.modern.epochs": [1, 1, 3, 1],
    "queue.budget": 60,
    "queue.evaluation_sealed": 80,
    "queue.evaluation_steering": 10,
    "discover.clusters": 20,
    "replay.networks": ["autoencoder"],
    "replay.cells": 60,
    "replay.epochs": [1, 1, 1],
    "replay.prevalences": [],
    "gate.bootstrap": 200,
    # So few sealed cells decide nothing; what is tested here is what follows a promotion.
    "gate.min_ctc": 1,
    "gate.cluster_min_cells": 1,
    "gate.class_min_cells": 1,
    "gate.new_class_floor": 0.0,
} | {
    f"gate.{name}_margin": 1.0
    for name in (
        *("ctc_sensitivity", "ctc_specificity", "cluster_f1", "count_error"),
        *("anchor", "recall", "calibration", "drift"),
    )
}


def demo(root: Path, *options: str) -> "subprocess.Popen[str]":
    changes = [part for name, value in SMALL.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    command = [sys.executable, "-m", "ctcml", "demo", "--workspace", str(root), *changes, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=root.parent)


def processes_of(root: Path) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(root) in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """A small demo that was killed with -9 while it trained, and then resumed to its end."""
    root = tmp_path_factory.mktemp("demo") / "workspace"
    first = demo(root)
    assert first.stdout is not None
    for line in first.stdout:
        if "phase 2" in line:
            break
    os.kill(first.pid, signal.SIGKILL)
    first.stdout.close()
    first.wait()
    deadline = time.monotonic() + 30
    while processes_of(root) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not processes_of(root), "a killed demo left processes behind"
    second = demo(root, "--resume")
    output, _ = second.communicate(timeout=2400)
    assert second.returncode == 0, output
    return Workspace(root), output


def test_a_resumed_demo_says_where_it_goes_on_and_ends_with_the_table(told: tuple[Workspace, str]) -> None:
    ws, output = told
    assert "resuming" in output
    assert "24 patient_assigned events" in output
    assert "recall of CD45EV" in output
    assert "SIMULATED data" in output
    summary = json.loads((ws.root / "summary.json").read_text())
    assert summary["simulated"] is True
    assert summary["verdict"] in ("promote", "refuse", "cannot decide")
    assert summary["promoted"] == (summary["verdict"] == "promote")
    assert summary["kappa"]["value"] > 0.8  # two readers with 5 % errors each


def test_no_process_is_left(told: tuple[Workspace, str]) -> None:
    assert not processes_of(told[0].root)


def test_the_ledger_is_whole_anchored_and_tells_one_round(told: tuple[Workspace, str]) -> None:
    ws, _ = told
    ledger = Ledger(ws.ledger)
    ledger.verify(read_head(ws.ledger_head))
    kinds: dict[str, int] = {}
    for event in ledger.events():
        kinds[event.kind] = kinds.get(event.kind, 0) + 1
    assert kinds["patient_assigned"] == 24
    queued = [event.body["occasion"] for event in ledger.events("queued")]
    assert queued.count("round-1") == 150
    assert set(queued) == {"round-1", "accepted-cd45ev"}  # what looks like the new class was read again
    assert kinds["reading"] == 2 * len(queued)
    assert kinds["adjudication"] == kinds["assigned"] > 0
    assert kinds["round_closed"] == 2
    assert kinds.get("reading_disturbed", 0) == kinds.get("reading_rejected", 0) == 0
    assert kinds["training"] == 2
    assert kinds["sealed_look"] == 1
    assert kinds["data_version"] == 2 == len(versions(ws.root))
    readings = [event.body["read_uid"] for event in ledger.events("reading")]
    assert len(readings) == len(set(readings))


def test_the_new_class_was_proposed_by_readers_and_accepted_by_two_experts(told: tuple[Workspace, str]) -> None:
    ws, _ = told
    ledger = Ledger(ws.ledger)
    assert [event.body["class_id"] for event in ledger.events("class_proposed")] == ["cd45ev"]
    assert [event.by for event in ledger.events("class_vote")] == ["reader-a", "reader-b"]
    added = list(ledger.events("class_added"))[-1].body
    assert (added["class_id"], added["authors"]) == ("cd45ev", ["reader-a", "reader-b"])
    assert (ws.root / added["gallery"]).exists()
    assert "CD45EV" in (ws.review / "reading_protocol.md").read_text()
    model = json.loads((ws.candidate / "model.json").read_text())
    assert "cd45ev" in model["classes"]


def test_the_readers_agreement_is_live_and_kept_with_the_round(told: tuple[Workspace, str]) -> None:
    ws, _ = told
    live, kept = (json.loads(file.read_text()) for file in (ws.agreement, ws.reports / "round-1" / "agreement.json"))
    assert live == kept
    assert live["settled"] == len({event.body["cell_uid"] for event in Ledger(ws.ledger).events("settlement")})
    assert (live["waiting"], live["contested"], live["checks_waiting"], live["proposals"]) == (0, 0, 0, [])


def test_readers_saw_each_cell_once_and_the_sets_did_not_mix(told: tuple[Workspace, str]) -> None:
    ws, _ = told
    truth = read_table(ws.truth, TRUTH)
    assert set(truth[truth["purpose"] == "training"]["role"]) == {"train"}
    assert set(truth[truth["purpose"] == "evaluation"]["role"]) <= {"sealed", "steering"}
    assert not truth["cell_uid"].duplicated().any()


def test_no_identifier_of_a_patient_reached_a_readers_server_the_log_or_a_model(told: tuple[Workspace, str]) -> None:
    ws, output = told
    clinical = (ws.inbox / "clinical.csv").read_text().splitlines()[1:]
    names = {cell.encode() for line in clinical for cell in line.split(",")[:2]}
    places = [ws.services, ws.root / "models", ws.reports, ws.ledger.parent]
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    assert len(files) > 100
    for name in names:
        assert name.decode() not in output
        assert not [file for file in files if name in str(file).encode() or name in file.read_bytes()]


def test_every_thumbnail_is_counted_once_by_arg_max(told: tuple[Workspace, str]) -> None:
    ws, _ = told
    counts = read_table(ws.counts, COUNTS)
    everything = counts[(counts["threshold"] == 0) & (counts["denominator"] == "all")]
    assert everything["count"].sum() == len(read_folder(ws.manifest, MANIFEST, columns=["cell_uid"]))


def test_what_the_readers_see_is_opaque(told: tuple[Workspace, str]) -> None:
    ws, _ = told
    cells = set(read_folder(ws.manifest, MANIFEST, columns=["cell_uid"])["cell_uid"])
    pictures = list(ws.services.rglob("pictures/cells/*.png"))
    assert len(pictures) >= 2 * 2 * 150
    assert not {file.name[:24] for file in pictures} & cells
    per_reader = [
        {file.name[:24] for file in home.rglob("cells/*.png") if not file.name.startswith("example-")}
        for home in (ws.services / "labelstudio").iterdir()
    ]
    assert sum(map(len, per_reader)) == len(set().union(*per_reader))


def test_the_pipeline_alone_finds_everything_up_to_date_but_the_next_queue(told: tuple[Workspace, str]) -> None:
    ws, _ = told
    assert set(
        repro(
            ws.root,
            [one.__name__ for one in STAGES if one.__name__ not in ("query", "train", "evaluate", "replay", "chart")],
        )
    ) <= {"fingerprint"}
    assert len(read_table(ws.queue, QUEUE)) > 0


@pytest.fixture(scope="module")
def rolled_back(told: tuple[Workspace, str]) -> tuple[Workspace, str, str]:
    """The same laboratory after the new champion was taken back; and the counts as they were before it was made."""
    ws, _ = told
    (made,) = (one for one in Ledger(ws.ledger).events("promotion") if one.body["before"] == "1")
    with Services(ws.services / "running.json") as services:
        start_engines(services, ws)
        arguments = ["--version", "1", "--signed-by", "Dr. A. Reader", "--reason", "misses dim CTCs"]
        command = [sys.executable, "-m", "ctcml", "rollback", *arguments, "--workspace", str(ws.root)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return ws, made.body["counts_before"], done.stdout


def test_a_rollback_brings_champion_and_counts_back_to_the_byte_and_is_signed(
    rolled_back: tuple[Workspace, str, str],
) -> None:
    ws, counts_before, told = rolled_back
    assert hashlib.sha256(ws.counts.read_bytes()).hexdigest() == counts_before
    assert "from before, to the byte" in told
    assert json.loads((ws.champion / "version.json").read_text()) == {"version": "1"}
    (event,) = Ledger(ws.ledger).events("rollback")
    assert (event.by, event.why, event.body["version"], event.body["before"]) == (
        *("Dr. A. Reader", "misses dim CTCs"),
        *("1", "2"),
    )


def test_what_was_signed_was_counted_before_and_names_every_patient(told: tuple[Workspace, str]) -> None:
    ws, _ = told
    (made,) = (one for one in Ledger(ws.ledger).events("promotion") if one.body["before"] == "1")
    table = ws.reports / "changes-2.csv"
    assert made.body["changes"] == hashlib.sha256(table.read_bytes()).hexdigest()
    announced = pd.read_csv(table)
    assert announced["sample_uid"].nunique() == 24
    assert announced["flips"].tolist() == sorted(announced["flips"], reverse=True)


def test_secrets_are_private(told: tuple[Workspace, str]) -> None:
    ws, _ = told
    secret = [ws.key, *ws.services.rglob("login.json")]
    assert len(secret) == 4
    assert all(file.stat().st_mode & 0o077 == 0 for file in secret)
