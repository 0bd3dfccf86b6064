"""The only client of Label Studio's API: projects, pushing, pulling, and answering as a reader.

A server may take an import and die before it says so, or go on with it when whoever sent it is dead. Nothing is sent
twice on a guess: imports are not retried, each push first asks the server which `read_uid`s it holds, and takes off what
is there twice all the same. A failure is one line of `ServiceDown`, safe to run again; `ProjectGone` is one of them.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from ctcml.errors import BadInput, BrokenRecord, ProtocolBreach, ServiceDown
from ctcml.records import CellClass, Confidence
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
CHUNK = 500  # read_uids a look-up; of more, all tasks of the project are listed, which then is quicker
PAGE = 2000  # tasks a request; the quickest of 250 to 5000
IMPORT = 500  # tasks an import, which the server takes whole or not at all; it is done with so many in about 1 s
PATIENCE_S = 300.0  # for one answer
OVERLAP = timedelta(seconds=30)  # a change is dated before it is seen by others, by as long as the server's write takes
ANSWERS = uuid.UUID("6f1c3c53-6df0-5dd1-9f55-2d2a4d6f7a10")  # name space of our annotations' unique ids
CONFLICT, NOT_FOUND = 409, 404
BRIEFLY = {"fields": "task_only", "include": "id,data"}
# The names hold for a task and for the annotations in it; without them a listing takes three times as long.
WITH_ANSWERS = {
    "fields": "all",
    "include": "id,data,annotations,result,completed_by,updated_by,updated_at,lead_time,was_cancelled",
}
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


class ProjectGone(ServiceDown):
    """The server answers and knows us, but holds no such project: its reader or somebody else deleted it."""


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
    """What a reader says of one object: a class_id, `UNREADABLE`, or `NEW_CLASS` with a name; reasons are `REASONS`."""

    label: str
    new_name: str | None = None
    confidence: Confidence | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pull:
    """What a project holds: valid answers, those that must not become readings, and tasks without an answer.

    With a watermark, only tasks that changed after it; a task that was just pushed changed too. `until` is the next one.
    """

    valid: list[PulledReading]
    rejected: list[RejectedReading]
    emptied: list[str]
    until: datetime


def account(base_url: str, token: str) -> dict[str, Any]:
    """The account (`id`, `email`, …) that a token stands for at this server."""
    with session(base_url, token, "asking whose token this is") as http:
        return dict(http.get("/api/current-user/whoami").json())


def ensure_project(
    base_url: str, token: str, *, title: str, classes: Sequence[CellClass], pictures: Path, instructions: str = ""
) -> int:
    """The number of the project with this title; made when missing, and renewed where it differs.

    What is renewed: the page, when the classes have changed; the instructions (HTML; of the
    attributes the server keeps `src` with a plain address), unless empty; and what keeps the reader blind. `pictures` is the server's document root; the pictures lie
    in its folder `cells`. A title has 3 to 50 characters.
    """
    if not 3 <= len(title) <= 50:
        raise BadInput(f"project title {title!r}: {len(title)} characters, expected 3 to 50; shorten it")
    wanted = BLIND | {"label_config": build_interface(classes)}
    if instructions:
        wanted["expert_instruction"] = instructions
    (pictures / PICTURES).mkdir(parents=True, exist_ok=True)
    with toolkit(base_url, token, f"preparing project {title!r}") as server:
        project = next(
            (each for each in server.projects.list(title=title, page_size=1000).items if each.title == title), None
        )
        if project is None:
            project = server.projects.create(title=title, **wanted, request_options=ONCE)
        elif differing := {name: value for name, value in wanted.items() if getattr(project, name) != value}:
            server.projects.update(id=project.id, **differing)
        if not server.import_storage.local.list(project=project.id):
            # Never synchronised: it only lets the page load pictures from this folder.
            folder = {"path": str((pictures / PICTURES).resolve()), "use_blob_urls": True, "regex_filter": "^$"}
            server.import_storage.local.create(project=project.id, title="thumbnails", **folder, request_options=ONCE)
    return int(project.id)


def push(queue: ReadingQueue, tasks: Sequence[Mapping[str, str]]) -> int:
    """Send the tasks that the project does not hold yet, in the given order, that of reading; returns how many.

    `tasks` come from `build_task`. A task that then is there twice, because a server went on with the import of a sender
    that was killed or two sent at once, is taken off once; `BrokenRecord` if both were answered.
    """
    for task in tasks:
        if dict(task) != build_task(task["read_uid"]):
            raise ProtocolBreach(
                f"task {task['read_uid']}: expected a read_uid and its pictures, found {sorted(task)}; use build_task"
            )
    wanted = {task["read_uid"]: dict(task) for task in tasks}
    numbers = _numbers(queue, list(wanted))
    new = [task for uid, task in wanted.items() if uid not in numbers]
    if new:
        _import(queue, new)
        numbers = _numbers(queue, list(wanted))
    if any(len(ids) > 1 for ids in numbers.values()):
        _delete_open(queue, _superfluous(queue, numbers))
        numbers = _numbers(queue, list(wanted))
    lost, doubled = [uid for uid in wanted if uid not in numbers], [uid for uid, ids in numbers.items() if len(ids) > 1]
    if lost or doubled:
        raise BrokenRecord(
            f"{queue.base_url} project {queue.project_id}: {len(lost)} tasks missing, {len(doubled)} held and answered"
            f" twice ({[*lost, *doubled][:3]}); delete the second ones in the Data Manager, then push again"
        )
    return len(new)


def _import(queue: ReadingQueue, tasks: Sequence[Mapping[str, str]]) -> None:
    doing = f"sending tasks to {queue.reader}'s project {queue.project_id}; run it again, it sends what is missing"
    with toolkit(queue.base_url, queue.token, doing, project_id=queue.project_id) as server:
        for part in _chunks(tasks, IMPORT):
            request = [{"data": task} for task in part]
            server.projects.import_tasks(id=queue.project_id, request=request, request_options=ONCE)


def held(queue: ReadingQueue, read_uids: Sequence[str]) -> set[str]:
    """Those of the `read_uids` that the project holds, answered or not."""
    return set(_numbers(queue, read_uids))


def remove(queue: ReadingQueue, read_uids: Sequence[str]) -> int:
    """Take tasks that hold no answer off the project; returns how many went. Answered ones stay, and what is not there.

    The server looks once more whether a task has an answer at the moment at which it deletes.
    """
    return _delete_open(queue, [number for ids in _numbers(queue, read_uids).values() for number in ids])


def _superfluous(queue: ReadingQueue, numbers: Mapping[str, Sequence[int]]) -> list[int]:
    """Of each task that is there several times, all open ones but the first; all of them if another is answered."""
    several = [uid for uid, ids in numbers.items() if len(ids) > 1]
    still_open = {int(task["id"]) for task in _tasks(queue, [_still_open()], **BRIEFLY)}
    found: list[int] = []
    for uid in several:
        waiting = sorted(still_open & set(numbers[uid]))
        found += waiting if len(waiting) < len(numbers[uid]) else waiting[1:]
    return found


def _delete_open(queue: ReadingQueue, numbers: Sequence[int]) -> int:
    open_ones = {"conjunction": "and", "items": [_still_open()]}
    doing = f"taking tasks off {queue.reader}'s project {queue.project_id}; run it again"
    gone = 0
    with session(queue.base_url, queue.token, doing, project_id=queue.project_id) as http:
        for part in _chunks(numbers, CHUNK):
            chosen = {"selectedItems": {"all": False, "included": list(part)}, "filters": open_ones}
            asked = {"id": "delete_tasks", "project": str(queue.project_id)}
            gone += int(http.post("/api/dm/actions/", params=asked, json=chosen).json()["processed_items"])
    return gone


def pull(queue: ReadingQueue, classes: Sequence[CellClass], *, since: datetime | None = None) -> Pull:
    """Judge what the project holds, or only what changed after `since`, which is the `until` of an earlier pull.

    An annotation that was made, changed or deleted changes its task; a task that was deleted is seen by `held` alone.
    Pulling again gives the same answers again: whoever stores them goes by `read_uid`.
    """
    until = _server_clock(queue) - OVERLAP
    tasks = _tasks(queue, [], **WITH_ANSWERS) if since is None else _changed(queue, since)
    answered = [task for task in tasks if not all(each.get("was_cancelled") for each in task["annotations"])]
    # One of two tasks for the same read counts, always the same one, whichever was answered or changed.
    all_tasks = tasks if since is None else _briefly(queue, [_uid(task) for task in answered])
    first = {uid: min(ids) for uid, ids in _by_read(all_tasks).items()}
    judged = [_judge(task, queue, classes, counts=first.get(_uid(task), task["id"]) == task["id"]) for task in answered]
    with_answer = {_uid(task) for task in answered}
    return Pull(
        valid=[one for one in judged if isinstance(one, PulledReading)],
        rejected=[one for one in judged if isinstance(one, RejectedReading)],
        emptied=list(dict.fromkeys(uid for task in tasks if (uid := _uid(task)) not in with_answer)),
        until=until,
    )


def _judge(
    task: Mapping[str, Any], queue: ReadingQueue, classes: Sequence[CellClass], *, counts: bool
) -> PulledReading | RejectedReading:
    """An answered task's reading; valid only where the task `counts`, which the second one of the same read does not."""
    judged = parse_task(
        task, classes=classes, reader=queue.reader, reader_user_id=queue.reader_user_id, server=queue.base_url
    )
    if counts or isinstance(judged, RejectedReading):
        return judged
    return RejectedReading(
        read_uid=judged.read_uid,
        reader=judged.reader,
        reason=f"the task exists twice; delete task {task['id']} of {judged.server}, the second one",
        raw=next(each["result"] for each in task["annotations"] if each["id"] == judged.annotation_id),
        annotation_id=judged.annotation_id,
        answered_at=judged.answered_at,
    )


def _changed(queue: ReadingQueue, since: datetime) -> list[dict[str, Any]]:
    """Tasks that changed, and answered ones that do not say so.

    Label Studio stores an answer first, then the counters of its task, last the task's date together with the account:
    a server that dies in between leaves an answered task that nobody seems to have touched.
    """
    moment = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    dated = _tasks(queue, [_rule("updated_at", "greater", "Datetime", moment)], **WITH_ANSWERS)
    nobodys = [_rule("annotations_ids", "empty", "List", False), _rule("updated_by", "empty", "List", True)]
    undated = _tasks(queue, nobodys, **WITH_ANSWERS)
    return list({task["id"]: task for task in [*dated, *undated]}.values())


def _uid(task: Mapping[str, Any]) -> str:
    return str(task["data"].get("read_uid"))


def progress(queue: ReadingQueue) -> tuple[int, int]:
    """How many tasks of the project are answered, and how many there are."""
    doing = f"asking for the progress of project {queue.project_id}"
    with session(queue.base_url, queue.token, doing, project_id=queue.project_id) as http:
        whole, waiting = (
            int(http.get("/api/tasks/", params=_asked(queue, rules, page_size=1, **BRIEFLY)).json()["total"])
            for rules in ([], [_still_open()])
        )
    return whole - waiting, whole


def open_reads(queue: ReadingQueue) -> list[str]:
    """The `read_uid`s that wait for an answer, in the order of reading."""
    return [_uid(task) for task in _tasks(queue, [_still_open()], **BRIEFLY)]


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
    numbers = _numbers(queue, list(answers))
    unknown = [uid for uid in answers if uid not in numbers]
    if unknown:
        raise BadInput(f"{len(unknown)} reads ({unknown[:3]}) are not in {queue.reader}'s project; push them first")
    doing = f"answering as {queue.reader}; run it again, it answers what is open"
    with (
        session(queue.base_url, queue.token, doing, project_id=queue.project_id) as http,
        ThreadPoolExecutor(workers) as pool,
    ):

        def give(uid: str) -> bool:
            said = answers[uid]
            result = build_result(said.label, new_name=said.new_name, confidence=said.confidence, reasons=said.reasons)
            body = {"result": result, "unique_id": str(uuid.uuid5(ANSWERS, f"{queue.reader} {uid}"))}
            return http.post(f"/api/tasks/{min(numbers[uid])}/annotations/", json=body).status_code != CONFLICT

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


def _numbers(queue: ReadingQueue, uids: Sequence[str]) -> dict[str, list[int]]:
    """Task numbers by `read_uid`, for those of `uids` that the project holds."""
    wanted = set(uids)
    return {uid: numbers for uid, numbers in _by_read(_briefly(queue, uids)).items() if uid in wanted}


def _by_read(tasks: Iterable[Mapping[str, Any]]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for task in tasks:
        numbers.setdefault(_uid(task), []).append(int(task["id"]))
    return numbers


def _briefly(queue: ReadingQueue, uids: Sequence[str]) -> list[dict[str, Any]]:
    """The tasks of these reads, with `id` and `data` alone; of many reads, all tasks of the project."""
    if not uids:
        return []
    few = len(uids) <= CHUNK
    return _tasks(queue, [_rule("data.read_uid", "in_list", "List", list(uids))] if few else [], **BRIEFLY)


def _tasks(queue: ReadingQueue, rules: list[dict[str, Any]], **fields: str) -> list[dict[str, Any]]:
    """Tasks of the project that satisfy all rules, as plain records in the order of their numbers.

    Each page begins after the last number seen: with pages by count, a task that leaves the list hides another.
    """
    found: list[dict[str, Any]] = []
    doing = f"listing tasks of {queue.reader}'s project {queue.project_id}"
    with session(queue.base_url, queue.token, doing, project_id=queue.project_id) as http:
        while True:
            beyond = _rule("id", "greater", "Number", found[-1]["id"] if found else 0)
            asked = _asked(queue, [*rules, beyond], page_size=PAGE, **fields)
            page = http.get("/api/tasks/", params=asked).json()["tasks"]
            found += page
            if len(page) < PAGE:
                return found


def _asked(queue: ReadingQueue, rules: list[dict[str, Any]], *, page_size: int, **fields: str) -> dict[str, str]:
    query = {"filters": {"conjunction": "and", "items": rules}, "ordering": ["tasks:id"]}
    common = {"project": str(queue.project_id), "query": json.dumps(query), "page_size": str(page_size)}
    return common | {"resolve_uri": "false"} | fields


def _server_clock(queue: ReadingQueue) -> datetime:
    """What time it is at the server, which dates its changes."""
    with session(queue.base_url, queue.token, f"asking {queue.reader}'s server for the time") as http:
        return parsedate_to_datetime(http.get("/api/current-user/whoami").headers["date"])


@contextmanager
def toolkit(base_url: str, token: str, doing: str, *, project_id: int | None = None) -> Iterator[Any]:
    """The vendor's SDK on a `session`, for projects, storages and imports.

    Tasks with their annotations are read as plain JSON: its records (2.0.19) lose fields of an annotation.
    """
    from label_studio_sdk import LabelStudio  # here because it takes seconds to import
    from label_studio_sdk.core.api_error import ApiError

    with session(base_url, token, doing, project_id=project_id) as http:
        try:
            yield LabelStudio(base_url=base_url, api_key=token, httpx_client=http)
        except ApiError as error:
            raise ValueError(error.body) from None


def _still_open() -> dict[str, Any]:
    """Looks at the annotations themselves: a server that dies between an answer and its counters leaves these behind."""
    return _rule("annotations_ids", "empty", "List", True)


def _rule(name: str, operator: str, kind: str, value: object) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{name}", "operator": operator, "type": kind, "value": value}


def _chunks(things: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (things[start : start + size] for start in range(0, len(things), size))


@contextmanager
def session(base_url: str, token: str | None, doing: str, *, project_id: int | None = None) -> Iterator[httpx.Client]:
    """An HTTP client of one server; whatever the network or the server does becomes one line of `ServiceDown`.

    An answer other than success raises at once, save "conflict": that says that our unique id is already there. Where
    the work concerns a project that is no longer there, that is `ProjectGone`.
    """
    where = f"Label Studio at {base_url}: {doing}"
    headers = {"Authorization": f"Token {token}"} if token else {}
    hooks = {"response": [_check]}
    patience = httpx.Timeout(PATIENCE_S, connect=min(PATIENCE_S, 20))
    try:
        with httpx.Client(
            base_url=base_url, headers=headers, timeout=patience, trust_env=False, event_hooks=hooks
        ) as http:
            yield http
    except httpx.HTTPStatusError as error:
        code, said = error.response.status_code, " ".join(error.response.text.split())[:300]
        if code == NOT_FOUND and project_id is not None and _is_gone(base_url, headers, project_id):
            raise ProjectGone(f"{where}: project {project_id} is gone; push again to make a new one") from None
        hint = "check the token in login.json" if code in (401, 403) else "see the server's log"
        raise ServiceDown(f"{where}: answered {code} ({said}); {hint}") from None
    except httpx.TimeoutException as error:
        raise ServiceDown(
            f"{where}: no answer in time ({type(error).__name__}); see what keeps the server busy, then run it again"
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceDown(f"{where}: no answer ({type(error).__name__}: {error}); start the server") from None
    except (ValueError, KeyError, TypeError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ServiceDown(f"{where}: its answer is not understood ({said}); expected Label Studio 1.23") from None


def _is_gone(base_url: str, headers: Mapping[str, str], project_id: int) -> bool:
    """Whether it is Label Studio itself that knows no such project, not a stranger that knows no such address."""
    try:
        answer = httpx.get(f"{base_url}/api/projects/{project_id}/", headers=headers, timeout=20, trust_env=False)
        return answer.status_code == NOT_FOUND and answer.json()["status_code"] == NOT_FOUND
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False


def _check(response: httpx.Response) -> None:
    if response.is_error and response.status_code != CONFLICT:
        response.read()
        response.raise_for_status()
