"""Two blinded readers settle, a third decides, a shared new name becomes a class."""

from pathlib import Path
from typing import Any

from factories import NOON, a_ledger, a_manifest, a_patient, a_reading, reading_draft

from ctcml.ledger import Draft, Ledger
from ctcml.records import Purpose
from ctcml.settlement import Round, settle_readings
from ctcml.truth import ground_truth


def queued(*cells: str, occasion: str = "round-1") -> list[Draft]:
    return [
        Draft(kind="queued", by="query", body={"cell_uid": cell, "purpose": "training", "occasion": occasion})
        for cell in cells
    ]


def settle(ledger: Ledger, rule: str = "adjudicate", minimum: int = 2) -> Round:
    return settle_readings(ledger, rule=rule, adjudicator="reader-c", new_class_min=minimum, now=NOON)  # type: ignore[arg-type]


def read(cell: str, a: str, b: str, **more: Any) -> list[Draft]:
    return [
        reading_draft(a_reading(cell, reader, label, **more), name="CD45EV")
        for reader, label in (("reader-a", a), ("reader-b", b))
    ]


def settlements(ledger: Ledger) -> dict[str, tuple[str, str]]:
    return {
        event.body["cell_uid"]: (event.body["class_id"], event.body["how"]) for event in ledger.events("settlement")
    }


def test_a_match_settles_a_mismatch_waits_and_an_unread_cell_is_waited_for(tmp_path: Path) -> None:
    half = reading_draft(a_reading("c3", "reader-a", "ctc"))
    ledger = a_ledger(
        tmp_path / "l.jsonl",
        *queued("c1", "c2", "c3", "c4"),
        *read("c1", "ctc", "ctc"),
        *read("c2", "ctc", "wbc"),
        half,
    )
    outcome = settle(ledger)
    assert settlements(ledger) == {"c1": ("ctc", "both readers")}
    assert [one.cell_uid for one in outcome.contested] == ["c2"]
    assert outcome.waiting == ("c3", "c4")


def test_the_adjudicator_decides_and_nothing_is_written_twice(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "l.jsonl", *queued("c2"), *read("c2", "ctc", "wbc"))
    settle(ledger)
    ledger.append([reading_draft(a_reading("c2", "reader-c", "wbc"))], now=NOON)
    assert settle(ledger).settled == 1
    length = ledger.head().length
    assert settle(ledger).settled == 0
    assert ledger.head().length == length
    assert settlements(ledger) == {"c2": ("wbc", "adjudicator")}


def test_the_papers_rule_leaves_mismatches_out(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "l.jsonl", *queued("c1", "c2"), *read("c1", "ctc", "ctc"), *read("c2", "ctc", "wbc"))
    outcome = settle(ledger, rule="paper")
    assert (set(settlements(ledger)), outcome.contested, outcome.waiting) == ({"c1"}, (), ())


def test_a_name_given_by_both_readers_often_enough_becomes_a_class_with_their_spelling(tmp_path: Path) -> None:
    cells = ("c1", "c2", "c3")
    ledger = a_ledger(
        tmp_path / "l.jsonl",
        *queued(*cells),
        *(draft for cell in cells for draft in read(cell, "new:cd45ev", "new:cd45ev")),
    )
    assert settle(ledger, minimum=4).unnamed == 3
    assert settlements(ledger) == {}
    outcome = settle(ledger, minimum=3)
    assert [(one.class_id, one.name) for one in outcome.new_classes] == [("cd45ev", "CD45EV")]
    assert {label for label, _ in settlements(ledger).values()} == {"cd45ev"}
    assert settle(ledger, minimum=3).new_classes == ()


def test_a_cell_that_is_read_again_is_waited_for_and_keeps_its_label_and_opens_no_contest(tmp_path: Path) -> None:
    first = [*read("c1", "ctc", "ctc"), *read("c2", "ctc", "wbc"), reading_draft(a_reading("c2", "reader-c", "wbc"))]
    ledger = a_ledger(tmp_path / "l.jsonl", *queued("c1", "c2"), *first)
    assert settle(ledger).settled == 2
    ledger.append(queued("c1", "c2", "c3", occasion="round-2"), now=NOON)
    assert settle(ledger).waiting == ("c1", "c2", "c3")
    ledger.append([reading_draft(a_reading("c1", "reader-a", "wbc", occasion="round-2"))], now=NOON)
    assert settle(ledger).waiting == ("c1", "c2", "c3")
    others = [one for cell in ("c2", "c3") for one in read(cell, "ctc", "ctc", occasion="round-2")]
    ledger.append([*others, reading_draft(a_reading("c1", "reader-b", "tdev", occasion="round-2"))], now=NOON)
    outcome = settle(ledger)
    assert (outcome.settled, outcome.contested, outcome.waiting) == (1, (), ())
    assert {cell: label for cell, (label, _) in settlements(ledger).items()} == {"c1": "ctc", "c2": "wbc", "c3": "ctc"}


def test_a_doubted_historic_label_gives_way_to_two_readers_who_read_it_for_the_first_time(tmp_path: Path) -> None:
    historic = Draft(kind="historic_label", by="lab", body={"cell_uid": "c1", "class_id": "ctc", "source": "2019"})
    assigned = a_patient("p1", "train")
    ledger = a_ledger(tmp_path / "l.jsonl", assigned, historic, *queued("c1"), *read("c1", "wbc", "wbc"))
    assert settle(ledger).settled == 1
    truth = ground_truth(ledger.events(), a_manifest({"c1": "p1"}))
    assert truth.cells[["class_id", "how"]].to_numpy().tolist() == [["wbc", "both readers"]]


def test_evaluation_cells_never_make_a_class_but_are_settled_once_it_is_there(tmp_path: Path) -> None:
    evaluation = [
        draft for n in range(5) for draft in read(f"e{n}", "new:cd45ev", "new:cd45ev", purpose=Purpose.EVALUATION)
    ]
    ledger = a_ledger(tmp_path / "l.jsonl", *evaluation)
    assert settle(ledger).new_classes == ()
    ledger.append([draft for n in range(2) for draft in read(f"t{n}", "new:cd45ev", "new:cd45ev")], now=NOON)
    assert settle(ledger).settled == 7
