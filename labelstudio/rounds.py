"""A round of reading: which cells go to whom, what each reader is shown, what came back into the ledger."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctcml.assignments import Assignment, assignments_of, open_occasions, queueing, unanswered
from ctcml.class_registry import classes_of
from ctcml.ledger import READINGS, Draft, Event, Ledger
from ctcml.people import people_of, readers_among
from ctcml.queries import not_asked_before
from ctcml.readings import plain
from ctcml.records import CellClass, Duty, Purpose
from ctcml.shards import read_pixels
from ctcml.tables import MANIFEST, atomic_path, read_folder
from ctcml.withdrawal import withdrawn_cells
from ctcml.workspace import Workspace
from labelstudio.client import ReadingQueue, ensure_project, held, progress, pull, push, remove
from labelstudio.panels import write_panels
from labelstudio.protocol import instructions_html, show_examples
from labelstudio.server import read_login
from labelstudio.tasks import PulledReading, RejectedReading, build_task, read_uid

PROJECT = "Reading of cells"


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What one pull of one reader's queue brought."""

    reader: str
    new: int
    known: int
    rejected: int
    disturbed: int
    open: int


@dataclass(frozen=True, kw_only=True)
class Read:
    """An assignment as the reader meets it; a cell whose answer was rejected is asked again under a new `read_uid`."""

    read_uid: str
    asked: Assignment


def server_home(ws: Workspace, reader: str) -> Path:
    """Where the server of one reader lives, or the login of the laboratory's own."""
    return ws.services / "labelstudio" / reader


def queue_of(ws: Workspace, reader: str, *, explained: bool = False) -> tuple[ReadingQueue, Path]:
    """One reader's queue on the server that was started last, its page up to date, and where its pictures lie.

    `explained` also renews the instructions that the page shows, from the workspace's reading protocol.
    """
    home = server_home(ws, reader)
    login = read_login(home / "login.json")
    pictures = Path(login.pictures) if login.pictures else home / "pictures"
    classes = classes_of(Ledger(ws.ledger).events("class_added"))
    project_id = ensure_project(
        login.base_url,
        login.admin_token,
        title=PROJECT,
        classes=classes,
        pictures=pictures,
        instructions=instructions_html(classes, show_examples(ws.review, pictures)) if explained else "",
    )
    queue = ReadingQueue(
        base_url=login.base_url,
        token=login.admin_token,
        project_id=project_id,
        reader=reader,
        reader_user_id=login.reader_user_id,
    )
    return queue, pictures


def open_round(ledger: Ledger, queue: pd.DataFrame, *, occasion: str, seed: int, now: datetime) -> int:
    """Write down which cells are to be read, why and by whom; what was asked before is passed over. Returns how many.

    A cell that was read comes through once as a hidden repeat and once as a doubtful label, under a new occasion: the
    readers cannot tell it from others. On one occasion no cell is read twice.
    """
    asked: list[int] = []

    def make() -> list[Draft]:
        events = list(ledger.events())
        fresh = not_asked_before(queue, [event.body for event in events if event.kind == "queued"])
        cells = {row.cell_uid: (Purpose(row.purpose), row.reason) for row in fresh.itertuples()}
        readers = readers_among(people_of(events)) if cells else ()
        rng = np.random.default_rng([seed, 4, len(events)])
        drafts = queueing(cells, occasion, events=events, readers=readers, by="ctcml query", rng=rng)
        asked.append(len(drafts))
        return drafts

    ledger.decide(make, now=now)
    return asked[0]


def reads_of(events: Iterable[Event], *, key: bytes) -> list[Read]:
    """Every assignment with the `read_uid` under which it is asked now."""
    events = list(events)
    refused = Counter(
        (event.body["cell_uid"], event.body["occasion"], event.body["reader"])
        for event in events
        if event.kind == "reading_rejected"
    )
    return [Read(read_uid=_uid(key, one, refused[*one.case, one.reader]), asked=one) for one in assignments_of(events)]


def _uid(key: bytes, one: Assignment, refused: int) -> str:
    return read_uid(key, one.cell_uid, one.reader, _attempt(one.occasion, refused))


def _attempt(occasion: str, refused: int) -> str:
    return f"{occasion} again {refused}" if refused else occasion


def waiting_reads(ws: Workspace, *, key: bytes) -> list[Read]:
    """What the open rounds still wait for, of cells that are in the data."""
    events = list(Ledger(ws.ledger).events())
    open_now = set(open_occasions(events))
    wanted = {
        (*one.case, one.reader) for one in unanswered(events, without=withdrawn_cells(ws)) if one.occasion in open_now
    }
    return [one for one in reads_of(events, key=key) if (*one.asked.case, one.asked.reader) in wanted]


def draw_pictures(ws: Workspace, reads: Sequence[Read], pictures: Mapping[str, Path]) -> None:
    """Lay out the pictures of these reads, each where its reader's server looks for them; `pictures` gives the folders.

    A cell is drawn once for all of its readers. `ProtocolBreach` when cells are not in the data.
    """
    names: dict[str, dict[str, Path]] = {}
    for one in reads:
        names.setdefault(one.asked.cell_uid, {})[one.read_uid] = pictures[one.asked.reader]
    manifest = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "sample_uid"])
    wanted = manifest[manifest["cell_uid"].isin(names)]
    for sample_uid, members in wanted.groupby("sample_uid")["cell_uid"]:
        for cell, pixels in read_pixels(ws.shards, str(sample_uid), list(members)).items():
            write_panels(pixels, names[cell])


def push_reads(queue: ReadingQueue, reads: Sequence[Read]) -> int:
    """Push one reader's reads in an order of the reader's own; returns how many were new to the server.

    The order comes from the read_uids, which are keyed: it is random to everybody, differs between readers, and tells
    nothing about model, sample or reason. Running it again sends only what is missing.
    """
    return push(queue, [build_task(uid) for uid in sorted(one.read_uid for one in reads)])


def send_waiting(ws: Workspace, *, key: bytes) -> dict[str, int]:
    """Draw and send everybody what is open and not on their server yet, all servers side by side; how many by reader."""
    waiting = waiting_reads(ws, key=key)
    readers = sorted({one.asked.reader for one in waiting})
    queues = {reader: queue_of(ws, reader, explained=True) for reader in readers}
    draw_pictures(ws, waiting, {reader: pictures for reader, (_, pictures) in queues.items()})

    def push_to(reader: str) -> int:
        return push_reads(queues[reader][0], [one for one in waiting if one.asked.reader == reader])

    with ThreadPoolExecutor(max(1, len(readers))) as pool:
        return dict(zip(readers, pool.map(push_to, readers), strict=True))


def pull_reads(
    ws: Workspace,
    queue: ReadingQueue,
    classes: Sequence[CellClass],
    *,
    key: bytes,
    now: datetime,
    from_the_beginning: bool = False,
) -> Pulled:
    """Validate what one reader answered since the last pull and append what is new to the ledger.

    An answer that fails validation is kept in the ledger with its reason, and the cell is asked again. A reading that was
    deleted or changed after it was taken in stands, and that it happened is written down and counted.
    """
    mark = server_home(ws, queue.reader) / "pulled.json"
    last = _read_mark(mark)
    same = last.get("project_id") == queue.project_id and not from_the_beginning
    since = datetime.fromisoformat(last["until"]) if same else None
    brought = pull(queue, classes, since=since)
    _, tasks = progress(queue)
    ledger, gone = Ledger(ws.ledger), withdrawn_cells(ws)
    missing: set[str] = set()
    if not same or tasks < last["tasks"]:
        missing = _taken_away(queue, ledger, key)
    counted: list[Pulled] = []

    def make() -> list[Draft]:
        events = list(ledger.events())
        book = _Book(events, queue.reader, key, gone)
        drafts = [book.judge(one) for one in brought.valid] + [book.refuse(one) for one in brought.rejected]
        drafts += [book.miss(uid, "deleted") for uid in brought.emptied]
        drafts += [book.miss(uid, "deleted with its task") for uid in sorted(missing)]
        counted.append(book.pulled())
        return [one for one in drafts if one is not None]

    ledger.decide(make, now=now)
    # After the ledger: a pull that was killed in between sees the same answers again.
    with atomic_path(mark) as unfinished:
        unfinished.write_text(
            json.dumps({"project_id": queue.project_id, "until": brought.until.isoformat(), "tasks": tasks}) + "\n"
        )
    return counted[0]


def _read_mark(mark: Path) -> dict[str, Any]:
    """Where the last pull ended; nothing where it cannot be read, and then everything is pulled again."""
    try:
        found: dict[str, Any] = json.loads(mark.read_text())
        return found if {"project_id", "until", "tasks"} <= found.keys() else {}
    except (OSError, ValueError, AttributeError):
        return {}


def _taken_away(queue: ReadingQueue, ledger: Ledger, key: bytes) -> set[str]:
    """Readings of open rounds whose tasks the server holds no more."""
    events = list(ledger.events())
    open_now = set(open_occasions(events))
    ours = [
        event.body["read_uid"]
        for event in events
        if event.kind in READINGS and event.body["reader"] == queue.reader and event.body["occasion"] in open_now
    ]
    return set(ours) - held(queue, ours)


class _Book:
    """One reader's readings as the ledger has them, against which answers are judged."""

    def __init__(self, events: Sequence[Event], reader: str, key: bytes, gone: Collection[str]) -> None:
        self.reader = reader
        self.reads = {
            one.read_uid: one.asked
            for one in reads_of(events, key=key)
            if one.asked.reader == reader and one.asked.cell_uid not in gone
        }
        self.given_away = {
            read_uid(key, body["cell_uid"], reader, body["occasion"]): body
            for event in events
            if event.kind == "assigned" and (body := event.body)["before"] == reader
        }
        self.refused = {event.body["read_uid"] for event in events if event.kind == "reading_rejected"}
        self.recorded = {
            event.body["read_uid"]: event.body
            for event in events
            if event.kind in READINGS and event.body["reader"] == reader
        }
        self.told = {
            (event.body["read_uid"], event.body["what"]) for event in events if event.kind == "reading_disturbed"
        }
        open_now = set(open_occasions(events))
        self.open = {uid for uid, one in self.reads.items() if uid not in self.recorded and one.occasion in open_now}
        self.counts = Counter[str]()

    def judge(self, one: PulledReading) -> Draft | None:
        """A new reading; or that a known one was changed since."""
        if (known := self.recorded.get(one.read_uid)) is not None:
            # A name that has become a class is not another answer.
            said = (plain(one.label), one.confidence, one.reasons)
            same = said == (plain(known["label"]), known["confidence"], tuple(known["reasons"]))
            if same:
                self.counts["known"] += 1
                return None
            return self._disturbed(one.read_uid, f"changed to {one.label} at {one.answered_at}")
        if (asked := self.reads.get(one.read_uid)) is None:
            return self._too_late(one)
        self.counts["new"] += 1
        self.open.discard(one.read_uid)
        body = {
            "read_uid": one.read_uid,
            "cell_uid": asked.cell_uid,
            "reader": one.reader,
            "duty": asked.duty.value,
            "label": one.label,
            "name": one.new_name,
            "confidence": one.confidence.value if one.confidence else None,
            "reasons": list(one.reasons),
            "occasion": asked.occasion,
            "purpose": asked.purpose.value,
            "lead_time_s": one.lead_time_s,
            "source": f"{one.server} annotation {one.annotation_id} at {one.answered_at}",
        }
        self.recorded[one.read_uid] = body
        return Draft(kind="reading" if asked.duty == Duty.READER else "adjudication", by=one.reader, body=body)

    def refuse(self, one: RejectedReading) -> Draft | None:
        """An answer that is no reading, with its reason; or what somebody did to a reading that stands."""
        if one.read_uid in self.recorded:
            return self._disturbed(one.read_uid, one.reason)
        if (asked := self.reads.get(one.read_uid)) is None:
            return None
        self.counts["rejected"] += 1
        body = {
            "read_uid": one.read_uid,
            "cell_uid": asked.cell_uid,
            "reader": self.reader,
            "occasion": asked.occasion,
            "reason": one.reason,
            "answer": one.raw,
            "source": f"annotation {one.annotation_id} at {one.answered_at}",
        }
        del self.reads[one.read_uid]
        return Draft(kind="reading_rejected", by="ctcml", why=one.reason, body=body)

    def _too_late(self, one: PulledReading) -> Draft | None:
        """An answer to a cell that was given to somebody else; nothing of what is not ours to judge."""
        given = self.given_away.get(one.read_uid)
        if given is None or one.read_uid in self.refused:
            return None
        self.counts["rejected"] += 1
        body = {
            "read_uid": one.read_uid,
            "cell_uid": given["cell_uid"],
            "reader": self.reader,
            "occasion": given["occasion"],
            "reason": f"given to {given['reader']} before it was answered",
            "answer": [{"label": one.label, "name": one.new_name}],
            "source": f"{one.server} annotation {one.annotation_id} at {one.answered_at}",
        }
        return Draft(kind="reading_rejected", by="ctcml", why=str(body["reason"]), body=body)

    def miss(self, uid: str, what: str) -> Draft | None:
        """That a reading is on the server no more."""
        return self._disturbed(uid, what) if uid in self.recorded else None

    def _disturbed(self, uid: str, what: str) -> Draft | None:
        if (uid, what) in self.told:
            return None
        self.told.add((uid, what))
        self.counts["disturbed"] += 1
        body = {"read_uid": uid, "cell_uid": self.recorded[uid]["cell_uid"], "reader": self.reader, "what": what}
        return Draft(kind="reading_disturbed", by=f"the server of {self.reader}", why="the reading stands", body=body)

    def pulled(self) -> Pulled:
        return Pulled(
            reader=self.reader,
            new=self.counts["new"],
            known=self.counts["known"],
            rejected=self.counts["rejected"],
            disturbed=self.counts["disturbed"],
            open=len(self.open),
        )


def take_back(ws: Workspace, reader: str, reads: Sequence[Read]) -> int:
    """Take what was given to others off the server of who is absent; returns how many tasks went."""
    queue, _ = queue_of(ws, reader)
    return remove(queue, [one.read_uid for one in reads])


def all_reads(ws: Workspace, cells: Collection[str], *, key: bytes) -> Iterator[tuple[str, Path]]:
    """Each `read_uid` under which any reader may have been shown these cells in any round, and where its pictures lie."""
    events = list(Ledger(ws.ledger).events("queued", "reading_rejected", *READINGS))
    occasions = sorted({event.body["occasion"] for event in events})
    refused = Counter(
        (event.body["cell_uid"], event.body["occasion"], event.body["reader"])
        for event in events
        if event.kind == "reading_rejected"
    )
    for home in sorted((ws.services / "labelstudio").glob("*/")):
        for occasion in occasions:
            for cell in cells:
                for times in range(refused[cell, occasion, home.name] + 1):
                    yield read_uid(key, cell, home.name, _attempt(occasion, times)), home / "pictures"
