"""Who is asked about which cell: two readers a cell, dealt evenly; a third person where one is needed; a stand-in for who is absent."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ctcml.errors import ProtocolBreach
from ctcml.ledger import READINGS, Draft, Event
from ctcml.people import Person
from ctcml.queries import REPEAT, kind_of
from ctcml.readings import Case
from ctcml.records import Duty, Purpose


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A person is asked about a cell on an occasion."""

    cell_uid: str
    occasion: str
    purpose: Purpose
    reader: str
    duty: Duty

    @property
    def case(self) -> Case:
        return self.cell_uid, self.occasion


def assignments_of(events: Iterable[Event]) -> list[Assignment]:
    """Everybody who is or was asked, in order; whose place another took is left out.

    Cells queued before readers were registered (schema 1) went to the first two who are registered.
    """
    events = list(events)
    first_two = [
        event.body["reader"] for event in events if event.kind == "reader_added" and not event.body["adjudicates"]
    ][:2]
    found: dict[tuple[str, str, str], Assignment] = {}
    purposes: dict[Case, Purpose] = {}
    for event in events:
        body = event.body
        if event.kind == "queued":
            case = (body["cell_uid"], body["occasion"])
            purposes[case] = Purpose(body["purpose"])
            for reader in body["readers"] or first_two:
                found[*case, reader] = _asked(case, purposes[case], reader, Duty.READER)
        elif event.kind == "assigned":
            case = (body["cell_uid"], body["occasion"])
            found.pop((*case, body["before"] or ""), None)
            found[*case, body["reader"]] = _asked(case, purposes[case], body["reader"], Duty(body["duty"]))
    return list(found.values())


def _asked(case: Case, purpose: Purpose, reader: str, duty: Duty) -> Assignment:
    return Assignment(cell_uid=case[0], occasion=case[1], purpose=purpose, reader=reader, duty=duty)


def unanswered(events: Iterable[Event], *, without: Collection[str] = ()) -> list[Assignment]:
    """Those who have not answered yet; cells in `without` (of patients who withdrew) are waited for no more."""
    events = list(events)
    answered = {
        (event.body["cell_uid"], event.body["occasion"], event.body["reader"])
        for event in events
        if event.kind in READINGS
    }
    return [
        one for one in assignments_of(events) if (*one.case, one.reader) not in answered and one.cell_uid not in without
    ]


def open_occasions(events: Iterable[Event]) -> list[str]:
    """Occasions with queued cells that no event closed yet, oldest first."""
    found: dict[str, bool] = {}
    for event in events:
        if event.kind == "queued":
            found.setdefault(event.body["occasion"], True)
        elif event.kind == "round_closed":
            found[event.body["occasion"]] = False
    return [occasion for occasion, is_open in found.items() if is_open]


def deal_pairs(
    cells: Sequence[str],
    readers: Sequence[str],
    *,
    rng: np.random.Generator,
    same_again: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, tuple[str, str]]:
    """Two readers for each cell, at random, so that nobody reads more than one cell more than another and pairs take turns.

    `same_again` names who must read a cell if they still can: a hidden repeat measures the reader who read it before.
    """
    everybody = sorted(readers)
    pairs = list(combinations(everybody, 2))
    pairs = [pairs[place] for place in rng.permutation(len(pairs))]
    load, together = Counter[str](), Counter[tuple[str, str]]()
    dealt: dict[str, tuple[str, str]] = {}
    for place in rng.permutation(len(cells)):
        before = {one for one in (same_again or {}).get(cells[place], ()) if one in everybody}
        fitting = [pair for pair in pairs if len(before & set(pair)) == min(2, len(before))]
        pair = min(fitting, key=lambda two: (load[two[0]] + load[two[1]], together[two]))
        load.update(pair)
        together[pair] += 1
        dealt[cells[place]] = pair
    return {cell: dealt[cell] for cell in cells}


def queueing(
    cells: Mapping[str, tuple[Purpose, str]],
    occasion: str,
    *,
    events: Iterable[Event],
    readers: Sequence[str],
    by: str,
    rng: np.random.Generator,
) -> list[Draft]:
    """Events that ask two readers each about cells, given with purpose and reason, on an occasion; none is asked twice on it.

    A hidden repeat goes to those who read the cell before.
    """
    here, read_by = set[str](), dict[str, list[str]]()
    for event in events:
        if event.kind == "queued" and event.body["occasion"] == occasion:
            here.add(event.body["cell_uid"])
        elif event.kind == "reading":
            read_by.setdefault(event.body["cell_uid"], []).append(event.body["reader"])
    fresh = [cell for cell in cells if cell not in here]
    repeats = {cell: read_by.get(cell, []) for cell in fresh if kind_of(cells[cell][1]) == REPEAT}
    pairs = deal_pairs(fresh, readers, rng=rng, same_again=repeats)
    drafts = []
    for cell in fresh:
        purpose, reason = cells[cell]
        body = {
            "cell_uid": cell,
            "purpose": purpose.value,
            "reason": reason,
            "occasion": occasion,
            "readers": list(pairs[cell]),
        }
        drafts.append(Draft(kind="queued", by=by, why=reason, body=body))
    return drafts


def assigning(case: Case, reader: str, duty: Duty, *, by: str, why: str, before: str | None = None) -> Draft:
    """The event that asks one more person about a cell, or another in the place of the one `before`."""
    body = {"cell_uid": case[0], "occasion": case[1], "reader": reader, "duty": duty.value, "before": before}
    return Draft(kind="assigned", by=by, why=why, body=body)


def third_person(two: Collection[str], people: Sequence[Person], load: Mapping[str, int]) -> str | None:
    """Who of those who have not read the cell looks at it: an adjudicator if there is one, whoever has the least to do."""
    free = [one for one in people if one.name not in two]
    free.sort(key=lambda one: (not one.adjudicates, load.get(one.name, 0), one.name))
    return free[0].name if free else None


def stand_ins(events: Iterable[Event], people: Sequence[Person], absent: str, *, by: str, why: str) -> list[Draft]:
    """Events that give what `absent` has not answered to others; `ProtocolBreach` for a cell that nobody is left for."""
    events = list(events)
    waiting = unanswered(events)
    asked: dict[Case, set[str]] = {}
    for one in assignments_of(events):
        asked.setdefault(one.case, set()).add(one.reader)
    load = Counter(one.reader for one in waiting)
    still_open = set(open_occasions(events))
    drafts = []
    for one in waiting:
        if one.reader != absent or one.occasion not in still_open:
            continue
        taken = asked[one.case]
        free = [
            each.name
            for each in people
            if each.name != absent and each.name not in taken and (one.duty != Duty.READER or not each.adjudicates)
        ]
        if not free:
            raise ProtocolBreach(
                f"cell {one.cell_uid}: {', '.join(sorted(taken))} are asked already and nobody else is registered; "
                "add a reader with `ctcml readers add NAME`"
            )
        heir = min(free, key=lambda name: (load[name], name))
        load[heir] += 1
        taken.add(heir)
        drafts.append(assigning(one.case, heir, one.duty, by=by, why=why, before=absent))
    return drafts
