"""Two readers a thumbnail: the protocol, agreement figures and classes that readers propose."""

from typing import Any

import pytest
from sklearn.metrics import cohen_kappa_score

from ctcml.errors import BadInput, ProtocolBreach
from ctcml.ledger import GENESIS, Event
from ctcml.readings import (
    Agreement,
    agreement,
    agreement_report,
    label_pairs,
    proposed_classes,
    settle,
)
from ctcml.records import Contested, Purpose, Reading, Settled


def read(cell: str, reader: str, label: str, *, occasion: str = "round-1", **more: Any) -> Reading:
    purpose = more.pop("purpose", Purpose.TRAINING)
    uid = f"{cell}-{reader}-{occasion}"
    return Reading(read_uid=uid, cell_uid=cell, reader=reader, label=label, occasion=occasion, purpose=purpose, **more)


def both(cell: str, first: str, second: str, **more: Any) -> list[Reading]:
    return [read(cell, "anna", first, **more), read(cell, "ben", second, **more)]


def test_an_exact_match_settles_a_mismatch_is_contested_and_a_single_reading_waits() -> None:
    readings = [*both("c2", "ctc", "wbc"), *both("c1", "ctc", "ctc"), read("c3", "ben", "tdev")]
    settled, contested, waiting = settle(readings, rule="adjudicate")
    assert settled == [Settled(cell_uid="c1", label="ctc", how="both readers", purpose=Purpose.TRAINING)]
    assert contested == [Contested(cell_uid="c2", labels=("ctc", "wbc"), purpose=Purpose.TRAINING)]
    assert waiting == ["c3"]


def test_one_reader_cannot_be_both_readers() -> None:
    twice = [read("c1", "anna", "ctc"), read("c1", "anna", "ctc", lead_time_s=3.0)]
    with pytest.raises(ProtocolBreach, match="one reader cannot be both readers"):
        settle(twice, rule="adjudicate")


def test_a_hidden_repeat_is_not_a_second_reader_and_changes_no_label() -> None:
    repeat = [read("c1", "anna", "ctc"), read("c1", "anna", "wbc", occasion="repeat-1")]
    assert settle(repeat, rule="adjudicate") == ([], [], ["c1"])
    settled, _, _ = settle([*repeat, read("c1", "ben", "ctc")], rule="adjudicate")
    assert [one.label for one in settled] == ["ctc"]


def test_what_new_readers_say_of_a_cell_on_a_later_occasion_changes_no_label_and_breaks_no_rule() -> None:
    again = [read("c1", reader, "wbc", occasion="round-2") for reader in ("anna", "cleo", "dora")]
    settled, contested, waiting = settle([*both("c1", "ctc", "ctc"), *again], rule="adjudicate")
    assert [(one.label, one.how) for one in settled] == [("ctc", "both readers")]
    assert (contested, waiting) == ([], [])
    assert label_pairs([*both("c1", "ctc", "ctc"), *again]) == [("ctc", "ctc")]


def test_a_training_cell_is_not_read_again_for_evaluation() -> None:
    again = read("c1", "anna", "ctc", occasion="round-2", purpose=Purpose.EVALUATION)
    with pytest.raises(ProtocolBreach, match="one purpose"):
        settle([*both("c1", "ctc", "ctc"), again], rule="adjudicate")


def test_a_reading_pulled_twice_counts_once() -> None:
    readings = both("c1", "ctc", "ctc")
    settled, _, _ = settle([*readings, *readings], rule="adjudicate")
    assert len(settled) == 1


def test_a_third_reader_is_refused() -> None:
    with pytest.raises(ProtocolBreach, match="expected two readers"):
        settle([*both("c1", "ctc", "wbc"), read("c1", "cleo", "ctc")], rule="adjudicate")


def test_a_cell_serves_training_or_evaluation_but_not_both() -> None:
    mixed = [read("c1", "anna", "ctc"), read("c1", "ben", "ctc", purpose=Purpose.EVALUATION)]
    with pytest.raises(ProtocolBreach, match="one purpose"):
        settle(mixed, rule="adjudicate")


def test_the_adjudicator_decides_a_contested_cell_even_against_both() -> None:
    decision = read("c1", "cleo", "tdev", occasion="adjudication-1")
    settled, contested, _ = settle(both("c1", "ctc", "wbc"), rule="adjudicate", adjudications=[decision])
    assert settled == [Settled(cell_uid="c1", label="tdev", how="adjudicator", purpose=Purpose.TRAINING)]
    assert contested == []


def test_what_both_readers_agree_on_is_not_overruled() -> None:
    decision = read("c1", "cleo", "tdev", occasion="adjudication-1")
    settled, _, _ = settle(both("c1", "ctc", "ctc"), rule="adjudicate", adjudications=[decision])
    assert [(one.label, one.how) for one in settled] == [("ctc", "both readers")]


@pytest.mark.parametrize("label", ["ctc", "wbc"])
def test_the_adjudicator_must_be_a_third_person(label: str) -> None:
    decision = read("c1", "anna", label, occasion="adjudication-1")
    with pytest.raises(ProtocolBreach, match="adjudicator 'anna' is one of its readers"):
        settle(both("c1", "ctc", "wbc"), rule="adjudicate", adjudications=[decision])


def test_two_different_decisions_on_one_cell_are_refused() -> None:
    decisions = [read("c1", "cleo", "ctc"), read("c1", "dora", "wbc")]
    with pytest.raises(ProtocolBreach, match="expected one decision"):
        settle(both("c1", "ctc", "wbc"), rule="adjudicate", adjudications=decisions)


def test_the_papers_rule_leaves_mismatches_out() -> None:
    decision = read("c1", "cleo", "ctc")
    assert settle(both("c1", "ctc", "wbc"), rule="paper", adjudications=[decision]) == ([], [], [])


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(BadInput, match="expected adjudicate or paper"):
        settle([], rule="majority")  # type: ignore[arg-type]


def test_a_new_name_and_the_class_it_became_are_one_label() -> None:
    settled, _, _ = settle(
        [*both("c1", "new:cd45ev", "new:cd45ev"), *both("c2", "new:cd45ev", "cd45ev")], rule="adjudicate"
    )
    assert [one.label for one in settled] == ["new:cd45ev", "cd45ev"]


def test_agreement_is_exact_share_and_cohens_kappa() -> None:
    # Cohen 1960: po = .7, pe = .5 * .6 + .5 * .4 = .5, kappa = (.7 - .5) / (1 - .5) = .4
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    found = agreement(pairs)
    assert found == Agreement(n=50, exact_share=0.7, kappa=pytest.approx(0.4))
    assert found.kappa == pytest.approx(cohen_kappa_score(*zip(*pairs, strict=True)))


def test_agreement_says_nothing_where_there_is_nothing_to_compare() -> None:
    assert agreement([]) == Agreement(n=0, exact_share=None, kappa=None)
    assert agreement([("ctc", "ctc")] * 3) == Agreement(n=3, exact_share=1.0, kappa=None)


def test_pairs_keep_the_readers_apart_whoever_answers_first() -> None:
    readings = [read("c1", "ben", "wbc"), read("c1", "anna", "new:ctc"), read("c2", "ben", "ctc")]
    assert label_pairs(readings) == [("ctc", "wbc")]


def named(cell: int, label: str = "new:cd45ev", **more: Any) -> Settled:
    return Settled(cell_uid=f"c{cell}", label=label, **{"how": "both readers", "purpose": Purpose.TRAINING, **more})


def test_a_class_is_proposed_once_both_readers_named_it_often_enough() -> None:
    cells = [named(number) for number in range(9)]
    assert proposed_classes(cells, minimum=10) == []
    (found,) = proposed_classes([*cells, named(9)], minimum=10, names={"cd45ev": "CD45EV"})
    assert (found.class_id, found.name) == ("cd45ev", "CD45EV")
    assert "10 cells" in found.definition


def test_neither_evaluation_cells_nor_adjudicated_ones_nor_known_classes_make_a_new_class() -> None:
    cells = [
        *(named(number, purpose=Purpose.EVALUATION) for number in range(10)),
        *(named(number, how="adjudicator") for number in range(10, 20)),
        *(named(number, "ctc") for number in range(20, 30)),
    ]
    assert proposed_classes(cells, minimum=5) == []


def event(body: dict[str, Any], kind: str = "reading") -> Event:
    return Event(seq=0, at="", by="", kind=kind, why="", body=body, prev=GENESIS, hash="")


def test_the_report_keeps_purposes_apart_and_the_adjudicator_out_of_the_figures() -> None:
    readings = [
        *both("c1", "ctc", "ctc", lead_time_s=2.0),
        *both("c2", "ctc", "wbc", lead_time_s=4.0),
        *both("c3", "tdev", "tdev", purpose=Purpose.EVALUATION),
        read("c2", "cleo", "ctc", occasion="adjudication-1"),
    ]
    settlement = {"cell_uid": "c2", "class_id": "ctc", "how": "adjudicator", "purpose": "training", "before": None}
    events = [*map(event, map(vars, readings)), event(settlement, kind="settlement")]
    report = agreement_report(events)
    assert report["n"] == 3
    assert report["exact_share"] == pytest.approx(2 / 3)
    assert report["by_purpose"] == {
        "training": {"n": 2, "exact_share": 0.5, "kappa": 0.0},
        "evaluation": {"n": 1, "exact_share": 1.0, "kappa": None},
    }
    assert report["readers"]["anna"] == {"readings": 3, "median_lead_time_s": 3.0}
    assert "cleo" not in report["readers"]
    assert (report["settled"], report["adjudicated"]) == (1, 1)
