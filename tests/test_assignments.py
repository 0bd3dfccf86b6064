"""Who is asked about which cell."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from factories import NOON, a_ledger, a_queued, a_reading, people, reading_draft

from ctcml.assignments import (
    assignments_of,
    deal_pairs,
    open_occasions,
    queueing,
    stand_ins,
    third_person,
    unanswered,
)
from ctcml.errors import BadInput, ProtocolBreach
from ctcml.ledger import Draft, Ledger
from ctcml.people import Person, adding, people_of, readers_among, removing
from ctcml.records import Duty, Purpose

FIVE = ["anna", "ben", "cleo", "dora", "emil"]
CELLS = [f"c{number}" for number in range(103)]


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("readers", [FIVE[:2], FIVE[:3], FIVE[:4], FIVE])
def test_cells_are_dealt_to_two_different_readers_and_nobody_gets_more_than_one_more(readers: list[str]) -> None:
    dealt = deal_pairs(CELLS, readers, rng=rng())
    assert list(dealt) == CELLS
    assert all(one != other for one, other in dealt.values())
    load = Counter(reader for pair in dealt.values() for reader in pair)
    assert set(load) == set(readers)
    assert max(load.values()) - min(load.values()) <= 1
    pairs = Counter(dealt.values())
    assert len(pairs) == len(readers) * (len(readers) - 1) // 2
    assert max(pairs.values()) - min(pairs.values()) <= 2


def test_who_reads_a_cell_is_drawn_and_not_told_by_its_place() -> None:
    one, other = deal_pairs(CELLS, FIVE, rng=rng()), deal_pairs(CELLS, FIVE, rng=np.random.default_rng(6))
    assert one == deal_pairs(CELLS, FIVE, rng=rng())
    assert one != other


def test_a_hidden_repeat_goes_to_who_read_the_cell_before_as_far_as_they_are_still_there() -> None:
    before = {"c1": ("dora", "emil"), "c2": ("ben", "who-left"), "c3": ("who-left", "who-left-too")}
    dealt = deal_pairs(["c1", "c2", "c3"], FIVE, rng=rng(), same_again=before)
    assert dealt["c1"] == ("dora", "emil")
    assert "ben" in dealt["c2"]
    assert len(set(dealt["c3"])) == 2


def test_a_cell_is_not_queued_twice_on_one_occasion(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "l.jsonl", *people("anna", "ben"))
    cells = {"c1": (Purpose.TRAINING, "random"), "c2": (Purpose.EVALUATION, "evaluation")}
    for expected in (2, 0):
        drafts = queueing(cells, "round-1", events=ledger.events(), readers=["anna", "ben"], by="query", rng=rng())
        assert len(drafts) == expected
        ledger.append(drafts, now=NOON)
    assert {one.purpose for one in assignments_of(ledger.events())} == {Purpose.TRAINING, Purpose.EVALUATION}


def test_the_third_person_is_an_adjudicator_if_there_is_one_and_never_one_of_the_two() -> None:
    readers = [Person(name=name, adjudicates=False) for name in FIVE[:4]]
    assert third_person(["anna", "ben"], [*readers, Person(name="zoe", adjudicates=True)], {"zoe": 99}) == "zoe"
    assert third_person(["anna", "ben"], readers, {"cleo": 3, "dora": 1}) == "dora"
    assert third_person(["anna", "ben"], readers[:2], {}) is None


def test_a_round_is_open_until_it_is_closed(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "l.jsonl", *a_queued("c1"), *a_queued("c2", occasion="round-2"))
    assert open_occasions(ledger.events()) == ["round-1", "round-2"]
    ledger.append([Draft(kind="round_closed", by="flow", body={"occasion": "round-1"})], now=NOON)
    assert open_occasions(ledger.events()) == ["round-2"]


def absent(tmp_path: Path, *more: Draft) -> Ledger:
    """Anna has read one of her three cells and goes."""
    registered = people("anna", "ben", "cleo", "dora", adjudicators=("zoe",))
    queued = [*a_queued("c1", "c2", readers=("anna", "ben")), *a_queued("c3", readers=("anna", "cleo"))]
    return a_ledger(tmp_path / "l.jsonl", *registered, *queued, reading_draft(a_reading("c1", "anna", "ctc")), *more)


def leave(ledger: Ledger) -> list[Draft]:
    events = list(ledger.events())
    return stand_ins(events, people_of(events), "anna", by="test", why="ill")


def test_what_an_absent_reader_has_not_read_goes_to_others_and_what_she_read_stays(tmp_path: Path) -> None:
    ledger = absent(tmp_path)
    drafts = leave(ledger)
    assert [one.body["cell_uid"] for one in drafts] == ["c2", "c3"]
    assert all(one.body["before"] == "anna" for one in drafts)
    ledger.append(drafts, now=NOON)
    left = unanswered(ledger.events())
    assert "anna" not in {one.reader for one in left}
    by_cell = {
        cell: {one.reader for one in assignments_of(ledger.events()) if one.cell_uid == cell} for cell in CELLS[1:4]
    }
    assert by_cell["c1"] == {"anna", "ben"}
    assert by_cell["c2"] in ({"ben", "cleo"}, {"ben", "dora"})
    assert by_cell["c3"] in ({"cleo", "ben"}, {"cleo", "dora"})
    assert leave(ledger) == []


def test_a_stand_in_is_never_the_cells_other_reader_nor_its_adjudicator(tmp_path: Path) -> None:
    third = Draft(
        kind="assigned",
        by="x",
        body={"cell_uid": "c2", "occasion": "round-1", "reader": "cleo", "duty": "adjudicator", "before": None},
    )
    ledger = absent(tmp_path, third)
    heirs = {one.body["cell_uid"]: one.body["reader"] for one in leave(ledger)}
    assert heirs["c2"] == "dora"


def test_where_nobody_is_left_to_stand_in_nothing_is_given_away(tmp_path: Path) -> None:
    ledger = a_ledger(
        tmp_path / "l.jsonl", *people("anna", "ben", adjudicators=("zoe",)), *a_queued("c1", readers=("anna", "ben"))
    )
    with pytest.raises(ProtocolBreach, match="nobody else is registered"):
        leave(ledger)


def test_cells_queued_before_readers_were_registered_belong_to_the_first_two(tmp_path: Path) -> None:
    queued = a_queued("c1")[0]
    old = Draft(kind="queued", by="x", why="random", body={**queued.body, "readers": None})
    ledger = a_ledger(tmp_path / "l.jsonl", old, *people("anna", "ben", "cleo"))
    assert [(one.reader, one.duty) for one in assignments_of(ledger.events())] == [
        ("anna", Duty.READER),
        ("ben", Duty.READER),
    ]


def test_two_readers_are_the_fewest(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "l.jsonl", *people("anna", adjudicators=("zoe",)))
    with pytest.raises(ProtocolBreach, match=r"1 reader\(s\) registered \(anna\)"):
        readers_among(people_of(ledger.events()))


def test_a_name_is_registered_once_and_fit_for_a_folder(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "l.jsonl", *people("anna"))
    known = people_of(ledger.events())
    for name, says in (
        ("anna", "registered already"),
        ("../x", "lower-case"),
        ("Anna", "lower-case"),
        ("", "lower-case"),
    ):
        with pytest.raises(BadInput, match=says):
            adding(known, Person(name=name, adjudicates=False), by="test")
    ledger.append([removing(known, "anna", by="test", why="left")], now=NOON)
    assert people_of(ledger.events()) == ()
    with pytest.raises(BadInput, match="not registered"):
        removing(people_of(ledger.events()), "anna", by="test", why="left")
