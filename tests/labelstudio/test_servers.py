"""Two real Label Studio servers: pushed to, answered, pulled from, and attacked a little."""

import json
import os
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from reading_rooms import CLASSES, KEY, VENV, Room, furnish, open_rooms, uids

from ctcml.errors import BadInput, BrokenRecord, ProtocolBreach, ServiceDown
from ctcml.records import UNREADABLE, CellClass, Confidence
from ctcml.services import Service, Services, clean_environment, free_port, running, stop_recorded
from labelstudio.client import (
    OVERLAP,
    Answer,
    ProjectGone,
    Pull,
    ReadingQueue,
    account,
    answer,
    ensure_project,
    held,
    open_reads,
    progress,
    pull,
    push,
    remove,
)
from labelstudio.server import (
    LabelStudioServer,
    Login,
    adopt_server,
    label_studio_server,
    prepare_template,
    provision,
    read_login,
    revive_rooms,
    start_servers,
)
from labelstudio.simulated_readers import answer_all
from labelstudio.tasks import NEW_CLASS, build_result, build_task, read_uid

CELLS = 12
WHERE = {"venv_python": VENV / "bin" / "python", "template": VENV / "template"}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Room]]:
    with open_rooms(tmp_path_factory.mktemp("rooms"), ["reader-a", "reader-b"], cells=CELLS) as opened:
        yield opened


@pytest.fixture
def a(rooms: dict[str, Room]) -> Room:
    return rooms["reader-a"]


@pytest.fixture
def b(rooms: dict[str, Room]) -> Room:
    return rooms["reader-b"]


def _project(room: Room, title: str, cells: int) -> Room:
    """A fresh project on a running server, so that tests do not see each other's answers."""
    project_id = ensure_project(
        room.login.base_url, room.login.admin_token, title=title, classes=CLASSES, pictures=room.server.pictures
    )
    queue = replace(room.queue, project_id=project_id)
    wanted = [read_uid(KEY, f"{title} {number}", queue.reader, "1") for number in range(cells)]
    push(queue, [build_task(uid) for uid in wanted])
    return Room(room.server, room.login, queue, wanted)


def _status(room: Room, path: str, token: str) -> int:
    headers = {"Authorization": f"Token {token}"}
    return httpx.get(room.login.base_url + path, headers=headers, trust_env=False, timeout=30).status_code


def test_tasks_are_read_in_the_order_in_which_they_were_pushed(a: Room) -> None:
    assert open_reads(a.queue) == uids("reader-a", CELLS)


def test_pushing_again_adds_nothing_and_pushing_more_adds_the_rest(a: Room) -> None:
    room = _project(a, "push again", 3)
    more = [build_task(read_uid(KEY, "one more", "reader-a", "1"))]
    assert push(room.queue, [build_task(uid) for uid in room.uids]) == 0
    assert push(room.queue, [build_task(uid) for uid in room.uids] + more + more) == 1
    assert len(open_reads(room.queue)) == 4


def test_more_tasks_than_one_page_are_pushed_and_found(a: Room) -> None:
    room = _project(a, "many", 1201)
    assert open_reads(room.queue) == room.uids
    assert push(room.queue, [build_task(uid) for uid in room.uids]) == 0


def test_nothing_beyond_read_uid_and_pictures_can_be_pushed(a: Room) -> None:
    with pytest.raises(ProtocolBreach, match="score"):
        push(a.queue, [build_task(a.uids[0]) | {"score": "0.93"}])


def test_a_task_held_twice_is_taken_off_once_by_the_next_push_and_never_the_answered_one(a: Room) -> None:
    room = _project(a, "twice", 4)
    tasks, path = [build_task(uid) for uid in room.uids], f"/api/projects/{room.queue.project_id}/import"
    _post(room, path, [{"data": task} for task in tasks[:3]])
    first = {task["data"]["read_uid"]: task["id"] for task in reversed(_by_number(room))}
    second = {task["data"]["read_uid"]: task["id"] for task in _by_number(room)}
    _answer_task(room, second[room.uids[1]])
    _answer_task(room, first[room.uids[2]])
    assert push(room.queue, tasks) == 0
    left = [first[room.uids[0]], first[room.uids[2]], first[room.uids[3]], second[room.uids[1]]]
    assert [task["id"] for task in _by_number(room)] == sorted(left)
    assert set(_labels(pull(room.queue, CLASSES))) == {room.uids[1], room.uids[2]}


def test_a_task_held_and_answered_twice_is_for_a_person_to_look_at(a: Room) -> None:
    room = _project(a, "twice and answered", 2)
    _post(room, f"/api/projects/{room.queue.project_id}/import", [{"data": build_task(room.uids[0])}])
    for task in _by_number(room):
        _answer_task(room, task["id"])
    with pytest.raises(BrokenRecord, match="1 held and answered twice"):
        push(room.queue, [build_task(uid) for uid in room.uids])
    assert len(_by_number(room)) == 3


def _by_number(room: Room) -> list[dict[str, Any]]:
    return sorted(_tasks_of(room), key=lambda task: int(task["id"]))


def _answer_task(room: Room, number: int) -> None:
    _post(room, f"/api/tasks/{number}/annotations/", {"result": build_result("ctc")}, token=room.login.reader_token)


def test_answers_given_as_the_reader_come_back_as_readings(a: Room) -> None:
    room = _project(a, "answers", 3)
    given = {
        room.uids[0]: Answer(label="ctc"),
        room.uids[1]: Answer(label=NEW_CLASS, new_name="CD45EV"),
    }
    assert answer(room.as_reader, given) == 2
    pulled = pull(room.queue, CLASSES)
    assert pulled.rejected == []
    assert {one.read_uid: (one.label, one.new_name) for one in pulled.valid} == {
        room.uids[0]: ("ctc", None),
        room.uids[1]: ("new:cd45ev", "CD45EV"),
    }
    assert {one.server for one in pulled.valid} == {a.login.base_url}
    assert pulled.emptied == room.uids[2:]
    assert open_reads(room.queue) == room.uids[2:]
    assert progress(room.queue) == (2, 3)


def test_answering_again_changes_nothing(a: Room) -> None:
    room = _project(a, "answer again", 2)
    assert answer(room.as_reader, {uid: Answer(label="ctc") for uid in room.uids}) == 2
    assert answer(room.as_reader, {uid: Answer(label="wbc") for uid in room.uids}) == 0
    assert {one.label for one in pull(room.queue, CLASSES).valid} == {"ctc"}


def test_answering_what_was_never_pushed_is_refused_before_anything_is_sent(a: Room) -> None:
    room = _project(a, "unknown read", 1)
    with pytest.raises(BadInput, match="push them first"):
        answer(room.as_reader, {room.uids[0]: Answer(label="ctc"), "f" * 24: Answer(label="ctc")})
    assert progress(room.queue) == (0, 1)


def test_an_answer_by_another_account_is_rejected(a: Room) -> None:
    room = _project(a, "foreign", 2)
    answer(room.queue, {room.uids[0]: Answer(label="ctc")})  # the administrator plays reader
    answer(room.as_reader, {room.uids[1]: Answer(label="ctc")})
    pulled = pull(room.queue, CLASSES)
    assert [one.read_uid for one in pulled.valid] == [room.uids[1]]
    assert [(one.read_uid, "touched by account" in one.reason) for one in pulled.rejected] == [(room.uids[0], True)]


def test_a_reader_cannot_be_impersonated_by_editing_his_answer(a: Room) -> None:
    room = _project(a, "edited", 1)
    answer(room.as_reader, {room.uids[0]: Answer(label="ctc")})
    [mine] = pull(room.queue, CLASSES).valid
    httpx.patch(
        f"{a.login.base_url}/api/annotations/{mine.annotation_id}/",
        json={"result": build_result("wbc")},
        headers={"Authorization": f"Token {a.login.admin_token}"},
        trust_env=False,
        timeout=30,
    ).raise_for_status()
    pulled = pull(room.queue, CLASSES)
    assert (pulled.valid, len(pulled.rejected)) == ([], 1)


def test_a_class_outside_the_registry_is_rejected_though_the_server_takes_it(a: Room) -> None:
    room = _project(a, "martians", 1)
    answer(room.as_reader, {room.uids[0]: Answer(label="martian")})
    pulled = pull(room.queue, CLASSES)
    assert (pulled.valid, ["martian" in one.reason for one in pulled.rejected]) == ([], [True])


def test_a_class_added_to_the_registry_appears_on_the_page_and_its_answers_count(a: Room) -> None:
    room = _project(a, "new class", 1)
    more = [*CLASSES, CellClass(class_id="cd45ev", name="CD45EV", definition="leukocyte vesicle")]
    arguments = {"title": "new class", "pictures": a.server.pictures}
    again = ensure_project(a.login.base_url, a.login.admin_token, classes=more, **arguments)  # type: ignore[arg-type]
    assert again == room.queue.project_id
    page = httpx.get(
        f"{a.login.base_url}/api/projects/{again}",
        headers={"Authorization": f"Token {a.login.admin_token}"},
        trust_env=False,
        timeout=30,
    ).json()["label_config"]
    assert 'alias="cd45ev"' in page
    answer(room.as_reader, {room.uids[0]: Answer(label="cd45ev")})
    assert [one.label for one in pull(room.queue, more).valid] == ["cd45ev"]


def _post(room: Room, path: str, body: object, *, method: str = "POST", token: str = "") -> httpx.Response:
    headers = {"Authorization": f"Token {token or room.login.admin_token}"}
    url = room.login.base_url + path
    done = httpx.request(method, url, json=body, headers=headers, trust_env=False, timeout=60)
    done.raise_for_status()
    return done


def _labels(pulled: Pull) -> dict[str, str]:
    return {one.read_uid: one.label for one in pulled.valid}


def test_confidence_and_reasons_come_back_as_they_were_given(a: Room) -> None:
    room = _project(a, "confidence", 2)
    said = Answer(label="other", confidence=Confidence.DOUBTFUL, reasons=("fragment", "debris"))
    answer(room.as_reader, {room.uids[0]: said, room.uids[1]: Answer(label=UNREADABLE)})
    found = {one.read_uid: (one.label, one.confidence, one.reasons) for one in pull(room.queue, CLASSES).valid}
    assert found == {
        room.uids[0]: ("other", Confidence.DOUBTFUL, ("fragment", "debris")),
        room.uids[1]: (UNREADABLE, None, ()),
    }


def test_a_pull_brings_what_was_made_changed_or_deleted_since_the_last_one_and_nothing_else(
    a: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelstudio.client.OVERLAP", timedelta(seconds=0))
    room = _project(a, "incremental", 7)
    made, changed, deleted, emptied, drafted, untouched, open_one = room.uids
    answer(room.as_reader, {uid: Answer(label="ctc") for uid in (changed, deleted, emptied, untouched)})
    time.sleep(1.1)  # the server's Date counts in seconds
    first = pull(room.queue, CLASSES)
    assert sorted(first.emptied) == sorted([made, drafted, open_one])
    of = {one.read_uid: one.annotation_id for one in first.valid}
    task_of = {task["data"]["read_uid"]: task["id"] for task in _tasks_of(room)}
    time.sleep(1.1)
    answer(room.as_reader, {made: Answer(label="wbc")})
    mine = {"method": "PATCH", "token": room.login.reader_token}
    _post(room, f"/api/annotations/{of[changed]}/", {"result": build_result("wbc")}, **mine)
    _post(room, f"/api/annotations/{of[deleted]}/", None, method="DELETE", token=room.login.reader_token)
    chosen = {"selectedItems": {"all": False, "included": [task_of[emptied]]}}
    action = f"/api/dm/actions/?id=delete_tasks_annotations&project={room.queue.project_id}"
    _post(room, action, chosen, token=room.login.reader_token)
    _post(room, f"/api/tasks/{task_of[drafted]}/drafts", {"result": build_result("wbc")}, token=room.login.reader_token)
    second = pull(room.queue, CLASSES, since=first.until)
    assert (_labels(second), second.rejected) == ({made: "wbc", changed: "wbc"}, [])
    assert {deleted, emptied} <= set(second.emptied) <= {deleted, emptied, drafted}
    assert second.until > first.until
    time.sleep(1.1)
    third = pull(room.queue, CLASSES, since=second.until)
    last = pull(room.queue, CLASSES, since=third.until + timedelta(seconds=1))
    assert (last.valid, last.rejected, last.emptied) == ([], [], [])


def _tasks_of(room: Room) -> list[dict[str, Any]]:
    asked = f"/api/tasks/?project={room.queue.project_id}&page_size=100"
    return list(_post(room, asked, None, method="GET").json()["tasks"])


def test_the_next_watermark_lies_before_the_servers_clock_so_that_nothing_is_missed(a: Room) -> None:
    before = datetime.now(UTC)
    pulled = pull(a.queue, CLASSES)
    assert before - OVERLAP - timedelta(seconds=2) < pulled.until <= datetime.now(UTC) - OVERLAP
    assert pulled.until.utcoffset() == timedelta(0)


def test_of_a_task_held_twice_only_the_first_counts_in_every_pull(a: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelstudio.client.OVERLAP", timedelta(seconds=0))
    room = _project(a, "twice answered", 1)
    (uid,) = room.uids
    time.sleep(1.1)
    before = pull(room.queue, CLASSES).until
    _post(room, f"/api/projects/{room.queue.project_id}/import", [{"data": build_task(uid)}])
    first, second = sorted(task["id"] for task in _tasks_of(room))
    body = {"result": build_result("wbc")}
    _post(room, f"/api/tasks/{second}/annotations/", body, token=room.login.reader_token)
    for since in (None, before):
        pulled = pull(room.queue, CLASSES, since=since)
        assert (pulled.valid, [one.reason for one in pulled.rejected]) == (
            [],
            [f"the task exists twice; delete task {second} of {a.login.base_url}, the second one"],
        )
        assert (pulled.rejected[0].raw, pulled.rejected[0].read_uid) == (build_result("wbc"), uid)
    answer(room.as_reader, {uid: Answer(label="ctc")})
    for since in (None, before):
        pulled = pull(room.queue, CLASSES, since=since)
        assert (_labels(pulled), len(pulled.rejected)) == ({uid: "ctc"}, 1)
    _post(room, f"/api/tasks/{first}/", None, method="DELETE")
    assert _labels(pull(room.queue, CLASSES)) == {uid: "wbc"}


def test_a_rejected_answer_keeps_what_was_said_for_whoever_looks_into_it(a: Room) -> None:
    room = _project(a, "raw", 1)
    answer(room.as_reader, {room.uids[0]: Answer(label="martian", confidence=Confidence.SURE)})
    (one,) = pull(room.queue, CLASSES).rejected
    assert one.raw == build_result("martian", confidence=Confidence.SURE)
    assert isinstance(one.annotation_id, int)
    assert one.answered_at.startswith("20")


def test_a_project_tells_which_reads_it_holds(a: Room) -> None:
    room = _project(a, "held", 3)
    assert held(room.queue, [*room.uids[1:], "f" * 24]) == set(room.uids[1:])
    assert held(room.queue, []) == set()


def test_unread_tasks_can_be_taken_off_and_answered_ones_stay(a: Room) -> None:
    room = _project(a, "remove", 6)
    answered, kept, *gone = room.uids
    answer(room.as_reader, {answered: Answer(label="ctc")})
    assert remove(room.queue, [answered, *gone, "f" * 24]) == 4
    assert held(room.queue, room.uids) == {answered, kept}
    assert remove(room.queue, [answered, *gone]) == 0
    assert _labels(pull(room.queue, CLASSES)) == {answered: "ctc"}
    assert open_reads(room.queue) == [kept]
    assert push(room.queue, [build_task(uid) for uid in gone]) == 4  # given to somebody else and back
    assert remove(room.queue, [kept, *gone]) == 5  # the last open ones


def test_an_answer_counts_though_the_server_died_before_it_dated_and_counted_it(
    a: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Label Studio writes an annotation first, and the date and counters of its task after it."""
    monkeypatch.setattr("labelstudio.client.OVERLAP", timedelta(seconds=0))
    room = _project(a, "counters", 2)
    answered, waiting = room.uids
    time.sleep(1.1)
    before = pull(room.queue, CLASSES).until
    answer(room.as_reader, {answered: Answer(label="ctc")})
    with closing(sqlite3.connect(a.server.service.home / "data" / "label_studio.sqlite3")) as database, database:
        ids = [task["id"] for task in _tasks_of(room)]
        undo = (
            "UPDATE task SET total_annotations = 0, is_labeled = 0, updated_at = created_at, updated_by_id = NULL"
            " WHERE id IN (?, ?)"
        )
        assert database.execute(undo, ids).rowcount == 2
    for since in (None, before):
        assert _labels(pull(room.queue, CLASSES, since=since)) == {answered: "ctc"}
    assert open_reads(room.queue) == [waiting]
    assert progress(room.queue) == (1, 2)
    assert remove(room.queue, room.uids) == 1
    assert held(room.queue, room.uids) == {answered}


def test_what_a_reader_changed_of_the_settings_is_set_back(a: Room) -> None:
    room = _project(a, "settings", 1)
    path = f"/api/projects/{room.queue.project_id}/"
    _post(room, path, {"show_skip_button": True, "maximum_annotations": 3}, method="PATCH", token=a.login.reader_token)
    arguments = {"title": "settings", "classes": CLASSES, "pictures": a.server.pictures}
    where = (a.login.base_url, a.login.admin_token)
    ensure_project(*where, instructions="<h1>How to read</h1>", **arguments)  # type: ignore[arg-type]
    now = _post(room, path, None, method="GET").json()
    assert (now["show_skip_button"], now["maximum_annotations"]) == (False, 1)
    assert (now["expert_instruction"], now["show_instruction"]) == ("<h1>How to read</h1>", False)
    ensure_project(*where, **arguments)  # type: ignore[arg-type]
    assert _post(room, path, None, method="GET").json()["expert_instruction"] == "<h1>How to read</h1>"


def test_a_project_that_was_deleted_is_named_and_pushing_to_a_new_one_is_advised(a: Room) -> None:
    room = _project(a, "gone", 2)
    _post(room, f"/api/projects/{room.queue.project_id}/", None, method="DELETE")
    task, ctc = build_task(room.uids[0]), {room.uids[0]: Answer(label="ctc")}
    calls: list[Callable[[ReadingQueue], object]] = [
        lambda q: pull(q, CLASSES),
        lambda q: push(q, [task]),
        lambda q: held(q, room.uids),
        lambda q: remove(q, room.uids),
        lambda q: answer(q, ctc),
        open_reads,
        progress,
    ]
    for call in calls:
        with pytest.raises(ProjectGone, match=rf"project {room.queue.project_id} is gone; push again") as caught:
            call(room.queue)
        assert "\n" not in str(caught.value)


ODD_SERVER = """
import http.server, sys, time
class Odd(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/slow"):
            time.sleep(5)
        missing = self.path.startswith("/missing")
        self.send_response(404 if missing else 200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><html>Welcome" + b" to our page" * 100 + b"</html>")
    do_POST = do_PATCH = do_GET
    log_message = lambda *args: None
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Odd).serve_forever()
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that is not Label Studio: it answers with pages, late below /slow, not below /missing."""
    home, port = tmp_path_factory.mktemp("odd"), free_port("127.0.0.1")
    command = [sys.executable, "-c", ODD_SERVER, str(port)]
    service = Service("odd", command, clean_environment(), home, "127.0.0.1", port, "/")
    with Services(home / "services.json") as services:
        services.start(service)
        yield service.url


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("", "its answer is not understood"),
        ("/slow", "no answer in time"),
        ("/missing", "answered 404 .*see the server"),
    ],
    ids=["pages", "slow", "404"],
)
def test_a_server_that_is_slow_or_something_else_is_one_line_that_says_where(
    odd: str, place: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelstudio.client.PATIENCE_S", 1.0)
    queue = ReadingQueue(base_url=odd + place, token="0" * 40, project_id=1, reader="a", reader_user_id=2)
    calls: list[Callable[[ReadingQueue], object]] = [
        lambda q: pull(q, CLASSES),
        lambda q: push(q, [build_task("a" * 24)]),
        lambda q: held(q, ["a" * 24]),
        lambda q: answer(q, {"a" * 24: Answer(label="ctc")}),
        lambda q: account(q.base_url, q.token),
        lambda q: ensure_project(q.base_url, q.token, title="a title", classes=CLASSES, pictures=tmp_path),
        progress,
    ]
    for call in calls:
        with pytest.raises(ServiceDown, match=said) as caught:
            call(queue)
        assert not isinstance(caught.value, ProjectGone)
        assert odd in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600


def test_a_wrong_token_is_one_line_that_says_where(a: Room) -> None:
    with pytest.raises(ServiceDown, match="check the token") as caught:
        pull(replace(a.queue, token="0" * 40), CLASSES)
    assert a.login.base_url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_one_line_that_says_where(a: Room) -> None:
    nobody = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    calls: list[Callable[[ReadingQueue], object]] = [
        lambda q: pull(q, CLASSES),
        lambda q: push(q, [build_task("a" * 24)]),
        progress,
    ]
    for call in calls:
        with pytest.raises(ServiceDown, match="start the server") as caught:
            call(replace(a.queue, base_url=nobody))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["/api/projects", "/api/tasks/1/annotations/", "/api/projects/1/export", "/api/users"])
def test_no_token_of_one_readers_server_opens_anothers(a: Room, b: Room, path: str) -> None:
    assert _status(a, path, a.login.admin_token) == 200
    assert _status(a, path, b.login.reader_token) == 401
    assert _status(a, path, b.login.admin_token) == 401


def test_a_login_session_at_one_server_is_worth_nothing_at_the_other(a: Room, b: Room) -> None:
    with httpx.Client(base_url=b.login.base_url, trust_env=False, timeout=30) as http:
        http.get("/user/login/")
        form = {"email": b.login.reader_email, "password": b.login.reader_password}
        token = http.cookies["csrftoken"]
        sent = http.post(
            "/user/login/", data=form | {"csrfmiddlewaretoken": token}, headers={"Referer": b.login.base_url}
        )
        assert sent.status_code == 302
        assert http.get("/api/projects").status_code == 200
        cookies = dict(http.cookies)
    assert (
        httpx.get(a.login.base_url + "/api/projects", cookies=cookies, trust_env=False, timeout=30).status_code == 401
    )


def test_servers_share_neither_secret_nor_account(a: Room, b: Room) -> None:
    secrets = [(room.server.service.home / "data" / ".env").read_text() for room in (a, b)]
    assert secrets[0] != secrets[1]
    assert not (VENV / "template" / ".env").exists()
    with sqlite3.connect(f"file:{VENV / 'template' / 'label_studio.sqlite3'}?mode=ro", uri=True) as database:
        assert database.execute("SELECT count(*) FROM htx_user").fetchone() == (0,)
    database.close()


def test_pictures_are_served_to_the_reader_and_to_nobody_else(a: Room, b: Room) -> None:
    picture = build_task(a.uids[0])["auto"]
    assert _status(a, picture, a.login.reader_token) == 200
    assert _status(a, picture, b.login.reader_token) == 401
    assert _status(b, picture, b.login.reader_token) == 404
    assert _status(a, "/data/local-files/?d=login.json", a.login.reader_token) == 404


def test_nobody_can_sign_up_without_an_invitation(a: Room) -> None:
    with httpx.Client(base_url=a.login.base_url, trust_env=False, timeout=30) as http:
        http.get("/user/signup/")
        form = {"email": "x@y.org", "password": "long enough", "csrfmiddlewaretoken": http.cookies["csrftoken"]}
        assert http.post("/user/signup/", data=form, headers={"Referer": a.login.base_url}).status_code == 403


def test_the_logins_are_for_the_owners_eyes_only(a: Room) -> None:
    assert a.server.login_file.stat().st_mode & 0o777 == 0o600
    assert a.server.service.home.stat().st_mode & 0o077 == 0
    assert a.login.reader_password not in repr(a.login)
    assert a.login.admin_token not in repr(a.queue)
    assert a.login.admin_token not in a.server.service.log.read_text()


def test_the_server_listens_on_its_own_loopback_address_alone(a: Room, b: Room) -> None:
    assert [room.server.service.host for room in (a, b)] == ["127.0.0.1", "127.0.0.2"]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", b.server.service.port)) != 0


def test_provisioning_again_finds_the_same_account(a: Room) -> None:
    assert provision(a.server) == a.login


def test_a_port_that_is_taken_is_refused_since_label_studio_would_silently_take_the_next(
    a: Room, tmp_path: Path
) -> None:
    with pytest.raises(ServiceDown, match=str(a.server.service.port)):
        label_studio_server("reader-c", home=tmp_path, host="127.0.0.3", port=a.server.service.port, **WHERE)


def test_another_readers_server_is_recognised_before_anything_is_sent(a: Room, b: Room, tmp_path: Path) -> None:
    stranger = replace(b.server, service=replace(a.server.service, home=b.server.service.home))
    with pytest.raises(ServiceDown, match="401"):
        provision(stranger)


def test_simulated_readers_answer_two_servers_side_by_side(a: Room, b: Room) -> None:
    truths = [{uid: ["ctc", "cd45ev"][place % 2] for place, uid in enumerate(room.uids)} for room in (a, b)]
    heard: list[tuple[str, int, int]] = []
    done = answer_all(
        [a.as_reader, b.as_reader],
        truths,
        classes=CLASSES,
        reader_error=0.0,
        rng=np.random.default_rng(1),
        told=lambda reader, done, whole: heard.append((reader, done, whole)),
    )
    assert done == 2 * CELLS
    assert {("reader-a", CELLS, CELLS), ("reader-b", CELLS, CELLS)} <= set(heard)
    for room, truth in zip((a, b), truths, strict=True):
        pulled = pull(room.queue, CLASSES)
        assert pulled.rejected == []
        assert {one.read_uid: one.label.removeprefix("new:") for one in pulled.valid} == truth


def test_a_template_of_this_version_is_left_as_it_is(rooms: dict[str, Room]) -> None:
    before = (VENV / "template" / "label_studio.sqlite3").stat().st_mtime_ns
    prepare_template(VENV / "bin" / "python", VENV / "template")
    assert (VENV / "template" / "label_studio.sqlite3").stat().st_mtime_ns == before


def test_a_missing_environment_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ServiceDown, match="make setup"):
        prepare_template(tmp_path / "bin" / "python", tmp_path / "template")


def test_a_missing_template_is_one_line(tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    with pytest.raises(ServiceDown, match="make setup"):
        label_studio_server(
            "reader-a",
            home=tmp_path / "a",
            host="127.0.0.1",
            port=port,
            venv_python=VENV / "bin" / "python",
            template=tmp_path / "template",
        )


def test_a_damaged_login_is_a_broken_record(tmp_path: Path) -> None:
    file = tmp_path / "login.json"
    for text in ("{", json.dumps({"reader": "a", "nonsense": 1})):
        file.write_text(text)
        with pytest.raises(BrokenRecord, match="login"):
            read_login(file)


def test_nothing_of_the_callers_environment_reaches_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "LABEL_STUDIO_SENTRY_DSN", "https://elsewhere.invalid/1")
    monkeypatch.setitem(os.environ, "PASSWORD", "of somebody")
    template = tmp_path / "template"
    template.mkdir()
    (template / "label_studio.sqlite3").touch()
    server = label_studio_server(
        "reader-a",
        home=tmp_path / "a",
        host="127.0.0.1",
        port=free_port("127.0.0.1"),
        venv_python=Path("python"),
        template=template,
    )
    assert server.service.environment["LABEL_STUDIO_SENTRY_DSN"] == ""
    assert "PASSWORD" not in server.service.environment


def test_a_reader_whose_name_cannot_name_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="rename the reader"):
        label_studio_server(
            "../x", home=tmp_path, host="127.0.0.1", port=1, venv_python=Path("python"), template=tmp_path
        )


def test_a_server_that_was_stopped_in_the_middle_goes_on_with_its_tasks_accounts_and_answers(tmp_path: Path) -> None:
    with open_rooms(tmp_path, ["reader-c"], cells=3) as opened:
        before = opened["reader-c"]
        answer(before.as_reader, {before.uids[0]: Answer(label="ctc")})
    with pytest.raises(ServiceDown, match="start the server"):
        pull(before.queue, CLASSES)
    with open_rooms(tmp_path, ["reader-c"], cells=5) as opened:
        after = opened["reader-c"]
        assert after.queue.project_id == before.queue.project_id
        assert after.login.reader_user_id == before.login.reader_user_id
        assert open_reads(after.queue) == after.uids[1:]
        assert [one.label for one in pull(after.queue, CLASSES).valid] == ["ctc"]


def _kill_server(state: Path, reader: str) -> None:
    services = json.loads(state.read_text())["services"]
    (record,) = [each for each in services if each["name"] == f"labelstudio-{reader}"]
    process = psutil.Process(record["pid"])
    process.kill()
    process.wait(10)


def _address(folder: Path, reader: str) -> tuple[str, int]:
    url = httpx.URL(read_login(folder / reader / "login.json").base_url)
    return url.host, url.port or 0


def test_a_readers_server_comes_back_where_it_was_and_new_readers_get_one_while_the_run_goes_on(tmp_path: Path) -> None:
    prepare_template(**WHERE)
    state, readers = tmp_path / "services.json", ["reader-a", "reader-b"]
    with Services(state, keep=True) as services:
        server = start_servers(services, readers, folder=tmp_path, **WHERE)["reader-b"]
    try:
        before, b = furnish(server, 2), _address(tmp_path, "reader-b")
        answer(before.as_reader, {before.uids[0]: Answer(label="ctc")})
        _kill_server(state, "reader-b")
        with pytest.raises(ServiceDown, match="start the server"):
            pull(before.queue, CLASSES)
        more = [*readers, "reader-c"]
        assert revive_rooms(state, more, folder=tmp_path, **WHERE) == ["reader-b", "reader-c"]
        assert _address(tmp_path, "reader-b") == b
        assert _labels(pull(before.queue, CLASSES)) == {before.uids[0]: "ctc"}
        assert answer(before.as_reader, {before.uids[1]: Answer(label="ctc")}) == 1
        assert [_address(tmp_path, reader)[0] for reader in more] == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        assert furnish(_described(tmp_path, "reader-c", state), 1).queue.reader_user_id > 0
        assert revive_rooms(state, more, folder=tmp_path, **WHERE) == []

        _kill_server(state, "reader-b")
        with socket.socket() as stranger:
            stranger.bind(b)
            stranger.listen()
            assert revive_rooms(state, more, folder=tmp_path, **WHERE) == ["reader-b"]
        host, port = _address(tmp_path, "reader-b")
        assert (host, port != b[1]) == (b[0], True)
    finally:
        stopped = stop_recorded(state)
    assert sorted(stopped) == [f"labelstudio-{reader}" for reader in more]

    c = _address(tmp_path, "reader-c")
    with Services(state) as services:  # reader-a and reader-b have left; a new one comes first
        start_servers(services, ["reader-d", "reader-c"], folder=tmp_path, **WHERE)
        assert _address(tmp_path, "reader-c") == c
        assert _address(tmp_path, "reader-d")[0] == "127.0.0.4"


def _described(folder: Path, reader: str, state: Path) -> LabelStudioServer:
    """A running server, described again as its starter did."""
    login = read_login(folder / reader / "login.json")
    url = httpx.URL(login.base_url)
    assert running(state)[f"labelstudio-{reader}"] == login.base_url
    return LabelStudioServer(
        reader=reader, service=Service("described", [], {}, folder / reader, url.host, url.port or 0, "/health")
    )


def _adopt(room: Room, home: Path, **other: Any) -> Login:
    arguments = {
        "reader": home.name,
        "base_url": room.login.base_url,
        "token": room.login.admin_token,
        "reader_email": room.login.reader_email,
        "pictures": room.server.pictures,
    }
    return adopt_server(home, **arguments | other)


def test_a_laboratorys_own_server_is_read_on_like_one_of_ours(a: Room, tmp_path: Path) -> None:
    login = _adopt(a, tmp_path / "gerda", base_url=a.login.base_url + "/", reader_email=a.login.reader_email.upper())
    assert (login.external, login.base_url, login.reader_user_id) == (True, a.login.base_url, a.login.reader_user_id)
    assert (len(login.reader_password), login.admin_password) == (16, "")  # the first only signs on the dashboard
    assert read_login(tmp_path / "gerda" / "login.json") == login
    assert (tmp_path / "gerda" / "login.json").stat().st_mode & 0o777 == 0o600
    assert a.login.admin_token not in repr(login)
    assert all(project["title"] != "a trial of pictures" for project in _all_projects(a))
    assert not list(a.server.pictures.rglob("*.txt"))
    where = {"classes": CLASSES, "pictures": Path(login.pictures)}
    project_id = ensure_project(login.base_url, login.admin_token, title="adopted", **where)  # type: ignore[arg-type]
    queue = ReadingQueue(
        base_url=login.base_url,
        token=login.admin_token,
        project_id=project_id,
        reader="gerda",
        reader_user_id=login.reader_user_id,
    )
    (uid,) = [read_uid(KEY, "adopted", "gerda", "1")]
    push(queue, [build_task(uid)])
    answer(replace(queue, token=a.login.reader_token), {uid: Answer(label="ctc")})
    assert _labels(pull(queue, CLASSES)) == {uid: "ctc"}


def _all_projects(room: Room) -> list[dict[str, Any]]:
    return list(_post(room, "/api/projects/?page_size=1000", None, method="GET").json()["results"])


def test_a_laboratorys_own_server_is_neither_started_nor_revived(a: Room, tmp_path: Path) -> None:
    _adopt(a, tmp_path / "gerda")
    with Services(tmp_path / "services.json", keep=True) as services:
        assert start_servers(services, ["gerda"], folder=tmp_path, **WHERE) == {}
    try:
        assert revive_rooms(tmp_path / "services.json", ["gerda"], folder=tmp_path, **WHERE) == []
    finally:
        assert stop_recorded(tmp_path / "services.json") == []
    with pytest.raises(BadInput, match="not ours to start"):
        label_studio_server("gerda", home=tmp_path / "gerda", host="127.0.0.9", port=free_port("127.0.0.9"), **WHERE)


def test_two_readers_never_share_a_server(a: Room, b: Room, tmp_path: Path) -> None:
    """The open edition shows everybody who has an account on a server everything on it."""
    _adopt(a, tmp_path / "gerda")
    port = httpx.URL(a.login.base_url).port
    for name in (a.login.base_url, f"http://localhost:{port}"):
        with pytest.raises(ProtocolBreach, match="gerda reads there, and would see hans's answers"):
            _adopt(a, tmp_path / "hans", base_url=name)
    signed_up = replace(b.login, reader="ida", external=True, base_url="https://elsewhere.invalid")
    (tmp_path / "ida").mkdir()
    (tmp_path / "ida" / "login.json").write_text(json.dumps(asdict(signed_up)))
    with pytest.raises(ProtocolBreach, match=r"\['ida'\] have accounts there"):
        _adopt(b, tmp_path / "hans")
    assert not (tmp_path / "hans").exists()
    _adopt(a, tmp_path / "gerda")  # the same reader once more, say with a new token


@pytest.mark.parametrize(
    "address", ["http://192.0.2.1:8080", "ftp://127.0.0.1", "127.0.0.1:80", "https://", "https://u:p@a.org", "http://["]
)
def test_a_token_never_travels_in_the_clear(a: Room, address: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="https://host"):
        _adopt(a, tmp_path / "gerda", base_url=address)


def test_a_server_that_cannot_serve_is_not_adopted_and_the_line_says_why(a: Room, b: Room, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (tmp_path / "readonly").mkdir()
    wrongs: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (BadInput, "no account 'nobody@a.org'; let gerda sign up", {"reader_email": "nobody@a.org"}),
        (BadInput, "writable for us", {"pictures": tmp_path / "nowhere"}),
        (ServiceDown, "must be its LOCAL_FILES_DOCUMENT_ROOT: answered 400", {"pictures": folder}),
        (ServiceDown, "must be its LOCAL_FILES_DOCUMENT_ROOT: answered 404", {"pictures": a.server.pictures / "cells"}),
        (ServiceDown, "check the token", {"token": "0" * 40}),
        (ServiceDown, "start the server", {"base_url": f"http://127.0.0.1:{free_port('127.0.0.1')}"}),
        (BadInput, "rename the reader", {"reader": "../gerda"}),
    ]
    for kind, said, other in wrongs:
        with pytest.raises(kind, match=said) as caught:
            _adopt(a, tmp_path / "gerda", **other)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "gerda").exists()
    assert all(project["title"] != "a trial of pictures" for project in _all_projects(a))
    with pytest.raises(BadInput, match="has a server of ours already"):
        _adopt(b, a.server.service.home)
