"""Every failure that a person can cause is one clear line, exit code 1, and nothing half-written."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import NOON

from ctcml.dataversions import create_workspace
from ctcml.workspace import Workspace


def ctcml(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "ctcml", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def refused(*arguments: str, cwd: Path, says: str) -> None:
    done = ctcml(*arguments, cwd=cwd)
    assert done.returncode == 1, done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("ctcml: ")
    assert says in lines[0]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli") / "lab"
    create_workspace(Workspace(root), now=NOON)
    return root


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1.5 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(folder)], capture_output=True
    ).returncode:
        pytest.skip("no right to mount a small disk here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_missing_export_is_named(lab: Path) -> None:
    refused("intake", "nowhere", "--clinical", "clinical.csv", cwd=lab, says="nowhere: no such folder")


def test_a_folder_without_thumbnails_is_named_and_nothing_is_written(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused("intake", str(tmp_path / "empty"), "--clinical", "x.csv", cwd=lab, says="no sample folder")
    assert not (lab / "data").exists()


def test_a_missing_clinical_table_is_named(lab: Path, laboratory: Path) -> None:
    refused("intake", str(laboratory / "export"), "--clinical", "none.csv", cwd=lab, says="none.csv")
    assert not (lab / "data").exists()


def test_a_folder_that_is_no_workspace_is_named(tmp_path: Path) -> None:
    refused("repro", cwd=tmp_path, says="not a workspace")
    refused("settle", cwd=tmp_path, says="ctcml init")
    refused("intake", "x", "--clinical", "y", cwd=tmp_path, says="ctcml init")


def test_a_workspace_is_not_made_over_something_else(lab: Path) -> None:
    refused("init", str(lab), cwd=lab, says="name another folder")


def test_a_stage_before_its_time_says_what_is_missing(lab: Path) -> None:
    refused("repro", "train", cwd=lab, says="data")


def test_a_demo_does_not_touch_a_folder_that_is_not_its_own(lab: Path) -> None:
    before = sorted(lab.rglob("*"))
    refused("demo", "--workspace", str(lab), cwd=lab.parent, says="not the workspace of a demo")
    assert sorted(lab.rglob("*")) == before


def test_a_demo_that_never_began_cannot_be_resumed(tmp_path: Path) -> None:
    refused("demo", "--resume", "--workspace", str(tmp_path / "new"), cwd=tmp_path, says="nothing to resume")


def test_an_unknown_parameter_of_the_demo_is_named(tmp_path: Path) -> None:
    refused("demo", "--workspace", str(tmp_path / "new"), "--set", "train.epoch=1", cwd=tmp_path, says="train.epoch=1")
    assert not (tmp_path / "new").exists()


def test_the_loop_without_servers_says_how_to_start_them(lab: Path) -> None:
    refused("loop", "x", "--clinical", "y", cwd=lab, says="ctcml up")
    refused("promote", "--version", "2", "--signed-by", "me", "--reason", "why", cwd=lab, says="ctcml up")


def test_an_unknown_cell_or_version_is_named(lab: Path) -> None:
    refused("ledger", "show", "0" * 24, cwd=lab, says="no event about it")
    refused("checkout", "data-v9", cwd=lab, says="data-v9")


def test_a_full_disk_is_one_line_and_leaves_nothing(full_disk: Path) -> None:
    source = Path(__file__).parents[1]
    lab = ["--workspace", str(source), "--patients", "4"]
    refused("simulate", str(full_disk / "inbox"), *lab, cwd=full_disk, says="No space left on device")
    assert list(full_disk.iterdir()) == []


def test_a_changed_ledger_is_noticed(lab: Path) -> None:
    ledger = lab / "ledger" / "ledger.jsonl"
    whole = ledger.read_bytes()
    assert ctcml("ledger", "verify", cwd=lab).returncode == 0
    ledger.write_bytes(whole.replace(b"WBC", b"CTC", 1))
    refused("ledger", "verify", cwd=lab, says="was changed after it was written")
    ledger.write_bytes(whole)


def test_an_unknown_command_is_a_usage_error(tmp_path: Path) -> None:
    assert ctcml("conjure", cwd=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_bench_is_not_written_into_a_folder_that_is_there(tmp_path: Path) -> None:
    refused("bench", "score", "--folder", ".", cwd=tmp_path, says="expected a folder that is not there yet")
