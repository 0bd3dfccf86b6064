"""The labels of sealed patients have one door, and it counts who goes through."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories import NOON, a_ledger, a_patient, a_queued, a_reading, a_sample, reading_draft

from ctcml.errors import BadTable, ProtocolBreach
from ctcml.ledger import Draft, Ledger
from ctcml.params import load_params
from ctcml.queries import evaluation_queue
from ctcml.records import Purpose, Role
from ctcml.sealed import SealedBudget, budget, open_sealed, patients_of
from ctcml.stages import settle, train
from ctcml.tables import MANIFEST, OPINIONS, TRUTH, read_folder, read_table
from ctcml.truth import evaluation_cells
from ctcml.workspace import Workspace

SOURCE = Path(__file__).parents[1]
MODELS = {"challenger": "a" * 64, "champion": "b" * 64}


def settled(cell: str, class_id: str = "ctc") -> Draft:
    body = {"cell_uid": cell, "class_id": class_id, "how": "both readers", "purpose": "evaluation"}
    return Draft(kind="settlement", by="ctcml", body=body)


def looked(version: str = "2") -> Draft:
    return Draft(kind="sealed_look", by="gate", body={"version": version})


def asked(tmp_path: Path, *drafts: Draft, looks: int = 3, fresh_share: float = 0.5) -> SealedBudget:
    """The budget after these events; cell `c1` is of patient `p1`, and so on, all sealed."""
    people = [a_patient(f"p{number}", "sealed") for number in range(9)]
    ledger = a_ledger(tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl", *people, *drafts)
    patient_of = {f"c{number}": f"p{number}" for number in range(9)}
    return budget(ledger.events(), patient_of, sealed_looks=looks, fresh_share=fresh_share)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """One training, one steering and one sealed patient, a settled cell of each; settled as the stage does it."""
    ws = Workspace(tmp_path / "lab")
    for role in ("train", "steering", "sealed"):
        a_sample(ws, [f"c-{role}"], sample=f"s-{role}", patient=f"p-{role}")
    held_out = ("steering", "sealed")
    ledger = a_ledger(
        ws.ledger,
        *(a_patient(f"p-{role}", role) for role in ("train", *held_out)),
        *a_queued(*(f"c-{role}" for role in held_out), purpose=Purpose.EVALUATION),
        *(
            reading_draft(a_reading(f"c-{role}", reader, label, purpose=Purpose.EVALUATION))
            for role in held_out
            for reader, label in (("reader-a", "ctc"), ("reader-b", "new:ctc"), ("reader-c", "wbc"))
        ),
        Draft(kind="historic_label", by="lab", body={"cell_uid": "c-train", "class_id": "wbc", "source": "lab"}),
        *(settled(f"c-{role}") for role in held_out),
    )
    ws.ledger_snapshot.mkdir(parents=True)
    (ws.ledger_snapshot / "000000000001.jsonl").write_bytes(ledger.path.read_bytes())
    settle(ws, say=lambda line: None)
    return ws


def opened(ws: Workspace, version: str = "2", *, looks: int = 2) -> pd.DataFrame:
    return open_sealed(
        ws, version=version, why=f"challenger version {version}", models=MODELS, sealed_looks=looks, fresh_share=0.5,
        now=NOON,
    )  # fmt: skip


def test_labels_of_sealed_patients_lie_apart_and_only_the_gates_door_opens_them(ws: Workspace) -> None:
    assert sorted(read_table(ws.truth, TRUTH)["cell_uid"]) == ["c-steering", "c-train"]
    assert opened(ws)["cell_uid"].tolist() == ["c-sealed"]
    with pytest.raises(ProtocolBreach, match="for the gate alone"):
        read_table(ws.sealed, TRUTH)
    with pytest.raises(ProtocolBreach, match="judge on steering"):
        evaluation_cells(read_table(ws.truth, TRUTH), Role.SEALED)


def test_what_readers_said_of_sealed_cells_tells_whether_they_agree_and_nothing_else(ws: Workspace) -> None:
    said = read_table(ws.opinions, OPINIONS).groupby("cell_uid")["label"].agg(list)
    assert said["c-steering"] == ["ctc", "new:ctc", "wbc"]
    assert said["c-sealed"] == ["sealed_0", "sealed_0", "sealed_1"]


def test_a_trainer_or_picker_that_opens_the_sealed_set_fails(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = load_params(SOURCE / "params.yaml")
    # A trainer that takes the sealed labels for its ground truth.
    monkeypatch.setattr(Workspace, "truth", Workspace.sealed)
    with pytest.raises(ProtocolBreach, match="for the gate alone"):
        train(ws, seed=1, image=numbers.image, train=numbers.train, say=lambda line: None)
    # A picker that would rather not ask again what is settled.
    with pytest.raises(ProtocolBreach, match="for the gate alone"):
        read_table(ws.sealed, TRUTH, columns=["cell_uid"])
    assert not list(Ledger(ws.ledger).events("sealed_look"))


def test_the_evaluation_arm_is_drawn_without_any_label(ws: Workspace) -> None:
    manifest = read_folder(ws.manifest, MANIFEST)
    roles = {f"p-{role}": Role(role) for role in ("train", "steering", "sealed")}
    ws.sealed.unlink()
    drawn = evaluation_queue(manifest, roles, sealed=1, steering=1, exclude=set(), rng=np.random.default_rng(1))
    assert set(drawn["cell_uid"]) == {"c-steering", "c-sealed"}


def test_only_settlement_and_the_door_name_the_file_of_sealed_labels() -> None:
    files = [
        file
        for package in ("ctcml", "labelstudio", "flows", "dashboards")
        for file in SOURCE.glob(f"{package}/**/*.py")
    ]
    naming = [file.name for file in files if re.search(r"\b(ws|workspace)\.sealed\b", file.read_text())]
    assert sorted(naming) == ["sealed.py", "stages.py"]


def test_each_look_is_in_the_ledger_before_the_labels_are_read(ws: Workspace) -> None:
    ws.sealed.unlink()
    with pytest.raises(BadTable, match="make it again"):
        opened(ws)
    assert [event.why for event in Ledger(ws.ledger).events("sealed_look")] == ["challenger version 2"]


def test_a_gate_that_was_killed_goes_on_with_its_look_until_a_label_changes(ws: Workspace) -> None:
    for _ in range(3):
        opened(ws)
    ledger = Ledger(ws.ledger)
    assert len(list(ledger.events("sealed_look"))) == 1
    ledger.append([settled("c-sealed", "wbc")], now=NOON)
    opened(ws)
    assert len(list(ledger.events("sealed_look"))) == 2


def test_the_sealed_set_stays_shut_when_its_looks_are_spent_and_says_what_opens_it(ws: Workspace) -> None:
    opened(ws, "2")
    opened(ws, "3")
    with pytest.raises(
        ProtocolBreach, match="version 4: the sealed set stays closed, it was opened 2 times"
    ) as refused:
        opened(ws, "4")
    assert "1 more sealed patient can be read through the evaluation arm" in str(refused.value)
    ledger = Ledger(ws.ledger)
    assert len(list(ledger.events("sealed_look"))) == 2  # a look that was refused is none
    found = budget(ledger.events(), patients_of(ws), sealed_looks=2, fresh_share=0.5)
    assert (found.looks, found.used, found.spent, found.patients) == (2, 2, True, 1)


def test_new_sealed_patients_renew_the_budget_and_new_labels_of_old_ones_do_not(tmp_path: Path) -> None:
    had = [settled(f"c{number}") for number in range(4)]
    spent = asked(tmp_path, *had, looked(), looked(), looked())
    assert (spent.used, spent.spent, spent.missing) == (3, True, 2)
    assert asked(tmp_path, *had, looked(), looked(), looked(), settled("c0", "wbc"), settled("c4")).spent
    grown = asked(tmp_path, *had, looked(), looked(), looked(), settled("c4"), settled("c5"))
    assert (grown.used, grown.looks, grown.spent, grown.patients) == (0, 3, False, 6)
    again = asked(tmp_path, *had, looked(), looked(), looked(), settled("c4"), settled("c5"), looked())
    assert (again.used, again.looks, again.missing) == (1, 4, 3)  # half of six


def test_a_budget_counts_what_the_ledger_says_in_its_order(tmp_path: Path) -> None:
    nobody = asked(tmp_path)
    assert (nobody.used, nobody.looks, nobody.spent, nobody.patients) == (0, 0, False, 0)
    early = asked(tmp_path, looked(), settled("c0"), looked())  # the first look saw nobody: one patient renews it
    assert (early.used, early.looks) == (1, 2)
    withdrawn = asked(tmp_path, settled("c0"), settled("gone"), looked())  # a cell that is in the data no more
    assert withdrawn.patients == 1
    assert "2 of 3 looks are left; 1 more sealed patient" in withdrawn.advice


def test_the_import_contract_catches_a_picker_that_imports_the_door(tmp_path: Path) -> None:
    package = tmp_path / "ctcml"
    package.mkdir()
    for name in ("__init__", "sealed", "gate", "queries"):
        (package / f"{name}.py").write_text("")
    (package / "gate.py").write_text("import ctcml.sealed\n")
    config = (SOURCE / "pyproject.toml").read_text()
    start = config.index('[[tool.importlinter.contracts]]\nname = "the gate alone opens the sealed set"')
    contract = config[start : config.index("[[tool.importlinter.contracts]]", start + 1)]
    (tmp_path / "pyproject.toml").write_text('[tool.importlinter]\nroot_packages = ["ctcml"]\n' + contract)
    (package / "queries.py").write_text("from ctcml.sealed import open_sealed\n")
    lint = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    said = subprocess.run(lint, cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 1
    assert "- ctcml.queries -> ctcml.sealed" in said.stdout
    assert "ctcml.gate ->" not in said.stdout
