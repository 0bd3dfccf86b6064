"""A round of reading: which cells go to whom, what each reader is shown, what came back into the ledger."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from ctcml.ledger import Draft, Ledger
from ctcml.queries import not_asked_before
from ctcml.records import CellClass
from ctcml.shards import read_pixels
from ctcml.tables import MANIFEST, read_folder
from ctcml.withdrawal import withdrawn_cells
from ctcml.workspace import Workspace
from labelstudio.client import ReadingQueue, ensure_project, pull, push
from labelstudio.panels import write_panels
from labelstudio.server import read_login
from labelstudio.tasks import build_task, read_uid


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What one pull of one reader's queue brought."""

    reader: str
    new: int
    known: int
    rejected: int
    open: int


PROJECT = "Reading of cells"


def server_home(ws: Workspace, reader: str) -> Path:
    """Where the server of one reader lives."""
    return ws.services / "labelstudio" / reader


def classes_of(ledger: Ledger) -> list[CellClass]:
    """The class registry as it stands, in order of registration."""
    return [CellClass(**event.body) for event in ledger.events("class_added")]


def queue_of(ws: Workspace, reader: str) -> tuple[ReadingQueue, Path]:
    """One reader's queue on the server that was started last, its page up to date, and where its pictures lie."""
    home = server_home(ws, reader)
    login = read_login(home / "login.json")
    project_id = ensure_project(
        login.base_url,
        login.admin_token,
        title=PROJECT,
        classes=classes_of(Ledger(ws.ledger)),
        pictures=home / "pictures",
    )
    queue = ReadingQueue(
        base_url=login.base_url,
        token=login.admin_token,
        project_id=project_id,
        reader=reader,
        reader_user_id=login.reader_user_id,
    )
    return queue, home / "pictures"


def open_round(ledger: Ledger, queue: pd.DataFrame, *, occasion: str, now: datetime) -> int:
    """Write down which cells are to be read and why; what was asked before is passed over.

    A cell that was read comes through once as a hidden repeat and once as a doubtful label, under a new occasion: the
    readers cannot tell it from others. On one occasion no cell is read twice.
    """
    bodies = [event.body for event in ledger.events("queued")]
    here = {body["cell_uid"] for body in bodies if body["occasion"] == occasion}
    drafts = [
        Draft(
            kind="queued",
            by="ctcml query",
            why=row.reason,
            body={"cell_uid": row.cell_uid, "purpose": row.purpose, "reason": row.reason, "occasion": occasion},
        )
        for row in not_asked_before(queue, bodies).itertuples()
        if row.cell_uid not in here
    ]
    if drafts:
        ledger.append(drafts, now=now)
    return len(drafts)


def cells_of(ledger: Ledger, occasion: str) -> dict[str, str]:
    """The purpose of each cell of a round, by cell_uid."""
    return {
        event.body["cell_uid"]: event.body["purpose"]
        for event in ledger.events("queued")
        if event.body["occasion"] == occasion
    }


def push_round(
    ws: Workspace, queue: ReadingQueue, cells: Sequence[str], *, key: bytes, occasion: str, pictures: Path
) -> int:
    """Lay out the pictures of these cells and push them to one reader, in an order of the reader's own.

    The order comes from the read_uids, which are keyed: it is random to everybody, differs between readers, and tells
    nothing about model, sample or reason. Running it again sends only what is missing. Cells of patients who withdrew are
    passed over; `ProtocolBreach` when others are not in the data.
    """
    gone = withdrawn_cells(ws)
    uid_of = {cell: read_uid(key, cell, queue.reader, occasion) for cell in cells if cell not in gone}
    manifest = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "sample_uid"])
    wanted = manifest[manifest["cell_uid"].isin(uid_of)]
    for sample_uid, members in wanted.groupby("sample_uid")["cell_uid"]:
        for cell, pixels in read_pixels(ws.shards, str(sample_uid), list(members)).items():
            write_panels(pixels, {uid_of[cell]: pictures})
    return push(queue, [build_task(uid) for uid in sorted(uid_of.values())])


def pull_round(
    ws: Workspace,
    queue: ReadingQueue,
    cells: dict[str, str],
    classes: Sequence[CellClass],
    *,
    key: bytes,
    occasion: str,
    now: datetime,
) -> Pulled:
    """Validate one reader's answers and append the new ones to the ledger; `cells` gives the purpose by cell_uid.

    What Label Studio holds beyond this round's cells, or what fails validation, is counted and left where it is. Nobody
    waits for cells of patients who withdrew.
    """
    ledger, gone = Ledger(ws.ledger), withdrawn_cells(ws)
    cell_of = {read_uid(key, cell, queue.reader, occasion): cell for cell in cells if cell not in gone}
    recorded = {event.body["read_uid"] for event in ledger.events("reading")}
    valid, rejected = pull(queue, classes)
    ours = [one for one in valid if one.read_uid in cell_of]
    fresh = [one for one in ours if one.read_uid not in recorded]
    ledger.append(
        [
            Draft(
                kind="reading",
                by=one.reader,
                body={
                    "read_uid": one.read_uid,
                    "cell_uid": cell_of[one.read_uid],
                    "reader": one.reader,
                    "label": one.label,
                    "name": one.new_name,
                    "occasion": occasion,
                    "purpose": cells[cell_of[one.read_uid]],
                    "lead_time_s": one.lead_time_s,
                    "source": f"{one.server} annotation {one.annotation_id} at {one.answered_at}",
                },
            )
            for one in fresh
        ],
        now=now,
    )
    return Pulled(
        reader=queue.reader,
        new=len(fresh),
        known=len(ours) - len(fresh),
        rejected=len([one for one in rejected if one.read_uid in cell_of]),
        open=len(cell_of) - len(ours),
    )


def reads_of(ws: Workspace, cells: Collection[str], *, key: bytes) -> Iterator[tuple[str, Path]]:
    """Each `read_uid` under which any reader may have been shown these cells in any round, and where its pictures lie."""
    occasions = {event.body["occasion"] for event in Ledger(ws.ledger).events("queued", "reading")}
    for home in sorted((ws.services / "labelstudio").glob("*/")):
        for occasion in sorted(occasions):
            for cell in cells:
                yield read_uid(key, cell, home.name, occasion), home / "pictures"
