"""The ledger forgets nothing and lets nothing be changed."""

import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from factories import KEY, NOON, a_ledger, a_reading, reading_draft

from ctcml.chain import Head, read_head, write_head
from ctcml.errors import BrokenRecord
from ctcml.ledger import (
    SCHEMA_VERSION,
    Draft,
    Event,
    Ledger,
    readings_of,
    require_signed,
    snapshot,
)
from ctcml.records import Duty


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


def in_schema_1(path: Path, *events: tuple[str, str, dict[str, object]]) -> Ledger:
    """A ledger as the first version wrote it: kind, by and body of each event."""
    prev, lines = "0" * 64, []
    for seq, (kind, by, body) in enumerate(events):
        line = {
            "schema": 1,
            "seq": seq,
            "at": NOON.isoformat(),
            "by": by,
            "kind": kind,
            "why": "",
            "body": body,
            "prev": prev,
        }
        text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        prev = hashlib.sha256(text.encode()).hexdigest()
        lines.append(json.dumps({**line, "hash": prev}, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
    path.write_text("\n".join(lines) + "\n")
    return Ledger(path)


def an_old_reading(cell: str, reader: str, label: str) -> tuple[str, str, dict[str, object]]:
    body = {"read_uid": f"{cell}{reader}", "cell_uid": cell, "reader": reader, "label": label, "name": None}
    return "reading", reader, {**body, "occasion": "round-1", "purpose": "training", "lead_time_s": None, "source": "x"}


OLD = (
    ("class_added", "Zeune et al. 2020", {"class_id": "ctc", "name": "CTC", "definition": "CK+"}),
    ("queued", "ctcml query", {"cell_uid": "c1", "purpose": "training", "reason": "random", "occasion": "round-1"}),
    an_old_reading("c1", "reader-b", "ctc"),
    an_old_reading("c1", "reader-a", "wbc"),
    an_old_reading("c1", "reader-c", "ctc"),
    ("settlement", "ctcml", {"cell_uid": "c1", "class_id": "ctc", "how": "adjudicator", "purpose": "training"}),
)


def test_a_ledger_of_the_first_schema_is_read_as_one_of_today_and_verified_as_it_was_written(tmp_path: Path) -> None:
    old = in_schema_1(tmp_path / "ledger.jsonl", *OLD)
    events = list(old.events())
    assert [event.kind for event in events][2:5] == ["reading", "reading", "adjudication"]
    assert [one.duty for one in readings_of(events)] == [Duty.READER, Duty.READER, Duty.ADJUDICATOR]
    assert events[0].body["authors"] == ["Zeune et al. 2020"]
    assert events[1].body["readers"] is None
    assert [event.hash for event in events][-1] == old.verify().hash


def test_a_ledger_that_was_begun_in_the_first_schema_goes_on_in_todays(tmp_path: Path) -> None:
    old = in_schema_1(tmp_path / "ledger.jsonl", *OLD)
    anchor = old.head()
    before = old.path.read_bytes()
    old.append(some_drafts(2), now=NOON)
    assert old.path.read_bytes().startswith(before)
    assert old.verify(anchor).length == len(OLD) + 2
    assert [json.loads(line)["schema"] for line in old.path.read_text().splitlines()][-3:] == [1, SCHEMA_VERSION, 2]
    assert len(readings_of(old.events())) == 5


def test_a_line_of_the_first_schema_cannot_be_passed_off_as_one_of_today(tmp_path: Path) -> None:
    old = in_schema_1(tmp_path / "ledger.jsonl", *OLD)
    old.path.write_text(old.path.read_text().replace('"schema":1', '"schema":2', 1))
    with pytest.raises(BrokenRecord, match="line 1 was changed"):
        old.verify()


def test_a_schema_of_tomorrow_is_refused_by_name(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "ledger.jsonl")
    *before, last = ledger.path.read_text().splitlines()
    line = json.loads(last)
    claimed = line.pop("hash")
    line["schema"] = SCHEMA_VERSION + 1
    text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    line["hash"] = hashlib.sha256(text.encode()).hexdigest()
    assert claimed != line["hash"]
    ledger.path.write_text("\n".join([*before, json.dumps(line)]) + "\n")
    with pytest.raises(BrokenRecord, match="schema version 3, expected 1 to 2"):
        ledger.verify()


def test_a_head_that_somebody_without_the_key_wrote_is_refused(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "ledger.jsonl", *some_drafts(3))
    true, forged = (ledger.chain.signed(ledger.head(), key) for key in (KEY, b"x" * 32))
    require_signed(ledger, [true], KEY)
    for head in (
        forged,
        Head(length=true.length, hash=true.hash),
        Head(length=5, hash=true.hash, signature=true.signature),
    ):
        with pytest.raises(BrokenRecord, match="signature"):
            require_signed(ledger, [head], KEY)


def test_heads_from_before_signatures_pass_only_where_the_ledger_is_as_old(tmp_path: Path) -> None:
    old = in_schema_1(tmp_path / "ledger.jsonl", *OLD)
    former = old.head()
    old.append(some_drafts(1), now=NOON)
    require_signed(old, [former], KEY)
    with pytest.raises(BrokenRecord, match="no signature"):
        require_signed(old, [old.head()], KEY)


def test_a_head_keeps_its_signature_on_disk(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "ledger.jsonl")
    head = ledger.chain.signed(ledger.head(), KEY)
    write_head(head, tmp_path / "head.json")
    assert read_head(tmp_path / "head.json") == head


def decide_once(path: Path, name: str) -> None:
    """Write an event unless somebody else did: right only if nobody writes between the look and the word."""
    ledger = Ledger(path)

    def make() -> list[Draft]:
        taken = any(event.kind == "mode" for event in ledger.events())
        return [] if taken else [Draft(kind="mode", by=name, body={})]

    for _ in range(5):
        ledger.decide(make, now=NOON)


def test_what_is_decided_on_the_ledger_is_decided_once_however_many_decide(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    a_ledger(path, *some_drafts(300))
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=decide_once, args=(path, f"w{n}")) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert sum(event.kind == "mode" for event in Ledger(path).events()) == 1


def test_the_last_line_is_found_however_long_it_is(tmp_path: Path) -> None:
    long = Draft(kind="mode", by="x", body={"text": "µ" * 200_000})
    ledger = a_ledger(tmp_path / "ledger.jsonl", long)
    last: Event = list(ledger.events())[-1]
    assert ledger.head() == Head(length=6, hash=last.hash)
    ledger.path.write_bytes(ledger.path.read_bytes() + b"x" * 150_000)
    assert ledger.head().length == 6
    assert ledger.append([long], now=NOON).length == 7
    assert ledger.verify().length == 7
    assert len(ledger.path.with_suffix(".torn").read_bytes()) == 150_001
