"""The audit log tells who saw what, and nobody takes a word of it back unnoticed."""

import json
import multiprocessing
import shutil
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from factories import KEY, NOON

from ctcml.access import Role, grant
from ctcml.audit import audit_chain, entries, record, verify_audit
from ctcml.backup import backup, restore
from ctcml.chain import read_head, write_head
from ctcml.cli import cli
from ctcml.dataversions import anchor, verify_audit_log
from ctcml.errors import BadInput, BrokenRecord, ServiceDown
from ctcml.workspace import Workspace


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    ws = Workspace(tmp_path / "lab")
    ws.key.parent.mkdir(parents=True)
    ws.key.write_text(KEY.hex())
    return ws


@pytest.fixture
def whole(new_workspace: Path, tmp_path: Path) -> Workspace:
    """A workspace with git, DVC and ledger."""
    return Workspace(Path(shutil.copytree(new_workspace, tmp_path / "lab", symlinks=True)))


def look(ws: Workspace, number: int = 0, *, who: str = "anna@lab.org", action: str = "view", **about: Any) -> None:
    now = NOON + timedelta(hours=number)
    record(ws, who=who, role="read", action=action, what="sample", about={"sample_uid": f"s{number}", **about}, now=now)


def some(ws: Workspace, count: int) -> None:
    for number in range(count):
        look(ws, number)


def test_an_entry_says_when_who_in_which_role_did_what_about_whom(ws: Workspace) -> None:
    look(ws, cancer="breast")
    (one,) = entries(ws)
    assert (one.at, one.who, one.role, one.action, one.what) == (
        "2026-03-02T12:00:00+00:00",
        "anna@lab.org",
        "read",
        "view",
        "sample",
    )
    assert one.about == {"sample_uid": "s0", "cancer": "breast"}


def test_a_whole_log_is_verified_against_its_signed_head(ws: Workspace) -> None:
    assert verify_audit(ws).length == 0
    some(ws, 4)
    assert verify_audit(ws) == audit_chain(ws).head()
    assert verify_audit(ws).length == 4


def damaged(lines: list[bytes], rng: np.random.Generator) -> bytes:
    """One random edit, deletion, swap or cut."""
    place, kind = int(rng.integers(len(lines))), str(rng.choice(["edit", "delete", "swap", "cut"]))
    if kind == "edit":
        line = json.loads(lines[place])
        field = str(rng.choice(["who", "role", "action", "what", "at"]))
        text = json.dumps({**line, field: line[field] + "x"}, sort_keys=True, separators=(",", ":"))
        return b"".join([*lines[:place], text.encode() + b"\n", *lines[place + 1 :]])
    if kind == "delete":
        return b"".join(lines[:place] + lines[place + 1 :])
    if kind == "cut":
        return b"".join(lines[:place])
    other = (place + 1 + int(rng.integers(len(lines) - 1))) % len(lines)
    lines = list(lines)
    lines[place], lines[other] = lines[other], lines[place]
    return b"".join(lines)


def test_every_edit_deletion_swap_and_cut_is_found(ws: Workspace) -> None:
    some(ws, 30)
    lines = ws.audit.read_bytes().splitlines(keepends=True)
    rng = np.random.default_rng(7)
    for _ in range(100):
        ws.audit.write_bytes(damaged(lines, rng))
        with pytest.raises(BrokenRecord):
            verify_audit(ws)


def test_the_first_wrong_line_is_named(ws: Workspace) -> None:
    some(ws, 5)
    lines = ws.audit.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"s2", b"s9")
    ws.audit.write_bytes(b"".join(lines))
    with pytest.raises(BrokenRecord, match="line 3 was changed after it was written"):
        verify_audit(ws)


def test_a_log_that_was_removed_or_lost_its_head_is_found(ws: Workspace) -> None:
    some(ws, 3)
    log = ws.audit.read_bytes()
    ws.audit.unlink()
    with pytest.raises(BrokenRecord, match="0 events, but event 3 of the signed head"):
        verify_audit(ws)
    ws.audit.write_bytes(log)
    ws.audit_head.unlink()
    with pytest.raises(BrokenRecord, match="nobody can tell whether the log is whole"):
        verify_audit(ws)


def test_a_head_that_somebody_without_the_key_wrote_is_refused(ws: Workspace) -> None:
    some(ws, 3)
    ws.audit.write_bytes(b"".join(ws.audit.read_bytes().splitlines(keepends=True)[:2]))
    chain = audit_chain(ws)
    write_head(chain.signed(chain.head(), b"x" * 32), ws.audit_head)
    with pytest.raises(BrokenRecord, match="not signed with this workspace's key"):
        verify_audit(ws)


def test_cutting_the_log_and_bringing_back_an_older_head_is_found_by_the_anchor_in_git(whole: Workspace) -> None:
    some(whole, 2)
    older = whole.audit.read_bytes(), whole.audit_head.read_bytes()
    look(whole, 3, who="carl@lab.org", action="export")
    anchor(whole)
    assert verify_audit_log(whole)[1] == 1
    whole.audit.write_bytes(older[0])
    whole.audit_head.write_bytes(older[1])
    assert verify_audit(whole).length == 2  # by itself this state is whole
    with pytest.raises(BrokenRecord, match="event 3 of the signed head"):
        verify_audit_log(whole)


def test_a_ledger_is_anchored_although_the_log_is_broken_and_the_log_still_tells(whole: Workspace) -> None:
    some(whole, 2)
    whole.audit.write_bytes(whole.audit.read_bytes()[:-40] + b"\n")
    anchor(whole)
    with pytest.raises(BrokenRecord, match="line 2 is not an event of ours"):
        verify_audit_log(whole)


def test_what_a_crash_left_torn_is_set_aside_and_the_log_goes_on(ws: Workspace) -> None:
    look(ws)
    with ws.audit.open("ab") as file:
        file.write(b'{"who":"an')
    look(ws, 1)
    assert verify_audit(ws).length == 2
    assert ws.audit.with_suffix(".torn").read_bytes() == b'{"who":"an\n'


def test_a_crash_between_an_entry_and_its_head_leaves_a_log_that_verifies(ws: Workspace) -> None:
    look(ws)
    before = ws.audit_head.read_bytes()
    look(ws, 1)
    ws.audit_head.write_bytes(before)
    assert verify_audit(ws).length == 2


def keep_looking(root: Path, name: str) -> None:
    for number in range(10):
        look(Workspace(root), number, who=name)


def test_sessions_in_threads_and_processes_append_at_once_and_lose_nothing(ws: Workspace) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [threading.Thread(target=keep_looking, args=(ws.root, f"thread-{n}")) for n in range(4)]
    writers += [spawn.Process(target=keep_looking, args=(ws.root, f"process-{n}")) for n in range(2)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert verify_audit(ws).length == 60
    for name in ("thread-0", "thread-3", "process-1"):
        assert [one.about["sample_uid"] for one in entries(ws) if one.who == name] == [f"s{n}" for n in range(10)]


def test_an_unknown_action_is_refused_and_a_log_that_cannot_be_written_is_said(ws: Workspace) -> None:
    with pytest.raises(BadInput, match="action 'gossip' is unknown"):
        look(ws, action="gossip")
    ws.audit.mkdir(parents=True)  # root may write anywhere, but into no folder as if it were a file
    with pytest.raises(ServiceDown, match="so nothing is shown"):
        look(ws)


def test_a_folder_without_a_key_is_no_workspace_and_its_log_has_no_head(tmp_path: Path) -> None:
    look(Workspace(tmp_path))
    assert not Workspace(tmp_path).audit_head.exists()
    with pytest.raises(BrokenRecord, match="key is lost"):
        verify_audit(Workspace(tmp_path))


def test_git_keeps_no_names_of_visitors(whole: Workspace) -> None:
    some(whole, 2)
    anchor(whole)
    listed = subprocess.run(["git", "ls-files"], cwd=whole.root, capture_output=True, text=True, check=True).stdout
    assert "ledger/head.json" in listed
    assert "audit" not in listed


def test_log_and_people_come_back_from_a_backup_to_the_byte_and_a_wrong_log_is_not_restored(
    whole: Workspace, tmp_path: Path
) -> None:
    some(whole, 3)
    grant(whole, "anna@lab.org", Role.REVIEW, by="owner", now=NOON)
    backup(whole, tmp_path / "lab.tar", now=NOON)
    restore(tmp_path / "lab.tar", tmp_path / "again")
    again = Workspace(tmp_path / "again")
    for name in ("audit", "audit_head", "access"):
        assert getattr(again, name).read_bytes() == getattr(whole, name).read_bytes(), name
    assert again.access.stat().st_mode & 0o777 == 0o600
    assert verify_audit(again).length == 4
    whole.audit.write_bytes(b"".join(whole.audit.read_bytes().splitlines(keepends=True)[:2]))
    backup(whole, tmp_path / "cut.tar", now=NOON)
    with pytest.raises(BrokenRecord, match="event 4 of the signed head"):
        restore(tmp_path / "cut.tar", tmp_path / "third")
    assert not (tmp_path / "third").exists()


def call(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments)
    if result.exception:
        raise result.exception
    return result.output


def test_the_commands_show_and_verify_the_log(whole: Workspace) -> None:
    look(whole, 0)
    look(whole, 48, who="carl@lab.org", action="export")
    here = ("--workspace", str(whole.root))
    assert [line.split()[2] for line in call("audit", "show", *here).splitlines()] == ["anna@lab.org", "carl@lab.org"]
    assert "sample_uid=s0" in call("audit", "show", "--who", "anna@lab.org", *here)
    assert "carl" not in call("audit", "show", "--who", "anna@lab.org", *here)
    assert "anna" not in call("audit", "show", "--since", "2026-03-03", *here)
    anchor(whole)
    assert call("audit", "verify", *here).startswith("2 entries, chain whole, 1 signed heads in git")


def test_the_signed_head_is_that_of_the_last_entry(ws: Workspace) -> None:
    record(ws, who="a", role="read", action="view", what="x", about={}, now=datetime(2026, 1, 1, tzinfo=UTC))
    head = read_head(ws.audit_head)
    assert head is not None
    assert (head.length, head.hash) == (1, audit_chain(ws).head().hash)
    assert audit_chain(ws).is_signed(head, KEY)
