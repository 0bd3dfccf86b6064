"""From readings in the ledger to settlements in the ledger: who agrees, who decides, which class is new."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from ctcml.ledger import Draft, Ledger, readings_of
from ctcml.readings import NEW_PREFIX, proposed_classes, settle
from ctcml.records import CellClass, Contested


@dataclass(frozen=True, kw_only=True)
class Round:
    """Where the open cells stand after one look at the ledger."""

    settled: int
    contested: tuple[Contested, ...]  # the adjudicator has not spoken yet
    waiting: tuple[str, ...]  # queued cell_uids that lack one reader or both, on whatever occasion they were queued
    unnamed: int  # agreed, but on a class that too few cells have been given
    new_classes: tuple[CellClass, ...]


def settle_readings(
    ledger: Ledger,
    *,
    rule: Literal["adjudicate", "paper"],
    adjudicator: str,
    new_class_min: int,
    now: datetime,
    withdrawn: Collection[str] = (),
) -> Round:
    """Settle what can be settled and write it down; a second call without new readings writes nothing.

    A name that both readers gave to at least `new_class_min` training cells becomes a class. Earlier settlements stay in
    the ledger; a cell is settled again only when its label changes. Nothing comes of readings of `withdrawn` cells.
    """
    events = [event for event in ledger.events() if event.body.get("cell_uid") not in withdrawn]
    readings = readings_of(events)
    settled, contested, _ = settle(
        [one for one in readings if one.reader != adjudicator],
        rule=rule,
        adjudications=[one for one in readings if one.reader == adjudicator],
    )
    # A cell that was read before is waited for again when it is queued again.
    readers_of: dict[tuple[str, str], set[str]] = {
        (event.body["cell_uid"], event.body["occasion"]): set() for event in events if event.kind == "queued"
    }
    for one in readings:
        if one.reader != adjudicator:
            readers_of.setdefault((one.cell_uid, one.occasion), set()).add(one.reader)
    registered = {event.body["class_id"] for event in events if event.kind == "class_added"}
    names = {
        event.body["label"].removeprefix(NEW_PREFIX): event.body["name"]
        for event in events
        if event.kind == "reading" and event.body.get("name")
    }
    proposed = [
        one for one in proposed_classes(settled, minimum=new_class_min, names=names) if one.class_id not in registered
    ]
    registered |= {one.class_id for one in proposed}
    known = {event.body["cell_uid"]: event.body["class_id"] for event in events if event.kind == "settlement"}
    labels = {one.cell_uid: one.label.removeprefix(NEW_PREFIX) for one in settled}
    fresh = [
        one for one in settled if labels[one.cell_uid] in registered and known.get(one.cell_uid) != labels[one.cell_uid]
    ]
    drafts = [
        Draft(kind="class_added", by="both readers", why="named alike by both readers, blinded", body=_class_body(one))
        for one in proposed
    ]
    drafts += [
        Draft(
            kind="settlement",
            by="ctcml",
            why=rule,
            body={
                "cell_uid": one.cell_uid,
                "class_id": labels[one.cell_uid],
                "how": one.how,
                "purpose": one.purpose.value,
                "before": known.get(one.cell_uid),
            },
        )
        for one in fresh
    ]
    if drafts:
        ledger.append(drafts, now=now)
    return Round(
        settled=len(fresh),
        contested=tuple(contested),
        waiting=tuple(cell for (cell, _), readers in readers_of.items() if len(readers) < 2),
        unnamed=sum(label not in registered for label in labels.values()),
        new_classes=tuple(proposed),
    )


def _class_body(one: CellClass) -> dict[str, Any]:
    return {"class_id": one.class_id, "name": one.name, "definition": one.definition}
