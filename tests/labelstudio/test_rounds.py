"""Rounds of reading: who is asked what, what comes back into the ledger, and that a reader cannot tell; servers are faked."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from factories import KEY, NOON, a_ledger, a_sample, people

from ctcml.assignments import stand_ins
from ctcml.ledger import Ledger
from ctcml.people import people_of
from ctcml.records import Confidence
from ctcml.settlement import Round, settle_readings
from ctcml.workspace import Workspace
from labelstudio import rounds
from labelstudio.client import Pull, ReadingQueue
from labelstudio.rounds import (
    Pulled,
    all_reads,
    draw_pictures,
    open_round,
    pull_reads,
    push_reads,
    reads_of,
    waiting_reads,
)
from labelstudio.tasks import PulledReading, RejectedReading

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
    return open_round(ledger, a_queue(reasons), occasion=occasion, seed=1, now=NOON)


def queued_on(ledger: Ledger, occasion: str) -> set[str]:
    return {event.body["cell_uid"] for event in ledger.events("queued") if event.body["occasion"] == occasion}


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """Six cells of one sample, two readers and an adjudicator."""
    ws = Workspace(tmp_path / "lab")
    a_sample(ws, CELLS)
    a_ledger(ws.ledger, *people("reader-a", "reader-b", adjudicators=("reader-c",)))
    for reader in ("reader-a", "reader-b", "reader-c"):
        rounds.server_home(ws, reader).mkdir(parents=True)
    return ws


class Server:
    """What one Label Studio holds, at the edge where the client would ask it: tasks, and answers to some of them."""

    def __init__(self) -> None:
        self.tasks: dict[str, list[dict[str, str]]] = {}
        self.answers: dict[str, dict[str, PulledReading | RejectedReading]] = {}
        self.emptied: list[str] = []

    def push(self, queue: ReadingQueue, tasks: list[dict[str, str]]) -> int:
        held = self.tasks.setdefault(queue.reader, [])
        fresh = [task for task in tasks if task not in held]
        held += fresh
        return len(fresh)

    def pull(self, queue: ReadingQueue, classes: object, *, since: object = None) -> Pull:
        answers = list(self.answers.get(queue.reader, {}).values())
        return Pull(
            valid=[one for one in answers if isinstance(one, PulledReading)],
            rejected=[one for one in answers if isinstance(one, RejectedReading)],
            emptied=self.emptied,
            until=NOON - timedelta(seconds=10),
        )

    def progress(self, queue: ReadingQueue) -> tuple[int, int]:
        return len(self.answers.get(queue.reader, {})), len(self.tasks.get(queue.reader, []))

    def held(self, queue: ReadingQueue, uids: list[str]) -> set[str]:
        return {task["read_uid"] for task in self.tasks.get(queue.reader, [])} & set(uids)

    def say(self, reader: str, uid: str, label: str, **more: Any) -> None:
        self.answers.setdefault(reader, {})[uid] = PulledReading(
            read_uid=uid,
            reader=reader,
            label=label,
            new_name=None,
            lead_time_s=2.0,
            server="s",
            annotation_id=1,
            answered_at="noon",
            **{"confidence": None, "reasons": (), **more},
        )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    for name in ("push", "pull", "progress", "held"):
        monkeypatch.setattr(rounds, name, getattr(server, name))
    return server


def send(ws: Workspace) -> list[int]:
    waiting = waiting_reads(ws, key=KEY)
    folders = {reader: ws.services / reader for reader in ("reader-a", "reader-b", "reader-c")}
    draw_pictures(ws, waiting, folders)
    return [push_reads(of, [one for one in waiting if one.asked.reader == of.reader]) for of in (OF_A, OF_B)]


def uid_of(ws: Workspace, cell: str, reader: str, occasion: str = "round-1") -> str:
    (one,) = [
        read.read_uid
        for read in reads_of(Ledger(ws.ledger).events(), key=KEY)
        if (read.asked.cell_uid, read.asked.reader, read.asked.occasion) == (cell, reader, occasion)
    ]
    return one


def answer(ws: Workspace, server: Server, occasion: str, labels: Mapping[str, str], *readers: str) -> None:
    for reader in readers or ("reader-a", "reader-b"):
        for cell, label in labels.items():
            server.say(reader, uid_of(ws, cell, reader, occasion), label)


def fetch(ws: Workspace, of: ReadingQueue = OF_A) -> Pulled:
    return pull_reads(ws, of, [], key=KEY, now=NOON)


def fetch_both(ws: Workspace) -> list[tuple[int, int]]:
    return [(one.new, one.open) for one in (fetch(ws, OF_A), fetch(ws, OF_B))]


def settle(ws: Workspace) -> Round:
    return settle_readings(
        Ledger(ws.ledger), rule="adjudicate", check_share=0, new_class_min=2, key=KEY, now=NOON, withdrawn=()
    )


def test_a_round_that_is_opened_again_asks_nothing_twice(ws: Workspace) -> None:
    ledger = Ledger(ws.ledger)
    assert [open_(ledger, FIRST, "round-1"), open_(ledger, FIRST, "round-1")] == [3, 0]
    assert [open_(ledger, SECOND, "round-2"), open_(ledger, SECOND, "round-2")] == [4, 0]
    assert queued_on(ledger, "round-1") == set(FIRST)
    assert queued_on(ledger, "round-2") == set(SECOND)


def test_a_queue_of_an_earlier_round_opens_nothing_in_a_later_one(ws: Workspace) -> None:
    ledger = Ledger(ws.ledger)
    open_(ledger, FIRST, "round-1")
    open_(ledger, SECOND, "round-2")
    assert open_(ledger, {**FIRST, **SECOND}, "round-3") == 0


def test_a_cell_is_not_read_twice_on_one_occasion_whatever_the_reason(ws: Workspace) -> None:
    open_(Ledger(ws.ledger), FIRST, "round-1")
    assert open_(Ledger(ws.ledger), {"cell-0": "hidden repeat"}, "round-1") == 0


def test_cells_go_out_come_back_and_are_waited_for_on_each_occasion(ws: Workspace, server: Server) -> None:
    ledger = Ledger(ws.ledger)
    open_(ledger, FIRST, "round-1")
    assert [send(ws), send(ws)] == [[3, 3], [0, 0]]
    answer(ws, server, "round-1", {"cell-0": "ctc", "cell-1": "wbc", "cell-2": "wbc"})
    assert fetch_both(ws) == [(3, 0), (3, 0)]
    assert settle(ws).settled == 3

    open_(ledger, SECOND, "round-2")
    assert [send(ws), send(ws)] == [[4, 4], [0, 0]]
    answer(ws, server, "round-2", {"cell-3": "ctc", "cell-0": "wbc"})
    assert fetch_both(ws) == [(2, 2), (2, 2)]
    assert {one.cell_uid for one in settle(ws).waiting} == {"cell-1", "cell-2"}
    answer(ws, server, "round-2", {"cell-1": "tdev", "cell-2": "ctc"})
    assert fetch_both(ws) == [(2, 0), (2, 0)]
    outcome = settle(ws)
    assert (outcome.waiting, outcome.third) == ((), ())
    label_of = {event.body["cell_uid"]: event.body["class_id"] for event in ledger.events("settlement")}
    # Hidden repeats change nothing; the doubted label gave way to two who agreed.
    assert label_of == {"cell-0": "ctc", "cell-1": "tdev", "cell-2": "wbc", "cell-3": "ctc"}


def test_a_reading_keeps_all_that_the_reader_said(ws: Workspace, server: Server) -> None:
    open_(Ledger(ws.ledger), FIRST, "round-1")
    said = {"confidence": Confidence.DOUBTFUL, "reasons": ("fragment", "misaligned")}
    server.say("reader-a", uid_of(ws, "cell-0", "reader-a"), "unreadable", **said)
    fetch(ws)
    (event,) = Ledger(ws.ledger).events("reading")
    assert (event.body["label"], event.body["confidence"], event.body["reasons"]) == (
        "unreadable",
        "doubtful",
        ["fragment", "misaligned"],
    )


def test_the_adjudicators_answer_enters_as_an_adjudication(ws: Workspace, server: Server) -> None:
    open_(Ledger(ws.ledger), {"cell-0": "random"}, "round-1")
    server.say("reader-a", uid_of(ws, "cell-0", "reader-a"), "ctc")
    server.say("reader-b", uid_of(ws, "cell-0", "reader-b"), "wbc")
    fetch_both(ws)
    assert [one.reader for one in settle(ws).third] == ["reader-c"]
    of_c = replace(OF_A, reader="reader-c")
    server.say("reader-c", uid_of(ws, "cell-0", "reader-c"), "ctc")
    assert fetch(ws, of_c).new == 1
    assert [event.body["duty"] for event in Ledger(ws.ledger).events("adjudication")] == ["adjudicator"]
    assert settle(ws).settled == 1


def test_pulling_again_brings_nothing_and_writes_nothing(ws: Workspace, server: Server) -> None:
    open_(Ledger(ws.ledger), FIRST, "round-1")
    answer(ws, server, "round-1", {"cell-0": "ctc"}, "reader-a")
    fetch(ws)
    length = Ledger(ws.ledger).head().length
    again = fetch(ws)
    assert (again.new, again.known, Ledger(ws.ledger).head().length) == (0, 1, length)


def rejected(uid: str, reason: str = "2 classes chosen") -> RejectedReading:
    return RejectedReading(
        read_uid=uid, reader="reader-a", reason=reason, raw=[{"value": {}}], annotation_id=7, answered_at="noon"
    )


def test_an_answer_that_is_no_reading_is_kept_with_its_reason_and_the_cell_is_asked_again_under_a_new_name(
    ws: Workspace, server: Server
) -> None:
    open_(Ledger(ws.ledger), FIRST, "round-1")
    first = uid_of(ws, "cell-0", "reader-a")
    server.answers["reader-a"] = {first: rejected(first)}
    assert (fetch(ws).rejected, fetch(ws).rejected) == (1, 0)
    (event,) = Ledger(ws.ledger).events("reading_rejected")
    assert (event.body["cell_uid"], event.body["reason"], event.body["answer"]) == (
        "cell-0",
        "2 classes chosen",
        [{"value": {}}],
    )
    again = uid_of(ws, "cell-0", "reader-a")
    assert again != first
    assert again in {one.read_uid for one in waiting_reads(ws, key=KEY)}
    server.say("reader-a", again, "ctc")
    assert fetch(ws).new == 1
    assert {first, again} <= {uid for uid, _ in all_reads(ws, ["cell-0"], key=KEY)}


def test_a_reading_that_was_changed_or_deleted_after_it_was_taken_in_stands_and_is_named_once(
    ws: Workspace, server: Server
) -> None:
    open_(Ledger(ws.ledger), FIRST, "round-1")
    send(ws)
    answer(ws, server, "round-1", {"cell-0": "ctc", "cell-1": "ctc", "cell-2": "ctc"}, "reader-a")
    fetch(ws)
    changed, edited, gone = (uid_of(ws, cell, "reader-a") for cell in ("cell-0", "cell-1", "cell-2"))
    server.say("reader-a", changed, "wbc")
    server.answers["reader-a"][edited] = rejected(edited, "touched by account [1]")
    del server.answers["reader-a"][gone]
    server.emptied = [gone]
    assert [fetch(ws).disturbed, fetch(ws).disturbed] == [3, 0]
    told = {event.body["cell_uid"]: event.body["what"] for event in Ledger(ws.ledger).events("reading_disturbed")}
    assert told == {"cell-0": "changed to wbc at noon", "cell-1": "touched by account [1]", "cell-2": "deleted"}
    assert [event.body["label"] for event in Ledger(ws.ledger).events("reading")] == ["ctc"] * 3


def test_a_name_that_became_a_class_in_the_meantime_is_no_change(ws: Workspace, server: Server) -> None:
    open_(Ledger(ws.ledger), FIRST, "round-1")
    send(ws)
    answer(ws, server, "round-1", {"cell-0": "new:cd45ev"}, "reader-a")
    fetch(ws)
    answer(ws, server, "round-1", {"cell-0": "cd45ev"}, "reader-a")
    assert (fetch(ws).disturbed, fetch(ws).known) == (0, 1)


def test_a_reading_whose_task_was_deleted_is_named(ws: Workspace, server: Server) -> None:
    open_(Ledger(ws.ledger), FIRST, "round-1")
    send(ws)
    answer(ws, server, "round-1", {"cell-0": "ctc"}, "reader-a")
    fetch(ws)
    uid = uid_of(ws, "cell-0", "reader-a")
    server.tasks["reader-a"] = [task for task in server.tasks["reader-a"] if task["read_uid"] != uid]
    server.answers.clear()
    assert fetch(ws).disturbed == 1
    assert [event.body["what"] for event in Ledger(ws.ledger).events("reading_disturbed")] == ["deleted with its task"]


def test_an_absent_readers_late_answer_is_refused_once_the_cell_was_given_away(ws: Workspace, server: Server) -> None:
    ledger = Ledger(ws.ledger)
    ledger.append(people("reader-d"), now=NOON)
    open_(ledger, FIRST, "round-1")
    asked = [one for one in waiting_reads(ws, key=KEY) if one.asked.reader == "reader-a"]
    ledger.append(stand_ins(list(ledger.events()), people_of(ledger.events()), "reader-a", by="x", why="ill"), now=NOON)
    server.say("reader-a", asked[0].read_uid, "ctc")
    assert (fetch(ws).rejected, fetch(ws).rejected) == (1, 0)
    (event,) = ledger.events("reading_rejected")
    assert "before it was answered" in event.body["reason"]
    assert list(ledger.events("reading")) == []
    assert "reader-a" not in {one.asked.reader for one in waiting_reads(ws, key=KEY)}


def test_a_cell_is_drawn_for_both_readers_under_names_of_their_own(ws: Workspace, server: Server) -> None:
    open_(Ledger(ws.ledger), FIRST, "round-1")
    send(ws)
    drawn = {
        reader: {file.name for file in (ws.services / reader).rglob("*.png")} for reader in ("reader-a", "reader-b")
    }
    assert [len(names) for names in drawn.values()] == [6, 6]
    assert not drawn["reader-a"] & drawn["reader-b"]


def test_what_a_reader_is_sent_tells_neither_cell_nor_reason_nor_that_it_was_read_before(
    ws: Workspace, server: Server
) -> None:
    ledger = Ledger(ws.ledger)
    for reasons, occasion in ((FIRST, "round-1"), (SECOND, "round-2")):
        open_(ledger, reasons, occasion)
        send(ws)
    for tasks in server.tasks.values():
        sent = str(tasks)
        assert len({task["read_uid"] for task in tasks}) == 7
        assert not [word for word in (*CELLS, "repeat", "doubtful", "novel", "round-") if word in sent]
    assert not {task["read_uid"] for task in server.tasks["reader-a"]} & {
        task["read_uid"] for task in server.tasks["reader-b"]
    }
