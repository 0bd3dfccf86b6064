"""A backup is whole or it is refused, and a restored workspace goes on as if it had never been away."""

import atexit
import io
import json
import shutil
import sqlite3
import stat
import subprocess
import tarfile
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from factories import NOON, put
from test_intake import taken

from ctcml import backup as ours
from ctcml import versioning
from ctcml.backup import BackedUp, backup, restore
from ctcml.chain import read_head
from ctcml.cli import cli
from ctcml.dataversions import anchor, create_workspace, new_data_version, set_start
from ctcml.errors import BadInput, BrokenRecord, CtcmlError
from ctcml.identity import load_key, pseudonym
from ctcml.ledger import Draft, Ledger
from ctcml.tables import MANIFEST, read_folder
from ctcml.workspace import Workspace


def take_in(laboratory: Path, ws: Workspace) -> Any:
    """The one place here that knows how intake is called."""
    return taken(laboratory, ws, key=load_key(ws.key))


def a_registry(ws: Workspace) -> None:
    """MLflow's files as its server leaves them."""
    home = ws.services / "mlflow"
    (home / "artifacts" / "1").mkdir(parents=True)
    (home / "artifacts" / "1" / "weights.safetensors").write_bytes(b"weights")
    (home / "mlflow.log").write_text("words")
    with sqlite3.connect(home / "mlflow.db") as database:
        database.execute("CREATE TABLE models (version INTEGER)")
        database.execute("INSERT INTO models VALUES (1)")
    database.close()


@pytest.fixture(scope="module")
def lab(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with two data versions, a champion, a registry, an edited parameter file and a refused file."""
    ws = Workspace(tmp_path_factory.mktemp("backup") / "lab")
    create_workspace(ws, now=NOON)
    take_in(laboratory, ws)
    new_data_version(ws, why="intake", by="test", now=NOON)
    put(ws.data / "note.txt", "second")
    new_data_version(ws, why="note", by="test", now=NOON)
    ws.champion.mkdir(parents=True)
    (ws.champion / "model.json").write_text('{"version": 1}')
    pointer = versioning.track(ws.root, ws.champion)
    versioning.commit(ws.root, "Champion", [pointer])
    set_start(ws, data_version="data-v2")
    a_registry(ws)
    put(ws.params, ws.params.read_text() + "# being edited\n")
    (ws.quarantine / "S1").mkdir(parents=True, exist_ok=True)
    (ws.quarantine / "S1" / "refused.csv").write_text("at,source,file,reason\n")
    (ws.services / "labelstudio" / "reader-a").mkdir(parents=True)
    (ws.services / "labelstudio" / "reader-a" / "login.json").write_text('{"admin_token": "secret"}')
    (ws.root / "inbox").mkdir()
    (ws.root / "inbox" / "clinical.csv").write_text("patient\nJane\n")
    anchor(ws)
    return ws


@pytest.fixture(scope="module")
def file(lab: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("safe") / "lab.tar"
    backup(lab, file, now=NOON)
    return file


@pytest.fixture(scope="module")
def restored(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    ws = Workspace(tmp_path_factory.mktemp("elsewhere") / "lab-again")
    restore(file, ws.root)
    return ws


def tree(folder: Path) -> dict[str, bytes]:
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def call(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments)
    if result.exception:
        raise result.exception
    return result.output


def test_data_ledger_key_registry_quarantine_and_edits_come_back_to_the_byte(
    lab: Workspace, restored: Workspace
) -> None:
    for name in ("data", "quarantine", "models", ".ctcml/receipts", ".ctcml/services/mlflow/artifacts"):
        assert tree(restored.root / name) == tree(lab.root / name), name
    for path in (
        "ledger/ledger.jsonl",
        "ledger/head.json",
        ".ctcml/key",
        "params.yaml",
        "data.dvc",
        "models/champion.dvc",
    ):
        assert (restored.root / path).read_bytes() == (lab.root / path).read_bytes(), path
    assert Ledger(restored.ledger).verify(read_head(restored.ledger_head)) == Ledger(lab.ledger).head()
    with sqlite3.connect(restored.services / "mlflow" / "mlflow.db") as database:
        assert database.execute("SELECT version FROM models").fetchall() == [(1,)]
    database.close()
    assert versioning.versions(restored.root) == versioning.versions(lab.root)


def test_history_of_git_comes_back_with_its_tags_and_the_same_files_stand_uncommitted(
    lab: Workspace, restored: Workspace
) -> None:
    def git(ws: Workspace, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ws.root, capture_output=True, text=True, check=True).stdout

    for question in (["log", "--format=%H %s"], ["tag"], ["status", "--porcelain"], ["branch", "--show-current"]):
        assert git(restored, *question) == git(lab, *question) != "", question


def test_the_restored_workspace_works_elsewhere(laboratory: Path, lab: Workspace, file: Path, tmp_path: Path) -> None:
    place = tmp_path / "machine" / "lab"
    assert "verified" in call("restore", str(file), str(place))
    ws, inside = Workspace(place), ("--workspace", str(place))
    assert [line.split()[0] for line in call("versions", *inside).splitlines()] == ["data-v1", "data-v2"]
    assert "chain whole" in call("ledger", "verify", *inside)
    call("checkout", "data-v1", *inside)
    assert not (ws.data / "note.txt").exists()
    call("checkout", "data-v2", *inside)
    again = take_in(laboratory, ws)
    assert (again.samples, again.thumbnails, again.patients) == (0, 0, 0)
    assert new_data_version(ws, why="nothing new", by="test", now=NOON).tag == "data-v2"
    Ledger(ws.ledger).append([Draft(kind="mode", by="test", body={"on": True})], now=NOON)
    assert new_data_version(ws, why="a mode", by="test", now=NOON).tag == "data-v2"
    put(ws.data / "note.txt", "third")
    assert new_data_version(ws, why="third", by="test", now=NOON).tag == "data-v3"
    assert not (lab.data / "shards").joinpath("third").exists()


def test_only_the_owner_can_read_a_backup_and_what_is_private_in_a_restored_workspace(
    file: Path, restored: Workspace
) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(file) == mode(restored.key) == 0o600
    assert mode(restored.private) == mode(restored.quarantine) == 0o700


def test_logins_logs_caches_and_the_inbox_are_not_in_it(file: Path) -> None:
    with tarfile.open(file) as tar:
        names = tar.getnames()
    assert names[0] == "ctcml-backup.json"
    assert not [name for name in names if "labelstudio" in name or "inbox" in name or name.endswith((".log", ".lock"))]
    assert not [name for name in names if ".dvc/cache" in name]
    for secret in (b"admin_token", b"Jane"):
        assert secret not in file.read_bytes()


def test_the_index_tells_the_time_the_head_the_versions_and_every_members_hash(lab: Workspace, file: Path) -> None:
    with tarfile.open(file) as tar:
        index = json.loads(tar.extractfile(tar.next()).read())  # type: ignore[union-attr, arg-type]
        names = set(tar.getnames())
    assert index["at"] == NOON.isoformat()
    head = Ledger(lab.ledger).head()
    assert index["ledger"] == {"length": head.length, "hash": head.hash}
    assert [one["tag"] for one in index["data_versions"]] == ["data-v1", "data-v2"]
    assert set(index["members"]) == names - {"ctcml-backup.json", "ctcml-seal.sha256"}
    assert index["key_check"] == pseudonym(load_key(lab.key), "backup", "check")


def test_the_same_workspace_gives_the_same_bytes(lab: Workspace, file: Path, tmp_path: Path) -> None:
    backup(lab, tmp_path / "again.tar", now=NOON)
    assert (tmp_path / "again.tar").read_bytes() == file.read_bytes()
    assert [one.name for one in tmp_path.iterdir()] == ["again.tar"]


def refused(file: Path, folder: Path) -> str:
    """The one line that is said instead of restoring; nothing may be left beside it."""
    before = sorted(folder.parent.iterdir())
    with pytest.raises(CtcmlError) as caught:
        restore(file, folder)
    assert sorted(folder.parent.iterdir()) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_one_of_sixty_changed_bytes_is_noticed(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    rng = np.random.default_rng(11)
    places = rng.integers(0, len(whole), 60)
    for place in places:
        content = bytearray(whole)
        content[place] ^= int(rng.integers(1, 256))
        (tmp_path / "copy.tar").write_bytes(content)
        assert "damaged" in refused(tmp_path / "copy.tar", tmp_path / "lab")


def header_places(whole: bytes) -> list[int]:
    """Every byte of the first header, of one in the middle, and of the seal with the end of the tar."""
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        middle = tar.getmembers()[len(tar.getmembers()) // 2]
    return [*range(512), *range(middle.offset, middle.offset + 512), *range(len(whole) - ours.SEAL_BYTES, len(whole))]


def test_a_changed_byte_is_noticed_where_tar_itself_would_not_look(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    copy = tmp_path / "copy.tar"
    copy.write_bytes(whole)
    for place in header_places(whole)[::7]:
        with copy.open("r+b") as opened:
            opened.seek(place)
            opened.write(bytes([whole[place] ^ 0x20]))
        assert "damaged" in refused(copy, tmp_path / "lab")
        with copy.open("r+b") as opened:
            opened.seek(place)
            opened.write(whole[place : place + 1])
    restore(copy, tmp_path / "lab")


@pytest.mark.parametrize("kept", [0, 100, 512, 5_000, 0.5, -1, -512, -2048])
def test_a_truncated_file_is_refused(file: Path, tmp_path: Path, kept: float) -> None:
    whole = file.read_bytes()
    cut = whole[: int(len(whole) * kept) if isinstance(kept, float) else kept]
    (tmp_path / "copy.tar").write_bytes(cut)
    assert "damaged" in refused(tmp_path / "copy.tar", tmp_path / "lab")


def test_more_bytes_at_the_end_are_refused(file: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.tar").write_bytes(file.read_bytes() + bytes(512))
    assert "damaged" in refused(tmp_path / "copy.tar", tmp_path / "lab")


def test_another_file_is_no_backup(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "foreign.tar", "w") as tar:
        tar.add(Path(__file__), "thesis.txt")
    (tmp_path / "text.tar").write_text("no tar at all " * 1000)
    for name in ("foreign.tar", "text.tar", "missing.tar"):
        assert "not a backup of ctcml" in refused(tmp_path / name, tmp_path / "lab")


def test_a_folder_that_holds_something_is_never_restored_into(file: Path, tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "thesis.txt").touch()
    assert "name another" in refused(file, tmp_path / "lab")
    assert [one.name for one in (tmp_path / "lab").iterdir()] == ["thesis.txt"]
    (tmp_path / "lab" / "thesis.txt").unlink()
    restore(file, tmp_path / "lab")
    assert Workspace(tmp_path / "lab").key.exists()


def forged(file: Path, target: Path, change: Any) -> Path:
    """A backup that somebody made anew with another content, sealed as ours is."""
    with tarfile.open(file) as tar:
        members = [(one, tar.extractfile(one).read()) for one in tar.getmembers()]  # type: ignore[union-attr]
    index = json.loads(members[0][1])
    rest = change(members[1:-1], index)
    aside = target.parent / "forged"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    hashed = ours._Hashed((aside / "tar").open("wb"))
    tar = tarfile.TarFile(fileobj=hashed, mode="w", format=tarfile.PAX_FORMAT)  # type: ignore[arg-type]
    text = json.dumps(index).encode()
    for member, content in [(ours._member(ours.INDEX, len(text), 0o600), text), *rest]:
        member.size = len(content) if member.isreg() else 0
        tar.addfile(member, io.BytesIO(content))
    hashed.file.close()
    target.write_bytes((aside / "tar").read_bytes() + ours._seal(hashed.digest.hexdigest()))
    shutil.rmtree(aside)
    return target


def with_member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Any:
    def change(members: list[Any], index: dict[str, Any]) -> list[Any]:
        content = b"evil" if kind == tarfile.REGTYPE else b""
        member = ours._member(name, len(content), 0o644)
        member.type, member.linkname = kind, link
        digest = ours.hashlib.sha256(content).hexdigest()
        index["members"][name] = {"sha256": digest, "size": len(content)}
        return [*members, (member, content)]

    return change


@pytest.mark.parametrize(
    "change",
    [
        with_member("workspace/../../evil"),
        with_member("../evil"),
        with_member("/tmp/evil"),
        with_member("workspace/.git/hooks/post-checkout"),
        with_member("edited/.GIT/config"),
        with_member("elsewhere/evil"),
        with_member("workspace/link", tarfile.SYMTYPE, "/etc/passwd"),
        with_member("workspace/hard", tarfile.LNKTYPE, "workspace/.ctcml/key"),
        with_member("workspace/device", tarfile.CHRTYPE),
        with_member("workspace/pipe", tarfile.FIFOTYPE),
    ],
)
def test_a_forged_member_that_would_leave_the_folder_is_refused(file: Path, tmp_path: Path, change: Any) -> None:
    evil = forged(file, tmp_path / "evil.tar", change)
    assert "member" in refused(evil, tmp_path / "lab")
    assert not Path("/tmp/evil").exists()


def replaced(name: str, make: Any) -> Any:
    """Exchange the content of a member and its hash in the index: only the meaning is wrong."""

    def change(members: list[Any], index: dict[str, Any]) -> list[Any]:
        found = []
        for member, content in members:
            new = make(content) if name in member.name else content
            index["members"][member.name] = {"sha256": ours.hashlib.sha256(new).hexdigest(), "size": len(new)}
            found.append((member, new))
        return found

    return change


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        (".ctcml/key", lambda content: b"ab" * 32, "not the key"),
        ("ledger/ledger.jsonl", lambda content: b"".join(content.splitlines(True)[:-1]), "events"),
        ("ledger/ledger.jsonl", lambda content: content.replace(b"train", b"trial"), "changed after it was written"),
        ("dvc-remote", lambda content: content + b" ", "data-v1"),
    ],
)
def test_a_backup_of_wrong_content_is_refused_though_its_hashes_fit(
    file: Path, tmp_path: Path, name: str, make: Any, said: str
) -> None:
    assert said in refused(forged(file, tmp_path / "wrong.tar", replaced(name, make)), tmp_path / "lab")


def test_a_missing_member_and_one_too_many_are_refused(file: Path, tmp_path: Path) -> None:
    fewer = forged(file, tmp_path / "fewer.tar", lambda members, index: members[:-1])
    assert "1 members are missing" in refused(fewer, tmp_path / "lab")
    twice = forged(file, tmp_path / "twice.tar", lambda members, index: [*members, members[-1]])
    assert "is not what the index says" in refused(twice, tmp_path / "lab")


def test_a_backup_is_never_written_over_another_file(lab: Workspace, file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    for target in (file, tmp_path / "nowhere" / "lab.tar"):
        with pytest.raises(BadInput, match="name another"):
            backup(lab, target, now=NOON)
    assert file.read_bytes() == before


def test_a_backup_lies_outside_the_workspace_and_what_has_no_key_is_no_workspace(
    lab: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="name a place outside"):
        backup(lab, lab.root / "lab.tar", now=NOON)
    with pytest.raises(BrokenRecord, match="key is lost"):
        backup(Workspace(tmp_path), tmp_path / "lab.tar", now=NOON)
    assert list(tmp_path.iterdir()) == []


@cache
def empty_workspace() -> Path:
    """Made once: git and DVC take seconds."""
    folder = Path(tempfile.mkdtemp()) / "small"
    create_workspace(Workspace(folder), now=NOON)
    atexit.register(shutil.rmtree, folder.parent)
    return folder


def small(folder: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(empty_workspace(), folder / "small", symlinks=True)))


def there_and_back(ws: Workspace) -> tuple[BackedUp, Workspace]:
    file = ws.root.parent / f"{ws.root.name}.tar"
    file.unlink(missing_ok=True)
    made = backup(ws, file, now=NOON)
    again = Workspace(ws.root.parent / "again")
    shutil.rmtree(again.root, ignore_errors=True)
    assert restore(file, again.root) == made
    return made, again


def test_data_that_are_in_no_version_yet_and_an_older_version_in_place_come_back_as_they_were(tmp_path: Path) -> None:
    ws = small(tmp_path)
    ws.data.mkdir()
    put(ws.data / "cells.txt", "never frozen")
    made, again = there_and_back(ws)
    assert (made.data_versions, (again.data / "cells.txt").read_text()) == ((), "never frozen")
    new_data_version(ws, why="one", by="test", now=NOON)
    put(ws.data / "cells.txt", "two")
    new_data_version(ws, why="two", by="test", now=NOON)
    put(ws.data / "cells.txt", "three, not frozen")
    _, again = there_and_back(ws)
    assert (again.data / "cells.txt").read_text() == "three, not frozen"
    put(ws.data / "cells.txt", "two")
    versioning.checkout(ws.root, "data-v1")
    _, again = there_and_back(ws)
    assert (again.data / "cells.txt").read_text() == "never frozen"
    assert versioning.data_in_place(again.root) == "data-v1"
    versioning.checkout(again.root, "data-v2")
    assert (again.data / "cells.txt").read_text() == "two"


def test_a_store_that_is_damaged_already_is_not_backed_up_as_if_it_were_whole(tmp_path: Path) -> None:
    ws = small(tmp_path)
    ws.data.mkdir()
    put(ws.data / "cells.txt", "one")
    new_data_version(ws, why="one", by="test", now=NOON)
    (stored,) = [one for one in (ws.root / versioning.STORE).rglob("*") if one.is_file() and one.read_bytes() == b"one"]
    put(stored, "two")
    with pytest.raises(BrokenRecord, match="data-v1"):
        backup(ws, tmp_path / "small.tar", now=NOON)
    stored.unlink()
    with pytest.raises(BrokenRecord, match="data-v1"):
        backup(ws, tmp_path / "small.tar", now=NOON)
    assert [one.name for one in tmp_path.iterdir()] == ["small"]


def test_a_file_that_changes_while_it_is_copied_makes_no_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = small(tmp_path)
    ws.quarantine.mkdir()
    put(ws.quarantine / "note.txt", "first")
    hashed = ours.file_hash

    def then_changed(path: Path) -> str:
        digest = hashed(path)
        if path.name == "note.txt":
            put(path, "later")
        return digest

    monkeypatch.setattr(ours, "file_hash", then_changed)
    with pytest.raises(BrokenRecord, match=r"note\.txt: was changed while it was copied"):
        backup(ws, tmp_path / "small.tar", now=NOON)
    assert [one.name for one in tmp_path.iterdir()] == ["small"]


def test_a_file_that_goes_away_meanwhile_makes_no_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = small(tmp_path)
    ws.quarantine.mkdir()
    put(ws.quarantine / "note.txt", "withdrawn")
    below = ours._below

    def then_gone(folder: Path, name: str) -> dict[str, Path]:
        found = below(folder, name)
        if folder == ws.quarantine:
            (ws.quarantine / "note.txt").unlink()
        return found

    monkeypatch.setattr(ours, "_below", then_gone)
    with pytest.raises(BrokenRecord, match=r"note\.txt: went away while it was copied"):
        backup(ws, tmp_path / "small.tar", now=NOON)


def test_a_data_version_that_is_made_meanwhile_makes_no_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = small(tmp_path)
    bundle = versioning.bundle

    def with_a_version(root: Path, path: Path) -> str:
        ws.data.mkdir()
        put(ws.data / "cells.txt", "one")
        new_data_version(ws, why="meanwhile", by="test", now=NOON)
        return bundle(root, path)

    monkeypatch.setattr(versioning, "bundle", with_a_version)
    with pytest.raises(BrokenRecord, match="a data version was made while git was copied"):
        backup(ws, tmp_path / "small.tar", now=NOON)


def test_a_registry_in_use_is_copied_between_two_transactions(tmp_path: Path) -> None:
    ws = small(tmp_path)
    a_registry(ws)
    writing = sqlite3.connect(ws.services / "mlflow" / "mlflow.db")
    writing.execute("INSERT INTO models VALUES (2)")  # not committed
    _, again = there_and_back(ws)
    writing.rollback()
    writing.close()
    with sqlite3.connect(again.services / "mlflow" / "mlflow.db") as database:
        assert database.execute("SELECT version FROM models").fetchall() == [(1,)]
    database.close()


def test_the_shards_of_the_restored_data_are_those_of_the_manifest(
    lab: Workspace, restored: Workspace, tmp_path: Path
) -> None:
    manifest = read_folder(restored.manifest, MANIFEST)
    assert len(manifest) == len(read_folder(lab.manifest, MANIFEST)) > 0
    ours._verify_shards(restored)
    copy = Workspace(tmp_path)
    shutil.copytree(restored.data, copy.data)
    put(sorted(copy.shards.iterdir())[0], "pixels")
    with pytest.raises(BrokenRecord, match="not what its manifest says"):
        ours._verify_shards(copy)
