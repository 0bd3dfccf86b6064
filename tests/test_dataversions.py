"""A data version holds the data and the ledger of one moment, and is made only when there is something new."""

import json
import subprocess
from pathlib import Path

import pytest
from factories import NOON, a_reading, put, reading_draft

from ctcml import versioning
from ctcml.dataversions import anchor, create_workspace, new_data_version, set_start
from ctcml.errors import BadInput, BrokenRecord
from ctcml.ledger import Draft, Ledger, read_head
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
