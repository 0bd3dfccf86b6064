"""Rounds of reading: what is asked once, what is asked again, and that a reader cannot tell; the servers are faked."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories import KEY, NOON, a_cell, a_ledger

from ctcml.ledger import Ledger
from ctcml.records import PLANES
from ctcml.settlement import Round, settle_readings
from ctcml.shards import Packed, pack_shard
from ctcml.tables import MANIFEST, write_table
from ctcml.workspace import Workspace
from labelstudio import rounds
from labelstudio.client import ReadingQueue
from labelstudio.rounds import cells_of, open_round, pull_round, push_round
from labelstudio.tasks import PulledReading, read_uid

OF_A = ReadingQueue(base_url="http://127.0.0.1:9", token="", project_id=1, reader="reader-a", reader_user_id=1)
OF_B = replace(OF_A, reader="reader-b")
CELLS = [f"cell-{number}" for number in range(6)]
FIRST = {"cell-0": "random", "cell-1": "novel: cluster 3", "cell-2": "doubtful label: probability 0.010 of ctc"}
SECOND = {
    "cell-3": "border: margin 0.02",
    "cell-0": "hidden repeat",
    "cell-1": "doubtful label: probability 0.030 of wbc",
    "cell-2": "hidden repeat",
}


def a_queue(reasons: Mapping[str, str]) -> pd.DataFrame:
    rows = [(cell, "training", reason, rank) for rank, (cell, reason) in enumerate(reasons.items())]
    return pd.DataFrame(rows, columns=["cell_uid", "purpose", "reason", "rank"])


def open_(ledger: Ledger, reasons: Mapping[str, str], occasion: str) -> int:
    return open_round(ledger, a_queue(reasons), occasion=occasion, now=NOON)


def test_a_round_that_is_opened_again_asks_nothing_twice(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "l.jsonl")
    assert [open_(ledger, FIRST, "round-1"), open_(ledger, FIRST, "round-1")] == [3, 0]
    assert [open_(ledger, SECOND, "round-2"), open_(ledger, SECOND, "round-2")] == [4, 0]
    assert set(cells_of(ledger, "round-1")) == set(FIRST)
    assert cells_of(ledger, "round-2") == dict.fromkeys(SECOND, "training")


def test_a_queue_of_an_earlier_round_opens_nothing_in_a_later_one(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "l.jsonl")
    open_(ledger, FIRST, "round-1")
    open_(ledger, SECOND, "round-2")
    assert open_(ledger, {**FIRST, **SECOND}, "round-3") == 0


def test_a_cell_is_not_read_twice_on_one_occasion_whatever_the_reason(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "l.jsonl")
    open_(ledger, FIRST, "round-1")
    assert open_(ledger, {"cell-0": "hidden repeat"}, "round-1") == 0


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """Six cells of one sample, and a ledger."""
    ws, rng = Workspace(tmp_path / "lab"), np.random.default_rng(3)
    packed = [
        Packed(
            cell_uid=cell,
            sample_uid="s1",
            object_index=number,
            planes=PLANES,
            pixels=a_cell(rng)[:3],
            mask=None,
            source_bit_depth=16,
            source_order="CD45,DAPI,CK",
        )
        for number, cell in enumerate(CELLS)
    ]
    rows = {name: [None] * len(CELLS) for name in MANIFEST} | {
        "cell_uid": CELLS,
        "sample_uid": "s1",
        "patient_uid": "p1",
        "object_index": range(len(CELLS)),
        "content_sha256": [one.content_sha256 for one in packed],
        "shard_sha256": pack_shard(packed, ws.shards / "s1.parquet"),
    }
    write_table(pd.DataFrame(rows), MANIFEST, ws.manifest / "s1.parquet")
    a_ledger(ws.ledger)
    return ws


class Server:
    """What one Label Studio holds, at the edge where the client would ask it: tasks, and answers to some of them."""

    def __init__(self) -> None:
        self.tasks: dict[str, list[dict[str, str]]] = {}
        self.answers: dict[str, dict[str, str]] = {}

    def push(self, queue: ReadingQueue, tasks: list[dict[str, str]]) -> int:
        held = self.tasks.setdefault(queue.reader, [])
        fresh = [task for task in tasks if task not in held]
        held += fresh
        return len(fresh)

    def pull(self, queue: ReadingQueue, classes: object) -> tuple[list[PulledReading], list[object]]:
        answered = [
            PulledReading(
                read_uid=uid,
                reader=queue.reader,
                label=label,
                new_name=None,
                lead_time_s=2.0,
                server="s",
                annotation_id=number,
                answered_at="noon",
            )
            for number, (uid, label) in enumerate(self.answers.get(queue.reader, {}).items())
        ]
        return answered, []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(rounds, "push", server.push)
    monkeypatch.setattr(rounds, "pull", server.pull)
    return server


def send(ws: Workspace, occasion: str) -> list[int]:
    cells = sorted(cells_of(Ledger(ws.ledger), occasion))
    return [
        push_round(ws, of, cells, key=KEY, occasion=occasion, pictures=ws.services / of.reader) for of in (OF_A, OF_B)
    ]


def answer(server: Server, occasion: str, labels: Mapping[str, str], *readers: ReadingQueue) -> None:
    for one in readers:
        said = {read_uid(KEY, cell, one.reader, occasion): label for cell, label in labels.items()}
        server.answers.setdefault(one.reader, {}).update(said)


def fetch(ws: Workspace, occasion: str) -> list[tuple[int, int]]:
    cells = cells_of(Ledger(ws.ledger), occasion)
    pulled = [pull_round(ws, of, cells, [], key=KEY, occasion=occasion, now=NOON) for of in (OF_A, OF_B)]
    return [(one.new, one.open) for one in pulled]


def settle(ws: Workspace) -> Round:
    return settle_readings(
        Ledger(ws.ledger), rule="adjudicate", adjudicator="reader-c", new_class_min=2, now=NOON, withdrawn=()
    )


def test_cells_that_are_read_again_go_out_come_back_and_are_waited_for_but_keep_their_labels(
    ws: Workspace, server: Server
) -> None:
    ledger = Ledger(ws.ledger)
    open_(ledger, FIRST, "round-1")
    assert send(ws, "round-1") == [3, 3]
    answer(server, "round-1", {"cell-0": "ctc", "cell-1": "wbc", "cell-2": "wbc"}, OF_A, OF_B)
    assert fetch(ws, "round-1") == [(3, 0), (3, 0)]
    assert settle(ws).settled == 3

    open_(ledger, SECOND, "round-2")
    assert send(ws, "round-2") == [4, 4]
    assert send(ws, "round-2") == [0, 0]
    answer(server, "round-2", {"cell-3": "ctc", "cell-0": "wbc"}, OF_A, OF_B)
    assert fetch(ws, "round-2") == [(2, 2), (2, 2)]
    assert set(settle(ws).waiting) == {"cell-1", "cell-2"}
    answer(server, "round-2", {"cell-1": "wbc", "cell-2": "ctc"}, OF_A, OF_B)
    assert fetch(ws, "round-2") == [(2, 0), (2, 0)]
    outcome = settle(ws)
    assert (outcome.waiting, outcome.contested) == ((), ())
    label_of = {event.body["cell_uid"]: event.body["class_id"] for event in ledger.events("settlement")}
    assert label_of == {"cell-0": "ctc", "cell-1": "wbc", "cell-2": "wbc", "cell-3": "ctc"}
    again = [event.body for event in ledger.events("reading") if event.body["occasion"] == "round-2"]
    assert len(again) == 8
    assert {body["purpose"] for body in again} == {"training"}


def test_what_a_reader_is_sent_tells_neither_cell_nor_reason_nor_that_it_was_read_before(
    ws: Workspace, server: Server
) -> None:
    ledger = Ledger(ws.ledger)
    for reasons, occasion in ((FIRST, "round-1"), (SECOND, "round-2")):
        open_(ledger, reasons, occasion)
        send(ws, occasion)
    for tasks in server.tasks.values():
        sent = str(tasks)
        assert len({task["read_uid"] for task in tasks}) == 7
        assert not [word for word in (*CELLS, "repeat", "doubtful", "novel", "round-") if word in sent]
    assert not {task["read_uid"] for task in server.tasks["reader-a"]} & {
        task["read_uid"] for task in server.tasks["reader-b"]
    }
