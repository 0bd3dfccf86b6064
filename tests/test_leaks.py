"""`ctcml splits check` on a workspace: apart is apart, and each leak is named."""

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from factories import a_historic, a_ledger, a_patient, a_sample

from ctcml.cli import cli
from ctcml.ledger import Draft, Ledger
from ctcml.tables import MANIFEST, TRUTH, read_table, write_table
from ctcml.workspace import Workspace
from tests.factories import NOON


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A training and a sealed patient with cells of their own; one sealed cell is settled for evaluation."""
    ws = Workspace(tmp_path / "lab")
    settled = Draft(kind="settlement", by="x", body={"cell_uid": "s1", "class_id": "ctc", "purpose": "evaluation"})
    a_ledger(ws.ledger, a_patient("pt", "train"), a_patient("ps", "sealed"), *a_historic("t1"), settled)
    a_sample(ws, ["t1", "t2"], sample="st", patient="pt")
    a_sample(ws, ["s1", "s2"], sample="ss", patient="ps")
    file = ws.manifest / "ss.parquet"
    manifest = read_table(file, MANIFEST)
    write_table(
        manifest.assign(content_sha256=["a", "b"]), MANIFEST, file
    )  # the factory draws everybody the same cells
    rows = [("t1", "st", "pt", "tdev", "train", "training", "historic")]
    write_table(pd.DataFrame(rows, columns=list(TRUTH)), TRUTH, ws.truth)
    return ws


def check(ws: Workspace) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["splits", "check", "--workspace", str(ws.root)])
    return done.exit_code, done.output + str(done.exception or "")


def test_sets_that_are_apart_pass_and_it_is_said_how_much_was_looked_at(ws: Workspace) -> None:
    code, told = check(ws)
    assert code == 0
    assert "no leak: 4 cells of 1 train, 0 steering, 1 sealed patients, 2 labels" in told


def test_a_training_label_of_a_sealed_patient_is_a_leak_with_an_exit_code(ws: Workspace) -> None:
    wrong = Draft(kind="settlement", by="x", body={"cell_uid": "s2", "class_id": "ctc", "purpose": "training"})
    Ledger(ws.ledger).append([wrong], now=NOON)
    code, told = check(ws)
    assert code != 0
    assert "label s2: purpose training, but the patient is sealed" in told
    assert "1 leak(s)" in told


def test_the_same_pixels_in_two_sets_are_a_leak(ws: Workspace) -> None:
    of_training = read_table(ws.manifest / "st.parquet", MANIFEST)["content_sha256"].iloc[0]
    file = ws.manifest / "ss.parquet"
    write_table(read_table(file, MANIFEST).assign(content_sha256=["a", of_training]), MANIFEST, file)
    code, told = check(ws)
    assert code != 0
    assert "s2" in told
