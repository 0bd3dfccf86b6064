"""Two readers a thumbnail: the protocol, and what follows from what they say."""

from typing import Any

import pytest
from factories import a_reading

from ctcml.errors import BadInput, ProtocolBreach
from ctcml.readings import Standing, names_given, settle, unnamed
from ctcml.records import Contested, Duty, LeftOut, Purpose, Reading, Settled

SECOND = "round-2"


def both(cell: str, first: str, second: str, **more: Any) -> list[Reading]:
    return [a_reading(cell, "anna", first, **more), a_reading(cell, "ben", second, **more)]


def third(cell: str, label: str, *, reader: str = "cleo", duty: Duty = Duty.ADJUDICATOR, **more: Any) -> Reading:
    return a_reading(cell, reader, label, duty=duty, **more)


def labels(standing: Standing) -> dict[str, tuple[str, str]]:
    return {one.cell_uid: (one.label, one.how) for one in standing.settled}


def everything(_: tuple[str, str]) -> bool:
    return True


def test_an_exact_match_settles_a_mismatch_is_contested_and_a_single_reading_waits() -> None:
    found = settle(
        [*both("c2", "ctc", "wbc"), *both("c1", "ctc", "ctc"), a_reading("c3", "ben", "tdev")], rule="adjudicate"
    )
    more = {"purpose": Purpose.TRAINING, "occasion": "round-1"}
    assert found.settled == (Settled(cell_uid="c1", label="ctc", how="both readers", **more),)
    assert found.contested == (Contested(cell_uid="c2", labels=("ctc", "wbc"), duty=Duty.ADJUDICATOR, **more),)
    assert found.waiting == (("c3", "round-1"),)


def test_one_reader_cannot_be_both_readers() -> None:
    twice = [a_reading("c1", "anna", "ctc"), a_reading("c1", "anna", "ctc", lead_time_s=3.0)]
    with pytest.raises(ProtocolBreach, match="one reader cannot be both readers"):
        settle(twice, rule="adjudicate")


def test_a_reading_pulled_twice_counts_once() -> None:
    readings = both("c1", "ctc", "ctc")
    assert len(settle([*readings, *readings], rule="adjudicate").settled) == 1


def test_a_third_reader_is_refused() -> None:
    with pytest.raises(ProtocolBreach, match="expected two readers"):
        settle([*both("c1", "ctc", "wbc"), a_reading("c1", "cleo", "ctc")], rule="adjudicate")


@pytest.mark.parametrize("occasion", ["round-1", SECOND])
def test_a_cell_serves_training_or_evaluation_but_not_both(occasion: str) -> None:
    other = a_reading("c1", "ben", "ctc", purpose=Purpose.EVALUATION, occasion=occasion)
    with pytest.raises(ProtocolBreach, match="one purpose"):
        settle([a_reading("c1", "anna", "ctc"), other], rule="adjudicate")


def test_the_adjudicator_decides_a_contested_cell_even_against_both() -> None:
    found = settle([*both("c1", "ctc", "wbc"), third("c1", "tdev")], rule="adjudicate")
    assert labels(found) == {"c1": ("tdev", "adjudicator")}
    assert found.contested == ()


@pytest.mark.parametrize("label", ["ctc", "wbc"])
def test_the_adjudicator_must_be_a_third_person(label: str) -> None:
    with pytest.raises(ProtocolBreach, match="adjudicator 'anna' is one of its readers"):
        settle([*both("c1", "ctc", "wbc"), third("c1", label, reader="anna")], rule="adjudicate")


def test_two_third_persons_on_one_cell_are_refused() -> None:
    decisions = [third("c1", "ctc"), third("c1", "wbc", reader="dora")]
    with pytest.raises(ProtocolBreach, match="expected one decision"):
        settle([*both("c1", "ctc", "wbc"), *decisions], rule="adjudicate")


def test_unreadable_is_no_label_and_two_of_them_are_no_match() -> None:
    readings = [*both("c1", "unreadable", "unreadable"), *both("c2", "ctc", "unreadable")]
    assert [one.cell_uid for one in settle(readings, rule="adjudicate").contested] == ["c1", "c2"]
    found = settle([*readings, third("c1", "unreadable"), third("c2", "ctc")], rule="adjudicate")
    assert labels(found) == {"c2": ("ctc", "adjudicator")}
    assert found.left_out == (LeftOut(cell_uid="c1", occasion="round-1", why="unreadable to the adjudicator"),)


def test_the_papers_rule_leaves_mismatches_out() -> None:
    found = settle(both("c1", "ctc", "wbc"), rule="paper")
    assert (found.settled, found.contested, found.waiting) == ((), (), ())
    assert [one.why for one in found.left_out] == ["the readers differ"]


def test_by_the_papers_rule_a_match_counts_when_a_further_reviewer_has_checked_it() -> None:
    readings = [*both("c1", "ctc", "ctc"), *both("c2", "wbc", "wbc")]
    waits = settle(readings, rule="paper", is_checked=everything)
    assert waits.settled == ()
    assert [one.duty for one in waits.contested] == [Duty.CHECK, Duty.CHECK]
    checks = [third("c1", "ctc", duty=Duty.CHECK), third("c2", "tdev", duty=Duty.CHECK)]
    found = settle([*readings, *checks], rule="paper", is_checked=everything)
    assert labels(found) == {"c1": ("ctc", "both readers, checked")}
    assert [one.why for one in found.left_out] == ["who checked it differs"]


def test_a_checked_match_stands_meanwhile_and_two_of_three_stand_afterwards() -> None:
    readings = both("c1", "ctc", "ctc")
    waits = settle(readings, rule="adjudicate", is_checked=everything)
    assert labels(waits) == {"c1": ("ctc", "both readers")}
    assert [(one.cell_uid, one.duty) for one in waits.contested] == [("c1", Duty.CHECK)]
    found = settle([*readings, third("c1", "tdev", duty=Duty.CHECK)], rule="adjudicate", is_checked=everything)
    assert (labels(found), found.contested) == ({"c1": ("ctc", "both readers")}, ())


def test_a_hidden_repeat_changes_no_label_and_opens_no_contest() -> None:
    repeat = both("c1", "wbc", "tdev", occasion=SECOND)
    found = settle(
        [*both("c1", "ctc", "ctc"), *repeat], rule="adjudicate", is_repeat=lambda case: case == ("c1", SECOND)
    )
    assert (labels(found), found.contested) == ({"c1": ("ctc", "both readers")}, ())


def test_a_doubted_label_gives_way_only_to_two_who_agree_or_a_third_and_stands_until_then() -> None:
    first, again = both("c1", "ctc", "ctc"), both("c1", "wbc", "tdev", occasion=SECOND)
    half = settle([*first, again[0]], rule="adjudicate")
    assert (labels(half)["c1"][0], half.waiting) == ("ctc", (("c1", SECOND),))
    open_ = settle([*first, *again], rule="adjudicate")
    assert (labels(open_)["c1"][0], [one.occasion for one in open_.contested]) == ("ctc", [SECOND])
    assert labels(settle([*first, *again, third("c1", "wbc", occasion=SECOND)], rule="adjudicate"))["c1"][0] == "wbc"
    assert labels(settle([*first, *both("c1", "wbc", "wbc", occasion=SECOND)], rule="adjudicate"))["c1"][0] == "wbc"


def test_other_readers_may_read_a_cell_on_a_later_occasion() -> None:
    again = [a_reading("c1", reader, "wbc", occasion=SECOND) for reader in ("cleo", "dora")]
    assert labels(settle([*both("c1", "ctc", "ctc"), *again], rule="adjudicate"))["c1"][0] == "wbc"


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(BadInput, match="expected adjudicate or paper"):
        settle([], rule="majority")  # type: ignore[arg-type]


def test_a_new_name_and_the_class_it_became_are_one_label() -> None:
    readings = [*both("c1", "new:cd45ev", "new:cd45ev"), *both("c2", "new:cd45ev", "cd45ev")]
    found = settle(readings, rule="adjudicate")
    assert [one.label for one in found.settled] == ["new:cd45ev", "cd45ev"]


def test_another_name_of_an_accepted_class_is_that_class() -> None:
    readings = [*both("c1", "new:vesicle", "cd45ev"), *both("c2", "new:vesicle", "new:dust")]
    found = settle(readings, rule="adjudicate", aliases={"vesicle": "cd45ev"})
    assert labels(found) == {"c1": ("cd45ev", "both readers")}
    assert [one.cell_uid for one in found.contested] == ["c2"]


def test_only_training_cells_that_both_readers_named_alike_ask_for_a_class() -> None:
    readings = [
        *both("c1", "new:cd45ev", "new:cd45ev"),
        *both("c2", "new:cd45ev", "new:cd45ev", purpose=Purpose.EVALUATION),
        *both("c3", "ctc", "wbc"),
        third("c3", "new:cd45ev"),
        *both("c4", "ctc", "ctc"),
    ]
    assert unnamed(settle(readings, rule="adjudicate").settled) == {"cd45ev": ["c1"]}


def test_a_new_class_is_spelt_as_a_reader_typed_it() -> None:
    one = a_reading("c1", "anna", "new:cd45ev")
    assert names_given([one, a_reading("c2", "anna", "ctc")], {one.read_uid: "CD45EV"}) == {"cd45ev": "CD45EV"}
