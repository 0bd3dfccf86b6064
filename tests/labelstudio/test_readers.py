"""`ctcml readers …`: who reads is in the ledger, logins are printed once, and others take over from who is absent."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from factories import NOON, a_queued

from ctcml.cli import cli
from ctcml.dataversions import verify_ledger
from ctcml.errors import BadInput, CtcmlError, ProtocolBreach
from ctcml.ledger import Ledger
from ctcml.people import people_of
from ctcml.workspace import Workspace
from labelstudio.rounds import server_home
from labelstudio.server import read_login


@pytest.fixture
def ws(tmp_path: Path, new_workspace: Path) -> Workspace:
    return Workspace(shutil.copytree(new_workspace, tmp_path / "lab"))


def readers(ws: Workspace, *arguments: str) -> str:
    done: Result = CliRunner().invoke(cli, ["readers", *arguments, "--workspace", str(ws.root)])
    if done.exception is not None:
        raise done.exception
    return done.output


def names(ws: Workspace) -> list[tuple[str, bool]]:
    return [(one.name, one.adjudicates) for one in people_of(Ledger(ws.ledger).events())]


def everything_written(ws: Workspace) -> str:
    files = [file for file in ws.root.rglob("*") if file.is_file() and file.name != "login.json"]
    return "".join(file.read_bytes().decode(errors="replace") for file in files)


def test_a_reader_is_registered_with_a_login_that_is_printed_once_and_kept_private(ws: Workspace) -> None:
    said = readers(ws, "add", "anna")
    readers(ws, "add", "zoe", "--adjudicates")
    file = server_home(ws, "anna") / "login.json"
    password = read_login(file).reader_password
    assert password in said
    assert file.stat().st_mode & 0o077 == 0
    assert names(ws) == [("anna", False), ("zoe", True)]
    assert password not in readers(ws, "list")
    assert "not started yet" in readers(ws, "list")
    assert password not in everything_written(ws)
    verify_ledger(ws)


def test_a_name_is_taken_once(ws: Workspace) -> None:
    readers(ws, "add", "anna")
    before = read_login(server_home(ws, "anna") / "login.json")
    with pytest.raises(BadInput, match="registered already"):
        readers(ws, "add", "anna")
    assert read_login(server_home(ws, "anna") / "login.json") == before


def test_a_server_of_ones_own_is_named_with_all_it_takes(ws: Workspace) -> None:
    with pytest.raises(BadInput, match="give all four"):
        readers(ws, "add", "anna", "--server", "https://ls.example.org")
    assert names(ws) == []


def test_fewer_than_two_readers_are_never_left(ws: Workspace) -> None:
    for name in ("anna", "ben"):
        readers(ws, "add", name)
    with pytest.raises(ProtocolBreach, match="expected two or more"):
        readers(ws, "remove", "ben", "--reason", "left")
    assert len(names(ws)) == 2


def test_who_leaves_gives_unread_cells_to_others_and_the_list_tells(ws: Workspace) -> None:
    for name in ("anna", "ben", "cleo"):
        readers(ws, "add", name)
    Ledger(ws.ledger).append(a_queued("c1", "c2", readers=("anna", "ben")), now=NOON)
    said = readers(ws, "remove", "ben", "--reason", "left the laboratory")
    assert "2 unread cells of ben given away: 2 to cleo" in said
    assert "answers to them will be refused" in said  # no server runs here
    assert [name for name, _ in names(ws)] == ["anna", "cleo"]
    assert "2 open" in readers(ws, "list").splitlines()[1]
    assert [event.why for event in Ledger(ws.ledger).events("assigned", "reader_removed")] == [
        "left the laboratory"
    ] * 3


def test_where_nobody_can_take_over_nobody_leaves(ws: Workspace) -> None:
    for name in ("anna", "ben"):
        readers(ws, "add", name)
    Ledger(ws.ledger).append(a_queued("c1", readers=("anna", "ben")), now=NOON)
    length = Ledger(ws.ledger).head().length
    with pytest.raises(CtcmlError, match="nobody else is registered"):
        readers(ws, "reassign", "ben", "--reason", "ill")
    assert Ledger(ws.ledger).head().length == length


def test_a_stranger_cannot_be_reassigned(ws: Workspace) -> None:
    with pytest.raises(BadInput, match="'nobody': not registered"):
        readers(ws, "reassign", "nobody", "--reason", "ill")


def test_without_readers_the_list_says_what_to_do(ws: Workspace) -> None:
    assert "ctcml readers add" in readers(ws, "list")
