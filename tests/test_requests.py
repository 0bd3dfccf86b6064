"""What people sign on the dashboard."""

import json
from pathlib import Path

import pytest
from factories import NOON, a_ledger

from ctcml.errors import BadInput, BrokenRecord, ProtocolBreach
from ctcml.ledger import Draft
from ctcml.requests import append_request, read_requests, require_signed_by, waiting_requests

BODY = {"class_id": "cd45ev", "definition": "CD45+ alone", "reason": "seen"}


def ask(path: Path, password: str = "of-anna", **more: str) -> str:
    given = {"by": "anna", "action": "accept_class", **more}
    return append_request(path, password=password, body=BODY, now=NOON, **given)


def test_a_request_is_signed_with_a_password_that_is_written_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "ledger" / "requests.jsonl"
    number = ask(path)
    (one,) = read_requests(path)
    assert (one.request, one.by, one.action, one.body) == (number, "anna", "accept_class", BODY)
    assert "of-anna" not in path.read_text()
    require_signed_by(one, "of-anna")
    for password in ("of-ben", ""):
        with pytest.raises(ProtocolBreach, match="not signed with the password of 'anna'"):
            require_signed_by(one, password)


@pytest.mark.parametrize(
    "change", [{"by": "ben"}, {"action": "reject_class"}, {"body": {"class_id": "dust"}}, {"at": "2030"}]
)
def test_a_request_that_was_changed_afterwards_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "requests.jsonl"
    ask(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change) + "\n")
    with pytest.raises(ProtocolBreach):
        require_signed_by(read_requests(path)[0], "of-anna")


def test_what_was_carried_out_waits_no_more(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    first, second = ask(path), ask(path)
    done = Draft(kind="request", by="anna", body={"request": first, "action": "accept_class", "outcome": "done"})
    ledger = a_ledger(tmp_path / "l.jsonl", done)
    assert [one.request for one in waiting_requests(path, ledger.events())] == [second]


def test_a_line_torn_by_a_crash_is_passed_over_and_the_next_request_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    ask(path)
    path.write_bytes(path.read_bytes() + b'{"request": "tor')
    assert len(read_requests(path)) == 1
    ask(path)
    assert len(read_requests(path)) == 2


def test_an_incomplete_request_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    for more in ({"by": " "}, {"password": ""}, {"action": "launch"}):
        with pytest.raises(BadInput, match="expected one of"):
            ask(path, **more)
    assert not path.exists()


def test_a_line_of_somebody_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text('{"a": 1}\n')
    with pytest.raises(BrokenRecord, match="line 1 is not a request"):
        read_requests(path)
