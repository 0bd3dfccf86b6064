"""Reader B tries to see or change reader A's answers, and to learn whose cells they are: nothing may come of it.

On the default set-up, two servers of our own with tasks in them. B has all that a reader can get: the password, the
legacy token, a personal access token, full rights on B's own server, and a good guess at every number and address at
A's. The same requests are then made with A's own means: they do show what they should, so the test can fail.
"""

import base64
import io
import json
import sqlite3
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from reading_rooms import CLASSES, KEY, Room, draw_cell, open_rooms

from ctcml.services import Service, Services, clean_environment, free_port
from labelstudio.client import Answer, answer, open_reads, pull, push
from labelstudio.panels import write_panels
from labelstudio.tasks import NEW_CLASS, PICTURES_OF_A_READ, build_result, build_task, panel_file, read_uid

NAMES = [f"patient-P-00{number % 3} sample-S{number % 3} cell-{number}" for number in range(9)]  # three samples
MARK = "zebra striped cell"  # what A says of a cell: nobody else would
CANARY = "the canary sings"  # what a server of the workspace without a password says to whoever asks it
SING = """
import http.server, sys
class Canary(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'[{"read_uid": "the canary sings", "auto": "a", "fixed": "b"}]'
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
        if self.path != "/health":
            print("asked for", self.path, flush=True)
    do_POST = do_PUT = do_HEAD = do_GET
    log_message = lambda *args: None
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Canary).serve_forever()
"""


@dataclass(frozen=True)
class House:
    """Both readers' rooms, numbers of one of A's answers, and another server of the workspace."""

    a: Room
    b: Room
    project: int
    task: int
    annotation: int
    canary: Service

    @property
    def secrets(self) -> list[str]:
        """What may nowhere be seen by B."""
        login = self.a.login
        hidden = [MARK, CANARY, login.reader_email, login.reader_password, login.admin_token, login.reader_token]
        return [*hidden, login.admin_password, *self.a.uids, *NAMES]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("blinding")
    port = free_port("127.0.0.1")
    command = [sys.executable, "-c", SING, str(port)]
    canary = Service("canary", command, clean_environment(), folder / "canary", "127.0.0.1", port, "/health")
    with open_rooms(folder, ["reader-a", "reader-b"], cells=0) as rooms, Services(folder / "more.json") as services:
        services.start(canary)
        a, b = (_push_cells(room) for room in rooms.values())
        said = [Answer(label="ctc"), Answer(label="wbc"), Answer(label=NEW_CLASS, new_name=MARK)]
        answer(a.as_reader, dict(zip(a.uids, said, strict=False)))
        (marked,) = [one for one in pull(a.queue, CLASSES).valid if one.new_name == MARK]
        with _client(a, {"Authorization": f"Token {a.login.admin_token}"}) as http:
            task = http.get(f"/api/annotations/{marked.annotation_id}/").json()["task"]
        yield House(a, b, a.queue.project_id, task, marked.annotation_id, canary)


def _push_cells(room: Room) -> Room:
    """The same nine cells of three samples for each reader, drawn sample by sample, in the order of their keyed names."""
    rng = np.random.default_rng(3)
    uids = {name: read_uid(KEY, name, room.queue.reader, "round-1") for name in NAMES}
    for name in sorted(NAMES):
        write_panels(draw_cell(rng), {uids[name]: room.server.pictures})
    push(room.queue, [build_task(uid) for uid in sorted(uids.values())])
    return replace(room, uids=sorted(uids.values()))


@contextmanager
def _client(room: Room, headers: dict[str, str], *, base_url: str = "") -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base_url or room.login.base_url, headers=headers, trust_env=False, timeout=60) as http:
        yield http


def _log_in(room: Room, http: httpx.Client) -> httpx.Client:
    http.get("/user/login/")
    form = {"email": room.login.reader_email, "password": room.login.reader_password}
    sent = {"csrfmiddlewaretoken": http.cookies["csrftoken"]}
    page = http.post("/user/login/", data=form | sent, headers={"Referer": room.login.base_url})
    assert page.status_code == 302
    http.headers["X-CSRFToken"] = http.cookies["csrftoken"]
    return http


@dataclass(frozen=True)
class Means:
    """Ways in which a reader can show who he is."""

    session: dict[str, str]  # cookies
    csrf: str
    legacy: str
    refresh: str
    access: str

    def as_headers(self) -> dict[str, dict[str, str]]:
        cookie = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.session.items()),
            "X-CSRFToken": self.csrf,
        }
        return {
            "nothing": {},
            "session": cookie,
            "legacy token": {"Authorization": f"Token {self.legacy}"},
            "personal access token": {"Authorization": f"Bearer {self.access}"},
            "refresh token": {"Authorization": f"Bearer {self.refresh}"},
            "refresh token as a token": {"Authorization": f"Token {self.refresh}"},
            "session, empty header": cookie | {"Authorization": ""},
            "session, basic": cookie | {"Authorization": "Basic x"},
            "session, broken bearer": cookie | {"Authorization": "Bearer x.y.z"},
        }


def _means(room: Room) -> Means:
    with _client(room, {}) as http:
        _log_in(room, http)
        made = http.post("/api/token/", json={})
        if made.status_code == 409:  # there is one; it is shown once only
            pytest.fail("ask for a reader's means once")
        refresh = made.json()["token"]
        access = http.post("/api/token/refresh/", json={"refresh": refresh}).json()["access"]
        legacy = http.get("/api/current-user/token").json()["token"]
        return Means(dict(http.cookies), http.cookies["csrftoken"], legacy, refresh, access)


@pytest.fixture(scope="module")
def means(house: House) -> dict[str, Means]:
    return {"a": _means(house.a), "b": _means(house.b)}


Peek = Callable[[httpx.Client, House], httpx.Response]


def _get(path: str) -> Peek:
    """A request for an address at A's server; P, T, N and U stand for A's project, task, annotation and read_uid."""

    def ask(http: httpx.Client, house: House) -> httpx.Response:
        return http.get(_fill(path, house))

    return ask


def _send(method: str, path: str, body: object) -> Peek:
    def ask(http: httpx.Client, house: House) -> httpx.Response:
        return http.request(method, _fill(path, house), json=json.loads(_fill(json.dumps(body), house)))

    return ask


def _fill(text: str, house: House) -> str:
    numbers = {"{P}": house.project, "{T}": house.task, "{N}": house.annotation, "{U}": house.a.uids[0]}
    for name, value in numbers.items():
        text = text.replace(name, str(value))
    return text


SEE = {  # requests that show something to whoever may see it
    "a task": _get("/api/tasks/{T}/"),
    "tasks": _get("/api/tasks/?project={P}&fields=all"),
    "tasks without a project": _get("/api/tasks/"),
    "tasks of the project": _get("/api/projects/{P}/tasks/"),
    "annotations of a task": _get("/api/tasks/{T}/annotations/"),
    "an annotation": _get("/api/annotations/{N}/"),
    "drafts": _get("/api/tasks/{T}/drafts"),
    "agreement": _get("/api/tasks/{T}/agreement/"),
    "export": _get("/api/projects/{P}/export?exportType=JSON"),
    "export of all": _get("/api/projects/{P}/export?exportType=JSON_MIN&download_all_tasks=true"),
    "export as a table": _get("/api/projects/{P}/export?exportType=CSV"),
    "export files": _get("/api/projects/{P}/export/files"),
    "export formats": _get("/api/projects/{P}/export/formats"),
    "snapshots": _get("/api/projects/{P}/exports/"),
    "a snapshot": _get("/api/projects/{P}/exports/1/download?exportType=JSON"),
    "views of the data manager": _get("/api/dm/views/?project={P}"),
    "tasks of a view": _get("/api/tasks/?view=1&fields=all"),
    "columns of the data manager": _get("/api/dm/columns/?project={P}"),
    "state of the data manager": _get("/api/dm/project/?project={P}"),
    "actions of the data manager": _get("/api/dm/actions/?project={P}"),
    "the next task by an action": _send("POST", "/api/dm/actions/?id=next_task&project={P}", {}),
    "the next task": _get("/api/projects/{P}/next/"),
    "a sample task": _send("POST", "/api/projects/{P}/sample-task/", {"label_config": "<View/>"}),
    "what was labelled": _get("/api/projects/{P}/label-stream-history/"),
    "predictions": _get("/api/predictions/?task={T}"),
    "predictions of the project": _get("/api/predictions/?project={P}"),
    "model versions": _get("/api/projects/{P}/model-versions/"),
    "projects": _get("/api/projects/"),
    "the project": _get("/api/projects/{P}/"),
    "counts": _get("/api/projects/counts/"),
    "a summary": _get("/api/projects/{P}/summary/"),
    "annotators": _get("/api/projects/{P}/annotators/"),
    "imports": _get("/api/projects/{P}/imports/1/"),
    "uploaded files": _get("/api/projects/{P}/file-uploads"),
    "users": _get("/api/users/"),
    "a user": _get("/api/users/2/"),
    "who I am": _get("/api/current-user/whoami"),
    "my token": _get("/api/current-user/token"),
    "personal access tokens": _get("/api/token/"),
    "the policy of tokens": _get("/api/jwt/settings"),
    "the invitation": _get("/api/invite"),
    "organisations": _get("/api/organizations/"),
    "members": _get("/api/organizations/1/memberships"),
    "a member": _get("/api/organizations/1/memberships/2/"),
    "storages": _get("/api/storages/?project={P}"),
    "storages of local files": _get("/api/storages/localfiles/?project={P}"),
    "storages for export": _get("/api/storages/export?project={P}"),
    "webhooks": _get("/api/webhooks/?project={P}"),
    "models": _get("/api/ml/?project={P}"),
    "labels": _get("/api/labels/?project={P}"),
    "label links": _get("/api/label_links/?project={P}"),
    "states": _get("/api/fsm/entities/task/{T}/history"),
    "the page of the project": _get("/projects/{P}/data/?task={T}"),
    "the settings of the project": _get("/projects/{P}/settings/general"),
    "a picture": _get("/data/local-files/?d=cells/{U}-auto.png"),
    "another picture": _get("/data/local-files/?d=cells/{U}-fixed.png"),
    "a picture through its task": _get("/tasks/{T}/resolve/?fileuri=" + base64.b64encode(b"cells/x.png").decode()),
    "a stored file": _get("/storage-data/uploaded/?filepath=upload/{P}/x.json"),
    "an uploaded file": _get("/data/upload/{P}/x.json"),
}
TOUCH = {  # requests that change something for whoever may change it; A's own are never made with A's means
    "write an annotation": _send("POST", "/api/tasks/{T}/annotations/", {"result": build_result("wbc")}),
    "write one as A": _send("POST", "/api/tasks/{T}/annotations/", {"result": [], "completed_by": 2}),
    "change an annotation": _send("PATCH", "/api/annotations/{N}/", {"result": build_result("wbc")}),
    "replace an annotation": _send("PUT", "/api/annotations/{N}/", {"result": build_result("wbc")}),
    "delete an annotation": _send("DELETE", "/api/annotations/{N}/", None),
    "an annotation as a draft": _send("POST", "/api/annotations/{N}/convert-to-draft", {}),
    "write a draft": _send("POST", "/api/tasks/{T}/drafts", {"result": build_result("wbc")}),
    "change a task": _send("PATCH", "/api/tasks/{T}/", {"data": {"read_uid": "0" * 24}}),
    "delete a task": _send("DELETE", "/api/tasks/{T}/", None),
    "import a task": _send("POST", "/api/projects/{P}/import", [{"data": build_task("0" * 24)}]),
    "import predictions": _send("POST", "/api/projects/{P}/import/predictions", [{"task": 1, "result": []}]),
    "delete all annotations": _send("POST", "/api/dm/actions/?id=delete_tasks_annotations&project={P}", {}),
    "delete all tasks": _send("POST", "/api/dm/actions/?id=delete_tasks&project={P}", {}),
    "change the project": _send("PATCH", "/api/projects/{P}/", {"show_collab_predictions": True}),
    "delete the project": _send("DELETE", "/api/projects/{P}/", None),
    "make a project": _send("POST", "/api/projects/", {"title": "of B"}),
    "make a snapshot": _send("POST", "/api/projects/{P}/exports/", {"title": "of B"}),
    "join A's organisation": _send("PATCH", "/api/users/2/", {"active_organization": 1}),
    "make an account": _send("POST", "/api/users/", {"email": "x@y.org", "username": "x"}),
    "become an administrator": _send("PATCH", "/api/users/2/", {"is_superuser": True, "is_staff": True}),
    "change the policy of tokens": _send("POST", "/api/jwt/settings", {"legacy_api_tokens_enabled": True}),
    "change the invitation": _send("POST", "/api/invite/reset-token", {}),
    "reset a token": _send("POST", "/api/current-user/reset-token/", {}),
    "make a webhook": _send("POST", "/api/webhooks/", {"url": "http://192.0.2.1", "project": "{P}"}),
    "make a storage": _send("POST", "/api/storages/localfiles/", {"project": "{P}", "path": "/"}),
    "make a view": _send("POST", "/api/dm/views/", {"project": "{P}", "data": {}}),
}


def _seen(response: httpx.Response, house: House) -> str | None:
    """What a successful answer shows of what B must not know, also inside an archive."""
    if not response.is_success:
        return None
    texts = [response.content]
    if zipfile.is_zipfile(io.BytesIO(response.content)):
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            texts += [archive.read(name) for name in archive.namelist()] + [
                name.encode() for name in archive.namelist()
            ]
    pictures = [
        (house.a.server.pictures / panel_file(house.a.uids[0], name)).read_bytes() for name in PICTURES_OF_A_READ
    ]
    for text in texts:
        if text in pictures:
            return "one of A's pictures"
        for secret in house.secrets:
            if secret.encode() in text:
                return secret
    return None


def _state_of_a(house: House) -> object:
    """All that A's server holds, but for the times of the last visit."""
    with closing(sqlite3.connect(f"file:{_database(house.a)}?mode=ro", uri=True)) as database:
        tables = ["task", "task_completion", "tasks_annotationdraft", "project", "htx_user", "webhook"]
        tables += ["organization", "io_storages_localfilesimportstorage", "authtoken_token"]
        return {name: _rows(database, name) for name in tables}


def _rows(database: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    cursor = database.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    return [{name: value for name, value in row.items() if name not in ("last_login", "last_activity")} for row in rows]


def _database(room: Room) -> Path:
    return room.server.service.home / "data" / "label_studio.sqlite3"


def test_nothing_that_reader_b_tries_at_reader_as_server_shows_or_changes_anything(
    house: House, means: dict[str, Means], figure: Callable[[str, str], None]
) -> None:
    before = _state_of_a(house)
    tokens = {"the token of B's administrator": {"Authorization": f"Token {house.b.login.admin_token}"}}
    shown: list[str] = []
    tried = 0
    for name, headers in (means["b"].as_headers() | tokens).items():
        with _client(house.a, headers) as http:
            for what, ask in (SEE | TOUCH).items():
                response = ask(http, house)
                tried += 1
                if response.is_success or _seen(response, house):
                    shown.append(f"{what} with {name}: {response.status_code} {response.text[:200]}")
    assert shown == []
    assert _state_of_a(house) == before
    figure("blinding: requests of reader B to reader A's server", f"0 of {tried} succeed ({len(SEE | TOUCH)} a means)")


def test_the_same_requests_show_reader_a_what_is_reader_as(house: House, means: dict[str, Means]) -> None:
    """Without it, the test above would pass on requests that are merely wrong."""
    for name in ("session", "legacy token", "personal access token"):
        with _client(house.a, means["a"].as_headers()[name]) as http:
            shown = [what for what, ask in SEE.items() if _seen(ask(http, house), house)]
            answered = [what for what, ask in SEE.items() if ask(http, house).is_success]
        assert len(shown) >= 15, (name, shown)
        assert {"a task", "tasks", "annotations of a task", "an annotation", "export", "users", "a picture"} <= set(
            shown
        )
        assert len(answered) >= 45, (name, set(SEE) - set(answered))


def test_the_requests_that_change_something_do_so_for_whoever_may(house: House, means: dict[str, Means]) -> None:
    """B makes them at B's own server, on a project made for it."""
    with _client(house.b, means["b"].as_headers()["session"]) as http:
        project = http.post("/api/projects/", json={"title": "to be spoiled", "label_config": "<View/>"}).json()["id"]
        http.post(f"/api/projects/{project}/import", json=[{"data": {"x": 1}}, {"data": {"x": 2}}])
        (task, _) = [each["id"] for each in http.get(f"/api/tasks/?project={project}").json()["tasks"]]
        made = http.post(f"/api/tasks/{task}/annotations/", json={"result": []}).json()
        spoiled = replace(house, project=project, task=task, annotation=made["id"])
        last = [
            "delete an annotation",
            "delete a task",
            "delete all annotations",
            "delete all tasks",
            "delete the project",
        ]
        others = {*last, "an annotation as a draft", "reset a token", "change the invitation"}
        done = [
            what
            for what in [*(each for each in TOUCH if each not in others), *last]
            if TOUCH[what](http, spoiled).is_success
        ]
    assert len(done) >= 15, done
    assert {"change an annotation", "change a task", "write an annotation", *last} <= set(done)


Attempt = Callable[[httpx.Client, House], httpx.Response | list[httpx.Response]]


def _session_of(key: str, user: int) -> str:
    """A session as Label Studio would sign it with this secret key."""
    payload = base64.urlsafe_b64encode(json.dumps({"_auth_user_id": str(user)}).encode()).decode().rstrip("=")
    return f"{payload}:1xWeOQ:{base64.urlsafe_b64encode(key.encode()).decode()}"


def _at_a(path: str, **arguments: Any) -> Attempt:
    """Ask A's server, by other names too, with all that B's browser has."""

    def ask(http: httpx.Client, house: House) -> list[httpx.Response]:
        address = httpx.URL(house.a.login.base_url)
        cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in http.cookies.items())}
        headers = cookies | arguments.get("headers", {})
        places = [house.a.login.base_url, f"http://localhost:{address.port}", f"http://127.1:{address.port}"]
        more = {name: value for name, value in arguments.items() if name != "headers"}
        return [
            httpx.request("GET", place + _fill(path, house), trust_env=False, timeout=60, headers=headers, **more)
            for place in places
        ]

    return ask


def _local_file(path: Callable[[House], str]) -> Attempt:
    """Ask B's own server for a file that lies elsewhere, in several spellings."""

    def ask(http: httpx.Client, house: House) -> list[httpx.Response]:
        wanted = path(house)
        spellings = [wanted, quote(wanted, safe=""), quote(quote(wanted, safe=""), safe=""), wanted.replace("/", "\\")]
        spellings += [
            wanted.replace("../", "....//"),
            wanted.replace("../", "..;/"),
            f"cells/{wanted}",
            wanted + "%00.png",
        ]
        asked = [http.get(f"/data/local-files/?d={spelling}") for spelling in spellings]
        return asked + [
            http.get(f"/{place}/{spelling}") for place in ("static", "dm", "data") for spelling in spellings[:3]
        ]

    return ask


def _storage(path: Callable[[House], Path | str], *, kind: str = "localfiles") -> Attempt:
    """Make a storage of B's own on B's own server, look into it, and ask for what must lie there."""

    def ask(http: httpx.Client, house: House) -> list[httpx.Response]:
        project = http.post("/api/projects/", json={"title": "a storage", "label_config": "<View/>"}).json()["id"]
        at, given = f"/api/storages/{kind}", {"project": project, "path": str(path(house)), "recursive_scan": True}
        allowed = {"project": project, "path": str(house.b.server.pictures / "cells"), "regex_filter": "^$"}
        changed = http.post(at, json=allowed).json()["id"]
        asked = [
            http.post(f"{at}/validate", json=given),
            http.post(at, json=given | {"use_blob_urls": False}),
            http.post(at, json=given | {"use_blob_urls": True}),
            http.patch(f"{at}/{changed}", json={"path": str(path(house)), "regex_filter": None}),
            http.patch(f"{at}/{changed}", json=given),
            http.post(f"{at}/{changed}/sync", json={}),
        ]
        made = [each.json()["id"] for each in asked if each.status_code == 201]
        asked += [http.post(f"{at}/{number}/sync", json={}) for number in made]
        asked.append(http.get(f"/api/tasks/?project={project}&fields=all"))
        spellings = ["../../reader-a/login.json", "reader-a/login.json", "login.json", _home(house, "login.json")]
        asked += [http.get("/data/local-files/", params={"d": each}) for each in spellings]
        http.delete(f"/api/projects/{project}/")
        return asked

    return ask


def _export_with_pictures(value: Callable[[House], str], *, storage: bool = False) -> Attempt:
    """Let B's own server put "pictures" into an archive, among them a file that B may not have."""
    config = '<View><Image name="i" value="$i"/><RectangleLabels name="l" toName="i"><Label value="x"/></RectangleLabels></View>'
    region = {"x": 1, "y": 1, "width": 1, "height": 1, "rotation": 0, "rectanglelabels": ["x"]}
    drawn = {"from_name": "l", "to_name": "i", "type": "rectanglelabels", "value": region}
    drawn |= {"original_width": 80, "original_height": 80, "image_rotation": 0}

    def ask(http: httpx.Client, house: House) -> list[httpx.Response]:
        project = http.post("/api/projects/", json={"title": "an archive", "label_config": config}).json()["id"]
        if storage:
            folder = {"project": project, "path": str(house.b.server.pictures / "cells"), "use_blob_urls": True}
            http.post("/api/storages/localfiles", json=folder).raise_for_status()
        task = {"data": {"i": value(house)}, "annotations": [{"result": [drawn]}]}
        asked = [http.post(f"/api/projects/{project}/import", json=[task])]
        for kind in ("YOLO_WITH_IMAGES", "COCO_WITH_IMAGES", "VOC&download_resources=true"):
            asked.append(http.get(f"/api/projects/{project}/export?exportType={kind}"))
        (made,) = http.get(f"/api/tasks/?project={project}").json()["tasks"]
        address = base64.b64encode(value(house).encode()).decode()
        asked += [http.get(f"/tasks/{made['id']}/{how}/?fileuri={address}") for how in ("resolve", "presign")]
        http.delete(f"/api/projects/{project}/")
        return asked

    return ask


def _fetching(body: Callable[[str, int], tuple[str, dict[str, Any]]]) -> Attempt:
    """Let B's own server ask the canary, and A's server, in B's place."""

    def ask(http: httpx.Client, house: House) -> list[httpx.Response]:
        project = http.post("/api/projects/", json={"title": "a fetch", "label_config": "<View/>"}).json()["id"]
        asked = []
        for url in (house.canary.url, house.a.login.base_url + _fill("/api/tasks/{T}/", house)):
            path, sent = body(url, project)
            asked += [http.post(path, data=sent), http.post(path, json=sent)]
            if asked[-1].status_code == 201 and path.startswith(("/api/ml", "/api/storages")):
                number = asked[-1].json().get("id")
                asked += [http.post(f"{path.rstrip('/')}/{number}/{what}", json={}) for what in ("sync", "train")]
        http.post(f"/api/projects/{project}/import", json=[{"data": {"x": 1}}])
        asked.append(http.get(f"/api/tasks/?project={project}&fields=all"))
        http.delete(f"/api/projects/{project}/")
        return asked

    return ask


def _at_b(path: str) -> Attempt:
    def ask(http: httpx.Client, house: House) -> httpx.Response:
        return http.get(_fill(path, house))

    return ask


def _sign_up(http: httpx.Client, house: House) -> list[httpx.Response]:
    """Use the invitation of B's server, and none, and a guessed one, at A's."""
    link = http.get("/api/invite").json()["invite_url"]
    asked = []
    with _client(house.a, {}) as new:
        for token in (link.partition("token=")[2], "", "00000000-0000-0000-0000-000000000000"):
            page = new.get(f"/user/signup/?token={token}")
            form = {
                "email": "b@example.org",
                "password": "long enough",
                "csrfmiddlewaretoken": new.cookies["csrftoken"],
            }
            asked += [page, new.post(str(page.url), data=form, headers={"Referer": str(page.url)})]
            asked.append(new.get("/api/projects/"))
    return asked


def _home(house: House, *parts: str) -> str:
    return str(house.a.server.service.home.joinpath(*parts))


ATTEMPTS: dict[str, Attempt] = {
    "B's session at A, by any name": _at_a("/api/tasks/{T}/"),
    "B's session at A with B's host name": _at_a("/api/tasks/{T}/", headers={"Host": "127.0.0.2"}),
    "B's session at A behind a proxy": _at_a(
        "/api/tasks/{T}/",
        headers={"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "127.0.0.1", "Remote-User": "admin"},
    ),
    "another method in a header": _at_a("/api/annotations/{N}/", headers={"X-HTTP-Method-Override": "DELETE"}),
    "basic with A's address and a guess": _at_a("/api/tasks/{T}/", auth=("reader-a@reader.invalid", "reader-a")),
    "basic with the administrator's": _at_a("/api/tasks/{T}/", auth=("admin@ctcml.invalid", "admin")),
    "a token in the address": _at_a("/api/tasks/{T}/?token=1&access_token=1&key=1"),
    "a session signed with a key that B made up": _at_a(
        "/api/tasks/{T}/", headers={"Cookie": f"sessionid={_session_of('', 2)}"}
    ),
    "metrics": _at_a("/metrics/"),
    "jobs": _at_a("/django-rq/"),
    "the administration": _at_a("/admin/tasks/annotation/"),
    "the feature flags": _at_a("/feature-flags/"),
    "the health": _at_a("/health/"),
    "the version": _at_a("/api/version/"),
    "an error on purpose": _at_a("/trigger500/"),
    "the page of the programming interface": _at_a("/docs/api/schema/json/"),
    "files of the program": _at_a("/static/..%2f..%2fdata/label_studio.sqlite3"),
    "a sign-up with an invitation of B's": lambda http, house: _sign_up(http, house),
    "A's read at B's server": _at_b("/data/local-files/?d=cells/{U}-auto.png"),
    "A's numbers at B's server": _at_b("/api/annotations/{N}/"),
    "all of B's projects": _at_b("/api/projects/?page_size=1000"),
    "all of B's tasks": _at_b("/api/tasks/?project={P}&fields=all&page_size=1000"),
    "all of B's users": _at_b("/api/users/"),
    "an export of B's": _at_b("/api/projects/{P}/export?exportType=JSON&download_all_tasks=true"),
    "predictions at B's server": _at_b("/api/predictions/?project={P}"),
    "the page as B's browser gets it": _at_b("/projects/{P}/data/"),
    "the list of pictures": _at_b("/data/local-files/?d=cells/"),
    "A's login": _local_file(lambda house: "../../reader-a/login.json"),
    "B's own login, with the administrator's token": _local_file(lambda house: "../login.json"),
    "A's picture": _local_file(lambda house: f"../../reader-a/pictures/cells/{house.a.uids[0]}-auto.png"),
    "A's picture by its full path": _local_file(
        lambda house: _home(house, "pictures", panel_file(house.a.uids[0], "auto"))
    ),
    "A's database": _local_file(lambda house: "../../reader-a/data/label_studio.sqlite3"),
    "A's secret key": _local_file(lambda house: "../../reader-a/data/.env"),
    "A's secret key by its full path": _local_file(lambda house: _home(house, "data", ".env")),
    "a storage at the root": _storage(lambda house: "/"),
    "a storage at A's home": _storage(_home),
    "a storage at A's pictures": _storage(lambda house: _home(house, "pictures", "cells")),
    "a storage at the workspace": _storage(lambda house: house.a.server.service.home.parent),
    "a storage at B's home": _storage(lambda house: house.b.server.service.home),
    "a storage at B's pictures": _storage(lambda house: house.b.server.pictures),
    "a storage that climbs": _storage(lambda house: f"{house.b.server.pictures}/cells/../../../reader-a"),
    "a storage that climbs in the other way": _storage(lambda house: f"{house.b.server.pictures}\\..\\..\\reader-a"),
    "a storage called like B's": _storage(lambda house: f"{house.b.server.pictures}-of-a"),
    "an export into A's pictures": _storage(lambda house: _home(house, "pictures", "cells"), kind="export/localfiles"),
    "an archive with A's login": _export_with_pictures(lambda house: _home(house, "login.json")),
    "an archive with A's login as a file": _export_with_pictures(lambda house: f"file://{_home(house, 'login.json')}"),
    "an archive with a local file": _export_with_pictures(
        lambda house: "/data/local-files/?d=../../reader-a/login.json"
    ),
    "an archive with an upload": _export_with_pictures(lambda house: "/data/upload/../../../../reader-a/login.json"),
    "an archive with a stored file": _export_with_pictures(
        lambda house: "/storage-data/uploaded/?filepath=upload/../../../../reader-a/login.json"
    ),
    "an archive with the canary": _export_with_pictures(lambda house: f"{house.canary.url}/x.png"),
    "an archive with A's server": _export_with_pictures(lambda house: f"{house.a.login.base_url}/data/x.png"),
    "an import of the canary": _fetching(lambda url, project: (f"/api/projects/{project}/import", {"url": url})),
    "an import of a file": _fetching(
        lambda url, project: (f"/api/projects/{project}/import", {"url": "file:///etc/passwd"})
    ),
    "a reimport": _fetching(lambda url, project: (f"/api/projects/{project}/reimport", {"url": url})),
    "a model at the canary": _fetching(
        lambda url, project: ("/api/ml", {"url": url, "project": project, "title": "m"})
    ),
    "a webhook to the canary": _fetching(
        lambda url, project: ("/api/webhooks/", {"url": url, "project": project, "send_payload": True})
    ),
    "a bucket at the canary": _fetching(
        lambda url, project: (
            "/api/storages/s3/",
            {
                "project": project,
                "bucket": "b",
                "s3_endpoint": url,
                "aws_access_key_id": "x",
                "aws_secret_access_key": "y",
                "use_blob_urls": False,
            },
        )
    ),
    "a redis at the canary": _fetching(
        lambda url, project: (
            "/api/storages/redis/",
            {"project": project, "host": "127.0.0.1", "port": url.split(":")[2].split("/")[0], "db": 1, "path": "x"},
        )
    ),
}


@pytest.fixture
def browser(house: House, means: dict[str, Means]) -> Iterator[httpx.Client]:
    """B, logged in at B's own server."""
    with _client(house.b, {"X-CSRFToken": means["b"].csrf}) as http:
        http.cookies.update(means["b"].session)
        yield http


@pytest.mark.parametrize("name", ATTEMPTS)
def test_reader_b_learns_nothing_by_other_ways(name: str, house: House, browser: httpx.Client) -> None:
    before = _state_of_a(house)
    heard = house.canary.log.read_text()
    asked = ATTEMPTS[name](browser, house)
    learnt = [seen for each in (asked if isinstance(asked, list) else [asked]) if (seen := _seen(each, house))]
    assert learnt == []
    assert _state_of_a(house) == before
    assert house.canary.log.read_text() == heard


def test_the_number_of_ways_that_were_tried(figure: Callable[[str, str], None]) -> None:
    assert len(SEE) + len(TOUCH) + len(ATTEMPTS) >= 40
    figure("blinding: ways tried beside these", f"0 of {len(ATTEMPTS)} succeed")


def test_those_ways_do_lead_to_what_is_reader_bs_own(house: House, browser: httpx.Client) -> None:
    """Else a storage, an archive, an import or a local file would show nothing merely because it was asked wrongly."""
    mine = panel_file(house.b.uids[0], "auto")
    picture = (house.b.server.pictures / mine).read_bytes()
    own = replace(house, a=house.b)
    shown = [response.content for response in _responses(_local_file(lambda _: mine), browser, own)]
    assert shown.count(picture) >= 2
    stored = _responses(_storage(lambda _: house.b.server.pictures / "cells"), browser, own)
    assert [response.status_code for response in stored[:3]] == [200, 201, 201]
    assert mine in stored[-5].text
    kept = _responses(_storage(lambda _: house.b.server.pictures / "cells", kind="export/localfiles"), browser, own)
    assert [response.status_code for response in kept[:3]] == [200, 201, 201]
    archives = _responses(_export_with_pictures(lambda _: f"/data/local-files/?d={mine}", storage=True), browser, own)
    assert sum(_holds(response.content, picture) for response in archives) == 3
    project = browser.post("/api/projects/", json={"title": "import", "label_config": "<View/>"}).json()["id"]
    sent = browser.post(f"/api/projects/{project}/import", data={"url": '[{"data": {"x": "by its address"}}]'})
    assert (sent.status_code, sent.json()["task_count"]) == (201, 1)


def _responses(attempt: Attempt, http: httpx.Client, house: House) -> list[httpx.Response]:
    asked = attempt(http, house)
    return asked if isinstance(asked, list) else [asked]


def _holds(content: bytes, picture: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(content)) if zipfile.is_zipfile(io.BytesIO(content)) else ExitStack() as archive:
        return isinstance(archive, zipfile.ZipFile) and picture in [archive.read(name) for name in archive.namelist()]


def test_when_and_how_pictures_were_written_does_not_tell_which_cells_belong_together(
    house: House, browser: httpx.Client
) -> None:
    """They are drawn sample by sample, and the server shows to the nanosecond when (in the ETag)."""
    tags = [
        browser.get(f"/data/local-files/?d={panel_file(uid, name)}").headers["etag"]
        for uid in house.b.uids
        for name in PICTURES_OF_A_READ
    ]
    assert len({tag.split("-")[0] for tag in tags}) == 1, tags


def test_tasks_come_in_the_order_of_their_keyed_names_and_hold_nothing_else(
    house: House, browser: httpx.Client
) -> None:
    """The name is keyed: its order has nothing to do with sample, score or the other reader's order."""
    tasks = browser.get(f"/api/tasks/?project={house.b.queue.project_id}&fields=all&page_size=100").json()["tasks"]
    tasks.sort(key=lambda task: int(task["id"]))
    assert [task["data"]["read_uid"] for task in tasks] == sorted(house.b.uids) == open_reads(house.b.queue)
    for task in tasks:
        assert task["data"] == build_task(task["data"]["read_uid"])
        assert (task["meta"], task["predictions"], task["file_upload"]) == ({}, [], None)
    assert len({task["created_at"][:16] for task in tasks}) == 1
    ranks = {room.queue.reader: _ranks(room) for room in (house.a, house.b)}
    assert ranks["reader-a"] != ranks["reader-b"]


def _ranks(room: Room) -> list[int]:
    return [room.uids.index(read_uid(KEY, name, room.queue.reader, "round-1")) for name in NAMES]


def test_nothing_that_lies_on_reader_bs_server_names_a_cell_a_patient_or_the_other_reader(house: House) -> None:
    home = house.b.server.service.home
    texts = {str(file.relative_to(home)): file.read_bytes() for file in home.rglob("*") if file.is_file()}
    with closing(sqlite3.connect(f"file:{_database(house.b)}?mode=ro", uri=True)) as database:
        texts["the database"] = "\n".join(database.iterdump()).encode()
    assert house.b.uids[0].encode() in texts["the database"]
    assert len(texts) > 20
    words = [*NAMES, *house.a.uids, "patient-P", "sample-S", "cell-1", "reader-a", MARK, KEY.hex()]
    words = [word for word in words if word not in str(home)]
    told = {(place, word) for place, text in texts.items() for word in words if word.encode() in text}
    # What B's attempts themselves wrote there does not count.
    assert {(place, word) for place, word in told if word not in _said_by_b(house)} == set()


def _said_by_b(house: House) -> set[str]:
    """B guessed A's name and one of A's reads, and put both into addresses."""
    return {"reader-a", house.a.uids[0]}


def test_no_answer_from_reader_bs_server_ever_counts_as_reader_as(house: House, browser: httpx.Client) -> None:
    """B writes as the administrator, as another account, as nobody there is, and under A's read_uid."""
    project = house.b.queue.project_id
    stolen = [{"data": build_task(house.a.uids[0])}]
    browser.post(f"/api/projects/{project}/import", json=stolen).raise_for_status()
    listed = browser.get(f"/api/tasks/?project={project}&page_size=100").json()["tasks"]
    task_of = {task["data"]["read_uid"]: task["id"] for task in listed}
    by_admin, by_nobody, by_a_number, changed, *_ = house.b.uids
    body = {"result": build_result("wbc")}

    def write(uid: str, **more: Any) -> httpx.Response:
        return browser.post(f"/api/tasks/{task_of[uid]}/annotations/", json=body | more)

    assert write(by_admin, completed_by=1).status_code == 201  # the server takes it; we must not
    assert write(by_nobody, completed_by=99999).status_code == 400
    assert write(by_a_number, completed_by=house.a.queue.reader_user_id).status_code == 201
    number = write(changed).json()["id"]
    browser.patch(f"/api/annotations/{number}/", json={"completed_by": 1}).raise_for_status()
    assert write(house.a.uids[0]).status_code == 201
    pulled = pull(house.b.queue, CLASSES)
    assert {one.reader for one in [*pulled.valid, *pulled.rejected]} == {"reader-b"}
    assert {one.server for one in pulled.valid} == {house.b.login.base_url}
    assert {one.read_uid for one in pulled.rejected} == {by_admin, changed}
    assert all("touched by account [1]" in one.reason for one in pulled.rejected)
    # The same number is another person there: it is B's own, and stays B's.
    assert by_a_number in {one.read_uid for one in pulled.valid}
    assert {one.read_uid for one in pull(house.a.queue, CLASSES).valid} == set(house.a.uids[:3])
