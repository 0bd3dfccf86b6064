"""The append-only, hash-chained record of every reading, settlement, class, data version, promotion and sealed-set look.

One JSON object a line. Each line carries the hash of the one before it, so an edit, a deletion or a swap breaks the chain
from there on. A cut at the end keeps a valid chain, so length and head hash are also anchored outside (git, data version)
and `verify` compares with such anchors, which are signed with the workspace's key. A line that a crash left torn is set
aside, not lost, at the next append.

Lines are never rewritten, so a ledger holds lines of every schema version that wrote it; older ones are brought up to
the present schema when they are read (`_upgraded`), after they were verified as they stand.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from ctcml.errors import BrokenRecord
from ctcml.identity import pseudonym
from ctcml.records import Confidence, Duty, Purpose, Reading
from ctcml.tables import atomic_path

SCHEMA_VERSION = 2  # 1: before readers were registered; see `_upgraded`
KINDS = (
    "workspace_created",
    "class_added",  # body: class_id, name, definition, authors, aliases, gallery; by the experts who signed
    "class_proposed",  # body: class_id, name, aliases, cells, readers, cluster, nearest_class, marker_profile
    "class_vote",  # body: class_id, vote (accept, reject), definition, request; by one expert
    "class_rejected",  # body: class_id, experts
    "patient_assigned",  # body: patient_uid, cancer_type, role
    "historic_label",  # body: cell_uid, class_id, source; both readers agreed before ctcml
    "reader_added",  # body: reader, adjudicates, server (ours, or the address of the laboratory's own)
    "reader_removed",  # body: reader
    "queued",  # body: cell_uid, purpose, reason, occasion, readers (two names; None before schema 2)
    "assigned",  # body: cell_uid, occasion, reader, duty, before (whom it takes the cell from, or None)
    "reading",  # body: read_uid, cell_uid, reader, duty, label, name (of a new class), confidence, reasons, occasion, purpose, lead_time_s, source
    "adjudication",  # the same, by a third person: duty adjudicator, or check where two agreed
    "reading_rejected",  # body: read_uid, cell_uid, reader, occasion, reason, answer; the cell is asked again under a new read_uid
    "reading_disturbed",  # body: read_uid, cell_uid, reader, what; a reading was deleted or changed after it was taken in, and stands
    "settlement",  # body: cell_uid, class_id, how, purpose, occasion, before
    "round_closed",  # body: occasion
    "protocol_renewed",  # body: cells (shown as examples: they are no hidden repeats any more)
    "intake",  # body: counts of one intake, kinds of sources, page order
    "withdrawal",  # body: withdrawn_uid, counts of samples and cells, models trained with them, data versions that hold them
    "data_version",
    "training",
    "sealed_look",
    "promotion",  # body: version, before, counts_before and changes (SHA-256 of the counts, and of the table of changes)
    "rollback",  # the same, back to a former champion
    "alias",  # body: alias, version, before; challenger and anchor (of the champion, promotion and rollback tell)
    "request",  # body: request, action, outcome; what a signed request from the dashboard came to
    "mode",  # unattended promotion switched on, simulated readers used, ...
)
READINGS = ("reading", "adjudication")
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
    """An anchor: that many events, the last with that hash; `signature` says that a holder of the key wrote it."""

    length: int
    hash: str
    signature: str = ""


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


def _parse(raw: bytes, which: str, path: Path) -> tuple[Event, int]:
    """The event of a line as it stands, verified against its own hash, and the schema version of the line."""
    try:
        line = json.loads(raw)
        claimed, schema = line.pop("hash"), line.pop("schema")
        event = Event(**line, hash=claimed)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BrokenRecord(
            f"{path}: {which} is not an event of ours; bring the ledger back from its last data version"
        ) from None
    if claimed != _hash({**line, "schema": schema}):
        raise BrokenRecord(
            f"{path}: {which} was changed after it was written; bring the ledger back from its last data version"
        )
    if schema not in range(1, SCHEMA_VERSION + 1):
        raise BrokenRecord(
            f"{path}: {which} has schema version {schema!r}, expected 1 to {SCHEMA_VERSION}; use the ctcml that wrote it"
        )
    return event, schema


class _Upgrade:
    """Brings events of former schemas up to the present one; told of all events in order, as some need what came before.

    Schema 1 knew two readers and one adjudicator, by name only. A third name on a cell was the adjudicator's, since two
    readers always came first; who was asked was not written down.
    """

    def __init__(self) -> None:
        self.readers: dict[str, set[str]] = {}

    def __call__(self, event: Event, schema: int) -> Event:
        if schema >= SCHEMA_VERSION:
            return event
        if event.kind == "reading":
            already = self.readers.setdefault(event.body["cell_uid"], set())
            third = event.body["reader"] not in already and len(already) >= 2
            if not third:
                already.add(event.body["reader"])
            duty = Duty.ADJUDICATOR if third else Duty.READER
            more: dict[str, Any] = {"duty": duty.value, "confidence": None, "reasons": []}
            return replace(event, kind="adjudication" if third else "reading", body={**event.body, **more})
        if event.kind == "class_added":
            return replace(event, body={**event.body, "authors": [event.by], "aliases": [], "gallery": None})
        if event.kind == "queued":
            return replace(event, body={"reason": event.why, **event.body, "readers": None})
        if event.kind == "settlement":
            return replace(event, body={**event.body, "occasion": None})
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
        return self.decide(lambda: drafts, now=now)

    def decide(self, make: Callable[[], Iterable[Draft]], *, now: datetime) -> Head:
        """Write what `make` draws from the ledger; nobody else writes in between, so what it read still holds."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            drafts = list(make())
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
        torn = _tail(self.path, whole=False)
        if not torn:
            return
        with self.path.with_suffix(".torn").open("ab") as aside:
            aside.write(torn + b"\n")
            aside.flush()
            os.fsync(aside.fileno())
        with self.path.open("r+b") as file:
            file.truncate(self.path.stat().st_size - len(torn))
            os.fsync(file.fileno())

    def events(self, *kinds: str) -> Iterator[Event]:
        """All events in order, each checked against its own hash and the chain; optionally of some kinds only."""
        prev, upgrade = GENESIS, _Upgrade()
        for number, raw in enumerate(line for file in self._files() for line in _lines(file)):
            if not raw.endswith(b"\n"):
                return  # torn by a crash: never acknowledged to anybody
            event, schema = _parse(raw, f"line {number + 1}", self.path)
            if event.prev != prev or event.seq != number:
                raise BrokenRecord(
                    f"{self.path}: line {number + 1} does not follow the line before it; bring the ledger back from its last data version"
                )
            prev = event.hash
            event = upgrade(event, schema)
            if not kinds or event.kind in kinds:
                yield event

    def head(self) -> Head:
        """Length and last hash; reads the last whole line only."""
        files = self._files()
        last = _tail(files[-1], whole=True) if files else b""
        if not last:
            return Head(length=0, hash=GENESIS)
        event, _ = _parse(last, "the last line", self.path)
        return Head(length=event.seq + 1, hash=event.hash)

    def _files(self) -> list[Path]:
        if self.path.is_dir():
            return sorted(self.path.glob("*.jsonl"))
        return [self.path] if self.path.exists() else []

    def verify(self, *anchors: Head | None) -> Head:
        """Walk the whole chain and compare it with anchors; `BrokenRecord` names the first line or anchor that is wrong."""
        missing = {(one.length, one.hash) for one in anchors if one is not None and one.length}
        head = Head(length=0, hash=GENESIS)
        for event in self.events():
            head = Head(length=event.seq + 1, hash=event.hash)
            missing.discard((head.length, head.hash))
        for length, digest in sorted(missing):
            raise BrokenRecord(
                f"{self.path}: {head.length} events, but event {length} of the signed head {digest[:12]}… is not among them; "
                "bring the ledger back from its last data version"
            )
        return head

    def written_before_signatures(self, length: int) -> bool:
        """Whether event number `length` is of schema 1, when heads were not signed yet."""
        for number, raw in enumerate((line for file in self._files() for line in _lines(file)), start=1):
            if number == length:
                return _parse(raw, f"line {number}", self.path)[1] == 1
        return False


def readings_of(events: Iterable[Event]) -> list[Reading]:
    """The readings among some events, of readers and of third persons, in order."""
    return [reading_of(event) for event in events if event.kind in READINGS]


def reading_of(event: Event) -> Reading:
    """The reading that an event tells of."""
    body = event.body
    fields = ("read_uid", "cell_uid", "reader", "label", "occasion", "lead_time_s")
    return Reading(
        purpose=Purpose(body["purpose"]),
        duty=Duty(body["duty"]),
        confidence=Confidence(body["confidence"]) if body["confidence"] else None,
        reasons=tuple(body["reasons"]),
        **{name: body[name] for name in fields},
    )


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


def signed(head: Head, key: bytes) -> Head:
    """The head with the signature of whoever holds the workspace's key."""
    return replace(head, signature=_signature(head, key))


def _signature(head: Head, key: bytes) -> str:
    return hmac.new(key, f"ledger head {head.length} {head.hash}".encode(), hashlib.sha256).hexdigest()


def require_signed(ledger: Ledger, heads: Collection[Head], key: bytes) -> None:
    """Refuse a head that no holder of the key wrote; heads from before signatures pass where the ledger is as old.

    Raises `BrokenRecord`.
    """
    for head in heads:
        if head.signature and hmac.compare_digest(head.signature, _signature(head, key)):
            continue
        if not head.signature and head.length and ledger.written_before_signatures(head.length):
            continue
        raise BrokenRecord(
            f"{ledger.path}: the anchor at {head.length} events carries {'a wrong' if head.signature else 'no'} signature; "
            "bring ledger/head.json back from git, or the workspace's key from your copy"
        )


def write_head(head: Head, path: Path) -> None:
    """Write an anchor file."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(
            json.dumps({"length": head.length, "hash": head.hash, "signature": head.signature}) + "\n"
        )


def read_head(path: Path) -> Head | None:
    """Read an anchor file; nothing when there is none yet."""
    return parse_head(path.read_text(), str(path)) if path.exists() else None


def parse_head(text: str, where: str) -> Head:
    """An anchor as it was written; `BrokenRecord` if it is damaged."""
    try:
        found = json.loads(text)
        return Head(length=int(found["length"]), hash=str(found["hash"]), signature=str(found.get("signature", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BrokenRecord(f"{where}: not an anchor of a ledger; bring it back from git") from None


def _tail(file: Path, *, whole: bool, block: int = 1 << 16) -> bytes:
    """The last whole line of a file, or what follows it without an end; reads no more of the file than it must."""
    ends_needed = 2 if whole else 1
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        content, start = b"", size
        while start > 0 and content.count(b"\n") < ends_needed:
            start = max(0, start - block)
            opened.seek(start)
            content = opened.read()
    complete, _, torn = content.rpartition(b"\n")
    return complete.rpartition(b"\n")[2] if whole else torn
