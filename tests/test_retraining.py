"""When to train again, and who was champion."""

from pathlib import Path

import pytest
from factories import a_ledger

from ctcml.errors import ProtocolBreach
from ctcml.ledger import Draft, Event
from ctcml.retraining import champions, reasons_to_train, require_former, rolled_back, since_last_training

NEVER = {"new_labels": 1000, "new_class": False, "drift_alarm": False}


def settled(cell: str, class_id: str = "ctc", purpose: str = "training") -> Draft:
    body = {"cell_uid": cell, "class_id": class_id, "how": "both readers", "purpose": purpose}
    return Draft(kind="settlement", by="ctcml", body=body | {"occasion": "round-1", "before": None})


def frozen(tag: str) -> Draft:
    return Draft(kind="data_version", by="flow", body={"tag": tag})


def trained(version: str, tag: str) -> Draft:
    return Draft(kind="training", by="flow", body={"version": version, "data_version": tag})


def crowned(version: str, before: str | None = None, kind: str = "promotion") -> Draft:
    return Draft(kind=kind, by="Dr. A. Reader", body={"version": version, "before": before})


def added(class_id: str) -> Draft:
    return Draft(kind="class_added", by="two experts", body={"class_id": class_id})


def events(path: Path, *drafts: Draft) -> list[Event]:
    return list(a_ledger(path / "ledger.jsonl", *drafts).events())


def test_what_was_settled_between_the_freezing_of_the_data_and_the_training_is_new_to_the_model(tmp_path: Path) -> None:
    told = events(
        tmp_path, settled("c1"), settled("c2"), frozen("data-v1"), settled("c3"), trained("1", "data-v1"), settled("c4")
    )
    assert since_last_training(told).labels == 2


def test_only_a_label_that_changes_something_in_training_counts_as_new(tmp_path: Path) -> None:
    told = events(
        tmp_path,
        *(settled("c1"), settled("c2"), frozen("data-v1"), trained("1", "data-v1")),
        *(settled("c1"), settled("c2", "wbc"), settled("c9", purpose="evaluation")),
    )
    assert since_last_training(told).labels == 1


def test_before_the_first_training_everything_is_new(tmp_path: Path) -> None:
    found = since_last_training(events(tmp_path, added("cd45ev"), settled("c1")))
    assert found.labels == 1
    assert "cd45ev" in found.classes


def test_enough_labels_a_new_class_and_a_drift_are_reasons_each_by_itself(tmp_path: Path) -> None:
    told = events(
        tmp_path, frozen("data-v1"), trained("1", "data-v1"), *(settled(f"c{n}") for n in range(3)), added("cd45ev")
    )
    alarms = {"two": "CellSpotter 2 differs", "three": "CellSpotter 3 differs"}
    assert reasons_to_train(told, alarms, **NEVER) == ()
    assert reasons_to_train(told, alarms, **NEVER | {"new_labels": 3}) == (
        "3 new training labels since the last training, 3 are enough",
    )
    assert reasons_to_train(told, alarms, **NEVER | {"new_class": True}) == ("class cd45ev is new",)
    assert reasons_to_train(told, alarms, **NEVER | {"drift_alarm": True}) == (
        "drift: CellSpotter 2 differs and 1 more alarms",
    )
    assert reasons_to_train(told, {}, **NEVER | {"drift_alarm": True}) == ()


def test_an_alarm_that_the_last_training_knew_of_does_not_train_again_every_week(tmp_path: Path) -> None:
    body = {"version": "1", "data_version": "data-v1", "alarmed": ["two"]}
    told = events(tmp_path, frozen("data-v1"), Draft(kind="training", by="flow", body=body))
    found = reasons_to_train(told, {"two": "CellSpotter 2", "three": "CellSpotter 3"}, **NEVER | {"drift_alarm": True})
    assert found == ("drift: CellSpotter 3",)


def test_a_rollback_takes_the_champions_after_it_away(tmp_path: Path) -> None:
    one, two, three = crowned("1"), crowned("2", "1"), crowned("3", "2")
    back = crowned("1", "3", kind="rollback")
    assert champions(events(tmp_path, one, two, three)) == ("1", "2", "3")
    told = events(tmp_path / "back", one, two, three, back)
    assert champions(told) == ("1",)
    assert rolled_back(told) == {"2", "3"}
    assert rolled_back(events(tmp_path / "again", one, two, crowned("1", "2", kind="rollback"), two)) == set()
    with pytest.raises(ProtocolBreach, match=r"version 3: was not champion before.*none"):
        require_former(told, "3")


def test_only_a_former_champion_is_rolled_back_to_and_a_call_that_was_cut_off_can_be_made_again(tmp_path: Path) -> None:
    told = events(tmp_path, crowned("1"), crowned("2", "1"))
    require_former(told, "1")
    require_former(told, "2")
    with pytest.raises(ProtocolBreach, match=r"version 7.*former champions: 1"):
        require_former(told, "7")
