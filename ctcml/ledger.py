"""The append-only, hash-chained record of every reading, settlement, class, data version, promotion and sealed-set look.

One JSON object a line. Each line carries the hash of the one before it, so an edit, a deletion or a swap breaks the chain
from there on. A cut at the end keeps a valid chain, so length and head hash are also anchored outside (git, data version)
and `verify` compares with such anchors, which are signed with the workspace's key. A line that a crash left torn is set
aside, not lost, at the next append.

Lines are never rewritten, so a ledger holds lines of every schema version that wrote it; older ones are brought up to
the present schema when they are read (`_upgraded`), after they were verified as they stand.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ctcml.chain import Chain, Head, Line
from ctcml.errors import BrokenRecord
from ctcml.identity import pseudonym
from ctcml.records import Confidence, Duty, Purpose, Reading
from ctcml.tables import atomic_path

SCHEMA_VERSION = 2  # 1: before readers were registered; see `_upgraded`
CURE = "bring the ledger back from its last data version"
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
class Draft:
    """An event that has no place in the chain yet."""

    kind: str
    body: dict[str, Any]
    by: str
    why: str = ""


def _event(line: Line, path: Path) -> tuple[Event, int]:
    """The event of a verified line as it stands, and the schema version of the line."""
    content = dict(line)
    try:
        schema = content.pop("schema")
        event = Event(**content)
    except (KeyError, TypeError):
        raise BrokenRecord(f"{path}: line {line['seq'] + 1} is not an event of ours; {CURE}") from None
    if schema not in range(1, SCHEMA_VERSION + 1):
        raise BrokenRecord(
            f"{path}: line {event.seq + 1} has schema version {schema!r}, expected 1 to {SCHEMA_VERSION}; use the ctcml that wrote it"
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
        self.path, self.chain = path, Chain(path, name="ledger", cure=CURE)

    def append(self, drafts: Iterable[Draft], *, now: datetime) -> Head:
        """Write events at the end and return the new head once they are on the disk."""
        return self.decide(lambda: drafts, now=now)

    def decide(self, make: Callable[[], Iterable[Draft]], *, now: datetime) -> Head:
        """Write what `make` draws from the ledger; nobody else writes in between, so what it read still holds."""
        return self.chain.append(lambda: [self._line(draft, now) for draft in make()])

    def _line(self, draft: Draft, now: datetime) -> Line:
        if draft.kind not in KINDS:
            raise BrokenRecord(f"{self.path}: event kind {draft.kind!r} is unknown, expected one of {KINDS}")
        return {
            "schema": SCHEMA_VERSION,
            "at": now.astimezone(UTC).isoformat(),
            "by": draft.by,
            "kind": draft.kind,
            "why": draft.why,
            "body": draft.body,
        }

    def events(self, *kinds: str) -> Iterator[Event]:
        """All events in order, each checked against its own hash and the chain; optionally of some kinds only."""
        upgrade = _Upgrade()
        for line in self.chain.lines():
            event = upgrade(*_event(line, self.path))
            if not kinds or event.kind in kinds:
                yield event

    def head(self) -> Head:
        """Length and last hash; reads the last whole line only."""
        return self.chain.head()

    def verify(self, *anchors: Head | None) -> Head:
        """Walk the whole chain and compare it with anchors; `BrokenRecord` names the first line or anchor that is wrong."""

        def ours() -> Iterator[Line]:
            for line in self.chain.lines():
                _event(line, self.path)
                yield line

        return self.chain.passed(ours(), *anchors)

    def written_before_signatures(self, length: int) -> bool:
        """Whether event number `length` is of schema 1, when heads were not signed yet."""
        return any(line["seq"] == length - 1 and line["schema"] == 1 for line in self.chain.lines())


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


def snapshot(ledger: Ledger, folder: Path) -> Head:
    """Copy what is new of the verified ledger into a data version as one more segment; returns the head it ends with.

    Segments are never changed, so each version stores only its own events. Raises `BrokenRecord` when the segments that
    are there are not the beginning of this ledger.
    """
    frozen = Ledger(folder).verify()
    head = ledger.verify(frozen)
    if head.length > frozen.length:
        new = list(ledger.chain.raw_lines())[frozen.length : head.length]
        # Twelve digits, so that names sort as numbers do.
        with atomic_path(folder / f"{frozen.length + 1:012d}-{head.length:012d}.jsonl") as unfinished:
            unfinished.write_bytes(b"".join(new))
    return head


def require_signed(ledger: Ledger, heads: Collection[Head], key: bytes) -> None:
    """Refuse a head that no holder of the key wrote; heads from before signatures pass where the ledger is as old.

    Raises `BrokenRecord`.
    """
    for head in heads:
        if ledger.chain.is_signed(head, key):
            continue
        if not head.signature and head.length and ledger.written_before_signatures(head.length):
            continue
        raise BrokenRecord(
            f"{ledger.path}: the anchor at {head.length} events carries {'a wrong' if head.signature else 'no'} signature; "
            "bring ledger/head.json back from git, or the workspace's key from your copy"
        )
