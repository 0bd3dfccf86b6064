"""`ctcml bench readings`: sending cells to two readers and taking their answers in, beside the vendor's own toolkit used plainly."""

import secrets
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from PIL import Image

from ctcml.class_registry import class_body, classes_of
from ctcml.errors import BadInput
from ctcml.identity import create_key
from ctcml.images import reader_panels
from ctcml.ledger import READINGS, Draft, Ledger
from ctcml.measuring import Figure, table_of
from ctcml.people import Person, adding
from ctcml.records import PAPER_CLASSES, PLANES
from ctcml.services import Services
from ctcml.settlement import settle_readings
from ctcml.shards import Packed, pack_shard, read_pixels
from ctcml.tables import MANIFEST, write_table
from ctcml.telling import say
from ctcml.workspace import Workspace
from labelstudio.client import OVERLAP, session, toolkit
from labelstudio.rounds import PROJECT, Read, open_round, pull_reads, queue_of, reads_of, send_waiting
from labelstudio.server import prepare_template, read_login, start_servers
from labelstudio.tasks import build_result, build_task

READERS = ("reader-a", "reader-b")
IN_A_SAMPLE = 50
BATCH = 1000  # answered tasks that are planted at once
DIFFER = 0.06  # share of cells on which the made-up readers differ
Say = Callable[[str], None]


def bench_readings(folder: Path, *, cells: int, seed: int, venv: Path, say: Say) -> list[Figure]:
    """Time both ways on real servers with made-up thumbnails; answers are planted through the import, not by a browser.

    The plain way draws each reader's pictures alone, imports all tasks in one call, looks nothing up before or after, and
    takes answers from an export of the whole project without any check.
    """
    ws, rng = Workspace(folder / "lab"), np.random.default_rng(seed)
    key = create_key(ws.key)
    _stock(ws, cells, rng, say)
    python, template = venv / "bin" / "python", venv / "template"
    prepare_template(python, template)
    with Services(folder / "services.json") as services:
        home = ws.services / "labelstudio"
        start_servers(services, READERS, folder=home, venv_python=python, template=template)
        say("servers are up; sending")
        sent = _seconds(lambda: send_waiting(ws, key=key))
        again = _seconds(lambda: send_waiting(ws, key=key))
        reads = reads_of(Ledger(ws.ledger).events(), key=key)
        plain = _seconds(lambda: _send_plainly(ws, reads))
        say(f"sent in {sent:.0f} s, plainly in {plain:.0f} s; planting answers")
        _plant_answers(ws, reads, rng)
        say("taking them in")
        pulled = _seconds(lambda: _take_in(ws, key))
        time.sleep(OVERLAP.total_seconds() + 5)  # a pull looks back a little; by now that is over
        once_more = _seconds(lambda: _take_in(ws, key))
        exported = _seconds(lambda: _take_plainly(ws))
    taken = sum(1 for _ in Ledger(ws.ledger).events(*READINGS))
    settled = sum(1 for _ in Ledger(ws.ledger).events("settlement"))
    return [
        Figure(name=f"{cells} cells drawn and sent to 2 readers", value=f"{sent:.1f} s", asked="5,000 in <= 60 s"),
        Figure(name="the same again, nothing to send", value=f"{again:.1f} s"),
        Figure(name="plainly: pictures for each reader, one import", value=f"{plain:.1f} s ({plain / sent:.2f} x ours)"),
        Figure(name=f"{taken} readings pulled, {settled} cells settled", value=f"{pulled:.1f} s", asked="10,000 in <= 90 s"),
        Figure(name="the same again, nothing new", value=f"{once_more:.1f} s"),
        Figure(name="plainly: an export of everything, unchecked", value=f"{exported:.1f} s ({exported / pulled:.2f} x ours)"),
    ]  # fmt: skip


def _seconds(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def _stock(ws: Workspace, cells: int, rng: np.random.Generator, say: Say) -> None:
    """A workspace with that many made-up thumbnails of 40 to 60 pixels, two readers, and a round that asks for all."""
    uids = []
    for start in range(0, cells, IN_A_SAMPLE):
        sample = f"s{start // IN_A_SAMPLE:05d}"
        packed = [_thumbnail(sample, number, rng) for number in range(min(IN_A_SAMPLE, cells - start))]
        uids += [one.cell_uid for one in packed]
        rows = {name: [None] * len(packed) for name in MANIFEST} | {
            "cell_uid": [one.cell_uid for one in packed],
            "sample_uid": sample,
            "patient_uid": f"p-{sample}",
            "object_index": range(len(packed)),
            "content_sha256": [one.content_sha256 for one in packed],
            "shard_sha256": pack_shard(packed, ws.shards / f"{sample}.parquet"),
        }
        write_table(pd.DataFrame(rows), MANIFEST, ws.manifest / f"{sample}.parquet")
    ledger, now = Ledger(ws.ledger), datetime.now(UTC)
    added = [Draft(kind="class_added", by="bench", body=class_body(one, authors=["bench"])) for one in PAPER_CLASSES]
    joining = [adding((), Person(name=name, adjudicates=False), by="bench") for name in READERS]
    ledger.append([*added, *joining], now=now)
    queue = pd.DataFrame({"cell_uid": uids, "purpose": "training", "reason": "random", "rank": range(len(uids))})
    open_round(ledger, queue, occasion="round-1", seed=1, now=now)
    say(f"{len(uids)} made-up thumbnails are packed")


def _thumbnail(sample: str, number: int, rng: np.random.Generator) -> Packed:
    height, width = (int(side) for side in rng.integers(40, 60, 2))
    y, x = np.mgrid[:height, :width]
    blob = np.exp(-((y - height / 2) ** 2 + (x - width / 2) ** 2) / 60)
    levels = rng.uniform(50, 1500, 3)[:, None, None]
    return Packed(
        cell_uid=secrets.token_hex(12),
        sample_uid=sample,
        object_index=number,
        planes=PLANES,
        pixels=(levels * blob + rng.normal(120, 6, (3, height, width))).clip(0, 4095).astype(np.uint16),
        mask=None,
        source_bit_depth=16,
        source_order=",".join(PLANES),
    )


def _send_plainly(ws: Workspace, reads: Sequence[Read]) -> None:
    """As a user would: for each reader draw and save every picture with Pillow, then import all tasks at once."""
    where = {uid: sample for sample, uids in _by_sample(ws).items() for uid in uids}
    for reader in READERS:
        login = read_login(ws.services / "labelstudio" / reader / "login.json")
        folder = ws.services / "labelstudio" / reader / "pictures" / "plain"
        folder.mkdir()
        mine = {one.asked.cell_uid: one.read_uid for one in reads if one.asked.reader == reader}
        for sample in sorted({where[cell] for cell in mine}):
            for cell, pixels in read_pixels(ws.shards, sample).items():
                for name, picture in reader_panels(pixels).items():
                    Image.fromarray(picture).save(folder / f"{mine[cell]}-{name}.png")
        with toolkit(login.base_url, login.admin_token, "importing plainly") as server:
            project = server.projects.create(title="plain", label_config="<View/>")
            request = [{"data": build_task(uid)} for uid in mine.values()]
            server.projects.import_tasks(id=project.id, request=request)
            server.projects.delete(id=project.id)


def _by_sample(ws: Workspace) -> dict[str, list[str]]:
    files = sorted(ws.manifest.glob("*.parquet"))
    tables = [pd.read_parquet(file, columns=["cell_uid", "sample_uid"]) for file in files]
    return {str(sample): list(uids) for sample, uids in pd.concat(tables).groupby("sample_uid")["cell_uid"]}


def _plant_answers(ws: Workspace, reads: Sequence[Read], rng: np.random.Generator) -> None:
    """Make the readers' projects anew with every task answered by its reader; the readers differ on some cells."""
    names = [one.class_id for one in PAPER_CLASSES]
    truth = {cell: int(rng.integers(len(names))) for cell in sorted({one.asked.cell_uid for one in reads})}
    for reader in READERS:
        login = read_login(ws.services / "labelstudio" / reader / "login.json")
        queue, _ = queue_of(ws, reader)
        with toolkit(login.base_url, login.admin_token, "planting answers") as server:
            server.projects.delete(id=queue.project_id)
        queue, _ = queue_of(ws, reader)
        tasks = [_answered(one, names[_said(truth[one.asked.cell_uid], len(names), rng)], login.reader_user_id)
                 for one in reads if one.asked.reader == reader]  # fmt: skip
        with session(login.base_url, login.reader_token, "planting answers") as http:
            for start in range(0, len(tasks), BATCH):
                http.post(f"/api/projects/{queue.project_id}/import", json=tasks[start : start + BATCH])


def _said(right: int, classes: int, rng: np.random.Generator) -> int:
    return int((right + rng.integers(1, classes)) % classes) if rng.random() < DIFFER / 2 else right


def _answered(one: Read, label: str, account: int) -> Mapping[str, Any]:
    annotation = {"result": build_result(label), "completed_by": account, "lead_time": 2.5}
    return {"data": build_task(one.read_uid), "annotations": [annotation]}


def _take_in(ws: Workspace, key: bytes) -> None:
    """As the flow does: pull both, then settle."""
    ledger, now = Ledger(ws.ledger), datetime.now(UTC)
    for reader in READERS:
        queue, _ = queue_of(ws, reader)
        pull_reads(ws, queue, classes_of(ledger.events("class_added")), key=key, now=now)
    settle_readings(ledger, rule="adjudicate", check_share=0.1, new_class_min=10, key=key, now=now)


def _take_plainly(ws: Workspace) -> int:
    """As a user would: export each project whole and compare the first choices."""
    said: dict[str, list[str]] = {}
    for reader in READERS:
        login = read_login(ws.services / "labelstudio" / reader / "login.json")
        with toolkit(login.base_url, login.admin_token, "exporting plainly") as server:
            found = next(one for one in server.projects.list(title=PROJECT).items if one.title == PROJECT)
            for task in server.projects.exports.as_json(found.id):
                said.setdefault(task["data"]["read_uid"], []).append(
                    task["annotations"][0]["result"][0]["value"]["choices"][0]
                )
    return len(said)


@click.command("readings")
@click.option(
    "--cells", default=5000, show_default=True, type=click.IntRange(10), help="Cells that two readers each read."
)
@click.option("--seed", default=17, show_default=True, help="Seed of the made-up thumbnails and answers.")
@click.option(
    "--venv",
    default=".venv-labelstudio",
    show_default=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where Label Studio is installed.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    show_default="a temporary one",
    help="A new folder to work in; kept afterwards.",
)
def bench_readings_command(cells: int, seed: int, venv: Path, folder: Path | None) -> None:
    """Cells out to two readers and answers back into the ledger, against the vendor's toolkit used plainly.

    Example: ctcml bench readings --cells 500
    """
    if folder is not None and folder.exists():
        raise BadInput(f"{folder}: expected a folder that is not there yet; name another")
    place: AbstractContextManager[str | Path] = (
        nullcontext(folder) if folder else tempfile.TemporaryDirectory(prefix="ctcml-bench-")
    )
    with place as where:
        found = bench_readings(Path(where).absolute(), cells=cells, seed=seed, venv=venv.absolute(), say=say)
        say(table_of(found))


BENCHES = {"readings": bench_readings_command}
