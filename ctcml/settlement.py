"""From readings in the ledger to decisions in the ledger: who agrees, who is asked as a third, which class is proposed."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ctcml.assignments import Assignment, assigning, assignments_of, third_person, unanswered
from ctcml.class_desk import ballots_of, find_proposals, known_names, proposing
from ctcml.class_registry import aliases_of, classes_of
from ctcml.identity import pseudonym
from ctcml.ledger import Draft, Event, Ledger, readings_of
from ctcml.people import people_of
from ctcml.queries import repeat_cases
from ctcml.readings import Case, Rule, Standing, canonical, names_given, plain, settle, unnamed
from ctcml.records import Contested, Duty, LeftOut

NO_CLUSTERS: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Round:
    """Where the open cells stand after one look at the ledger."""

    settled: int  # now, or settled anew with another class
    waiting: tuple[Assignment, ...]  # asked of one of a cell's two readers, not answered
    third: tuple[Assignment, ...]  # asked of a third person, not answered
    without_third: tuple[Contested, ...]  # nobody is registered who could be asked
    left_out: tuple[LeftOut, ...]
    unnamed: int  # agreed, but on a class that nobody has accepted
    proposals: tuple[str, ...]  # class_ids that wait for two experts


def settle_readings(
    ledger: Ledger,
    *,
    rule: Rule,
    check_share: float,
    new_class_min: int,
    key: bytes,
    now: datetime,
    withdrawn: Collection[str] = (),
    clusters: Mapping[str, str] = NO_CLUSTERS,
) -> Round:
    """Write down what follows from the readings; a second call without new ones writes nothing.

    Settlements, whom a contested cell goes to, and proposals of classes are events. Earlier settlements stay in the ledger;
    a cell is settled again only when its label changes. Nothing comes of readings of `withdrawn` cells. Which matches a
    third person checks is drawn with the key: `check_share` of them, with the rule "paper" all. `clusters` names the flagged
    cluster of a cell.
    """
    outcome: list[Round] = []

    def make() -> list[Draft]:
        events = [event for event in ledger.events() if event.body.get("cell_uid") not in withdrawn]
        repeats = repeat_cases(event.body for event in events if event.kind == "queued")

        def is_checked(case: Case) -> bool:
            return rule == "paper" or int(pseudonym(key, "check", *case)[:8], 16) < check_share * 2**32

        standing = settle(
            readings_of(events),
            rule=rule,
            is_repeat=repeats.__contains__,
            is_checked=is_checked,
            aliases=aliases_of(events),
        )
        registered = {one.class_id for one in classes_of(events)}
        settlements = _settlements(standing, events, registered, rule)
        asked, without_third = _thirds(standing, events)
        proposals = _proposals(standing, events, new_class_min, clusters)
        outcome.append(_round(standing, events, registered, len(settlements), asked, without_third, proposals))
        return [*settlements, *asked, *proposals]

    ledger.decide(make, now=now)
    return outcome[0]


def _settlements(standing: Standing, events: Sequence[Event], registered: set[str], rule: str) -> list[Draft]:
    known = {event.body["cell_uid"]: event.body["class_id"] for event in events if event.kind == "settlement"}
    aliases = aliases_of(events)
    drafts = []
    for one in standing.settled:
        class_id = plain(canonical(one.label, aliases))
        if class_id in registered and known.get(one.cell_uid) != class_id:
            body = {
                "cell_uid": one.cell_uid,
                "class_id": class_id,
                "how": one.how,
                "purpose": one.purpose.value,
                "occasion": one.occasion,
                "before": known.get(one.cell_uid),
            }
            drafts.append(Draft(kind="settlement", by="ctcml", why=rule, body=body))
    return drafts


def _thirds(standing: Standing, events: Sequence[Event]) -> tuple[list[Draft], list[Contested]]:
    """Whom each contested cell goes to that nobody was asked about yet, and the cells that nobody is there for."""
    people = people_of(events)
    asked = {one.case for one in assignments_of(events) if one.duty != Duty.READER}
    load = Counter(one.reader for one in unanswered(events))
    read_by: dict[Case, set[str]] = {}
    for one in readings_of(events):
        read_by.setdefault((one.cell_uid, one.occasion), set()).add(one.reader)
    drafts, without = [], []
    for cell in standing.contested:
        case = (cell.cell_uid, cell.occasion)
        if case in asked:
            continue
        person = third_person(read_by[case], people, load)
        if person is None:
            without.append(cell)
            continue
        load[person] += 1
        why = "the readers agree; a share is checked" if cell.duty == Duty.CHECK else "the readers do not agree"
        drafts.append(assigning(case, person, cell.duty, by="ctcml", why=why))
    return drafts, without


def _proposals(standing: Standing, events: Sequence[Event], minimum: int, clusters: Mapping[str, str]) -> list[Draft]:
    readings = readings_of(events)
    typed = {event.body["read_uid"]: event.body["name"] for event in events if event.kind == "reading"}
    found = find_proposals(
        readings,
        unnamed(standing.settled),
        minimum=minimum,
        known=known_names(events),
        names=names_given(readings, typed),
        clusters=clusters,
    )
    return [proposing(one) for one in found]


def _round(
    standing: Standing,
    events: Sequence[Event],
    registered: set[str],
    settled: int,
    asked: Sequence[Draft],
    without_third: Sequence[Contested],
    proposals: Sequence[Draft],
) -> Round:
    open_now = unanswered([*events, *map(_as_event, asked)])
    aliases = aliases_of(events)
    ballots = [one.class_id for one in ballots_of(events) if one.status == "open"]
    return Round(
        settled=settled,
        waiting=tuple(one for one in open_now if one.duty == Duty.READER),
        third=tuple(one for one in open_now if one.duty != Duty.READER),
        without_third=tuple(without_third),
        left_out=standing.left_out,
        unnamed=sum(plain(canonical(one.label, aliases)) not in registered for one in standing.settled),
        proposals=(*ballots, *(str(one.body["class_id"]) for one in proposals)),
    )


def _as_event(draft: Draft) -> Event:
    return Event(seq=-1, at="", by=draft.by, kind=draft.kind, why=draft.why, body=draft.body, prev="", hash="")
