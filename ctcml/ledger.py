"""The append-only, hash-chained record of every reading, settlement, class, data version, promotion and sealed-set look.

One JSON object a line. Each line carries the hash of the one before it, so an edit, a deletion or a swap breaks the chain
from there on. A cut at the end keeps a valid chain, so length and head hash are also anchored outside (git, data version)
and `verify` compares with such an anchor. A line that a crash left torn is set aside, not lost, at the next append.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from ctcml.errors import BrokenRecord
from ctcml.identity import pseudonym
from ctcml.records import Purpose, Reading
from ctcml.tables import atomic_path

SCHEMA_VERSION = 1
KINDS = (
    "workspace_created",
    "class_added",
    "patient_assigned",  # body: patient_uid, cancer_type, role
    "historic_label",  # body: cell_uid, class_id, source; both readers agreed before ctcml
    "queued",  # body: cell_uid, purpose, reason, occasion
    "reading",  # body: read_uid, cell_uid, reader, label, name (of a new class), occasion, purpose, lead_time_s, source
    "settlement",  # body: cell_uid, class_id, how, purpose
    "intake",  # body: counts of one intake, kinds of sources, page order
    "withdrawal",  # body: withdrawn_uid, counts of samples and cells, models trained with them, data versions that hold them
    "data_version",
    "training",
    "sealed_look",
    "promotion",
    "mode",  # unattended promotion switched on, simulated readers used, ...
)
GENESIS = "0" * 64


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of the ledger; `at` is UTC in ISO 8601."""

    seq: int
    at: str
    by: str
    kind: str
    why: str
    body: dict[str, Any]
    prev: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class Head:
    """An anchor: that many events, the last with that hash."""

    length: int
    hash: str


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An event that has no place in the chain yet."""

    kind: str
    body: dict[str, Any]
    by: str
    why: str = ""


def _hash(line: dict[str, Any]) -> str:
    text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _parse(raw: bytes, number: int, path: Path) -> Event:
    try:
        line = json.loads(raw)
        claimed = line.pop("hash")
        if line.pop("schema") != SCHEMA_VERSION:
            raise BrokenRecord(
                f"{path}: line {number} has another schema version, expected {SCHEMA_VERSION}; use the ctcml that wrote it"
            )
        event = Event(**line, hash=claimed)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BrokenRecord(
            f"{path}: line {number} is not an event of ours; bring the ledger back from its last data version"
        ) from None
    if claimed != _hash({**line, "schema": SCHEMA_VERSION}):
        raise BrokenRecord(
            f"{path}: line {number} was changed after it was written; bring the ledger back from its last data version"
        )
    return event


class Ledger:
    """The ledger in one file, safe under several writers on one machine; or a snapshot of it: a folder of segments.

    >>> import tempfile
    >>> ledger = Ledger(Path(tempfile.mkdtemp()) / "ledger.jsonl")
    >>> ledger.append([Draft(kind="mode", body={"simulated": True}, by="demo")], now=datetime(2026, 1, 1, tzinfo=UTC)).length
    1
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, drafts: Iterable[Draft], *, now: datetime) -> Head:
        """Write events at the end and return the new head once they are on the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            self._set_torn_line_aside()
            head = self.head()
            lines = []
            for draft in drafts:
                if draft.kind not in KINDS:
                    raise BrokenRecord(f"{self.path}: event kind {draft.kind!r} is unknown, expected one of {KINDS}")
                line = {
                    "schema": SCHEMA_VERSION,
                    "seq": head.length,
                    "at": now.astimezone(UTC).isoformat(),
                    "by": draft.by,
                    "kind": draft.kind,
                    "why": draft.why,
                    "body": draft.body,
                    "prev": head.hash,
                }
                digest = _hash(line)
                lines.append(
                    json.dumps({**line, "hash": digest}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
                )
                head = Head(length=head.length + 1, hash=digest)
            if lines:
                with self.path.open("ab") as file:
                    file.write(("\n".join(lines) + "\n").encode())
                    file.flush()
                    os.fsync(file.fileno())
            return head

    def _set_torn_line_aside(self) -> None:
        """Move an unfinished last line (a crash in the middle of a write) to `<ledger>.torn`."""
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        if not content or content.endswith(b"\n"):
            return
        keep = content.rfind(b"\n") + 1
        with self.path.with_suffix(".torn").open("ab") as aside:
            aside.write(content[keep:] + b"\n")
            aside.flush()
            os.fsync(aside.fileno())
        with self.path.open("r+b") as file:
            file.truncate(keep)
            os.fsync(file.fileno())

    def events(self, *kinds: str) -> Iterator[Event]:
        """All events in order, each checked against its own hash and the chain; optionally of some kinds only."""
        prev = GENESIS
        for number, raw in enumerate(line for file in self._files() for line in _lines(file)):
            if not raw.endswith(b"\n"):
                return  # torn by a crash: never acknowledged to anybody
            event = _parse(raw, number + 1, self.path)
            if event.prev != prev or event.seq != number:
                raise BrokenRecord(
                    f"{self.path}: line {number + 1} does not follow the line before it; bring the ledger back from its last data version"
                )
            prev = event.hash
            if not kinds or event.kind in kinds:
                yield event

    def head(self) -> Head:
        """Length and last hash; reads the last whole line only."""
        files = self._files()
        if not files:
            return Head(length=0, hash=GENESIS)
        whole = files[-1].read_bytes()
        lines = whole[: whole.rfind(b"\n") + 1].splitlines()
        if not lines:
            return Head(length=0, hash=GENESIS)
        last = _parse(lines[-1], len(lines), self.path)
        return Head(length=last.seq + 1, hash=last.hash)

    def _files(self) -> list[Path]:
        if self.path.is_dir():
            return sorted(self.path.glob("*.jsonl"))
        return [self.path] if self.path.exists() else []

    def verify(self, anchor: Head | None = None) -> Head:
        """Walk the whole chain and compare it with an anchor; `BrokenRecord` names the first line that is wrong."""
        head, anchored = Head(length=0, hash=GENESIS), anchor is None or anchor.length == 0
        for event in self.events():
            head = Head(length=event.seq + 1, hash=event.hash)
            anchored = anchored or head == anchor
        if not anchored and anchor is not None:
            raise BrokenRecord(
                f"{self.path}: {head.length} events, but event {anchor.length} of the signed head {anchor.hash[:12]}… is not among them; "
                "bring the ledger back from its last data version"
            )
        return head


def readings_of(events: Iterable[Event]) -> list[Reading]:
    """The readings among some events, in order."""
    fields = ("read_uid", "cell_uid", "reader", "label", "occasion", "lead_time_s")
    return [
        Reading(purpose=Purpose(event.body["purpose"]), **{name: event.body[name] for name in fields})
        for event in events
        if event.kind == "reading"
    ]


def withdrawn_uid(key: bytes, patient_uid: str) -> str:
    """By what a patient who withdrew is recognised, without being named; nobody can go back from it to the patient."""
    return pseudonym(key, "withdrawn", patient_uid)


def withdrawn_patients(events: Iterable[Event], key: bytes, patient_uids: Iterable[str]) -> set[str]:
    """Those among some patients who have withdrawn and may not be taken in again."""
    gone = {event.body["withdrawn_uid"] for event in events if event.kind == "withdrawal"}
    return {uid for uid in patient_uids if gone and withdrawn_uid(key, uid) in gone}


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        yield from opened


def snapshot(ledger: Ledger, folder: Path) -> Head:
    """Copy what is new of the verified ledger into a data version as one more segment; returns the head it ends with.

    Segments are never changed, so each version stores only its own events. Raises `BrokenRecord` when the segments that
    are there are not the beginning of this ledger.
    """
    frozen = Ledger(folder).verify()
    head = ledger.verify(frozen)
    if head.length > frozen.length:
        new = [line for file in ledger._files() for line in _lines(file)][frozen.length : head.length]
        # Twelve digits, so that names sort as numbers do.
        with atomic_path(folder / f"{frozen.length + 1:012d}-{head.length:012d}.jsonl") as unfinished:
            unfinished.write_bytes(b"".join(new))
    return head


def write_head(head: Head, path: Path) -> None:
    """Write an anchor file."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps({"length": head.length, "hash": head.hash}) + "\n")


def read_head(path: Path) -> Head | None:
    """Read an anchor file; nothing when there is none yet."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        return Head(length=int(found["length"]), hash=str(found["hash"]))
    except (ValueError, KeyError, TypeError):
        raise BrokenRecord(f"{path}: not an anchor of a ledger; bring it back from git") from None
