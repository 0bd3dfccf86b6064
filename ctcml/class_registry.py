"""The class registry, derived from the ledger: which classes there are, who stands for them, by which other names.

`class_id` is permanent; a class is never removed and never renamed, and its definition has authors.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from ctcml.ledger import Event
from ctcml.records import CellClass


def class_body(
    one: CellClass, *, authors: Sequence[str], aliases: Sequence[str] = (), gallery: str | None = None
) -> dict[str, Any]:
    """The body of the event `class_added`; `aliases` are class_ids by which readers also named it."""
    return {
        "class_id": one.class_id,
        "name": one.name,
        "definition": one.definition,
        "authors": list(authors),
        "aliases": list(aliases),
        "gallery": gallery,
    }


def classes_of(events: Iterable[Event]) -> tuple[CellClass, ...]:
    """The classes in order of registration."""
    return tuple(
        CellClass(**{name: event.body[name] for name in ("class_id", "name", "definition")})
        for event in events
        if event.kind == "class_added"
    )


def aliases_of(events: Iterable[Event]) -> dict[str, str]:
    """The class_id that each other name stands for."""
    return {
        alias: event.body["class_id"]
        for event in events
        if event.kind == "class_added"
        for alias in event.body["aliases"]
    }
