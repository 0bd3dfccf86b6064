"""The page of the data: versions, intakes, findings, refusals and withdrawals as the workspace's own files tell them."""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from browser.workspace_with_results import build
from pages import draw_page, texts

from ctcml import versioning
from ctcml.access import Role
from ctcml.errors import BrokenRecord
from ctcml.workspace import Workspace
from dashboards import data_records, records
from dashboards.records import NotMade


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return build(tmp_path_factory.mktemp("full"))


@pytest.fixture
def copied(full: Workspace, tmp_path: Path) -> Workspace:
    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root)
    return ws


def test_the_page_shows_everything_without_an_empty_place(full: Workspace) -> None:
    app = draw_page("data", full)
    assert not app.exception
    assert not app.error
    assert not app.info
    heads = [one.value for one in app.subheader]
    assert heads == ["What is here", "Data versions", "Intakes", "Findings at intake", "Quarantine", "Drift", "Withdrawals", "Ledger", "Audit log"]  # fmt: skip


def test_versions_come_newest_first_with_when_and_why(full: Workspace) -> None:
    found = data_records.versions(full)
    assert isinstance(found, pd.DataFrame)
    assert found["version"].tolist() == ["data-v2", "data-v1"]
    assert found["why"].tolist() == ["readings of round-1", "intake of 56 samples"]
    assert found["dvc"].tolist() == [f"{2:032x}", f"{1:032x}"]
    assert found["commit"].nunique() == 2


def test_git_is_asked_once_until_there_is_another_version(copied: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = versioning.versions
    monkeypatch.setattr(versioning, "versions", lambda root: asked.append(root) or real(root))
    for _ in range(3):
        data_records.versions(copied)
    assert len(asked) == 1
    subprocess.run(["git", "tag", "data-v3"], cwd=copied.root, check=True)
    again = data_records.versions(copied)
    assert isinstance(again, pd.DataFrame)
    assert again["version"].iloc[0] == "data-v3"
    assert again["why"].iloc[0] == "the ledger does not know it"
    assert len(asked) == 2


def test_a_folder_without_git_has_no_versions_yet(copied: Workspace) -> None:
    shutil.rmtree(copied.root / ".git")
    assert isinstance(data_records.versions(copied), NotMade)


@pytest.mark.parametrize("by", ["instrument", "site", "set", "cancer_type"])
def test_every_cell_and_every_sample_is_counted_in_one_row(by: str, full: Workspace) -> None:
    found, people, cells = data_records.holdings(full, by), records.clinical(full), records.manifest(full)
    assert isinstance(found, pd.DataFrame)
    assert found["cells"].sum() == len(cells)
    assert found["samples"].sum() == len(people)
    assert found["patients"].sum() >= people["patient_uid"].nunique()


def test_a_sample_of_which_nobody_said_the_site_is_counted_as_such(copied: Workspace) -> None:
    from ctcml import tables

    people = tables.read_table(copied.clinical, tables.CLINICAL, extra_prefix="covariate_")
    people.loc[0, "site"] = ""
    tables.write_table(people, tables.CLINICAL, copied.clinical, extra_prefix="covariate_")
    found = data_records.holdings(copied, "site")
    assert isinstance(found, pd.DataFrame)
    assert found.set_index("site").loc["not stated", "samples"] == 1


def test_findings_are_told_by_kind_with_what_to_do(full: Workspace) -> None:
    found = data_records.findings(full)
    assert isinstance(found, tuple)
    looked_at, rows = found
    assert looked_at == len(records.clinical(full))
    assert rows["code"].tolist() == ["clipped"]
    assert rows["samples"].tolist() == [-(-looked_at // 9)]
    assert "frame's edge" in rows["advice"].iloc[0]


def test_samples_that_were_taken_in_before_findings_were_kept_are_not_said_to_be_sound(copied: Workspace) -> None:
    for receipt in copied.receipts.glob("*.json"):
        receipt.write_text('{"files": 3}')
    assert isinstance(data_records.findings(copied), NotMade)


def test_a_receipt_that_is_none_is_named_in_one_line(copied: Workspace) -> None:
    next(copied.receipts.glob("*.json")).write_text("{")
    with pytest.raises(BrokenRecord, match="not a receipt of ours"):
        data_records.findings(copied)


def test_only_people_who_sign_read_the_laboratorys_own_names_and_the_audit_log(
    full: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dashboards.views import data

    signing = draw_page("data", full)
    assert any("SIM-0009.1.1" in one.value.to_string() for one in signing.dataframe)
    monkeypatch.setattr(data, "may", lambda workspace, role: role < Role.SIGN)
    reading = draw_page("data", full)
    assert not any("SIM-0009" in one.value.to_string() for one in reading.dataframe)
    assert any("2 pages, expected 3" in one.value.to_string() for one in reading.dataframe)
    assert "Audit log" not in texts(reading)


def test_a_withdrawal_is_told_without_a_person(full: Workspace) -> None:
    found = data_records.withdrawals(full)
    assert found["cells"].tolist() == [31]
    assert found["data_versions"].tolist() == ["data-v1"]
    assert "uid" not in " ".join(found.columns)


def test_drift_is_on_this_page_and_models_says_where(full: Workspace) -> None:
    found = records.drift(full)
    assert isinstance(found, dict)
    assert found["alarms"][0] in texts(draw_page("data", full))
    assert "Drift" not in [one.value for one in draw_page("models", full).subheader]


def test_a_ledger_that_does_not_verify_is_said_so_in_one_line(full: Workspace) -> None:
    app = draw_page("data", full)
    assert not app.error  # nobody walks it on each load
    app = app.button(key="verify").click().run()
    assert len(app.error) == 1  # this workspace was never opened by `ctcml init`, so it has no key
    assert "\n" not in app.error[0].value


def test_a_ledger_that_holds_is_said_to_hold(new_workspace: Path, tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "lab")
    shutil.copytree(new_workspace, ws.root)
    assert "6 events hold" in data_records.verified(ws)


def test_what_was_looked_at_is_in_the_audit_log_of_the_page(copied: Workspace) -> None:
    app = draw_page("data", copied)
    newest = app.dataframe[-1].value.iloc[0]
    assert (newest["Action"], newest["What"]) == ("view", "data")
