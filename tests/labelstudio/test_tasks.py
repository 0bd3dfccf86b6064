"""What Label Studio is told of a cell, and which answers become readings."""

from typing import Any
from xml.etree import ElementTree

import pytest

from ctcml.errors import BadInput
from ctcml.records import PAPER_CLASSES, REASONS, RESERVED, UNREADABLE, CellClass, Confidence
from labelstudio.tasks import (
    NEW_CLASS,
    PulledReading,
    RejectedReading,
    Said,
    build_interface,
    build_result,
    build_task,
    parse_answer,
    parse_task,
    read_uid,
)

KEY = b"k" * 32
UID = read_uid(KEY, "cell-1", "reader-a", "round-1")
NINE = [CellClass(class_id=f"c{n}", name=f"Class {n}", definition="d") for n in range(9)]
RETIRED = CellClass(class_id="ghost", name="Ghost", definition="a former class", retired=True)


def _task(*annotations: dict[str, Any]) -> dict[str, Any]:
    return {"data": build_task(UID), "annotations": list(annotations)}


def _annotation(label: str = "ctc", *, by: int = 2, edited_by: int | None = None, **more: Any) -> dict[str, Any]:
    plain = {"id": 7, "completed_by": by, "updated_by": edited_by or by, "updated_at": "2026-01-01T00:00:00Z"}
    return {**plain, "result": build_result(label), "lead_time": 2.5, "was_cancelled": False, **more}


def _judge(*annotations: dict[str, Any]) -> PulledReading | RejectedReading:
    return parse_task(
        _task(*annotations), classes=PAPER_CLASSES, reader="reader-a", reader_user_id=2, server="http://a"
    )


def _reason(*annotations: dict[str, Any]) -> str:
    judged = _judge(*annotations)
    assert isinstance(judged, RejectedReading)
    return judged.reason


def test_a_task_tells_nothing_but_a_read_uid_and_two_pictures() -> None:
    task = build_task(UID)
    assert set(task) == {"read_uid", "auto", "fixed"}
    assert all(value == UID or value.startswith(f"/data/local-files/?d=cells/{UID}-") for value in task.values())
    assert "cell-1" not in str(task)
    assert "reader-a" not in str(task)


def test_readers_and_occasions_see_a_cell_under_different_names() -> None:
    names = {
        read_uid(KEY, "cell-1", reader, occasion) for reader in ("reader-a", "reader-b") for occasion in ("1", "2")
    }
    assert len(names) == 4


def test_a_cell_uid_of_another_shape_is_not_sent_by_mistake() -> None:
    with pytest.raises(BadInput, match="24 hexadecimal"):
        build_task("SIM-0001.1.1-17")


def _choices(page: str, control: str) -> list[tuple[str | None, str | None, str | None]]:
    group = ElementTree.fromstring(page).find(f".//Choices[@name='{control}']")
    assert group is not None
    return [(one.get("value"), one.get("alias"), one.get("hotkey")) for one in group.iter("Choice")]


def test_the_page_offers_each_class_of_the_registry_with_its_key() -> None:
    assert _choices(build_interface([*PAPER_CLASSES, RETIRED]), "cell_class") == [
        ("CTC", "ctc", "1"),
        ("tdEV", "tdev", "2"),
        ("WBC", "wbc", "3"),
        ("Bare nucleus", "bare_nucleus", "4"),
        ("Other object", "other", "5"),
        ("New class", NEW_CLASS, "n"),
        ("Unreadable", UNREADABLE, "x"),
    ]


def test_a_reader_can_say_how_sure_and_what_was_seen_in_the_words_of_the_records() -> None:
    page = build_interface(PAPER_CLASSES)
    assert [alias for _, alias, _ in _choices(page, "confidence")] == list(Confidence)
    assert [(shown, alias) for shown, alias, _ in _choices(page, "reasons")] == [
        (shown, reason) for reason, shown in REASONS.items()
    ]


def test_no_two_answers_share_a_key_and_none_takes_one_that_label_studio_uses() -> None:
    page = ElementTree.fromstring(build_interface(NINE))
    keys = [choice.get("hotkey") for choice in page.iter("Choice")]
    assert None not in keys
    assert len(set(keys)) == len(keys) == 9 + 2 + 4 + 6
    assert not set(keys) & {"u", "h", "v"}


def test_a_class_is_required_and_nothing_else_is_there_is_no_skipping() -> None:
    page = ElementTree.fromstring(build_interface(PAPER_CLASSES))
    required = {each.get("name") for each in page.iter() if each.get("required") == "true"}
    assert required == {"cell_class", "new_class_name"}


def test_a_tenth_class_is_on_the_page_without_a_key_of_ours() -> None:
    keys = [key for _, _, key in _choices(build_interface([*NINE, RETIRED, *PAPER_CLASSES[:2]]), "cell_class")]
    assert keys == [*"123456789", None, None, "n", "x"]


def test_the_page_says_that_it_is_for_research_and_what_each_class_is() -> None:
    page = ElementTree.fromstring(build_interface(PAPER_CLASSES))
    said = [str(each.get("value")) for each in page.iter("Header")]
    assert any("Research use only" in text for text in said)
    assert all(f"{each.name}: {each.definition}" in said for each in PAPER_CLASSES)


def test_a_class_name_with_signs_does_not_break_the_page() -> None:
    odd = CellClass(class_id="odd", name='CK+ & "CD45" <dim>', definition="a < b")
    page = ElementTree.fromstring(build_interface([odd]))
    assert next(page.iter("Choice")).get("value") == odd.name


def test_the_readers_answer_becomes_a_reading_with_its_provenance() -> None:
    said = build_result("wbc", confidence=Confidence.DOUBTFUL, reasons=["debris", "fragment"])
    assert _judge(_annotation(result=said)) == PulledReading(
        read_uid=UID,
        reader="reader-a",
        label="wbc",
        new_name=None,
        confidence=Confidence.DOUBTFUL,
        reasons=("fragment", "debris"),
        lead_time_s=2.5,
        server="http://a",
        annotation_id=7,
        answered_at="2026-01-01T00:00:00Z",
    )


def test_the_last_answer_counts_when_a_reader_corrects_himself() -> None:
    judged = _judge(_annotation("wbc"), _annotation("tdev", id=8, updated_at="2026-01-02T00:00:00Z"))
    assert isinstance(judged, PulledReading)
    assert (judged.label, judged.annotation_id) == ("tdev", 8)


def test_an_account_may_come_as_a_record() -> None:
    assert isinstance(_judge(_annotation(completed_by={"id": 2, "email": "a@b"})), PulledReading)


@pytest.mark.parametrize(
    "annotation",
    [_annotation(by=1), _annotation(edited_by=1), _annotation(completed_by={"id": 3})],
    ids=["another author", "edited by another", "another author as a record"],
)
def test_an_answer_touched_by_another_account_is_rejected(annotation: dict[str, Any]) -> None:
    assert "touched by account" in _reason(annotation)


def test_one_foreign_answer_spoils_the_readers_own() -> None:
    assert "touched by account [1]" in _reason(_annotation(), _annotation(by=1, id=8))


def test_a_rejected_answer_is_kept_as_the_server_held_it() -> None:
    judged = _judge(_annotation("martian"), _annotation("venusian", id=8))
    assert isinstance(judged, RejectedReading)
    assert judged.raw == build_result("venusian")
    assert (judged.annotation_id, judged.answered_at) == (8, "2026-01-01T00:00:00Z")


def test_a_task_without_an_answer_has_nothing_to_keep() -> None:
    judged = _judge()
    assert isinstance(judged, RejectedReading)
    assert (judged.raw, judged.annotation_id, judged.answered_at) == ([], None, "")


def test_an_unknown_class_is_rejected() -> None:
    assert "'martian' is not one of" in _reason(_annotation("martian"))


def test_a_cancelled_answer_is_no_answer() -> None:
    assert "taken back" in _reason(_annotation(was_cancelled=True))


@pytest.mark.parametrize(
    "result",
    [[], build_result("ctc") + build_result("wbc"), build_result("ctc") + build_result(UNREADABLE)],
    ids=["none", "two", "a class and unreadable"],
)
def test_not_exactly_one_class_is_rejected(result: list[dict[str, Any]]) -> None:
    assert "expected 1" in _reason(_annotation(result=result))


@pytest.mark.parametrize(
    "result",
    [None, "ctc", {"choices": ["ctc"]}, ["ctc"], [{}], [{"from_name": "cell_class", "value": None}]],
    ids=["nothing", "a word", "a record", "a list of words", "an empty part", "a part without value"],
)
def test_an_answer_of_any_other_shape_is_rejected_and_stops_no_pull(result: Any) -> None:
    assert "expected 1" in _reason(_annotation(result=result))


def test_unreadable_is_an_answer_and_no_class() -> None:
    assert parse_answer(build_result(UNREADABLE), classes=PAPER_CLASSES) == Said(label="unreadable")


def test_how_sure_may_be_left_out_but_not_said_twice_or_in_other_words() -> None:
    assert parse_answer(build_result("ctc"), classes=PAPER_CLASSES).confidence is None
    twice = build_result("ctc", confidence=Confidence.SURE) + build_result("ctc", confidence=Confidence.GUESS)[1:]
    assert "at most one" in _reason(_annotation(result=twice))
    other = build_result("ctc", confidence="certain")  # type: ignore[arg-type]
    assert "'certain'" in _reason(_annotation(result=other))


def test_a_reason_in_other_words_is_rejected() -> None:
    assert "['blurred'] are not among" in _reason(
        _annotation(result=build_result("ctc", reasons=["debris", "blurred"]))
    )


def test_a_new_class_keeps_the_name_as_the_reader_typed_it() -> None:
    answer = parse_answer(build_result(NEW_CLASS, new_name=" CD45 EV "), classes=PAPER_CLASSES)
    assert answer == Said(label="new:cd45_ev", new_name="CD45 EV")


def test_a_new_class_needs_a_name() -> None:
    for result in (build_result(NEW_CLASS), build_result(NEW_CLASS, new_name="  ")):
        with pytest.raises(BadInput, match="expected 1 name"):
            parse_answer(result, classes=PAPER_CLASSES)


@pytest.mark.parametrize("typed", ["ctc", "CTC", "bare nucleus", " Other Object "])
def test_a_name_that_is_a_class_by_now_is_that_class(typed: str) -> None:
    said = parse_answer(build_result(NEW_CLASS, new_name=typed), classes=PAPER_CLASSES)
    assert said.label in ("ctc", "bare_nucleus", "other")
    assert said.new_name is None


@pytest.mark.parametrize("typed", [*RESERVED, "New class", "UNREADABLE"])
def test_a_new_class_cannot_be_called_like_a_button_of_the_page(typed: str) -> None:
    with pytest.raises(BadInput, match="reserved"):
        parse_answer(build_result(NEW_CLASS, new_name=typed), classes=PAPER_CLASSES)


def test_a_retired_class_comes_back_neither_by_choice_nor_by_name() -> None:
    for result in (build_result("ghost"), build_result(NEW_CLASS, new_name="Ghost")):
        with pytest.raises(BadInput, match="read the cell again"):
            parse_answer(result, classes=[*PAPER_CLASSES, RETIRED])


def test_a_name_without_letters_is_rejected_with_a_reason() -> None:
    judged = _judge(_annotation(result=build_result(NEW_CLASS, new_name="???")))
    assert isinstance(judged, RejectedReading)
    assert "type another name" in judged.reason
