"""The ledger forgets nothing and lets nothing be changed."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from factories import NOON, a_ledger, a_reading, reading_draft

from ctcml.errors import BrokenRecord
from ctcml.ledger import Draft, Head, Ledger, read_head, readings_of, snapshot, write_head


def some_drafts(count: int, by: str = "reader-a") -> list[Draft]:
    return [reading_draft(a_reading(f"cell{number}", by, "ctc")) for number in range(count)]


def test_what_was_written_is_read_back_in_order(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "ledger.jsonl", *some_drafts(3))
    assert [event.seq for event in ledger.events()] == list(range(8))
    assert [one.cell_uid for one in readings_of(ledger.events())] == ["cell0", "cell1", "cell2"]
    assert ledger.verify() == ledger.head() == Head(length=8, hash=list(ledger.events())[-1].hash)


def test_an_empty_ledger_is_whole(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "none.jsonl").verify().length == 0


def test_an_unknown_kind_of_event_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "ledger.jsonl")
    before = ledger.path.read_bytes()
    with pytest.raises(BrokenRecord, match="gossip"):
        ledger.append([*some_drafts(1), Draft(kind="gossip", by="x", body={})], now=NOON)
    assert ledger.path.read_bytes() == before


def mutate(lines: list[bytes], rng: np.random.Generator) -> tuple[str, bytes]:
    """One random edit, deletion, swap or cut of a ledger of whole lines."""
    kind = str(rng.choice(["edit", "delete", "swap", "cut"]))
    place = int(rng.integers(len(lines)))
    if kind == "edit":
        line = json.loads(lines[place])
        field = str(rng.choice(["by", "why", "at"]))
        changed = {**line, field: line[field] + "x"}
        if rng.random() < 0.5:
            changed = {**line, "body": {**line["body"], "reader": "somebody"}}
        lines = [
            *lines[:place],
            json.dumps(changed, sort_keys=True, separators=(",", ":")).encode() + b"\n",
            *lines[place + 1 :],
        ]
    elif kind == "delete":
        lines = lines[:place] + lines[place + 1 :]
    elif kind == "swap":
        other = (place + 1 + int(rng.integers(len(lines) - 1))) % len(lines)
        lines = list(lines)
        lines[place], lines[other] = lines[other], lines[place]
    else:
        lines = lines[:place]
    return kind, b"".join(lines)


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.trial)])
def test_every_edit_deletion_swap_and_cut_below_the_anchored_head_is_found(
    tmp_path: Path, count: int, figure: Callable[[str, str], None]
) -> None:
    ledger = a_ledger(tmp_path / "ledger.jsonl", *some_drafts(30))
    anchor, lines = ledger.head(), ledger.path.read_bytes().splitlines(keepends=True)
    rng = np.random.default_rng(7)
    for _ in range(count):
        kind, content = mutate(lines, rng)
        ledger.path.write_bytes(content)
        with pytest.raises(BrokenRecord):
            pytest.fail(f"{kind} not found: {ledger.verify(anchor)}")
    figure("edits, deletions, swaps and cuts of a ledger found", f"{count} of {count}")


def test_a_torn_last_line_is_set_aside_and_the_chain_goes_on(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "ledger.jsonl")
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + b'{"schema":1,"seq":5,"by":"read')
    assert ledger.head().length == 5
    ledger.append(some_drafts(1), now=NOON)
    assert ledger.verify().length == 6
    assert ledger.path.with_suffix(".torn").read_bytes() == b'{"schema":1,"seq":5,"by":"read\n'


def write_some(path: Path, name: str, count: int) -> None:
    for draft in some_drafts(count, by=name):
        Ledger(path).append([draft], now=NOON)


def test_concurrent_writers_lose_and_double_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    writers = [
        multiprocessing.get_context("spawn").Process(target=write_some, args=(path, f"reader-{n}", 15))
        for n in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    events = list(Ledger(path).events())
    assert sorted((event.by, event.body["cell_uid"]) for event in events) == sorted(
        (f"reader-{n}", f"cell{k}") for n in range(3) for k in range(15)
    )


def test_a_writer_killed_at_any_moment_leaves_a_whole_chain(tmp_path: Path) -> None:
    path, rng = tmp_path / "ledger.jsonl", np.random.default_rng(3)
    for _ in range(4):
        writer = multiprocessing.get_context("fork").Process(target=write_some, args=(path, "reader-a", 10_000))
        writer.start()
        writer.join(timeout=float(rng.uniform(0.05, 0.3)))
        assert writer.pid
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        length = Ledger(path).verify().length
        assert Ledger(path).append(some_drafts(1), now=NOON).length == length + 1


def test_a_snapshot_verifies_and_never_shortens_the_live_ledger(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "ledger.jsonl", *some_drafts(2))
    head = snapshot(ledger, tmp_path / "data" / "ledger")
    ledger.append(some_drafts(5, by="reader-b"), now=NOON)
    assert Ledger(tmp_path / "data" / "ledger").verify() == head
    assert ledger.verify(head).length == head.length + 5


def test_a_further_snapshot_stores_only_what_is_new_and_reads_as_one_ledger(tmp_path: Path) -> None:
    ledger, folder = a_ledger(tmp_path / "ledger.jsonl", *some_drafts(2)), tmp_path / "data" / "ledger"
    first = snapshot(ledger, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert snapshot(ledger, folder) == first
    ledger.append(some_drafts(200, by="reader-b"), now=NOON)
    assert snapshot(ledger, folder) == ledger.head() == Ledger(folder).verify()
    after = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert {name: after.pop(name) for name in before} == before
    assert [content.count(b"\n") for content in after.values()] == [200]
    assert [event.hash for event in Ledger(folder).events()] == [event.hash for event in ledger.events()]


def test_a_snapshot_of_another_ledger_is_not_gone_on_with(tmp_path: Path) -> None:
    snapshot(a_ledger(tmp_path / "other.jsonl", *some_drafts(3)), tmp_path / "data" / "ledger")
    with pytest.raises(BrokenRecord, match="is not among them"):
        snapshot(a_ledger(tmp_path / "ledger.jsonl", *some_drafts(5, by="reader-b")), tmp_path / "data" / "ledger")


def test_an_anchor_survives_its_file_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    head = a_ledger(tmp_path / "ledger.jsonl").head()
    write_head(head, tmp_path / "head.json")
    assert read_head(tmp_path / "head.json") == head
    assert read_head(tmp_path / "none.json") is None
    (tmp_path / "head.json").write_text("{}")
    with pytest.raises(BrokenRecord, match=r"head\.json"):
        read_head(tmp_path / "head.json")
