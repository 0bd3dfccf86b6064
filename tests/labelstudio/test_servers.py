"""Two real Label Studio servers: pushed to, answered, pulled from, and attacked a little."""

import json
import os
import socket
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from reading_rooms import CLASSES, KEY, VENV, Room, open_rooms, uids

from ctcml.errors import BadInput, BrokenRecord, ProtocolBreach, ServiceDown
from ctcml.records import CellClass
from ctcml.services import free_port
from labelstudio.client import Answer, answer, ensure_project, open_reads, progress, pull, push
from labelstudio.server import label_studio_server, prepare_template, provision, read_login
from labelstudio.simulated_readers import answer_all
from labelstudio.tasks import NEW_CLASS, build_result, build_task, read_uid

CELLS = 12


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


def test_a_task_held_twice_is_noticed(a: Room) -> None:
    room = _project(a, "twice", 2)
    headers = {"Authorization": f"Token {a.login.admin_token}"}
    path = f"{a.login.base_url}/api/projects/{room.queue.project_id}/import"
    again = [{"data": build_task(room.uids[0])}]
    httpx.post(path, json=again, headers=headers, trust_env=False, timeout=30).raise_for_status()
    with pytest.raises(BrokenRecord, match="1 held twice"):
        push(room.queue, [build_task(uid) for uid in room.uids])


def test_answers_given_as_the_reader_come_back_as_readings(a: Room) -> None:
    room = _project(a, "answers", 3)
    given = {
        room.uids[0]: Answer(label="ctc"),
        room.uids[1]: Answer(label=NEW_CLASS, new_name="CD45EV"),
    }
    assert answer(room.as_reader, given) == 2
    valid, rejected = pull(room.queue, CLASSES)
    assert rejected == []
    assert {one.read_uid: (one.label, one.new_name) for one in valid} == {
        room.uids[0]: ("ctc", None),
        room.uids[1]: ("new:cd45ev", "CD45EV"),
    }
    assert {one.server for one in valid} == {a.login.base_url}
    assert open_reads(room.queue) == room.uids[2:]
    assert progress(room.queue) == (2, 3)


def test_answering_again_changes_nothing(a: Room) -> None:
    room = _project(a, "answer again", 2)
    assert answer(room.as_reader, {uid: Answer(label="ctc") for uid in room.uids}) == 2
    assert answer(room.as_reader, {uid: Answer(label="wbc") for uid in room.uids}) == 0
    assert {one.label for one in pull(room.queue, CLASSES)[0]} == {"ctc"}


def test_answering_what_was_never_pushed_is_refused_before_anything_is_sent(a: Room) -> None:
    room = _project(a, "unknown read", 1)
    with pytest.raises(BadInput, match="push them first"):
        answer(room.as_reader, {room.uids[0]: Answer(label="ctc"), "f" * 24: Answer(label="ctc")})
    assert progress(room.queue) == (0, 1)


def test_an_answer_by_another_account_is_rejected(a: Room) -> None:
    room = _project(a, "foreign", 2)
    answer(room.queue, {room.uids[0]: Answer(label="ctc")})  # the administrator plays reader
    answer(room.as_reader, {room.uids[1]: Answer(label="ctc")})
    valid, rejected = pull(room.queue, CLASSES)
    assert [one.read_uid for one in valid] == [room.uids[1]]
    assert [(one.read_uid, "touched by account" in one.reason) for one in rejected] == [(room.uids[0], True)]


def test_a_reader_cannot_be_impersonated_by_editing_his_answer(a: Room) -> None:
    room = _project(a, "edited", 1)
    answer(room.as_reader, {room.uids[0]: Answer(label="ctc")})
    [mine], _ = pull(room.queue, CLASSES)
    httpx.patch(
        f"{a.login.base_url}/api/annotations/{mine.annotation_id}/",
        json={"result": build_result("wbc")},
        headers={"Authorization": f"Token {a.login.admin_token}"},
        trust_env=False,
        timeout=30,
    ).raise_for_status()
    valid, rejected = pull(room.queue, CLASSES)
    assert (valid, len(rejected)) == ([], 1)


def test_a_class_outside_the_registry_is_rejected_though_the_server_takes_it(a: Room) -> None:
    room = _project(a, "martians", 1)
    answer(room.as_reader, {room.uids[0]: Answer(label="martian")})
    valid, rejected = pull(room.queue, CLASSES)
    assert (valid, ["martian" in one.reason for one in rejected]) == ([], [True])


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
    assert [one.label for one in pull(room.queue, more)[0]] == ["cd45ev"]


def test_a_wrong_token_is_one_line_that_says_where(a: Room) -> None:
    with pytest.raises(ServiceDown, match="check the token") as caught:
        pull(replace(a.queue, token="0" * 40), CLASSES)
    assert a.login.base_url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_one_line_that_says_where(a: Room) -> None:
    nobody = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    for call in (lambda q: pull(q, CLASSES), lambda q: push(q, [build_task("a" * 24)]), progress):
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
    picture = build_task(a.uids[0])["overlay"]
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
    where = {"venv_python": VENV / "bin" / "python", "template": VENV / "template"}
    with pytest.raises(ServiceDown, match=str(a.server.service.port)):
        label_studio_server("reader-c", home=tmp_path, host="127.0.0.3", port=a.server.service.port, **where)


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
        valid, rejected = pull(room.queue, CLASSES)
        assert rejected == []
        assert {one.read_uid: one.label.removeprefix("new:") for one in valid} == truth


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
        assert [one.label for one in pull(after.queue, CLASSES)[0]] == ["ctc"]
