"""Records to Label Studio JSON and back; pure.

A task holds a `read_uid` and four picture addresses, nothing else: no cell, sample, patient, score or former label.
Label Studio checks nothing about an annotation (class, author, number), so all of it is checked here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from xml.sax.saxutils import quoteattr

from ctcml.errors import BadInput
from ctcml.identity import pseudonym
from ctcml.records import CellClass, class_id_from_name

PANELS = ("cd45", "dapi", "ck", "overlay")
PICTURES = "cells"  # the one folder below a server's document root; Label Studio refuses the root itself
NEW_CLASS = "new_class"
CHOICES_HERE = "<!-- one line a class of the registry -->"
DEFINITIONS_HERE = "<!-- one line a definition -->"
READ_UID = re.compile(r"[0-9a-f]{24}")


@dataclass(frozen=True, kw_only=True)
class PulledReading:
    """One reader's valid answer; `label` is a class_id or `new:<class_id>`, then `new_name` is what the reader typed.

    Numbers of annotations repeat across servers, so `server` belongs to the provenance.
    """

    read_uid: str
    reader: str
    label: str
    new_name: str | None
    lead_time_s: float | None
    server: str
    annotation_id: int
    answered_at: str


@dataclass(frozen=True, kw_only=True)
class RejectedReading:
    """An answer that must not become a reading, and why."""

    read_uid: str
    reader: str
    reason: str


def read_uid(key: bytes, cell_uid: str, reader: str, occasion: str) -> str:
    """The name under which one reader sees one cell on one occasion; 24 hexadecimal characters.

    >>> a = read_uid(b"k", "c1", "anna", "round-1")
    >>> a == read_uid(b"k", "c1", "anna", "round-1"), a == read_uid(b"k", "c1", "bela", "round-1")
    (True, False)
    """
    return pseudonym(key, "read", cell_uid, reader, occasion)


def build_interface(classes: Sequence[CellClass]) -> str:
    """The labelling page: the registry's classes, keys 1 to 9 in their order, and "New class" on key n.

    Raises `BadInput` for a class called like the button.
    """
    shown = [each for each in classes if not each.retired]
    if any(each.class_id == NEW_CLASS for each in shown):
        raise BadInput(f"class {NEW_CLASS!r}: that is the name of the button for naming a class; rename it")
    lines = [_choice(each, key=str(place) if place <= 9 else None) for place, each in enumerate(shown, start=1)]
    template = files("labelstudio").joinpath("interface.xml").read_text(encoding="utf-8")
    legend = [f'<Header value={quoteattr(f"{each.name}: {each.definition}")} size="6"/>' for each in shown]
    return template.replace(CHOICES_HERE, "\n      ".join(lines)).replace(DEFINITIONS_HERE, "\n    ".join(legend))


def _choice(cell_class: CellClass, key: str | None) -> str:
    hotkey = f' hotkey="{key}"' if key else ""
    return (
        f"<Choice value={quoteattr(cell_class.name)} alias={quoteattr(cell_class.class_id)}"
        f" hint={quoteattr(cell_class.definition)}{hotkey}/>"
    )


def panel_file(read_uid: str, panel: str) -> str:
    """Where a picture lies below a server's document root.

    >>> panel_file("0" * 24, "ck")
    'cells/000000000000000000000000-ck.png'
    """
    return f"{PICTURES}/{read_uid}-{panel}.png"


def build_task(read_uid: str) -> dict[str, str]:
    """What Label Studio is told of a cell.

    >>> sorted(build_task("0" * 24))
    ['cd45', 'ck', 'dapi', 'overlay', 'read_uid']
    """
    if not READ_UID.fullmatch(read_uid):
        raise BadInput(f"read_uid {read_uid!r}: expected 24 hexadecimal characters; make it with read_uid()")
    pictures = {panel: f"/data/local-files/?d={panel_file(read_uid, panel)}" for panel in PANELS}
    return {"read_uid": read_uid, **pictures}


def build_result(label: str, *, new_name: str | None = None) -> list[dict[str, Any]]:
    """An answer as the labelling page itself would send it; `new_name` goes with `label` NEW_CLASS."""
    result: list[dict[str, Any]] = [_region("choice", "cell_class", "choices", {"choices": [label]})]
    if new_name is not None:
        result.append(_region("name", "new_class_name", "textarea", {"text": [new_name]}))
    return result


def _region(region_id: str, control: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"id": region_id, "from_name": control, "to_name": "overlay", "type": kind, "value": value}


def parse_task(
    task: Mapping[str, Any], *, classes: Sequence[CellClass], reader: str, reader_user_id: int, server: str
) -> PulledReading | RejectedReading:
    """Judge an answered task as the server gives it (`data`, `annotations`).

    The latest annotation counts. What this reader did not do alone is rejected, also an edit by another account.
    """
    uid = str(task["data"].get("read_uid"))
    annotations = [each for each in task["annotations"] if not each.get("was_cancelled")]
    if not annotations:
        return RejectedReading(read_uid=uid, reader=reader, reason="the answer was taken back; read the cell again")
    hands = {_user(each.get(field)) for each in annotations for field in ("completed_by", "updated_by")} - {None}
    if hands != {reader_user_id}:
        others = sorted(hands - {reader_user_id}, key=str)
        reason = (
            f"touched by account {others} of {server}, expected {reader_user_id} ({reader}) alone; read the cell again"
        )
        return RejectedReading(read_uid=uid, reader=reader, reason=reason)
    last = max(annotations, key=lambda each: (str(each["updated_at"]), each["id"]))
    try:
        label, new_name = parse_answer(last["result"], classes=classes)
    except BadInput as error:
        return RejectedReading(read_uid=uid, reader=reader, reason=str(error))
    return PulledReading(
        read_uid=uid,
        reader=reader,
        label=label,
        new_name=new_name,
        lead_time_s=last.get("lead_time"),
        server=server,
        annotation_id=last["id"],
        answered_at=str(last["updated_at"]),
    )


def parse_answer(result: Sequence[Mapping[str, Any]], *, classes: Sequence[CellClass]) -> tuple[str, str | None]:
    """The label of an annotation's `result` and, for `new:<class_id>`, the name as typed; `BadInput` with the reason.

    A new class that is by now in the registry is that class.
    """
    allowed = {each.class_id for each in classes if not each.retired}
    chosen = _values(result, "cell_class", "choices")
    if len(chosen) != 1:
        raise BadInput(f"{len(chosen)} classes chosen, expected 1; read the cell again")
    if chosen[0] in allowed:
        return chosen[0], None
    if chosen[0] != NEW_CLASS:
        raise BadInput(f"class {chosen[0]!r} is not one of {sorted(allowed)}; read the cell again")
    names = _values(result, "new_class_name", "text")
    if len(names) != 1 or not names[0].strip():
        raise BadInput(f"a new class with names {names}, expected 1 name; read the cell again")
    wanted = class_id_from_name(names[0])
    if wanted in {each.class_id for each in classes if each.retired} | {NEW_CLASS}:
        raise BadInput(f"the name {names[0]!r} is retired or reserved; read the cell again with another name")
    return (wanted, None) if wanted in allowed else (f"new:{wanted}", names[0].strip())


def _values(result: Sequence[Mapping[str, Any]], control: str, kind: str) -> list[str]:
    found = [region.get("value", {}).get(kind, []) for region in result if region.get("from_name") == control]
    return [str(value) for values in found for value in (values if isinstance(values, list) else [values])]


def _user(reference: Any) -> int | None:
    """Label Studio names an account by its number or as a record that holds it."""
    number = reference.get("id") if isinstance(reference, Mapping) else reference
    return None if number is None else int(number)
