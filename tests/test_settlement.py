"""What follows from readings enters the ledger once: settlements, third persons, proposals."""

from pathlib import Path
from typing import Any

import pytest
from factories import KEY, NOON, a_ledger, a_manifest, a_patient, a_queued, a_reading, people, reading_draft

from ctcml.class_desk import vote
from ctcml.ledger import Draft, Ledger
from ctcml.records import Duty, Purpose
from ctcml.settlement import Round, settle_readings
from ctcml.truth import ground_truth

SECOND = "round-2"
PEOPLE = people("reader-a", "reader-b", adjudicators=("reader-c",))


def settle(ledger: Ledger, *, rule: Any = "adjudicate", minimum: int = 2, share: float = 0.0, **more: Any) -> Round:
    return settle_readings(ledger, rule=rule, check_share=share, new_class_min=minimum, key=KEY, now=NOON, **more)


def read(cell: str, a: str, b: str, **more: Any) -> list[Draft]:
    return [
        reading_draft(a_reading(cell, reader, label, **more), name="CD45EV")
        for reader, label in (("reader-a", a), ("reader-b", b))
    ]


def decided(cell: str, label: str, duty: Duty = Duty.ADJUDICATOR, **more: Any) -> Draft:
    return reading_draft(a_reading(cell, "reader-c", label, duty=duty, **more))


def settlements(ledger: Ledger) -> dict[str, tuple[str, str]]:
    return {
        event.body["cell_uid"]: (event.body["class_id"], event.body["how"]) for event in ledger.events("settlement")
    }


def given(ledger: Ledger) -> list[tuple[str, str, str]]:
    return [(event.body["cell_uid"], event.body["reader"], event.body["duty"]) for event in ledger.events("assigned")]


def test_a_match_settles_a_mismatch_goes_to_the_third_person_and_an_unread_cell_is_waited_for(tmp_path: Path) -> None:
    half = reading_draft(a_reading("c3", "reader-a", "ctc"))
    cells = a_queued("c1", "c2", "c3", "c4")
    ledger = a_ledger(tmp_path / "l.jsonl", *PEOPLE, *cells, *read("c1", "ctc", "ctc"), *read("c2", "ctc", "wbc"), half)
    outcome = settle(ledger)
    assert settlements(ledger) == {"c1": ("ctc", "both readers")}
    assert given(ledger) == [("c2", "reader-c", "adjudicator")]
    assert [(one.cell_uid, one.reader) for one in outcome.third] == [("c2", "reader-c")]
    assert [(one.cell_uid, one.reader) for one in outcome.waiting] == [
        ("c3", "reader-b"),
        ("c4", "reader-a"),
        ("c4", "reader-b"),
    ]


def test_the_adjudicator_decides_and_nothing_is_written_twice(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "l.jsonl", *PEOPLE, *a_queued("c2"), *read("c2", "ctc", "wbc"))
    settle(ledger)
    ledger.append([decided("c2", "wbc")], now=NOON)
    outcome = settle(ledger)
    assert (outcome.settled, outcome.third) == (1, ())
    length = ledger.head().length
    assert settle(ledger).settled == 0
    assert ledger.head().length == length
    assert settlements(ledger) == {"c2": ("wbc", "adjudicator")}


def test_with_two_people_alone_a_contested_cell_waits_for_a_third_to_be_registered(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "l.jsonl", *PEOPLE[:2], *a_queued("c2"), *read("c2", "ctc", "wbc"))
    assert [one.cell_uid for one in settle(ledger).without_third] == ["c2"]
    ledger.append(PEOPLE[2:], now=NOON)
    outcome = settle(ledger)
    assert (outcome.without_third, [one.reader for one in outcome.third]) == ((), ["reader-c"])


def test_the_papers_rule_leaves_mismatches_out_and_has_every_match_checked(tmp_path: Path) -> None:
    ledger = a_ledger(
        tmp_path / "l.jsonl", *PEOPLE, *a_queued("c1", "c2"), *read("c1", "ctc", "ctc"), *read("c2", "ctc", "wbc")
    )
    outcome = settle(ledger, rule="paper")
    assert (settlements(ledger), given(ledger)) == ({}, [("c1", "reader-c", "check")])
    assert [one.cell_uid for one in outcome.left_out] == ["c2"]
    ledger.append([decided("c1", "ctc", Duty.CHECK)], now=NOON)
    settle(ledger, rule="paper")
    assert settlements(ledger) == {"c1": ("ctc", "both readers, checked")}


def test_a_share_of_matches_is_checked_always_the_same_and_about_as_large_as_asked(tmp_path: Path) -> None:
    cells = [f"c{number}" for number in range(300)]
    ledger = a_ledger(
        tmp_path / "l.jsonl", *PEOPLE, *a_queued(*cells), *(one for cell in cells for one in read(cell, "ctc", "ctc"))
    )
    assert settle(ledger, share=0.2).settled == 300
    checked = given(ledger)
    assert 40 <= len(checked) <= 80
    assert {duty for _, _, duty in checked} == {"check"}
    settle(ledger, share=0.2)
    assert given(ledger) == checked


def test_names_that_both_readers_gave_often_enough_are_proposed_and_settle_nothing(tmp_path: Path) -> None:
    cells = ("c1", "c2", "c3")
    named = [draft for cell in cells for draft in read(cell, "new:cd45ev", "new:cd45ev")]
    ledger = a_ledger(tmp_path / "l.jsonl", *PEOPLE, *a_queued(*cells), *named)
    few = settle(ledger, minimum=4)
    assert (few.unnamed, few.proposals) == (3, ())
    outcome = settle(ledger, minimum=3)
    assert (outcome.proposals, settlements(ledger)) == (("cd45ev",), {})
    (proposed,) = ledger.events("class_proposed")
    assert (proposed.body["name"], proposed.body["cells"]) == ("CD45EV", ["c1", "c2", "c3"])
    assert settle(ledger, minimum=3).proposals == ("cd45ev",)
    assert sum(1 for _ in ledger.events("class_proposed")) == 1


def test_an_accepted_class_settles_the_cells_that_were_named_so(tmp_path: Path) -> None:
    evaluation = read("e1", "new:cd45ev", "new:cd45ev", purpose=Purpose.EVALUATION)
    named = [draft for cell in ("c1", "c2") for draft in read(cell, "new:cd45ev", "new:cd45ev")]
    ledger = a_ledger(tmp_path / "l.jsonl", *PEOPLE, *named, *evaluation)
    settle(ledger)
    for expert in ("reader-a", "reader-c"):
        vote(ledger, "cd45ev", expert=expert, accepts=True, definition="CD45+ alone", why="seen", now=NOON)
    outcome = settle(ledger)
    assert (outcome.settled, outcome.unnamed, outcome.proposals) == (3, 0, ())
    assert {label for label, _ in settlements(ledger).values()} == {"cd45ev"}


def test_evaluation_cells_alone_never_ask_for_a_class(tmp_path: Path) -> None:
    evaluation = [
        draft for n in range(5) for draft in read(f"e{n}", "new:cd45ev", "new:cd45ev", purpose=Purpose.EVALUATION)
    ]
    assert settle(a_ledger(tmp_path / "l.jsonl", *PEOPLE, *evaluation)).proposals == ()


def test_a_hidden_repeat_is_waited_for_and_keeps_its_label_and_opens_no_contest(tmp_path: Path) -> None:
    first = [*read("c1", "ctc", "ctc"), *read("c2", "ctc", "wbc"), decided("c2", "wbc")]
    ledger = a_ledger(tmp_path / "l.jsonl", *PEOPLE, *a_queued("c1", "c2"), *first)
    assert settle(ledger).settled == 2
    ledger.append(a_queued("c1", "c2", occasion=SECOND, reason="hidden repeat"), now=NOON)
    assert len(settle(ledger).waiting) == 4
    ledger.append([*read("c1", "wbc", "tdev", occasion=SECOND), *read("c2", "ctc", "ctc", occasion=SECOND)], now=NOON)
    outcome = settle(ledger)
    assert (outcome.settled, outcome.third, outcome.waiting) == (0, (), ())
    assert {cell: label for cell, (label, _) in settlements(ledger).items()} == {"c1": "ctc", "c2": "wbc"}


def test_a_reread_that_ends_differently_is_a_new_settlement_that_names_the_one_before(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "l.jsonl", *PEOPLE, *a_queued("c1"), *read("c1", "ctc", "ctc"))
    settle(ledger)
    ledger.append(a_queued("c1", occasion=SECOND, reason="doubtful label: probability 0.010 of ctc"), now=NOON)
    ledger.append(read("c1", "wbc", "wbc", occasion=SECOND), now=NOON)
    settle(ledger)
    told = [(event.body["class_id"], event.body["before"]) for event in ledger.events("settlement")]
    assert told == [("ctc", None), ("wbc", "ctc")]
    assert sum(1 for _ in ledger.events("reading")) == 4


@pytest.mark.parametrize("rule", ["adjudicate", "paper"])
def test_nothing_comes_of_cells_that_were_withdrawn(tmp_path: Path, rule: str) -> None:
    ledger = a_ledger(
        tmp_path / "l.jsonl", *PEOPLE, *a_queued("c1", "c2"), *read("c1", "ctc", "ctc"), *read("c2", "ctc", "wbc")
    )
    outcome = settle(ledger, rule=rule, withdrawn={"c1", "c2"})
    assert (outcome.settled, outcome.waiting, outcome.third, settlements(ledger)) == (0, (), (), {})


def test_a_doubted_historic_label_gives_way_to_two_readers_who_read_it_for_the_first_time(tmp_path: Path) -> None:
    historic = Draft(kind="historic_label", by="lab", body={"cell_uid": "c1", "class_id": "ctc", "source": "2019"})
    assigned = a_patient("p1", "train")
    ledger = a_ledger(tmp_path / "l.jsonl", *PEOPLE, assigned, historic, *a_queued("c1"), *read("c1", "wbc", "wbc"))
    assert settle(ledger).settled == 1
    truth = ground_truth(ledger.events(), a_manifest({"c1": "p1"}))
    assert truth.cells[["class_id", "how"]].to_numpy().tolist() == [["wbc", "both readers"]]
