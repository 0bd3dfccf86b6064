"""Two readers a thumbnail: what is settled, what goes to the adjudicator, what waits, and how far readers agree."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

from sklearn.metrics import cohen_kappa_score

from ctcml.errors import BadInput, ProtocolBreach
from ctcml.ledger import Event, readings_of
from ctcml.records import CellClass, Contested, Purpose, Reading, Settled

NEW_PREFIX = "new:"
BOTH_AGREE, ADJUDICATED = "both readers", "adjudicator"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two readers agree on `n` cells; None where there is nothing to compute from."""

    n: int
    exact_share: float | None
    kappa: float | None


def settle(
    readings: Iterable[Reading],
    *,
    rule: Literal["adjudicate", "paper"],
    adjudications: Iterable[Reading] = (),
) -> tuple[list[Settled], list[Contested], list[str]]:
    """Sort cells into settled, contested and waiting (cell_uids that lack a second reader), each by cell_uid.

    An exact match of two different readers settles a cell. With "adjudicate" a mismatch waits for the adjudicator's
    reading; with "paper" mismatches are left out, as published. Only the occasion on which a cell was first read
    counts: what is read again (a hidden repeat, a doubtful label), by whomever, changes nothing. `new:<class>` and
    `<class>` are one label, because a class may be accepted between two readings; the settled label keeps `new:` only
    if nobody used the accepted class.

    Raises `ProtocolBreach` if one reader read a cell twice on one occasion, if more than two readers read it, if it was
    read for two purposes, or if its adjudicator was one of its readers.
    """
    if rule not in ("adjudicate", "paper"):
        raise BadInput(f"settlement rule {rule!r}: expected adjudicate or paper; mend params.yaml")
    decisions = _adjudication_by_cell(adjudications)
    settled: list[Settled] = []
    contested: list[Contested] = []
    waiting: list[str] = []
    for cell_uid, pair in _by_cell(readings).items():
        purpose = pair[0].purpose
        if cell_uid in decisions:
            _require_third_person(decisions[cell_uid], pair)
        if len(pair) < 2:
            waiting.append(cell_uid)
        elif _plain(pair[0]) == _plain(pair[1]):
            label = _plain(pair[0]) if pair[0].label != pair[1].label else pair[0].label
            settled.append(Settled(cell_uid=cell_uid, label=label, how=BOTH_AGREE, purpose=purpose))
        elif rule == "adjudicate" and cell_uid in decisions:
            settled.append(
                Settled(cell_uid=cell_uid, label=decisions[cell_uid].label, how=ADJUDICATED, purpose=purpose)
            )
        elif rule == "adjudicate":
            contested.append(Contested(cell_uid=cell_uid, labels=(pair[0].label, pair[1].label), purpose=purpose))
    return settled, contested, waiting


def label_pairs(readings: Iterable[Reading]) -> list[tuple[str, str]]:
    """Labels of the cells that have two readers, each pair in the order of the readers' names; `new:` is left out."""
    pairs = (pair for pair in _by_cell(readings).values() if len(pair) == 2)
    return [(_plain(first), _plain(second)) for first, second in pairs]


def agreement(pairs: Sequence[tuple[str, str]]) -> Agreement:
    """Share of exact matches and Cohen's kappa (Educ Psychol Meas 1960) of pairs of labels.

    >>> agreement([("ctc", "ctc"), ("wbc", "wbc"), ("ctc", "wbc"), ("wbc", "ctc")])
    Agreement(n=4, exact_share=0.5, kappa=0.0)
    """
    if not pairs:
        return Agreement(n=0, exact_share=None, kappa=None)
    first, second = (list(labels) for labels in zip(*pairs, strict=True))
    exact = sum(one == other for one, other in pairs) / len(pairs)
    # With a single label in all, chance agreement is 1 and kappa is 0 / 0.
    kappa = float(cohen_kappa_score(first, second)) if len({*first, *second}) > 1 else None
    return Agreement(n=len(pairs), exact_share=exact, kappa=kappa)


def agreement_report(events: Iterable[Event]) -> dict[str, Any]:
    """How far readers agree, in all and by purpose, how much each of them read, and what came of it; ready for JSON."""
    events = list(events)
    readings = _of_first_two_readers(readings_of(events))
    by_purpose = {
        purpose.value: asdict(agreement(label_pairs(one for one in readings if one.purpose == purpose)))
        for purpose in Purpose
    }
    how = {event.body["cell_uid"]: event.body["how"] for event in events if event.kind == "settlement"}
    added = [event.body["name"] for event in events if event.kind == "class_added" and event.by == BOTH_AGREE]
    return {
        **asdict(agreement(label_pairs(readings))),
        "by_purpose": by_purpose,
        "readers": {reader: _workload(reader, readings) for reader in sorted({one.reader for one in readings})},
        "settled": len(how),
        "adjudicated": sum(one == ADJUDICATED for one in how.values()),
        "new_classes": added,
    }


def _of_first_two_readers(readings: Iterable[Reading]) -> list[Reading]:
    """Leave the adjudicator out: who reads a cell only after two others did."""
    readers: dict[str, set[str]] = {}
    kept = []
    for one in readings:
        already = readers.setdefault(one.cell_uid, set())
        if one.reader in already or len(already) < 2:
            already.add(one.reader)
            kept.append(one)
    return kept


def _workload(reader: str, readings: Sequence[Reading]) -> dict[str, Any]:
    own = [one for one in readings if one.reader == reader]
    times = [one.lead_time_s for one in own if one.lead_time_s is not None]
    return {"readings": len(own), "median_lead_time_s": median(times) if times else None}


def proposed_classes(
    settled: Iterable[Settled], *, minimum: int, names: Mapping[str, str] | None = None
) -> list[CellClass]:
    """Classes that both readers named alike, without knowing of each other, on at least `minimum` training cells.

    `names` gives the spelling a class is shown by, by class_id. Cells of the evaluation arm do not count: they may not
    steer what is trained. A person still has to accept the class and to write its definition.
    """
    counted = Counter(
        one.label.removeprefix(NEW_PREFIX)
        for one in settled
        if one.label.startswith(NEW_PREFIX) and one.how == BOTH_AGREE and one.purpose == Purpose.TRAINING
    )
    shown = names or {}
    return [
        CellClass(
            class_id=class_id,
            name=shown.get(class_id, class_id.replace("_", " ")),
            definition=f"Named by both readers on {cells} cells; definition to be written",
        )
        for class_id, cells in sorted(counted.items())
        if cells >= minimum
    ]


def _plain(reading: Reading) -> str:
    return reading.label.removeprefix(NEW_PREFIX)


def _by_cell(readings: Iterable[Reading]) -> dict[str, list[Reading]]:
    """The readings of each cell's first occasion, readers in order of name; the protocol is checked on the way."""
    cells: dict[str, dict[str, Reading]] = {}
    occasions: dict[tuple[str, str, str], Reading] = {}
    first: dict[str, str] = {}
    purposes: dict[str, set[Purpose]] = {}
    for reading in readings:
        earlier = occasions.setdefault((reading.cell_uid, reading.reader, reading.occasion), reading)
        if earlier == reading:
            purposes.setdefault(reading.cell_uid, set()).add(reading.purpose)
            if first.setdefault(reading.cell_uid, reading.occasion) == reading.occasion:
                cells.setdefault(reading.cell_uid, {})[reading.reader] = reading
        else:
            raise ProtocolBreach(
                f"cell {reading.cell_uid}: reader {reading.reader!r} read it twice on occasion {reading.occasion!r} "
                f"({earlier.label}, {reading.label}); one reader cannot be both readers, give it to another"
            )
    for cell_uid, by_reader in cells.items():
        if len(by_reader) > 2:
            raise ProtocolBreach(
                f"cell {cell_uid}: read by {sorted(by_reader)}, expected two readers; a third is an adjudicator"
            )
        if len(purposes[cell_uid]) > 1:
            raise ProtocolBreach(
                f"cell {cell_uid}: read for training and for evaluation; a cell serves one purpose, withdraw a reading"
            )
    return {cell_uid: [cells[cell_uid][reader] for reader in sorted(cells[cell_uid])] for cell_uid in sorted(cells)}


def _adjudication_by_cell(adjudications: Iterable[Reading]) -> dict[str, Reading]:
    decisions: dict[str, Reading] = {}
    for reading in adjudications:
        earlier = decisions.setdefault(reading.cell_uid, reading)
        if earlier.label != reading.label:
            raise ProtocolBreach(
                f"cell {reading.cell_uid}: adjudicated as {earlier.label} and as {reading.label}; expected one decision"
            )
    return decisions


def _require_third_person(decision: Reading, pair: Sequence[Reading]) -> None:
    if decision.reader in {reading.reader for reading in pair}:
        raise ProtocolBreach(
            f"cell {decision.cell_uid}: adjudicator {decision.reader!r} is one of its readers; a third person decides"
        )
