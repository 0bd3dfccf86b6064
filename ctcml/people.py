"""Who reads: the laboratory's readers and adjudicators, derived from the ledger. Servers and logins are not kept here."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ctcml.errors import BadInput, ProtocolBreach
from ctcml.ledger import Draft, Event

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")  # it names a folder and an account
OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody who reads; who only `adjudicates` is never one of a cell's two readers. `server` is `OURS` or an address."""

    name: str
    adjudicates: bool
    server: str = OURS


def people_of(events: Iterable[Event]) -> tuple[Person, ...]:
    """Those who are registered now, in order of registration."""
    people: dict[str, Person] = {}
    for event in events:
        if event.kind == "reader_added":
            body = event.body
            people[body["reader"]] = Person(name=body["reader"], adjudicates=body["adjudicates"], server=body["server"])
        elif event.kind == "reader_removed":
            people.pop(event.body["reader"], None)
    return tuple(people.values())


def readers_among(people: Iterable[Person]) -> tuple[str, ...]:
    """Names of those who may be one of a cell's two readers; `ProtocolBreach` for fewer than two."""
    names = tuple(one.name for one in people if not one.adjudicates)
    if len(names) < 2:
        raise ProtocolBreach(
            f"{len(names)} reader(s) registered ({', '.join(names) or 'none'}), expected two or more; "
            "add one with `ctcml readers add NAME`"
        )
    return names


def adding(people: Iterable[Person], one: Person, *, by: str) -> Draft:
    """The event by which somebody joins; `BadInput` for a name that cannot be used or is taken."""
    if not NAME.fullmatch(one.name):
        raise BadInput(
            f"reader {one.name!r}: expected lower-case letters, digits and hyphens, up to 40; give another name"
        )
    if any(each.name == one.name for each in people):
        raise BadInput(f"reader {one.name!r}: is registered already; give another name, or remove that one first")
    body = {"reader": one.name, "adjudicates": one.adjudicates, "server": one.server}
    return Draft(kind="reader_added", by=by, why="adjudicates" if one.adjudicates else "reads", body=body)


def removing(people: Iterable[Person], name: str, *, by: str, why: str) -> Draft:
    """The event by which somebody leaves; their readings stay. `BadInput` for who is not registered."""
    known = [one.name for one in people]
    if name not in known:
        raise BadInput(f"reader {name!r}: not registered; expected one of {', '.join(known) or 'nobody'}")
    return Draft(kind="reader_removed", by=by, why=why, body={"reader": name})
