"""The audit log: who looked at, took away or was refused data of patients, chained like the ledger and apart from it.

Its head, signed with the workspace's key, lies beside it (`audit-head.json`), so that a cut at the end is found at once;
and whenever the ledger is anchored in the workspace's git, that head is committed with it, so that cutting both is found,
too. Entries name patients, samples and cells by their pseudonyms alone.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ctcml.chain import Chain, Head, Line, read_head, write_head
from ctcml.errors import BadInput, BrokenRecord, ServiceDown
from ctcml.identity import load_key
from ctcml.workspace import Workspace

ACTIONS = (
    "view",  # what: the page; about: what it showed
    "export",  # what: the file
    "sign",  # what: the action; about: the request, what it is about, and the reader whose password signed
    "sign-in",
    "sign-out",
    "refused",  # what: the sentence that the person read
    "grant",  # about: email, role; by whoever sat at the keyboard
    "revoke",  # about: email
)
SCHEMA_VERSION = 1
CURE = "bring ledger/audit.jsonl and ledger/audit-head.json back from a backup, and find out who changed them"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the log; `at` is UTC in ISO 8601."""

    seq: int
    at: str
    who: str
    role: str
    action: str
    what: str
    about: dict[str, Any]


def audit_chain(ws: Workspace) -> Chain:
    """The log's file as a chain."""
    return Chain(ws.audit, name="audit", cure=CURE)


def record(ws: Workspace, *, who: str, role: str, action: str, what: str, about: dict[str, Any], now: datetime) -> Head:
    """Add one entry; when this returns it is on the disk.

    Raises `BadInput` for an unknown action, `ServiceDown` when the log cannot be written: then nothing may be shown.
    """
    if action not in ACTIONS:
        raise BadInput(f"audit log: action {action!r} is unknown, expected one of {', '.join(ACTIONS)}")
    line = {"schema": SCHEMA_VERSION, "at": now.astimezone(UTC).isoformat(), "who": who, "role": role}
    line |= {"action": action, "what": what, "about": about}
    try:
        return audit_chain(ws).append(lambda: [line], then=lambda head: _sign(ws, head))
    except OSError as error:
        raise ServiceDown(
            f"{ws.audit}: cannot be written ({error.strerror}), so nothing is shown; make room or mend the rights"
        ) from None


def _sign(ws: Workspace, head: Head) -> None:
    if ws.key.exists():  # a folder without a key is no workspace, and nobody could check a signature
        write_head(audit_chain(ws).signed(head, load_key(ws.key)), ws.audit_head)


def entries(ws: Workspace) -> Iterator[Entry]:
    """All entries in order, each verified; `BrokenRecord` names the first wrong line."""
    for line in audit_chain(ws).lines():
        yield _entry(ws, line)


def _entry(ws: Workspace, line: Line) -> Entry:
    content = {name: value for name, value in line.items() if name not in ("schema", "prev", "hash")}
    try:
        return Entry(**content)
    except TypeError:
        raise BrokenRecord(f"{ws.audit}: line {line['seq'] + 1} is not an entry of ours; {CURE}") from None


def verify_audit(ws: Workspace, *anchors: Head) -> Head:
    """Walk the whole log against the signed head beside it and further signed `anchors`; `BrokenRecord` names what is wrong."""
    chain, key, beside = audit_chain(ws), load_key(ws.key), read_head(ws.audit_head)
    if beside is None and (anchors or chain.head().length):
        raise BrokenRecord(f"{ws.audit_head}: is not there, so nobody can tell whether the log is whole; {CURE}")
    heads = [*anchors, *([] if beside is None else [beside])]
    for head in heads:
        if not chain.is_signed(head, key):
            raise BrokenRecord(
                f"{ws.audit}: the head at {head.length} events is not signed with this workspace's key; {CURE}"
            )
    return chain.passed((line for line in chain.lines() if _entry(ws, line)), *heads)


def copy_log(ws: Workspace, folder: Path) -> list[Path]:
    """Copy the log and its head, as they are between two entries, into a folder; returns the copies, none without a log."""
    with audit_chain(ws).locked():
        found = [path for path in (ws.audit, ws.audit_head) if path.exists()]
        return [Path(shutil.copyfile(path, folder / path.name)) for path in found]
