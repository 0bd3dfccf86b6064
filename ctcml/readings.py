"""Two readers a thumbnail: what is settled, what goes to a third person, what waits, and what gets no label."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ctcml.errors import BadInput, ProtocolBreach
from ctcml.records import NEW_PREFIX, UNREADABLE, Contested, Duty, LeftOut, Purpose, Reading, Settled

UNREADABLE_TO_ALL = "unreadable to the adjudicator"  # why a cell is left out: a third person could not read it either
BOTH_AGREE, CHECKED, ADJUDICATED = "both readers", "both readers, checked", "adjudicator"
NO_ALIASES: Mapping[str, str] = {}
Rule = Literal["adjudicate", "paper"]
Case = tuple[str, str]  # a cell on an occasion


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where all cells stand. A cell that was read on several occasions is settled by the last one that settles it."""

    settled: tuple[Settled, ...]
    contested: tuple[Contested, ...]
    waiting: tuple[Case, ...]  # read by one of the two so far
    left_out: tuple[LeftOut, ...]


@dataclass
class _Read:
    """What was said of a cell on one occasion."""

    two: dict[str, Reading] = field(default_factory=dict)
    third: Reading | None = None


def settle(
    readings: Iterable[Reading],
    *,
    rule: Rule,
    is_repeat: Callable[[Case], bool] = lambda _: False,
    is_checked: Callable[[Case], bool] = lambda _: False,
    aliases: Mapping[str, str] = NO_ALIASES,
) -> Standing:
    """Judge every cell by its readings; the last occasion that settles it counts, hidden repeats (`is_repeat`) never do.

    An exact match of two different readers settles a cell. With "adjudicate" a mismatch waits for a third person, whose
    label stands; where `is_checked` says so, a third person also looks at a match, whose label stands meanwhile and
    afterwards (2 of 3): what the third said is kept as a reading. With "paper" mismatches are left out, as published,
    and a match that is checked is settled only when the third person says the same. Two `unreadable` are no match.
    `new:<class>`, `<class>` and its `aliases` are one label, because a class may be accepted between two readings; the
    settled label keeps `new:` only if nobody used the accepted class.

    Raises `ProtocolBreach` if one reader read a cell twice on one occasion, if more than two readers or more than one third
    person read it, if it was read for two purposes, or if the third person was one of its two readers.
    """
    if rule not in ("adjudicate", "paper"):
        raise BadInput(f"settlement rule {rule!r}: expected adjudicate or paper; mend params.yaml")
    settled: dict[str, Settled] = {}
    contested, waiting, left_out = list[Contested](), list[Case](), list[LeftOut]()
    for case, read in _by_case(readings).items():
        if is_repeat(case):
            continue
        if len(read.two) < 2:
            waiting.append(case)
            continue
        checked = is_checked(case)
        outcome = _judge(case, read, rule, checked=checked, aliases=aliases)
        if isinstance(outcome, Settled):
            settled[outcome.cell_uid] = outcome
        elif isinstance(outcome, Contested):
            contested.append(outcome)
        else:
            left_out.append(outcome)
        if isinstance(outcome, Settled) and outcome.how == BOTH_AGREE and checked and read.third is None:
            contested.append(_for_third(case, read, Duty.CHECK))
    return Standing(
        settled=tuple(settled[cell] for cell in sorted(settled)),
        contested=tuple(contested),
        waiting=tuple(waiting),
        left_out=tuple(left_out),
    )


def _judge(
    case: Case, read: _Read, rule: Rule, *, checked: bool, aliases: Mapping[str, str]
) -> Settled | Contested | LeftOut:
    cell_uid, occasion = case
    first, second = read.two.values()
    match, third = same_label(first.label, second.label, aliases), read.third
    if match is None and rule == "paper":
        return LeftOut(cell_uid=cell_uid, occasion=occasion, why="the readers differ")
    if match is not None and (rule == "adjudicate" or not checked):
        return _settled(first, match, BOTH_AGREE)
    if third is None:
        return _for_third(case, read, Duty.ADJUDICATOR if match is None else Duty.CHECK)
    if match is not None:
        agreed = same_label(match, third.label, aliases)
        if agreed is None:
            return LeftOut(cell_uid=cell_uid, occasion=occasion, why="who checked it differs")
        return _settled(first, agreed, CHECKED)
    if third.label == UNREADABLE:
        return LeftOut(cell_uid=cell_uid, occasion=occasion, why=UNREADABLE_TO_ALL)
    return _settled(first, third.label, ADJUDICATED)


def same_label(one: str, other: str, aliases: Mapping[str, str] = NO_ALIASES) -> str | None:
    """The label that two readings share, if any.

    >>> same_label("new:cd45ev", "cd45ev"), same_label("unreadable", "unreadable"), same_label("ctc", "wbc")
    ('cd45ev', None, None)
    """
    one, other = canonical(one, aliases), canonical(other, aliases)
    if UNREADABLE in (one, other) or plain(one) != plain(other):
        return None
    return one if one == other else plain(one)


def canonical(label: str, aliases: Mapping[str, str]) -> str:
    """The label with another name of an accepted class put right.

    >>> canonical("new:leukocyte_vesicle", {"leukocyte_vesicle": "cd45ev"})
    'cd45ev'
    """
    return aliases.get(plain(label), label)


def plain(label: str) -> str:
    """The class_id of a label, proposed or not."""
    return label.removeprefix(NEW_PREFIX)


def _settled(first: Reading, label: str, how: str) -> Settled:
    return Settled(cell_uid=first.cell_uid, label=label, how=how, purpose=first.purpose, occasion=first.occasion)


def _for_third(case: Case, read: _Read, duty: Duty) -> Contested:
    first, second = read.two.values()
    labels = (first.label, second.label)
    return Contested(cell_uid=case[0], labels=labels, purpose=first.purpose, occasion=case[1], duty=duty)


def _by_case(readings: Iterable[Reading]) -> dict[Case, _Read]:
    """Readings by cell and occasion, readers in order of name; the protocol is checked on the way."""
    cases: dict[Case, _Read] = {}
    purposes: dict[str, Reading] = {}
    for one in readings:
        read = cases.setdefault((one.cell_uid, one.occasion), _Read())
        _require_one_purpose(purposes.setdefault(one.cell_uid, one), one)
        earlier = read.two.get(one.reader) if one.duty == Duty.READER else read.third
        if earlier is None:
            _seat(read, one)
        elif earlier != one:
            _refuse_twice(earlier, one)
    for (cell_uid, _), read in cases.items():
        _require_third_person(cell_uid, read)
        read.two = {reader: read.two[reader] for reader in sorted(read.two)}
    return cases


def _seat(read: _Read, one: Reading) -> None:
    if one.duty != Duty.READER:
        read.third = one
        return
    read.two[one.reader] = one
    if len(read.two) > 2:
        raise ProtocolBreach(
            f"cell {one.cell_uid}: read by {sorted(read.two)} on {one.occasion}, expected two readers; a third is an adjudicator"
        )


def _refuse_twice(earlier: Reading, one: Reading) -> None:
    if one.duty != Duty.READER and earlier.reader != one.reader:
        raise ProtocolBreach(
            f"cell {one.cell_uid}: {earlier.reader!r} and {one.reader!r} both read it as third person, expected one decision"
        )
    raise ProtocolBreach(
        f"cell {one.cell_uid}: reader {one.reader!r} read it twice on occasion {one.occasion!r} "
        f"({earlier.label}, {one.label}); one reader cannot be both readers, give it to another"
    )


def _require_one_purpose(earlier: Reading, one: Reading) -> None:
    if earlier.purpose != one.purpose:
        raise ProtocolBreach(
            f"cell {one.cell_uid}: read for training and for evaluation; a cell serves one purpose, withdraw a reading"
        )


def _require_third_person(cell_uid: str, read: _Read) -> None:
    if read.third is not None and read.third.reader in read.two:
        raise ProtocolBreach(
            f"cell {cell_uid}: adjudicator {read.third.reader!r} is one of its readers; a third person decides"
        )


def names_given(readings: Sequence[Reading], typed: Mapping[str, str]) -> dict[str, str]:
    """How a proposed class is spelt, by class_id: as the last reader typed it; `typed` has the names by read_uid."""
    return {
        plain(one.label): typed[one.read_uid]
        for one in readings
        if one.label.startswith(NEW_PREFIX) and typed.get(one.read_uid)
    }


def unnamed(settled: Iterable[Settled], purpose: Purpose = Purpose.TRAINING) -> dict[str, list[str]]:
    """Cells that both readers gave the same new name without knowing of each other, by that name.

    Cells of the evaluation arm do not count: they may not steer what is trained.
    """
    found: dict[str, list[str]] = {}
    for one in settled:
        if one.label.startswith(NEW_PREFIX) and one.how != ADJUDICATED and one.purpose == purpose:
            found.setdefault(plain(one.label), []).append(one.cell_uid)
    return found
