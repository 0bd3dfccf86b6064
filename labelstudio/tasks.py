"""Records to Label Studio JSON and back; pure.

A task holds a `read_uid` and two picture addresses, nothing else: no cell, sample, patient, score or former label.
Label Studio checks nothing about an annotation (class, author, number), so all of it is checked here.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any
from xml.sax.saxutils import quoteattr

from ctcml.errors import BadInput
from ctcml.identity import pseudonym
from ctcml.records import (
    NEW_PREFIX,
    REASONS,
    RESERVED,
    UNREADABLE,
    CellClass,
    Confidence,
    class_id_from_name,
)

PICTURES_OF_A_READ = ("auto", "fixed")  # the planes each at its own contrast, and at one contrast for all cells
PICTURES = "cells"  # the one folder below a server's document root; Label Studio refuses the root itself
NEW_CLASS = "new_class"
CHOICES_HERE = "<!-- one line a class of the registry -->"
CONFIDENCE_HERE = "<!-- one line a step of confidence -->"
REASONS_HERE = "<!-- one line a reason -->"
DEFINITIONS_HERE = "<!-- one line a definition -->"
# Keys that Label Studio gives no meaning to on this page (it takes u, h and v); they lie under the left hand.
NEW_CLASS_KEY, UNREADABLE_KEY = "n", "x"
CONFIDENCE_KEYS = dict(zip(Confidence, "asdf", strict=True))
REASON_KEYS = dict(zip(REASONS, "qwertg", strict=True))
READ_UID = re.compile(r"[0-9a-f]{24}")


@dataclass(frozen=True, kw_only=True)
class PulledReading:
    """One reader's valid answer; `label` is a class_id, `UNREADABLE` or `new:<class_id>`, then `new_name` as it was typed.

    Numbers of annotations repeat across servers, so `server` belongs to the provenance.
    """

    read_uid: str
    reader: str
    label: str
    new_name: str | None
    confidence: Confidence | None
    reasons: tuple[str, ...]
    lead_time_s: float | None
    server: str
    annotation_id: int
    answered_at: str


@dataclass(frozen=True, kw_only=True)
class RejectedReading:
    """An answer that must not become a reading, and why; `raw` is its `result` as the server held it, [] where none."""

    read_uid: str
    reader: str
    reason: str
    raw: list[dict[str, Any]] = field(default_factory=list)
    annotation_id: int | None = None
    answered_at: str = ""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What one annotation says; `reasons` are keys of `REASONS`, in their order."""

    label: str
    new_name: str | None = None
    confidence: Confidence | None = None
    reasons: tuple[str, ...] = ()


def read_uid(key: bytes, cell_uid: str, reader: str, occasion: str) -> str:
    """The name under which one reader sees one cell on one occasion; 24 hexadecimal characters.

    >>> a = read_uid(b"k", "c1", "anna", "round-1")
    >>> a == read_uid(b"k", "c1", "anna", "round-1"), a == read_uid(b"k", "c1", "bela", "round-1")
    (True, False)
    """
    return pseudonym(key, "read", cell_uid, reader, occasion)


def build_interface(classes: Sequence[CellClass]) -> str:
    """The labelling page: the registry's classes, keys 1 to 9 in their order, and what else a reader may say."""
    shown = offered(classes)
    template = files("labelstudio").joinpath("interface.xml").read_text(encoding="utf-8")
    return (
        template.replace(
            CHOICES_HERE,
            _lines(_choice(each.name, each.class_id, key_of(each, shown), each.definition) for each in shown),
        )
        .replace(CONFIDENCE_HERE, _lines(_choice(step.value, step.value, key) for step, key in CONFIDENCE_KEYS.items()))
        .replace(REASONS_HERE, _lines(_choice(REASONS[one], one, key) for one, key in REASON_KEYS.items()))
        .replace(DEFINITIONS_HERE, _lines(_definition(each) for each in shown))
    )


def offered(classes: Sequence[CellClass]) -> list[CellClass]:
    """The classes that a reader can choose, in the order of their keys."""
    return [each for each in classes if not each.retired]


def key_of(cell_class: CellClass, shown: Sequence[CellClass]) -> str:
    """The key of one of the classes on the page: 1 to 9 by place, then none, which is "".

    >>> from ctcml.records import PAPER_CLASSES
    >>> key_of(PAPER_CLASSES[2], PAPER_CLASSES)
    '3'
    """
    place = list(shown).index(cell_class) + 1
    return str(place) if place <= 9 else ""


def _lines(tags: Iterable[str]) -> str:
    return "\n            ".join(tags)


def _choice(shown_as: str, alias: str, key: str, hint: str = "") -> str:
    said = {"value": shown_as, "alias": alias, "hotkey": key, "hint": hint}
    return "<Choice " + " ".join(f"{name}={quoteattr(text)}" for name, text in said.items() if text) + "/>"


def _definition(cell_class: CellClass) -> str:
    return f'<Header value={quoteattr(f"{cell_class.name}: {cell_class.definition}")} size="5"/>'


def panel_file(read_uid: str, name: str) -> str:
    """Where a picture lies below a server's document root.

    >>> panel_file("0" * 24, "auto")
    'cells/000000000000000000000000-auto.png'
    """
    return f"{PICTURES}/{read_uid}-{name}.png"


def build_task(read_uid: str) -> dict[str, str]:
    """What Label Studio is told of a cell.

    >>> sorted(build_task("0" * 24))
    ['auto', 'fixed', 'read_uid']
    """
    if not READ_UID.fullmatch(read_uid):
        raise BadInput(f"read_uid {read_uid!r}: expected 24 hexadecimal characters; make it with read_uid()")
    pictures = {name: f"/data/local-files/?d={panel_file(read_uid, name)}" for name in PICTURES_OF_A_READ}
    return {"read_uid": read_uid, **pictures}


def build_result(
    label: str, *, new_name: str | None = None, confidence: Confidence | None = None, reasons: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """An answer as the labelling page itself would send it; `new_name` goes with `label` NEW_CLASS."""
    result = [_region("choice", "cell_class", "choices", {"choices": [label]})]
    if new_name is not None:
        result.append(_region("name", "new_class_name", "textarea", {"text": [new_name]}))
    if confidence is not None:
        result.append(_region("confidence", "confidence", "choices", {"choices": [str(confidence)]}))
    if reasons:
        result.append(_region("reasons", "reasons", "choices", {"choices": list(reasons)}))
    return result


def _region(region_id: str, control: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"id": region_id, "from_name": control, "to_name": "auto", "type": kind, "value": value}


def parse_task(
    task: Mapping[str, Any], *, classes: Sequence[CellClass], reader: str, reader_user_id: int, server: str
) -> PulledReading | RejectedReading:
    """Judge an answered task as the server gives it (`data`, `annotations`).

    The latest annotation counts. What this reader did not do alone is rejected, also an edit by another account.
    """
    answers = [each for each in task["annotations"] if not each.get("was_cancelled")]
    by_time = sorted(answers or task["annotations"], key=lambda each: (str(each["updated_at"]), each["id"]))
    last: Mapping[str, Any] = by_time[-1] if by_time else {}
    uid, answered_at = str(task["data"].get("read_uid")), str(last.get("updated_at", ""))
    try:
        _check_hands(answers, reader=reader, reader_user_id=reader_user_id, server=server)
        said = parse_answer(_regions(last), classes=classes)
    except BadInput as error:
        return RejectedReading(
            read_uid=uid,
            reader=reader,
            reason=str(error),
            raw=_regions(last),
            annotation_id=last.get("id"),
            answered_at=answered_at,
        )
    return PulledReading(
        read_uid=uid,
        reader=reader,
        label=said.label,
        new_name=said.new_name,
        confidence=said.confidence,
        reasons=said.reasons,
        lead_time_s=last.get("lead_time"),
        server=server,
        annotation_id=last["id"],
        answered_at=answered_at,
    )


def _regions(annotation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of an annotation's `result`; Label Studio stores any JSON there, and one answer must not stop a pull."""
    result = annotation.get("result")
    return [part for part in result if isinstance(part, dict)] if isinstance(result, list) else []


def _check_hands(answers: Sequence[Mapping[str, Any]], *, reader: str, reader_user_id: int, server: str) -> None:
    if not answers:
        raise BadInput("the answer was taken back; read the cell again")
    hands = {_user(each.get(role)) for each in answers for role in ("completed_by", "updated_by")} - {None}
    if hands != {reader_user_id}:
        others = sorted(hands - {reader_user_id}, key=str)
        raise BadInput(
            f"touched by account {others} of {server}, expected {reader_user_id} ({reader}) alone; read the cell again"
        )


def parse_answer(result: Sequence[Mapping[str, Any]], *, classes: Sequence[CellClass]) -> Said:
    """What an annotation's `result` says; `BadInput` with the reason where that is no answer.

    A new class that is by now in the registry is that class.
    """
    label, new_name = _label(result, classes)
    return Said(label=label, new_name=new_name, confidence=_confidence(result), reasons=_reasons(result))


def _label(result: Sequence[Mapping[str, Any]], classes: Sequence[CellClass]) -> tuple[str, str | None]:
    allowed = {each.class_id for each in offered(classes)}
    chosen = _values(result, "cell_class", "choices")
    if len(chosen) != 1:
        raise BadInput(f"{len(chosen)} classes chosen, expected 1; read the cell again")
    if chosen[0] in allowed or chosen[0] == UNREADABLE:
        return chosen[0], None
    if chosen[0] != NEW_CLASS:
        raise BadInput(f"class {chosen[0]!r} is not one of {sorted(allowed)}; read the cell again")
    names = _values(result, "new_class_name", "text")
    if len(names) != 1 or not names[0].strip():
        raise BadInput(f"a new class with names {names}, expected 1 name; read the cell again")
    return _named(names[0].strip(), classes)


def _named(name: str, classes: Sequence[CellClass]) -> tuple[str, str | None]:
    """The label for a typed name: a class that has this id or this name by now, else a proposal."""
    wanted = class_id_from_name(name)
    shown_first = sorted(classes, key=lambda each: each.retired)
    known = next((each for each in shown_first if wanted == each.class_id or name.lower() == each.name.lower()), None)
    if wanted in RESERVED or (known and known.retired):
        raise BadInput(f"the name {name!r} is retired or reserved; read the cell again with another name")
    return (known.class_id, None) if known else (f"{NEW_PREFIX}{wanted}", name)


def _confidence(result: Sequence[Mapping[str, Any]]) -> Confidence | None:
    said = _values(result, "confidence", "choices")
    if len(said) > 1 or not set(said) <= set(Confidence):
        raise BadInput(f"confidence {said}, expected at most one of {[*map(str, Confidence)]}; read the cell again")
    return Confidence(said[0]) if said else None


def _reasons(result: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    said = _values(result, "reasons", "choices")
    if unknown := sorted(set(said) - set(REASONS)):
        raise BadInput(f"reasons {unknown} are not among {list(REASONS)}; read the cell again")
    return tuple(reason for reason in REASONS if reason in said)


def _values(result: Sequence[Mapping[str, Any]], control: str, kind: str) -> list[str]:
    said = [region.get("value") for region in result if region.get("from_name") == control]
    found = [value.get(kind, []) for value in said if isinstance(value, Mapping)]
    return [str(value) for values in found for value in (values if isinstance(values, list) else [values])]


def _user(reference: Any) -> int | None:
    """Label Studio names an account by its number or as a record that holds it."""
    number = reference.get("id") if isinstance(reference, Mapping) else reference
    return None if number is None else int(number)
