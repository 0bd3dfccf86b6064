"""Real Label Studio servers for tests, one a reader, with tasks in them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from ctcml.records import PAPER_CLASSES, CellClass
from ctcml.services import Services, stop_recorded
from labelstudio.client import ReadingQueue, ensure_project, push
from labelstudio.panels import write_panels
from labelstudio.server import LabelStudioServer, Login, prepare_template, read_login, revive_rooms, start_servers
from labelstudio.tasks import build_task, read_uid

VENV = Path(__file__).parents[1] / ".venv-labelstudio"
KEY = b"k" * 32
CLASSES: Sequence[CellClass] = PAPER_CLASSES


@dataclass(frozen=True)
class Room:
    """One reader's server and the open queue on it."""

    server: LabelStudioServer
    login: Login
    queue: ReadingQueue
    uids: list[str]

    @property
    def as_reader(self) -> ReadingQueue:
        return replace(self.queue, token=self.login.reader_token)


def uids(reader: str, cells: int) -> list[str]:
    return [read_uid(KEY, f"cell-{number}", reader, "round-1") for number in range(cells)]


def need_label_studio() -> Path:
    """Its Python, with the template made; skip where it is not installed, but never in CI."""
    python = VENV / "bin" / "python"
    if not python.exists() and not os.environ.get("CI"):
        pytest.skip("Label Studio is not installed; run `make setup`")
    prepare_template(python, VENV / "template")
    return python


@contextmanager
def open_rooms(folder: Path, readers: Sequence[str], *, cells: int) -> Iterator[dict[str, Room]]:
    """Start servers, lay out pictures and push tasks; skipped where Label Studio is not installed, but never in CI."""
    python = need_label_studio()
    with Services(folder / "services.json") as services:
        servers = start_servers(services, readers, folder=folder, venv_python=python, template=VENV / "template")
        yield {reader: furnish(server, cells) for reader, server in servers.items()}


@contextmanager
def kept_rooms(folder: Path, readers: Sequence[str], *, cells: int) -> Iterator[dict[str, Room]]:
    """The same, with servers that may be killed and brought back: by `kill_server` and `bring_back`."""
    python = need_label_studio()
    state = folder / "services.json"
    try:
        with Services(state, keep=True) as services:
            servers = start_servers(services, readers, folder=folder, venv_python=python, template=VENV / "template")
        yield {reader: furnish(server, cells) for reader, server in servers.items()}
    finally:
        stop_recorded(state)


def kill_server(room: Room) -> None:
    """End a reader's server with kill -9."""
    state = json.loads((room.server.service.home.parent / "services.json").read_text(encoding="utf-8"))
    (record,) = [each for each in state["services"] if each["name"] == room.server.service.name]
    process = psutil.Process(record["pid"])
    process.kill()
    process.wait(10)


def bring_back(room: Room) -> None:
    """Start a killed server again, at its former address."""
    folder = room.server.service.home.parent
    where = {"venv_python": VENV / "bin" / "python", "template": VENV / "template"}
    revive_rooms(folder / "services.json", [room.queue.reader], folder=folder, **where)


def run_and_kill(code: str, argument: object, *, after_s: float | None) -> str:
    """Run Python code in a process of its own and end it with kill -9 so many seconds after it said "ready".

    It finds `argument` as JSON in `sys.argv[1]`. Returns what it printed since; None waits until it ends by itself.
    """
    command = [sys.executable, "-c", code, json.dumps(argument)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        with suppress(subprocess.TimeoutExpired):
            process.wait(after_s)
        process.kill()
        return process.stdout.read()


def furnish(server: LabelStudioServer, cells: int) -> Room:
    """A project with so many tasks on a running server, their pictures laid out."""
    login = read_login(server.login_file)
    project_id = ensure_project(
        login.base_url, login.admin_token, title="Reading of cells", classes=CLASSES, pictures=server.pictures
    )
    queue = ReadingQueue(
        base_url=login.base_url,
        token=login.admin_token,
        project_id=project_id,
        reader=server.reader,
        reader_user_id=login.reader_user_id,
    )
    rng = np.random.default_rng(7)
    wanted = uids(server.reader, cells)
    for uid in wanted:
        write_panels(draw_cell(rng), {uid: server.pictures})
    push(queue, [build_task(uid) for uid in wanted])
    return Room(server, login, queue, wanted)


def draw_cell(rng: np.random.Generator) -> np.ndarray:
    """A round cell with nucleus and cytokeratin, uint16 (3, 44, 40)."""
    y, x = np.mgrid[:44, :40]
    distance = np.hypot(y - 22 + rng.normal(), x - 20 + rng.normal())
    bright = [20 * (distance < 9), 900 * (distance < 7), 1400 * (distance < 12)]
    return np.stack([rng.poisson(150 + np.asarray(plane)) for plane in bright]).astype(np.uint16)
