"""The new-class desk: what readers propose, which two experts decide, and what an acceptance brings into the registry.

A name that both readers of a cell gave, on enough cells, becomes a proposal; so does a flagged cluster on whose cells two
readers wrote new names. Nothing becomes a class until two named experts accept it.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ctcml.class_registry import class_body, classes_of
from ctcml.errors import BadInput, ProtocolBreach
from ctcml.ledger import Draft, Event, Ledger
from ctcml.people import people_of
from ctcml.readings import plain
from ctcml.records import NEW_PREFIX, CellClass, Duty, Purpose, Reading

VOTES_NEEDED = 2
Vote = Literal["accept", "reject"]


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A class that readers ask for. `aliases` are other names, by class_id, that were written on the same cluster."""

    class_id: str
    name: str
    cells: tuple[str, ...]
    readers: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    cluster: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ballot:
    """A proposal as the ledger tells it: open until two experts of one mind have voted."""

    proposed: Event
    status: Literal["open", "accepted", "rejected"]
    votes: tuple[Event, ...]

    @property
    def class_id(self) -> str:
        return str(self.proposed.body["class_id"])


def find_proposals(
    readings: Iterable[Reading],
    named_by_both: Mapping[str, Sequence[str]],
    *,
    minimum: int,
    known: Collection[str],
    names: Mapping[str, str],
    clusters: Mapping[str, str],
) -> list[Proposal]:
    """New classes that at least `minimum` training cells ask for, those named alike by both readers first.

    `named_by_both` has the cells by class_id (`readings.unnamed`); `clusters` names the flagged cluster of a cell, of cells
    in such a cluster alone. What is `known` (registered, proposed before, or rejected) is not proposed again.
    """
    asked = [
        one
        for one in readings
        if one.label.startswith(NEW_PREFIX) and one.duty == Duty.READER and one.purpose == Purpose.TRAINING
    ]
    by_cluster = _by_cluster(asked, clusters, minimum)
    found: dict[str, Proposal] = {}
    for class_id, cells in sorted(named_by_both.items()):
        if len(cells) >= minimum and class_id not in known:
            readers = {one.reader for one in asked if plain(one.label) == class_id}
            found[class_id] = _proposal(class_id, cells, readers, names)
    for cluster, said in by_cluster.items():
        counted = Counter(plain(one.label) for one in said)
        if counted.keys() & (set(known) | found.keys()):
            continue  # the cluster's name is decided or about to be
        class_id, _ = min(counted.items(), key=lambda one: (-one[1], one[0]))
        found[class_id] = _proposal(
            class_id,
            {one.cell_uid for one in said},
            {one.reader for one in said},
            names,
            aliases=tuple(sorted(counted.keys() - {class_id})),
            cluster=cluster,
        )
    return list(found.values())


def _by_cluster(asked: Iterable[Reading], clusters: Mapping[str, str], minimum: int) -> dict[str, list[Reading]]:
    """What was said on flagged clusters that two readers or more named on enough cells."""
    said: dict[str, list[Reading]] = {}
    for one in asked:
        if one.cell_uid in clusters:
            said.setdefault(clusters[one.cell_uid], []).append(one)
    return {
        cluster: readings
        for cluster, readings in sorted(said.items())
        if len({one.reader for one in readings}) > 1 and len({one.cell_uid for one in readings}) >= minimum
    }


def _proposal(
    class_id: str,
    cells: Iterable[str],
    readers: Iterable[str],
    names: Mapping[str, str],
    *,
    aliases: tuple[str, ...] = (),
    cluster: str | None = None,
) -> Proposal:
    return Proposal(
        class_id=class_id,
        name=names.get(class_id, class_id.replace("_", " ")),
        cells=tuple(sorted(cells)),
        readers=tuple(sorted(readers)),
        aliases=aliases,
        cluster=cluster,
    )


def proposing(one: Proposal) -> Draft:
    """The event that opens a proposal."""
    body = {
        "class_id": one.class_id,
        "name": one.name,
        "aliases": list(one.aliases),
        "cells": list(one.cells),
        "readers": list(one.readers),
        "cluster": one.cluster,
    }
    why = f"written on cluster {one.cluster}" if one.cluster else "named alike by both readers, blinded"
    return Draft(kind="class_proposed", by=" and ".join(one.readers), why=why, body=body)


def ballots_of(events: Iterable[Event]) -> list[Ballot]:
    """All proposals, oldest first, with their votes."""
    events = list(events)
    ended = {
        event.body["class_id"]: "accepted" if event.kind == "class_added" else "rejected"
        for event in events
        if event.kind in ("class_added", "class_rejected")
    }
    votes: dict[str, list[Event]] = {}
    for event in events:
        if event.kind == "class_vote":
            votes.setdefault(event.body["class_id"], []).append(event)
    return [
        Ballot(
            proposed=event,
            status=ended.get(event.body["class_id"], "open"),  # type: ignore[arg-type]
            votes=tuple(votes.get(event.body["class_id"], ())),
        )
        for event in events
        if event.kind == "class_proposed"
    ]


def vote(
    ledger: Ledger,
    class_id: str,
    *,
    expert: str,
    accepts: bool,
    definition: str,
    why: str,
    now: datetime,
    gallery: str | None = None,
    request: str | None = None,
) -> str:
    """Write down an expert's vote and, with the second of the same mind, the class or its rejection; returns what came of it.

    The definition of the class is the one that the last accepting expert gave. Raises `BadInput` for a proposal that is not
    open or a missing definition, `ProtocolBreach` for somebody who is not registered or has voted.
    """
    outcome: list[str] = []

    def make() -> list[Draft]:
        events = list(ledger.events())
        ballot = _open_ballot(events, class_id)
        _require_expert(events, ballot, expert)
        given = definition.strip() or _definition_so_far(ballot)
        if accepts and not given:
            raise BadInput(f"class {class_id!r}: a definition is missing; say what makes an object one of its kind")
        mind: Vote = "accept" if accepts else "reject"
        body = {"class_id": class_id, "vote": mind, "definition": given if accepts else "", "request": request}
        drafts = [Draft(kind="class_vote", by=expert, why=why, body=body)]
        experts = [one.by for one in ballot.votes if one.body["vote"] == mind] + [expert]
        if len(experts) < VOTES_NEEDED:
            outcome.append(f"{mind}ed by {expert}; a second expert has to {mind} it as well")
        elif accepts:
            drafts.append(_accepted(ballot, given, experts, gallery))
            outcome.append(f"{class_id} is a class now, accepted by {' and '.join(experts)}")
        else:
            rejected = {"class_id": class_id, "experts": experts}
            drafts.append(Draft(kind="class_rejected", by=" and ".join(experts), why=why, body=rejected))
            outcome.append(f"{class_id} was rejected by {' and '.join(experts)}")
        return drafts

    ledger.decide(make, now=now)
    return outcome[0]


def _open_ballot(events: Sequence[Event], class_id: str) -> Ballot:
    ballots = {one.class_id: one for one in ballots_of(events)}
    if class_id not in ballots:
        waiting = [one for one, ballot in ballots.items() if ballot.status == "open"]
        raise BadInput(f"class {class_id!r}: nobody proposed it; open proposals are {', '.join(waiting) or 'none'}")
    if ballots[class_id].status != "open":
        raise BadInput(f"class {class_id!r}: was {ballots[class_id].status} already; nothing was changed")
    return ballots[class_id]


def _require_expert(events: Sequence[Event], ballot: Ballot, expert: str) -> None:
    people = [one.name for one in people_of(events)]
    if expert not in people:
        raise ProtocolBreach(
            f"expert {expert!r}: not registered, expected one of {', '.join(people) or 'nobody'}; use `ctcml readers add`"
        )
    if any(one.by == expert for one in ballot.votes):
        raise ProtocolBreach(
            f"class {ballot.class_id!r}: {expert} has voted already; two different experts have to decide"
        )


def _definition_so_far(ballot: Ballot) -> str:
    given = [str(one.body["definition"]) for one in ballot.votes if one.body["vote"] == "accept"]
    return given[-1] if given else ""


def _accepted(ballot: Ballot, definition: str, experts: Sequence[str], gallery: str | None) -> Draft:
    body = ballot.proposed.body
    one = CellClass(class_id=ballot.class_id, name=body["name"], definition=definition)
    return Draft(
        kind="class_added",
        by=" and ".join(experts),
        why=f"proposed by {ballot.proposed.by}, {len(body['cells'])} cells",
        body=class_body(one, authors=experts, aliases=body["aliases"], gallery=gallery),
    )


def known_names(events: Iterable[Event]) -> set[str]:
    """What is not proposed again: registered classes, their other names, and whatever was proposed before."""
    events = list(events)
    proposed = [event.body for event in events if event.kind == "class_proposed"]
    return (
        {one.class_id for one in classes_of(events)}
        | {alias for event in events if event.kind == "class_added" for alias in event.body["aliases"]}
        | {name for body in proposed for name in (body["class_id"], *body["aliases"])}
    )
