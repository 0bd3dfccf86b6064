"""Real Label Studio servers for tests, one a reader, with tasks in them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from ctcml.records import PAPER_CLASSES, CellClass
from ctcml.services import Services
from labelstudio.client import ReadingQueue, ensure_project, push
from labelstudio.panels import write_panels
from labelstudio.server import LabelStudioServer, Login, prepare_template, read_login, start_servers
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


@contextmanager
def open_rooms(folder: Path, readers: Sequence[str], *, cells: int) -> Iterator[dict[str, Room]]:
    """Start servers, lay out pictures and push tasks; skipped where Label Studio is not installed, but never in CI."""
    python = VENV / "bin" / "python"
    if not python.exists() and not os.environ.get("CI"):
        pytest.skip("Label Studio is not installed; run `make setup`")
    prepare_template(python, VENV / "template")
    with Services(folder / "services.json") as services:
        servers = start_servers(services, readers, folder=folder, venv_python=python, template=VENV / "template")
        yield {reader: _furnish(server, cells) for reader, server in servers.items()}


def _furnish(server: LabelStudioServer, cells: int) -> Room:
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
        write_panels(_cell(rng), {uid: server.pictures})
    push(queue, [build_task(uid) for uid in wanted])
    return Room(server, login, queue, wanted)


def _cell(rng: np.random.Generator) -> np.ndarray:
    """A round cell with nucleus and cytokeratin, uint16 (3, 44, 40)."""
    y, x = np.mgrid[:44, :40]
    distance = np.hypot(y - 22 + rng.normal(), x - 20 + rng.normal())
    bright = [20 * (distance < 9), 900 * (distance < 7), 1400 * (distance < 12)]
    return np.stack([rng.poisson(150 + np.asarray(plane)) for plane in bright]).astype(np.uint16)
