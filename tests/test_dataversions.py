"""A data version holds the data and the ledger of one moment, and is made only when there is something new."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from factories import NOON, a_reading, put, reading_draft

from ctcml import versioning
from ctcml.chain import read_head, write_head
from ctcml.dataversions import anchor, create_workspace, new_data_version, set_start, verify_ledger
from ctcml.errors import BadInput, BrokenRecord
from ctcml.ledger import Draft, Ledger
from ctcml.workspace import Workspace


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    ws = Workspace(tmp_path_factory.mktemp("lab") / "workspace")
    create_workspace(ws, now=NOON)
    return ws


def log(ws: Workspace) -> list[str]:
    done = subprocess.run(["git", "log", "--format=%s"], cwd=ws.root, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_version_freezes_the_ledger_and_an_old_one_comes_back_without_shortening_the_living_one(
    ws: Workspace,
) -> None:
    ledger = Ledger(ws.ledger)
    ws.data.mkdir()
    put(ws.data / "cells.txt", "one")
    first = new_data_version(ws, why="intake", by="test", now=NOON)
    ledger.append([reading_draft(a_reading("c1", "reader-a", "ctc"))], now=NOON)
    put(ws.data / "cells.txt", "two")
    second = new_data_version(ws, why="reading", by="test", now=NOON)
    assert [one.tag for one in versioning.versions(ws.root)] == [first.tag, second.tag] == ["data-v1", "data-v2"]

    length = ledger.verify().length
    versioning.checkout(ws.root, "data-v1")
    assert (ws.data / "cells.txt").read_text() == "one"
    assert not list(Ledger(ws.ledger_snapshot).events("reading"))
    assert ledger.verify().length == length
    versioning.checkout(ws.root, "data-v2")
    assert Ledger(ws.ledger_snapshot).verify().length < length  # the event about the version itself came after


def test_nothing_new_makes_no_new_version(ws: Workspace) -> None:
    before = versioning.versions(ws.root)
    Ledger(ws.ledger).append([Draft(kind="sealed_look", by="gate", body={"version": "1"})], now=NOON)
    assert new_data_version(ws, why="again", by="test", now=NOON) == before[-1]
    assert versioning.versions(ws.root) == before


def test_the_head_of_the_ledger_is_anchored_in_git_and_a_cut_ledger_is_noticed(ws: Workspace) -> None:
    head = anchor(ws)
    assert f"Anchor the ledger at {head.length} events" in log(ws)
    whole = ws.ledger.read_bytes()
    ws.ledger.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(BrokenRecord, match="is not among them"):
        anchor(ws)
    ws.ledger.write_bytes(whole)
    assert read_head(ws.ledger_head) == anchor(ws)


def test_the_start_of_a_training_is_set_once_for_a_data_version(ws: Workspace) -> None:
    assert json.loads((ws.start / "start.json").read_text()) == {"data_version": "none"}
    ws.champion.mkdir(parents=True)
    (ws.champion / "model.json").write_text("{}")
    assert set_start(ws, data_version="data-v2")
    (ws.champion / "model.json").write_text('{"newer": true}')
    assert not set_start(ws, data_version="data-v2")
    assert (ws.start / "model.json").read_text() == "{}"


def test_private_things_are_in_no_commit(ws: Workspace) -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ws.root, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "ledger/head.json" in tracked
    assert not [
        name for name in tracked if name.startswith((".ctcml/", "data/", "ledger/ledger", "inbox/", "quarantine/"))
    ]


def test_a_folder_that_holds_something_is_not_made_a_workspace(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(BadInput, match="name another folder"):
        create_workspace(Workspace(tmp_path), now=NOON)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def a_history(empty: Path, root: Path) -> tuple[Workspace, str, str]:
    """A workspace with three anchored states; the ledger and the head of the second."""
    ws = Workspace(shutil.copytree(empty, root / "lab"))
    for number in range(2):
        Ledger(ws.ledger).append([Draft(kind="mode", by="test", body={"number": number})], now=NOON)
        anchor(ws)
        if number == 0:
            earlier = ws.ledger.read_text(), ws.ledger_head.read_text()
    return ws, *earlier


def test_the_ledger_is_compared_with_every_head_that_git_has_held(tmp_path: Path, new_workspace: Path) -> None:
    ws, _, _ = a_history(new_workspace, tmp_path)
    head, anchors = verify_ledger(ws)
    assert (head.length, anchors) == (Ledger(ws.ledger).head().length, 4)  # three in git, and the present file


def test_a_cut_is_found_though_ledger_and_head_were_both_put_back_to_an_earlier_state(
    tmp_path: Path, new_workspace: Path
) -> None:
    ws, ledger, head = a_history(new_workspace, tmp_path)
    ws.ledger.write_text(ledger)
    ws.ledger_head.write_text(head)
    Ledger(ws.ledger).verify(read_head(ws.ledger_head))  # by itself this state is whole
    with pytest.raises(BrokenRecord, match="is not among them"):
        verify_ledger(ws)


def test_a_ledger_written_anew_with_a_head_of_its_own_is_found(tmp_path: Path, new_workspace: Path) -> None:
    ws, _, _ = a_history(new_workspace, tmp_path)
    ws.ledger.unlink()
    forged = Ledger(ws.ledger).append([Draft(kind="mode", by="somebody", body={})], now=NOON)
    write_head(forged, ws.ledger_head)
    with pytest.raises(BrokenRecord, match="signature"):
        verify_ledger(ws)
    with pytest.raises(BrokenRecord, match="signature"):
        anchor(ws)


def test_without_any_head_nothing_is_verified(tmp_path: Path, new_workspace: Path) -> None:
    ws, _, _ = a_history(new_workspace, tmp_path)
    ws.ledger_head.write_text("{}")
    with pytest.raises(BrokenRecord, match="not an anchor"):
        verify_ledger(ws)
