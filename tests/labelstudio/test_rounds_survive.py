"""A round on real servers whose sending and taking in are killed at random moments: nothing is lost, nothing is there twice."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from factories import NOON, a_ledger, a_sample, people
from reading_rooms import VENV, need_label_studio

from ctcml.class_registry import classes_of
from ctcml.identity import create_key, load_key
from ctcml.ledger import READINGS, Ledger
from ctcml.records import Confidence
from ctcml.services import Services
from ctcml.workspace import Workspace
from labelstudio.client import Answer, ProjectGone, ReadingQueue, answer, open_reads, progress, toolkit
from labelstudio.rounds import (
    Read,
    open_round,
    pull_reads,
    queue_of,
    reads_of,
    send_waiting,
    server_home,
    waiting_reads,
)
from labelstudio.server import read_login, start_servers

READERS = ("reader-a", "reader-b")
CELLS = 12  # a round
ROUNDS = [1, pytest.param(20, marks=[pytest.mark.trial, pytest.mark.timeout(3600)])]
SEND = """
import sys; from pathlib import Path
from ctcml.identity import load_key; from ctcml.workspace import Workspace
from labelstudio.rounds import queue_of, send_waiting
ws = Workspace(Path(sys.argv[1])); queue_of(ws, "reader-a")
print("ready", flush=True); send_waiting(ws, key=load_key(ws.key)); print("done", flush=True)
"""
TAKE_IN = """
import sys; from datetime import UTC, datetime; from pathlib import Path
from ctcml.class_registry import classes_of; from ctcml.identity import load_key; from ctcml.ledger import Ledger
from ctcml.workspace import Workspace; from labelstudio.rounds import pull_reads, queue_of
ws = Workspace(Path(sys.argv[1])); classes = classes_of(Ledger(ws.ledger).events("class_added"))
queues = [queue_of(ws, reader)[0] for reader in ("reader-a", "reader-b")]
print("ready", flush=True)
for queue in queues: pull_reads(ws, queue, classes, key=load_key(ws.key), now=datetime.now(UTC))
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with cells for many rounds, and both readers' servers."""
    need_label_studio()
    ws = Workspace(tmp_path_factory.mktemp("survive") / "lab")
    create_key(ws.key)
    a_sample(ws, [f"cell-{number:04d}" for number in range(50 * CELLS)])
    a_ledger(ws.ledger, *people(*READERS))
    with Services(ws.services / "running.json") as services:
        home = ws.services / "labelstudio"
        start_servers(services, READERS, folder=home, venv_python=VENV / "bin" / "python", template=VENV / "template")
        yield ws


def open_another(ws: Workspace) -> str:
    """Open a round with cells that nobody has read."""
    used = sum(1 for _ in Ledger(ws.ledger).events("queued"))
    cells = [f"cell-{number:04d}" for number in range(used, used + CELLS)]
    queue = pd.DataFrame({"cell_uid": cells, "purpose": "training", "reason": "random", "rank": range(CELLS)})
    occasion = f"round-{used // CELLS + 1}"
    assert open_round(Ledger(ws.ledger), queue, occasion=occasion, seed=1, now=NOON) == CELLS
    return occasion


def kill_at_random(code: str, ws: Workspace, *, within_s: float, rng: np.random.Generator) -> bool:
    """Run code on the workspace, kill -9 it somewhere in its work, and say whether it was still at work."""
    process = subprocess.Popen([sys.executable, "-c", code, str(ws.root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(float(rng.uniform(0, within_s)))
    process.kill()
    finished = "done" in process.stdout.read()
    process.stdout.close()
    process.wait()
    return not finished


def as_reader(ws: Workspace, reader: str) -> ReadingQueue:
    queue, _ = queue_of(ws, reader)
    return replace(queue, token=read_login(server_home(ws, reader) / "login.json").reader_token)


def reads_in(ws: Workspace, occasion: str, reader: str) -> list[Read]:
    found = reads_of(Ledger(ws.ledger).events(), key=load_key(ws.key))
    return [one for one in found if one.asked.occasion == occasion and one.asked.reader == reader]


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_killed_sending_is_finished_by_the_next_and_no_reader_meets_a_cell_twice(
    ws: Workspace, rounds: int, figure: Callable[[str, str], None]
) -> None:
    rng, interrupted = np.random.default_rng(rounds), 0
    for _ in range(rounds):
        open_another(ws)
        interrupted += kill_at_random(SEND, ws, within_s=2.5, rng=rng)
        send_waiting(ws, key=load_key(ws.key))
        for reader in READERS:
            wanted = {one.read_uid for one in waiting_reads(ws, key=load_key(ws.key)) if one.asked.reader == reader}
            queue, pictures = queue_of(ws, reader)
            there = open_reads(queue)
            assert sorted(there) == sorted(wanted)
            drawn = {file.name for file in (pictures / "cells").glob("*.png")}
            assert {f"{uid}-{name}.png" for uid in wanted for name in ("auto", "fixed")} <= drawn
    figure("kill -9 of the push: reads lost or doubled", f"0 ({interrupted} of {rounds} were caught at work)")


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_killed_taking_in_is_finished_by_the_next_and_every_answer_is_one_reading(
    ws: Workspace, rounds: int, figure: Callable[[str, str], None]
) -> None:
    rng, interrupted = np.random.default_rng(rounds), 0
    classes = classes_of(Ledger(ws.ledger).events("class_added"))
    for _ in range(rounds):
        occasion = open_another(ws)
        send_waiting(ws, key=load_key(ws.key))
        said = Answer(label="ctc", confidence=Confidence.SURE)
        for reader in READERS:
            answer(as_reader(ws, reader), {one.read_uid: said for one in reads_in(ws, occasion, reader)})
        interrupted += kill_at_random(TAKE_IN, ws, within_s=0.6, rng=rng)
        for reader in READERS:
            pull_reads(ws, queue_of(ws, reader)[0], classes, key=load_key(ws.key), now=NOON)
        ledger = Ledger(ws.ledger)
        ledger.verify()
        counted = Counter(event.body["read_uid"] for event in ledger.events(*READINGS))
        assert set(counted.values()) == {1}
        assert {one.read_uid for reader in READERS for one in reads_in(ws, occasion, reader)} <= counted.keys()
    for reader in READERS:
        answered, _ = progress(queue_of(ws, reader)[0])
        assert answered == sum(event.body["reader"] == reader for event in Ledger(ws.ledger).events(*READINGS))
    figure("kill -9 of the pull: readings lost or doubled", f"0 ({interrupted} of {rounds} were caught at work)")


def test_a_project_that_somebody_deleted_costs_no_reading_and_is_named(ws: Workspace) -> None:
    occasion = open_another(ws)
    send_waiting(ws, key=load_key(ws.key))
    reads = [one.read_uid for one in reads_in(ws, occasion, "reader-a")]
    answer(as_reader(ws, "reader-a"), {uid: Answer(label="ctc") for uid in reads[:4]})
    queue, _ = queue_of(ws, "reader-a")
    classes = classes_of(Ledger(ws.ledger).events("class_added"))
    assert pull_reads(ws, queue, classes, key=load_key(ws.key), now=NOON).new == 4
    with toolkit(queue.base_url, queue.token, "deleting the project") as server:
        server.projects.delete(id=queue.project_id)
    with pytest.raises(ProjectGone, match="is gone"):
        pull_reads(ws, queue, classes, key=load_key(ws.key), now=NOON)
    new, _ = queue_of(ws, "reader-a")
    assert new.project_id != queue.project_id
    pull_reads(ws, new, classes, key=load_key(ws.key), now=NOON)
    told = {event.body["read_uid"]: event.body["what"] for event in Ledger(ws.ledger).events("reading_disturbed")}
    assert {uid: told.get(uid) for uid in reads[:4]} == dict.fromkeys(reads[:4], "deleted with its task")
    assert sum(event.body["read_uid"] in reads for event in Ledger(ws.ledger).events("reading")) == 4
    send_waiting(ws, key=load_key(ws.key))
    assert set(reads[4:]) <= set(open_reads(new))
    assert not set(reads[:4]) & set(open_reads(new))
