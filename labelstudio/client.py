"""The only client of Label Studio's API: projects, pushing, pulling, and answering as a reader.

A server may take an import and die before it says so. Nothing is sent twice on a guess: imports are not retried, and
each push first asks the server which `read_uid`s it holds. A failure is one line of `ServiceDown`, safe to run again.
"""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from ctcml.errors import BadInput, BrokenRecord, ProtocolBreach, ServiceDown
from ctcml.records import CellClass
from labelstudio.tasks import (
    PICTURES,
    PulledReading,
    RejectedReading,
    build_interface,
    build_result,
    build_task,
    parse_task,
)

ONCE = {"max_retries": 0, "timeout_in_seconds": 300}  # the SDK would send a POST up to three times
CHUNK = 500  # tasks an import, and read_uids a look-up
ANSWERS = uuid.UUID("6f1c3c53-6df0-5dd1-9f55-2d2a4d6f7a10")  # name space of our annotations' unique ids
CONFLICT = 409
DONE = "total_annotations"
BLIND = {  # a project for one reader, who is shown nothing but pictures
    "maximum_annotations": 1,
    "sampling": "Sequential sampling",
    "show_instruction": False,
    "show_skip_button": False,
    "show_annotation_history": False,
    "show_collab_predictions": False,
    "enable_empty_annotation": False,
    "reveal_preannotations_interactively": False,
    "evaluate_predictions_automatically": False,
}


@dataclass(frozen=True, kw_only=True)
class ReadingQueue:
    """One reader's project on that reader's own server, and the token we speak with."""

    base_url: str
    token: str = field(repr=False)
    project_id: int
    reader: str
    reader_user_id: int

    @property
    def page(self) -> str:
        """Where the reader logs in and is led straight to the next object."""
        following = quote(f"/projects/{self.project_id}/data?labeling=1", safe="")
        return f"{self.base_url}/user/login/?next={following}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a reader says of one object: a class_id, or `NEW_CLASS` with a name."""

    label: str
    new_name: str | None = None


def account(base_url: str, token: str) -> dict[str, Any]:
    """The account (`id`, `email`, …) that a token stands for at this server."""
    with session(base_url, token, "asking whose token this is") as http:
        return dict(http.get("/api/current-user/whoami").json())


def ensure_project(base_url: str, token: str, *, title: str, classes: Sequence[CellClass], pictures: Path) -> int:
    """The number of the project with this title; made when missing, its page renewed when the classes have changed.

    `pictures` is the server's document root; the panels lie in its folder `cells`. A title has 3 to 50 characters.
    """
    if not 3 <= len(title) <= 50:
        raise BadInput(f"project title {title!r}: {len(title)} characters, expected 3 to 50; shorten it")
    interface = build_interface(classes)
    (pictures / PICTURES).mkdir(parents=True, exist_ok=True)
    with toolkit(base_url, token, f"preparing project {title!r}") as server:
        project = next(
            (each for each in server.projects.list(title=title, page_size=1000).items if each.title == title), None
        )
        if project is None:
            project = server.projects.create(title=title, label_config=interface, **BLIND, request_options=ONCE)
        elif project.label_config != interface:
            server.projects.update(id=project.id, label_config=interface)
        if not server.import_storage.local.list(project=project.id):
            # Never synchronised: it only lets the page load pictures from this folder.
            folder = {"path": str((pictures / PICTURES).resolve()), "use_blob_urls": True, "regex_filter": "^$"}
            server.import_storage.local.create(project=project.id, title="thumbnails", **folder, request_options=ONCE)
    return int(project.id)


def push(queue: ReadingQueue, tasks: Sequence[Mapping[str, str]]) -> int:
    """Send the tasks that the project does not hold yet, in the given order, that of reading; returns how many.

    `tasks` come from `build_task`. Raises `BrokenRecord` if the project then holds one of them twice.
    """
    for task in tasks:
        if dict(task) != build_task(task["read_uid"]):
            raise ProtocolBreach(
                f"task {task['read_uid']}: expected a read_uid and four pictures, found {sorted(task)}; use build_task"
            )
    wanted = list(dict.fromkeys(task["read_uid"] for task in tasks))
    held = _held(queue, wanted)
    missing = {task["read_uid"]: dict(task) for task in tasks if task["read_uid"] not in held}
    new = list(missing.values())
    doing = f"sending tasks to {queue.reader}'s project {queue.project_id}; run it again, it sends what is missing"
    with toolkit(queue.base_url, queue.token, doing) as server:
        for part in _chunks(new):
            request = [{"data": task} for task in part]
            server.projects.import_tasks(id=queue.project_id, request=request, request_options=ONCE)
    held = _held(queue, wanted)
    lost, doubled = [uid for uid in wanted if uid not in held], [uid for uid in wanted if len(held.get(uid, [])) > 1]
    if lost or doubled:
        raise BrokenRecord(
            f"{queue.base_url} project {queue.project_id}: {len(lost)} tasks missing, {len(doubled)} held twice"
            f" ({[*lost, *doubled][:3]}); delete the second ones in the Data Manager, then push again"
        )
    return len(new)


def pull(queue: ReadingQueue, classes: Sequence[CellClass]) -> tuple[list[PulledReading], list[RejectedReading]]:
    """All answers of the project: valid ones, and those that must not become readings, each with its reason.

    Pulling again gives the same answers again: whoever stores them goes by `read_uid`.
    """
    valid: dict[str, PulledReading] = {}
    rejected: list[RejectedReading] = []
    rules = [_rule(DONE, "greater", "Number", 0)]
    for task in _tasks(queue, rules, fields="all"):
        judged = parse_task(
            task, classes=classes, reader=queue.reader, reader_user_id=queue.reader_user_id, server=queue.base_url
        )
        if isinstance(judged, RejectedReading):
            rejected.append(judged)
        elif judged.read_uid in valid:
            rejected.append(
                RejectedReading(
                    read_uid=judged.read_uid, reader=queue.reader, reason="the task exists twice; delete one"
                )
            )
        else:
            valid[judged.read_uid] = judged
    return list(valid.values()), rejected


def progress(queue: ReadingQueue) -> tuple[int, int]:
    """How many tasks of the project are answered, and how many there are."""
    doing = f"asking for the progress of project {queue.project_id}"
    with toolkit(queue.base_url, queue.token, doing) as server:
        project = server.projects.get(id=queue.project_id)
    return int(project.finished_task_number or 0), int(project.task_number or 0)


def open_reads(queue: ReadingQueue) -> list[str]:
    """The `read_uid`s that wait for an answer, in the order of reading."""
    rules = [_rule(DONE, "equal", "Number", 0)]
    return [task["data"]["read_uid"] for task in _tasks(queue, rules, fields="task_only", include="id,data")]


def answer(
    queue: ReadingQueue,
    answers: Mapping[str, Answer],
    *,
    workers: int = 3,
    told: Callable[[int, int], None] | None = None,
) -> int:
    """Give answers by `read_uid` with the reader's own token; returns how many were new.

    An answer that is already there is kept and passed over: its unique id is made from the `read_uid`. With several
    `workers` the server need not wait for its disk; an answer still costs it about 33 ms of processor time.
    `told(done, all)` is called after each. Unknown `read_uid`s are `BadInput` before anything is sent.
    """
    held = _held(queue, list(answers))
    unknown = [uid for uid in answers if uid not in held]
    if unknown:
        raise BadInput(f"{len(unknown)} reads ({unknown[:3]}) are not in {queue.reader}'s project; push them first")
    doing = f"answering as {queue.reader}; run it again, it answers what is open"
    with session(queue.base_url, queue.token, doing) as http, ThreadPoolExecutor(workers) as pool:

        def give(uid: str) -> bool:
            said = answers[uid]
            body = {
                "result": build_result(said.label, new_name=said.new_name),
                "unique_id": str(uuid.uuid5(ANSWERS, f"{queue.reader} {uid}")),
            }
            return http.post(f"/api/tasks/{held[uid][0]}/annotations/", json=body).status_code != CONFLICT

        new = 0
        try:
            for done, fresh in enumerate(pool.map(give, answers), start=1):
                new += fresh
                if told is not None:
                    told(done, len(answers))
        except httpx.HTTPError:
            pool.shutdown(cancel_futures=True)
            raise
    return new


def _held(queue: ReadingQueue, uids: Sequence[str]) -> dict[str, list[int]]:
    """Task numbers by `read_uid`, for those of `uids` that the project holds."""
    held: dict[str, list[int]] = {}
    for part in _chunks(uids):
        rules = [_rule("data.read_uid", "in_list", "List", part)]
        for task in _tasks(queue, rules, fields="task_only", include="id,data"):
            held.setdefault(task["data"]["read_uid"], []).append(int(task["id"]))
    return held


def _tasks(queue: ReadingQueue, rules: list[dict[str, Any]], **fields: str) -> list[dict[str, Any]]:
    """Tasks of the project that satisfy all rules, as plain records in the order of their numbers."""
    query = json.dumps({"filters": {"conjunction": "and", "items": rules}, "ordering": ["tasks:id"]})
    found: list[dict[str, Any]] = []
    doing = f"listing tasks of {queue.reader}'s project {queue.project_id}"
    with session(queue.base_url, queue.token, doing) as http:
        while True:
            page = str(len(found) // CHUNK + 1)
            asked = {"project": str(queue.project_id), "query": query, "page": page, "page_size": str(CHUNK), **fields}
            listed = http.get("/api/tasks/", params=asked).json()
            found += listed["tasks"]
            if len(found) >= listed["total"] or not listed["tasks"]:
                return found


@contextmanager
def toolkit(base_url: str, token: str, doing: str) -> Iterator[Any]:
    """The vendor's SDK on a `session`, for projects, storages and imports.

    Tasks with their annotations are read as plain JSON: its records (2.0.19) lose fields of an annotation.
    """
    from label_studio_sdk import LabelStudio  # here because it takes seconds to import

    with session(base_url, token, doing) as http:
        yield LabelStudio(base_url=base_url, api_key=token, httpx_client=http)


def _rule(name: str, operator: str, kind: str, value: object) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{name}", "operator": operator, "type": kind, "value": value}


def _chunks(things: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (things[start : start + CHUNK] for start in range(0, len(things), CHUNK))


@contextmanager
def session(base_url: str, token: str | None, doing: str) -> Iterator[httpx.Client]:
    """An HTTP client of one server; whatever the network or the server does becomes one line of `ServiceDown`.

    An answer other than success raises at once, save "conflict": that says that our unique id is already there.
    """
    where = f"Label Studio at {base_url}: {doing}"
    headers = {"Authorization": f"Token {token}"} if token else {}
    hooks = {"response": [_check]}
    try:
        with httpx.Client(base_url=base_url, headers=headers, timeout=300, trust_env=False, event_hooks=hooks) as http:
            yield http
    except httpx.HTTPStatusError as error:
        code, said = error.response.status_code, " ".join(error.response.text.split())[:300]
        hint = "check the token in login.json" if code in (401, 403) else "see the server's log"
        raise ServiceDown(f"{where}: answered {code} ({said}); {hint}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceDown(f"{where}: no answer ({type(error).__name__}: {error}); start the server") from None
    except (ValueError, KeyError, TypeError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ServiceDown(f"{where}: its answer is not understood ({said}); expected Label Studio 1.23") from None


def _check(response: httpx.Response) -> None:
    if response.is_error and response.status_code != CONFLICT:
        response.read()
        response.raise_for_status()
