"""Backup and restore: a workspace in one file, sealed to the last byte, and an empty folder made a workspace again.

The file is a tar. First comes the index with the SHA-256 of every member; last, outside what tarfile checks, a seal: the
SHA-256 of all bytes before it. The seal itself can only have one form, so no byte of the file can change unnoticed.
"""

import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from ctcml import versioning
from ctcml.audit import copy_log, verify_audit
from ctcml.chain import Head, read_head
from ctcml.errors import BadInput, BrokenRecord
from ctcml.identity import load_key, pseudonym
from ctcml.ledger import Ledger, snapshot
from ctcml.shards import file_hash
from ctcml.tables import MANIFEST, read_table
from ctcml.workspace import Workspace

FORMAT = 1
INDEX, SEAL = "ctcml-backup.json", "ctcml-seal.sha256"
GIT, WORKSPACE, EDITED, LIVE = "workspace.bundle", "workspace", "edited", "data"
BLOCK = tarfile.BLOCKSIZE
SEAL_BYTES = 4 * BLOCK  # its header, its content, and the two empty blocks that end a tar
CHUNK = 1 << 20
DATABASE = "mlflow.db"
ANOTHER = "use another copy of the backup"


@dataclass(frozen=True, kw_only=True)
class BackedUp:
    """What a backup holds; `at` is when it was begun, in ISO 8601."""

    at: str
    files: int
    bytes: int
    ledger: Head
    data_versions: tuple[str, ...]

    def __str__(self) -> str:
        held = f"{self.data_versions[0]} to {self.data_versions[-1]}" if self.data_versions else "no data version yet"
        return f"{self.files} files, {self.bytes / 1e6:.1f} MB, {held}, {self.ledger.length} events of the ledger"


def backup(ws: Workspace, file: Path, *, now: datetime) -> BackedUp:
    """Write the workspace into a new file (mode 0600: it holds the key); a file that is there is never replaced.

    In it: git, the store of all data versions and champions, live data that are in no version, the ledger and the audit
    log, the key, the list of people with access, receipts, quarantine, and MLflow's database and artifacts. Not in it: the
    inbox, caches and files that stages make, the readers' servers, and the secrets of deployment and sign-in. Servers may
    run meanwhile. Raises `BadInput` when `file` is there or would lie in the workspace,
    `BrokenRecord` when the workspace itself does not verify or changes under the copy.
    """
    key = load_key(ws.key)  # first: where there is none is no workspace
    if file.exists() or not file.parent.is_dir():
        raise BadInput(f"{file}: expected a new file in a folder that is there; name another")
    if file.resolve().is_relative_to(ws.root.resolve()):
        raise BadInput(f"{file}: lies in the workspace that it would save; name a place outside, best on another disk")
    try:
        return _backup(ws, file, key, now)
    except FileNotFoundError as error:
        raise BrokenRecord(f"{error.filename}: went away while it was copied; run the backup again") from None


def restore(file: Path, folder: Path) -> BackedUp:
    """Make a workspace in a new or empty folder from a backup, verify all of it, and only then put it into place.

    Raises `BadInput` for a file that is no backup or a folder that holds something, `BrokenRecord` when anything in the
    backup is not what was written; then nothing is left behind.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder}: expected a new or empty folder; it holds something already; name another")
    index = _read_index(file)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        aside = Path(name)
        try:
            _unpack(file, index, aside)
        except tarfile.TarError as error:
            raise BrokenRecord(f"{file}: {error}; {ANOTHER}") from None
        ws = Workspace(aside / WORKSPACE)
        for private in (ws.private, ws.quarantine):
            if private.is_dir():
                private.chmod(0o700)
        versioning.unbundle(ws.root, aside / GIT, index["branch"])
        _verify(ws, index)
        _put_back(ws, aside, index)
        ws.root.rename(folder)
    _sync_folder(folder.parent)
    return _summary(index)


def _backup(ws: Workspace, file: Path, key: bytes, now: datetime) -> BackedUp:
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as name:
        aside = Path(name)
        members, about = _collect(ws, aside)
        hashes = {member: {"sha256": file_hash(path), "size": path.stat().st_size} for member, path in members.items()}
        index = {
            "format": FORMAT,
            "ctcml": version("ctcml"),
            "at": now.isoformat(timespec="seconds"),
            "key_check": pseudonym(key, "backup", "check"),
            **about,
            "members": hashes,
        }
        unfinished = aside / file.name
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            _write(opened, index, members)
            opened.flush()
            os.fsync(opened.fileno())
        unfinished.rename(file)
    _sync_folder(file.parent)
    return _summary(index)


def _summary(index: dict[str, Any]) -> BackedUp:
    return BackedUp(
        at=index["at"],
        files=len(index["members"]),
        bytes=sum(one["size"] for one in index["members"].values()),
        ledger=Head(**index["ledger"]),
        data_versions=tuple(one["tag"] for one in index["data_versions"]),
    )


def _collect(ws: Workspace, aside: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """The members by name, and what the index says of them.

    The order keeps the parts true to each other while others work: the ledger comes after the anchor in git, the store
    after the tags, artifacts after the database that names them.
    """
    members = {GIT: aside / GIT}
    data_versions = versioning.versions(ws.root)
    branch = versioning.bundle(ws.root, aside / GIT)
    if versioning.versions(ws.root) != data_versions:
        raise BrokenRecord(f"{ws.root}: a data version was made while git was copied; run the backup again")
    members |= {f"{EDITED}/{path.as_posix()}": ws.root / path for path in versioning.uncommitted(ws.root)}
    changed = versioning.data_changed(ws.root)
    if changed:
        members |= _below(ws.data, LIVE)
    in_place = versioning.data_in_place(ws.root)
    versioning.verify_store(ws.root)
    members |= _below(ws.root / versioning.STORE, f"{WORKSPACE}/{versioning.STORE.as_posix()}")
    head = snapshot(Ledger(ws.ledger), aside / "ledger")
    members |= {_inside(ws, ws.ledger): path for path in (aside / "ledger").glob("*.jsonl")}
    others = (one for one in ws.ledger.parent.iterdir() if one.is_file() and one.suffix != ".lock")
    apart = (ws.ledger, ws.ledger_head, ws.audit, ws.audit_head)
    members |= {_inside(ws, one): one for one in others if one not in apart}
    members |= {_inside(ws, ws.ledger.with_name(path.name)): path for path in copy_log(ws, aside)}
    members |= {_inside(ws, one): one for one in (ws.key, ws.access) if one.exists()}
    for folder in (ws.receipts, ws.quarantine):
        members |= _below(folder, _inside(ws, folder))
    mlflow = ws.services / "mlflow"
    if (mlflow / DATABASE).exists():
        _copy_database(mlflow / DATABASE, aside / DATABASE)
        members |= {_inside(ws, mlflow / DATABASE): aside / DATABASE}
    members |= _below(mlflow / "artifacts", _inside(ws, mlflow / "artifacts"))
    about = {
        "branch": branch,
        "ledger": {"length": head.length, "hash": head.hash},
        "data_versions": [{"tag": one.tag, "commit": one.commit, "md5": one.data_md5} for one in data_versions],
        "data_in_place": in_place,
        "data_in_no_version": changed,
    }
    return dict(sorted(members.items())), about


def _inside(ws: Workspace, path: Path) -> str:
    return f"{WORKSPACE}/{path.relative_to(ws.root).as_posix()}"


def _below(folder: Path, name: str) -> dict[str, Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {f"{name}/{path.relative_to(folder).as_posix()}": path for path in files}


def _copy_database(source: Path, target: Path) -> None:
    """Copy SQLite as it is between two transactions, also while a server writes."""
    with (
        closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as database,
        closing(sqlite3.connect(target)) as copy,
    ):
        database.backup(copy)


class _Hashed:
    """A file that hashes what is written to it or read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.digest.update(data)
        return data

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def tell(self) -> int:
        return self.file.tell()


def _write(file: IO[bytes], index: dict[str, Any], members: dict[str, Path]) -> None:
    sealed = _Hashed(file)
    tar = tarfile.TarFile(fileobj=cast(IO[bytes], sealed), mode="w", format=tarfile.PAX_FORMAT)  # ended by the seal
    text = json.dumps(index, indent=1, sort_keys=True).encode()
    tar.addfile(_member(INDEX, len(text), 0o600), io.BytesIO(text))
    for name, path in members.items():
        about = index["members"][name]
        with path.open("rb") as opened:
            reader = _Hashed(opened)
            if os.fstat(opened.fileno()).st_size < about["size"]:
                raise BrokenRecord(f"{path}: was cut while it was copied; run the backup again")
            tar.addfile(_member(name, about["size"], path.stat().st_mode & 0o777), cast(IO[bytes], reader))
        if reader.digest.hexdigest() != about["sha256"]:
            raise BrokenRecord(f"{path}: was changed while it was copied; run the backup again")
    file.write(_seal(sealed.digest.hexdigest()))


def _member(name: str, size: int, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, mode
    return member


def _seal(sha256: str) -> bytes:
    """The last bytes of a backup: a member with the hash of all bytes before it, and the end of the tar."""
    header = _member(SEAL, len(sha256), 0o600).tobuf(tarfile.USTAR_FORMAT)
    return header + sha256.encode().ljust(BLOCK, b"\0") + bytes(2 * BLOCK)


def _read_index(file: Path) -> dict[str, Any]:
    """The index of a backup whose seal holds."""
    foreign = BadInput(
        f"{file}: not a backup of ctcml, or damaged at its beginning; name a file that `ctcml backup` made"
    )
    try:
        with file.open("rb") as opened:
            if tarfile.TarInfo.frombuf(opened.read(BLOCK), "utf-8", "strict").name != INDEX:
                raise foreign
            opened.seek(0)
            _check_seal(file, opened)
        with tarfile.open(file, "r:") as tar:
            first = tar.next()
            index: dict[str, Any] = json.loads(_content(tar, first).read())
    except (FileNotFoundError, IsADirectoryError, tarfile.TarError, ValueError):
        raise foreign from None
    if index.get("format") != FORMAT:
        raise BadInput(
            f"{file}: a backup of form {index.get('format')}, expected {FORMAT}; restore it with ctcml {index.get('ctcml')}"
        )
    return index


def _check_seal(file: Path, opened: IO[bytes]) -> None:
    left = file.stat().st_size - SEAL_BYTES
    digest = hashlib.sha256()
    while left > 0 and (data := opened.read(min(CHUNK, left))):
        digest.update(data)
        left -= len(data)
    if left or opened.read() != _seal(digest.hexdigest()):
        raise BrokenRecord(f"{file}: damaged or not whole, its bytes are not those that were sealed; {ANOTHER}")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> IO[bytes]:
    content = tar.extractfile(member) if member and member.isreg() else None
    if content is None:
        raise tarfile.ReadError("not a regular file")
    return content


def _unpack(file: Path, index: dict[str, Any], aside: Path) -> None:
    """Write the members out, each checked: its name, that it is a plain file, its size and its hash."""
    left = dict(index["members"])
    with tarfile.open(file, "r:") as tar:
        for member in tar:
            if member.name in (INDEX, SEAL):
                continue
            about = left.pop(member.name, None)
            if about is None or not member.isreg() or member.size != about["size"]:
                raise BrokenRecord(f"{file}: member {member.name!r} is not what the index says; {ANOTHER}")
            target, mode = _place(file, member, aside)
            target.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as opened:
                written = _Hashed(opened)
                shutil.copyfileobj(_content(tar, member), cast(IO[bytes], written), CHUNK)
            if written.digest.hexdigest() != about["sha256"]:
                raise BrokenRecord(f"{file}: member {member.name!r} has another SHA-256 than in the index; {ANOTHER}")
    if left:
        raise BrokenRecord(f"{file}: {len(left)} members are missing, first {min(left)!r}; {ANOTHER}")


def _place(file: Path, member: tarfile.TarInfo, aside: Path) -> tuple[Path, int]:
    """Where a member goes, and its mode; `BadInput` for a name that leads out of the folder or into git's own."""
    parts = PurePosixPath(member.name).parts
    known = parts == (GIT,) or (len(parts) > 1 and parts[0] in (WORKSPACE, EDITED, LIVE))
    if not known or {"..", ".git"} & {part.lower() for part in parts}:
        raise BadInput(f"{file}: member {member.name!r} would not lie in a workspace; do not restore this file")
    return aside.joinpath(*parts), tarfile.data_filter(member, str(aside)).mode or 0o600


def _verify(ws: Workspace, index: dict[str, Any]) -> None:
    """The key is the one of the backup, the store holds every version, and the newest one's shards are its manifest's."""
    if pseudonym(load_key(ws.key), "backup", "check") != index["key_check"]:
        raise BrokenRecord(f"{ws.key}: not the key that the backup was made with; {ANOTHER}")
    found = [{"tag": one.tag, "commit": one.commit, "md5": one.data_md5} for one in versioning.versions(ws.root)]
    if found != index["data_versions"]:
        raise BrokenRecord(f"{ws.root}: data versions {found}, expected {index['data_versions']}; {ANOTHER}")
    versioning.verify_store(ws.root)
    if found:
        versioning.checkout(ws.root, found[-1]["tag"])
    _verify_shards(ws)


def _verify_shards(ws: Workspace) -> None:
    for manifest in sorted(ws.manifest.glob("*.parquet")):
        told = set(read_table(manifest, MANIFEST, columns=["shard_sha256"])["shard_sha256"])
        shard = ws.shards / manifest.name
        if told and (not shard.exists() or told != {file_hash(shard)}):
            raise BrokenRecord(f"{shard.name}: the shard is not what its manifest says; restore an earlier backup")


def _put_back(ws: Workspace, aside: Path, index: dict[str, Any]) -> None:
    """Bring back what is in no version or commit: the state in which the workspace was left."""
    versioning.pull_tracked(ws.root)
    if index["data_in_place"] not in (None, versioning.data_in_place(ws.root)):
        versioning.checkout(ws.root, index["data_in_place"])
    if index["data_in_no_version"]:
        shutil.rmtree(ws.data, ignore_errors=True)
        (aside / LIVE).mkdir(exist_ok=True)
        (aside / LIVE).rename(ws.data)
    for path in sorted((aside / EDITED).rglob("*")):
        if path.is_file():
            target = ws.root / path.relative_to(aside / EDITED)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    verify_audit(ws)
    head = Ledger(ws.ledger).verify(read_head(ws.ledger_head))
    if head != Head(**index["ledger"]):
        raise BrokenRecord(f"{ws.ledger}: {head.length} events, expected {index['ledger']['length']}; {ANOTHER}")


def _sync_folder(folder: Path) -> None:
    """Make sure that a new name is on the disk, too."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
