"""Making a workspace, and freezing its data together with the ledger as one version."""

import json
import shutil
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import ctcml
from ctcml import versioning
from ctcml.audit import audit_chain, verify_audit
from ctcml.chain import Head, parse_beside, parse_head, read_head, write_head
from ctcml.class_registry import class_body
from ctcml.errors import BrokenRecord
from ctcml.identity import create_key, load_key
from ctcml.ledger import Draft, Ledger, require_signed, snapshot
from ctcml.records import PAPER_CLASSES
from ctcml.versioning import DataVersion
from ctcml.workspace import Workspace

SOURCE = Path(ctcml.__file__).parent.parent
# Events that say what was done with the data; they alone make no new version of it.
BOOKKEEPING = (
    "data_version",
    "training",
    "sealed_look",
    "promotion",
    "rollback",
    "alias",
    "mode",
    "reader_added",
    "reader_removed",
    "round_closed",
    "protocol_renewed",
    "request",
)


def create_workspace(ws: Workspace, *, now: datetime) -> None:
    """Make git, DVC, the key and a ledger that opens with the paper's five classes."""
    versioning.init_workspace(ws.root, SOURCE)
    key = create_key(ws.key)
    added = [
        Draft(
            kind="class_added",
            by="Zeune et al. 2020",
            why="the paper's five-class set",
            body=class_body(one, authors=["Zeune et al. 2020"]),
        )
        for one in PAPER_CLASSES
    ]
    made = Draft(kind="workspace_created", by="ctcml init", body={"ctcml": version("ctcml")})
    ledger = Ledger(ws.ledger)
    write_head(ledger.chain.signed(ledger.append([made, *added], now=now), key), ws.ledger_head)
    versioning.commit(ws.root, "Open the ledger", [ws.ledger_head.relative_to(ws.root)])
    set_start(ws, data_version="none")


def new_data_version(ws: Workspace, *, why: str, by: str, now: datetime) -> DataVersion:
    """Freeze `data/` with a snapshot of the ledger: DVC add and push, git commit and tag, an event, an anchored head.

    Without anything new since the last version, that one is returned.
    """
    ledger = Ledger(ws.ledger)
    frozen = Ledger(ws.ledger_snapshot).head()
    if any(event.kind not in BOOKKEEPING for event in ledger.events() if event.seq >= frozen.length):
        snapshot(ledger, ws.ledger_snapshot)
    former = versioning.versions(ws.root)
    made = versioning.commit_data_version(ws.root, message=f"Data version: {why}")
    if not former or made.tag != former[-1].tag:
        body = {"tag": made.tag, "data_md5": made.data_md5, "commit": made.commit}
        ledger.append([Draft(kind="data_version", by=by, why=why, body=body)], now=now)
    anchor(ws)
    return made


def set_start(ws: Workspace, *, data_version: str) -> bool:
    """Let the next training start from the present champion, and the next clusters be named after the present ones.

    Once for a data version; says whether it was changed.
    """
    notes = ws.start / "start.json"
    if notes.exists() and json.loads(notes.read_text())["data_version"] == data_version:
        return False
    unfinished = ws.start.with_name(".start")
    shutil.rmtree(unfinished, ignore_errors=True)
    if ws.champion.exists():
        shutil.copytree(ws.champion, unfinished)
    unfinished.mkdir(parents=True, exist_ok=True)
    if ws.cell_discovery.exists():
        shutil.copyfile(ws.cell_discovery, unfinished / ws.start_clusters.name)
    (unfinished / "start.json").write_text(json.dumps({"data_version": data_version}) + "\n")
    shutil.rmtree(ws.start, ignore_errors=True)
    unfinished.rename(ws.start)
    pointer = versioning.track(ws.root, ws.start)
    versioning.commit(ws.root, f"Training on {data_version} starts from the champion of now", [pointer])
    return True


def anchor(ws: Workspace) -> Head:
    """Commit length and hash of the ledger, signed, to the workspace's git; a later cut below it cannot be hidden."""
    key, ledger, former = load_key(ws.key), Ledger(ws.ledger), read_head(ws.ledger_head)
    if former is not None:
        require_signed(ledger, [former], key)
    head = ledger.chain.signed(ledger.verify(former), key)
    log = read_head(ws.audit_head)  # only a head that we signed: what is wrong with the log, `ctcml audit verify` says
    beside = {"audit": log} if log is not None and audit_chain(ws).is_signed(log, key) else {}
    write_head(head, ws.ledger_head, **beside)
    versioning.commit(ws.root, f"Anchor the ledger at {head.length} events", [ws.ledger_head.relative_to(ws.root)])
    return head


def verify_ledger(ws: Workspace) -> tuple[Head, int]:
    """Walk the live ledger against every anchor that the workspace's git has ever held, and the data version's snapshot.

    Returns the head and how many anchors were compared. Raises `BrokenRecord`.
    """
    key, ledger = load_key(ws.key), Ledger(ws.ledger)
    place = ws.ledger_head.relative_to(ws.root)
    anchors = [parse_head(text, f"{place} at {commit}") for commit, text in versioning.former_texts(ws.root, place)]
    if (present := read_head(ws.ledger_head)) is not None:
        anchors.append(present)
    if not anchors:
        raise BrokenRecord(f"{ws.ledger_head}: the ledger has no anchor; bring ledger/head.json back from git")
    require_signed(ledger, anchors, key)
    return ledger.verify(*anchors, Ledger(ws.ledger_snapshot).head()), len(anchors)


def verify_audit_log(ws: Workspace) -> tuple[Head, int]:
    """Walk the audit log against its signed head and every one that the workspace's git has ever held.

    Returns the head and how many anchors were compared. Raises `BrokenRecord`.
    """
    place = ws.ledger_head.relative_to(ws.root)
    texts = [(text, f"{place} at {commit}") for commit, text in versioning.former_texts(ws.root, place)]
    anchors = [head for text, where in texts if (head := parse_beside(text, where, "audit")) is not None]
    return verify_audit(ws, *anchors), len(anchors)
