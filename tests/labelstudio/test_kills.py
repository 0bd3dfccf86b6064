"""kill -9 of the process that pushes, of the one that pulls, and of a reader's server, at random moments.

Whatever was killed, the same call again must bring all and nothing twice. A few moments in every run, twenty in the trials.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace

import httpx
import numpy as np
import pytest
from reading_rooms import CLASSES, KEY, Room, bring_back, kept_rooms, kill_server, run_and_kill

from ctcml.errors import ServiceDown
from labelstudio.client import Answer, answer, ensure_project, open_reads, progress, pull, push
from labelstudio.tasks import build_task, read_uid

READER = "reader-a"
MANY, FEW = 1200, 40  # tasks of a push: three imports; answers while the server dies
MOMENTS = pytest.mark.parametrize("moments", [1, pytest.param(20, marks=pytest.mark.trial)])
PUSH = """
import json, sys, time
from label_studio_sdk import LabelStudio
from labelstudio.client import ReadingQueue, push
from labelstudio.tasks import build_task
asked = json.loads(sys.argv[1])
print("ready", flush=True)
begun = time.monotonic()
print(push(ReadingQueue(**asked["queue"]), [build_task(uid) for uid in asked["uids"]]), time.monotonic() - begun)
"""
PULL = """
import json, sys, time
from ctcml.records import PAPER_CLASSES
from labelstudio.client import ReadingQueue, pull
asked = json.loads(sys.argv[1])
print("ready", flush=True)
begun = time.monotonic()
print(len(pull(ReadingQueue(**asked["queue"]), PAPER_CLASSES).valid), time.monotonic() - begun)
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with kept_rooms(tmp_path_factory.mktemp("kills"), [READER], cells=0) as opened:
        yield opened[READER]


def _project(room: Room, title: str, tasks: int) -> Room:
    """An empty project, and the reads that are to be pushed to it."""
    where = {"classes": CLASSES, "pictures": room.server.pictures}
    number = ensure_project(room.login.base_url, room.login.admin_token, title=title, **where)  # type: ignore[arg-type]
    uids = [read_uid(KEY, f"{title} {each}", READER, "1") for each in range(tasks)]
    return replace(room, queue=replace(room.queue, project_id=number), uids=uids)


def _asked(room: Room) -> dict[str, object]:
    return {"queue": asdict(room.queue), "uids": room.uids}


def _push(room: Room) -> int:
    return push(room.queue, [build_task(uid) for uid in room.uids])


def _moments(code: str, room: Room, number: int) -> list[float]:
    """Random seconds within the time that the work takes when nobody is killed, after all is imported."""
    took = float(run_and_kill(code, _asked(room), after_s=None).split()[-1])
    return [float(moment) for moment in np.random.default_rng(20).uniform(0, took, number)]


@MOMENTS
def test_a_push_that_is_killed_is_completed_by_the_next_one(
    room: Room, moments: int, figure: Callable[[str, str], None]
) -> None:
    """The next one starts at once, while the server may still be busy with what the dead one sent."""
    unfinished = 0
    for number, moment in enumerate(_moments(PUSH, _project(room, f"push {moments}", MANY), moments)):
        each = _project(room, f"push {moments} {number}", MANY)
        unfinished += not run_and_kill(PUSH, _asked(each), after_s=moment)
        _push(each)
        assert _push(each) == 0
        assert progress(each.queue) == (0, MANY), f"killed after {moment:.2f} s"
        assert sorted(open_reads(each.queue)) == sorted(each.uids)
    assert unfinished > 0
    figure(
        f"kill -9 of the push, {moments} random moment(s)",
        f"0 of {moments} lost or doubled a task; {unfinished} hit it",
    )


@MOMENTS
def test_a_pull_that_is_killed_changes_nothing_and_the_next_one_brings_all(
    room: Room, moments: int, figure: Callable[[str, str], None]
) -> None:
    each = _project(room, f"pull {moments}", FEW)
    _push(each)
    answer(each.as_reader, {uid: Answer(label="ctc") for uid in each.uids})
    unfinished = 0
    for moment in _moments(PULL, each, moments):
        unfinished += not run_and_kill(PULL, _asked(each), after_s=moment)
        assert sorted(one.read_uid for one in pull(each.queue, CLASSES).valid) == sorted(each.uids)
    assert unfinished > 0
    figure(f"kill -9 of the pull, {moments} random moment(s)", f"0 of {moments} lost a reading; {unfinished} hit it")


@MOMENTS
def test_a_server_that_is_killed_during_a_push_holds_each_task_once_after_the_next(
    room: Room, moments: int, figure: Callable[[str, str], None]
) -> None:
    begun = time.monotonic()
    _push(_project(room, f"server {moments}", MANY))
    took, unfinished = time.monotonic() - begun, 0
    for number, moment in enumerate(np.random.default_rng(21).uniform(0, took, moments)):
        each = _project(room, f"server {moments} {number}", MANY)
        unfinished += _while_it_dies(each, float(moment), lambda: _push(each))  # noqa: B023
        _push(each)
        assert progress(each.queue) == (0, MANY), f"killed after {moment:.2f} s"
        assert sorted(open_reads(each.queue)) == sorted(each.uids)
    figure(
        f"kill -9 of the server while pushing, {moments}", f"0 of {moments} lost or doubled a task; {unfinished} hit it"
    )


@MOMENTS
def test_a_server_that_is_killed_keeps_each_answer_that_it_confirmed_and_none_twice(
    room: Room, moments: int, figure: Callable[[str, str], None]
) -> None:
    lost = unfinished = 0
    for number, moment in enumerate(np.random.default_rng(22).uniform(0.2, 2.0, moments)):
        each = _project(room, f"answers {moments} {number}", FEW)
        _push(each)
        before = pull(each.queue, CLASSES).until
        confirmed = [0]
        given = {uid: Answer(label="ctc") for uid in each.uids}

        def read(each: Room = each, given: dict[str, Answer] = given, confirmed: list[int] = confirmed) -> None:
            answer(each.as_reader, given, told=lambda done, _: confirmed.__setitem__(0, done))

        unfinished += _while_it_dies(each, float(moment), read)
        there = {one.read_uid for one in pull(each.queue, CLASSES, since=before).valid}
        assert there == {one.read_uid for one in pull(each.queue, CLASSES).valid}
        lost += len(set(each.uids[: confirmed[0]]) - there)
        answer(each.as_reader, given)
        assert progress(each.queue) == (FEW, FEW)
        pulled = pull(each.queue, CLASSES)
        assert (sorted(one.read_uid for one in pulled.valid), pulled.rejected) == (sorted(each.uids), [])
        assert _annotations(each) == FEW
    assert lost == 0
    figure(f"kill -9 of the server while answering, {moments}", f"{lost} readings lost, 0 doubled; {unfinished} hit it")


def _while_it_dies(room: Room, moment: float, work: Callable[[], object]) -> bool:
    """Whether the death of the server ended the work, which is one line of `ServiceDown`; the server is back then."""
    with ThreadPoolExecutor(1) as pool:
        going_on = pool.submit(work)
        with suppress(TimeoutError):
            going_on.result(moment)
        kill_server(room)
        error = going_on.exception()
    bring_back(room)
    assert error is None or isinstance(error, ServiceDown), error
    return error is not None


def _annotations(room: Room) -> int:
    headers = {"Authorization": f"Token {room.login.admin_token}"}
    asked = f"{room.login.base_url}/api/tasks/?project={room.queue.project_id}&page_size=1000&fields=all"
    tasks = httpx.get(asked, headers=headers, trust_env=False, timeout=60).json()["tasks"]
    return sum(len(task["annotations"]) for task in tasks)
