"""The readers' desk: a protocol that follows the class registry, and decisions that were signed elsewhere."""

from pathlib import Path
from typing import Any

import pytest
from factories import KEY, NOON, a_historic, a_ledger, a_patient, a_queued, a_sample, named_by_both, people

from ctcml.class_desk import ballots_of
from ctcml.class_evidence import write_evidence
from ctcml.ledger import Ledger
from ctcml.requests import Request, append_request
from ctcml.settlement import settle_readings
from ctcml.workspace import Workspace
from labelstudio.desk import class_decisions, execute_requests, forget_pictures, renew_protocol
from labelstudio.protocol import show_examples
from labelstudio.rounds import server_home
from labelstudio.server import login_for, read_login

NAMED = ["c0", "c1"]
LABELLED = ["old0", "old1", "old2"]


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """Three people with logins, labelled cells, and a class that two of them proposed."""
    ws = Workspace(tmp_path / "lab")
    a_sample(ws, [*NAMED, *LABELLED])
    historic, read = a_historic(*LABELLED), named_by_both(*NAMED, readers=("anna", "ben"))
    registered = people("anna", "ben", adjudicators=("zoe",))
    queued = a_queued(*NAMED, readers=("anna", "ben"))
    ledger = a_ledger(ws.ledger, a_patient("p1", "train"), *registered, *historic, *queued, *read)
    settle_readings(ledger, rule="adjudicate", check_share=0, new_class_min=2, key=KEY, now=NOON)
    for name in ("anna", "ben", "zoe"):
        login_for(name, server_home(ws, name))
    return ws


def password(ws: Workspace, name: str) -> str:
    return read_login(server_home(ws, name) / "login.json").reader_password


def ask(ws: Workspace, name: str, *, signed_with: str | None = None, action: str = "accept_class", **body: Any) -> str:
    wish = {"class_id": "cd45ev", "definition": "CD45+ alone", "reason": "seen"} | body
    said = signed_with or password(ws, name)
    return append_request(ws.requests, by=name, password=said, action=action, body=wish, now=NOON)


def execute(ws: Workspace) -> list[str]:
    return execute_requests(ws, class_decisions(ws, look_alikes=0, seed=1, now=NOON), now=NOON)


def status(ws: Workspace) -> str:
    return ballots_of(Ledger(ws.ledger).events())[0].status


def test_two_signed_requests_make_a_class_and_each_is_carried_out_once(ws: Workspace) -> None:
    asked = [ask(ws, "anna"), ask(ws, "zoe", definition="")]
    told = execute(ws)
    assert [line.split(":")[0] for line in told] == ["accept_class by anna", "accept_class by zoe"]
    assert status(ws) == "accepted"
    assert [event.body["request"] for event in Ledger(ws.ledger).events("class_vote")] == asked
    assert [event.body["request"] for event in Ledger(ws.ledger).events("request")] == asked
    length = Ledger(ws.ledger).head().length
    assert execute(ws) == []
    assert Ledger(ws.ledger).head().length == length


def test_a_request_signed_with_another_password_is_refused_and_kept_with_its_reason(ws: Workspace) -> None:
    ask(ws, "ben", signed_with=password(ws, "anna"))
    (line,) = execute(ws)
    assert "refused: request" in line
    assert "not signed with the password of 'ben'" in line
    assert list(Ledger(ws.ledger).events("class_vote")) == []
    assert execute(ws) == []


def test_a_request_of_somebody_who_is_not_registered_is_refused(ws: Workspace) -> None:
    ask(ws, "../anna", signed_with="x")
    assert "refused: '../anna' is not registered" in execute(ws)[0]


def test_a_run_killed_between_vote_and_receipt_does_not_vote_twice(ws: Workspace) -> None:
    ask(ws, "anna")
    execute(ws)
    ledger = Ledger(ws.ledger)
    kept = [line for line in ledger.path.read_text().splitlines(keepends=True) if '"kind":"request"' not in line]
    ledger.path.write_text("".join(kept))
    assert execute(ws) == ["accept_class by anna: done before"]
    assert sum(1 for _ in ledger.events("class_vote")) == 1


def test_a_signed_promotion_waits_for_a_flow_that_can_carry_it_out_and_is_done_once(ws: Workspace) -> None:
    body = {"version": "2", "reason": "finds more"}
    for name in ("anna", "ben"):
        append_request(ws.requests, by=name, password=password(ws, "anna"), action="promote", body=body, now=NOON)
    assert execute(ws) == []
    carried: list[str] = []

    def promote(one: Request) -> str:
        carried.append(f"{one.body['version']} by {one.by}")
        return "promoted"

    told = execute_requests(ws, {"promote": promote}, now=NOON)
    assert told[0] == "promote by anna: promoted"
    assert "refused: request" in told[1]  # ben, with anna's password
    assert execute_requests(ws, {"promote": promote}, now=NOON) == []
    assert carried == ["2 by anna"]


def test_a_rejection_needs_no_definition(ws: Workspace) -> None:
    for name in ("anna", "ben"):
        ask(ws, name, action="reject_class", definition="")
    execute(ws)
    assert status(ws) == "rejected"


def test_the_protocol_is_written_anew_when_a_class_is_proposed_or_added_and_not_otherwise(ws: Workspace) -> None:
    assert renew_protocol(ws, seed=1, now=NOON)
    assert not renew_protocol(ws, seed=1, now=NOON)
    text = (ws.review / "reading_protocol.md").read_text()
    assert "CTC" in text
    assert "CD45 alone" not in text
    assert [file.name for file in (ws.review / "examples").iterdir()] == ["tdev.png"]
    for name in ("anna", "ben"):
        ask(ws, name, definition="CD45 alone")
    execute(ws)
    assert renew_protocol(ws, seed=1, now=NOON)
    assert "CD45 alone" in (ws.review / "reading_protocol.md").read_text()


def test_cells_that_are_shown_as_examples_are_named_in_the_ledger_and_never_come_back_as_hidden_repeats(
    ws: Workspace,
) -> None:
    renew_protocol(ws, seed=1, now=NOON)
    (event,) = Ledger(ws.ledger).events("protocol_renewed")
    assert event.body["cells"] == LABELLED


def test_a_withdrawal_takes_galleries_and_examples_away_also_from_the_readers_and_they_are_drawn_anew(
    ws: Workspace,
) -> None:
    renew_protocol(ws, seed=1, now=NOON)
    write_evidence(ws)
    shown = server_home(ws, "anna") / "pictures" / "cells"
    show_examples(ws.review, shown.parent)
    assert list(shown.glob("example-*.png"))
    forget_pictures(ws)
    assert not list(ws.review.rglob("*.png")) + list(shown.glob("*.png"))
    assert renew_protocol(ws, seed=1, now=NOON)
    assert (ws.review / "examples" / "tdev.png").exists()
