"""A new class by consent: what readers propose, and what two experts make of it."""

from pathlib import Path
from typing import Any

import pytest
from factories import NOON, a_ledger, a_reading, people

from ctcml.class_desk import ballots_of, find_proposals, known_names, proposing, vote
from ctcml.class_registry import aliases_of, classes_of
from ctcml.errors import BadInput, ProtocolBreach
from ctcml.ledger import Ledger
from ctcml.records import Duty, Purpose, Reading

SAID = [a_reading(f"c{cell}", reader, "new:cd45ev") for cell in range(3) for reader in ("anna", "ben")]
AGREED = {"cd45ev": ["c0", "c1", "c2"]}


def find(readings: list[Reading], agreed: dict[str, list[str]] | None = None, **more: Any) -> list[Any]:
    given: dict[str, Any] = {"minimum": 3, "known": (), "names": {"cd45ev": "CD45EV"}, "clusters": {}, **more}
    return find_proposals(readings, agreed or {}, **given)


def test_a_name_of_both_readers_on_enough_cells_is_proposed() -> None:
    (one,) = find(SAID, AGREED)
    assert (one.class_id, one.name, one.cells, one.readers) == ("cd45ev", "CD45EV", ("c0", "c1", "c2"), ("anna", "ben"))
    assert find(SAID, AGREED, minimum=4) == []
    assert find(SAID, AGREED, known={"cd45ev"}) == []


def test_a_flagged_cluster_that_two_readers_name_is_proposed_though_they_name_it_differently() -> None:
    said = [
        a_reading("c0", "anna", "new:cd45ev"),
        a_reading("c1", "anna", "new:cd45ev"),
        a_reading("c2", "ben", "new:vesicle"),
    ]
    clusters = dict.fromkeys(("c0", "c1", "c2"), "amber")
    (one,) = find(said, clusters=clusters)
    assert (one.class_id, one.aliases, one.cluster, one.cells) == ("cd45ev", ("vesicle",), "amber", ("c0", "c1", "c2"))
    assert find(said[:2], clusters=clusters, minimum=2) == []  # one reader alone
    assert find(said, clusters={"c0": "amber"}) == []


def test_neither_evaluation_cells_nor_third_persons_propose() -> None:
    said = [
        a_reading("c0", "anna", "new:dust", purpose=Purpose.EVALUATION),
        a_reading("c1", "ben", "new:dust", duty=Duty.ADJUDICATOR),
        a_reading("c2", "cleo", "new:dust"),
    ]
    assert find(said, clusters=dict.fromkeys(("c0", "c1", "c2"), "amber"), minimum=1) == []


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = a_ledger(tmp_path / "l.jsonl", *people("anna", "ben", "cleo"))
    said = [*SAID[:5], a_reading("c2", "ben", "new:vesicle")]
    (one,) = find(said, clusters=dict.fromkeys(("c0", "c1", "c2"), "amber"))
    ledger.append([proposing(one)], now=NOON)
    return ledger


def accept(ledger: Ledger, expert: str, definition: str = "CD45+, DAPI-, CK-", class_id: str = "cd45ev") -> str:
    return vote(ledger, class_id, expert=expert, accepts=True, definition=definition, why="seen", now=NOON)


def reject(ledger: Ledger, expert: str) -> str:
    return vote(ledger, "cd45ev", expert=expert, accepts=False, definition="", why="dust", now=NOON)


def test_one_expert_is_not_enough_and_the_second_makes_the_class(ledger: Ledger) -> None:
    assert "second expert" in accept(ledger, "anna")
    assert "cd45ev" not in [one.class_id for one in classes_of(ledger.events())]
    assert "is a class now" in accept(ledger, "ben", definition="")
    added = list(ledger.events("class_added"))[-1]
    assert added.body["authors"] == ["anna", "ben"]
    assert added.body["definition"] == "CD45+, DAPI-, CK-"
    assert (added.by, added.at) == ("anna and ben", NOON.isoformat())
    assert aliases_of(ledger.events()) == {"vesicle": "cd45ev"}
    assert [one.status for one in ballots_of(ledger.events())] == ["accepted"]


def test_the_same_expert_twice_is_one_expert(ledger: Ledger) -> None:
    accept(ledger, "anna")
    with pytest.raises(ProtocolBreach, match="two different experts"):
        accept(ledger, "anna")
    assert sum(1 for _ in ledger.events("class_vote")) == 1


def test_who_is_not_registered_has_no_vote(ledger: Ledger) -> None:
    with pytest.raises(ProtocolBreach, match="'stranger': not registered"):
        accept(ledger, "stranger")


def test_a_class_without_a_definition_is_not_accepted(ledger: Ledger) -> None:
    with pytest.raises(BadInput, match="a definition is missing"):
        accept(ledger, "anna", definition="  ")
    assert not list(ledger.events("class_vote"))


def test_experts_of_two_minds_wait_for_a_third(ledger: Ledger) -> None:
    accept(ledger, "anna")
    assert "second expert" in reject(ledger, "ben")
    assert [one.status for one in ballots_of(ledger.events())] == ["open"]
    assert "was rejected by ben and cleo" in reject(ledger, "cleo")
    assert [one.status for one in ballots_of(ledger.events())] == ["rejected"]


def test_what_was_decided_is_neither_decided_nor_proposed_again(ledger: Ledger) -> None:
    for expert in ("anna", "ben"):
        reject(ledger, expert)
    with pytest.raises(BadInput, match="was rejected already"):
        accept(ledger, "cleo")
    assert {"cd45ev", "vesicle", "ctc"} <= known_names(ledger.events())
    assert find(SAID, AGREED, known=known_names(ledger.events())) == []


def test_what_nobody_proposed_cannot_be_accepted(ledger: Ledger) -> None:
    with pytest.raises(BadInput, match="nobody proposed it; open proposals are cd45ev"):
        accept(ledger, "anna", class_id="martian")
