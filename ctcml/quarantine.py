"""The quarantine: what intake refused, each with its reason and, where it is a file, a copy; never dropped, never taken back.

One folder a sample, written before that sample counts as taken in, so a crash loses no refusal. `refused.csv` on top is all
of them in one table, made anew from the folders. Names of samples stand here in clear: the quarantine is private.
"""

import csv
import re
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ctcml.tables import atomic_path
from ctcml.thumbnails import LARGEST_FILE, Refused

COLUMNS = ("at", "source", "file", "reason")
TABLE = "refused.csv"


def folder_name(source: str) -> str:
    """The name of a source's folder: no separator, no leading dot, never empty.

    >>> folder_name("../S 1.1/x"), folder_name("SIM-0001.1.1"), folder_name("..")
    ('_S_1.1_x', 'SIM-0001.1.1', '_')
    """
    return re.sub(r"[^A-Za-z0-9._-]", "_", source).strip(".")[:120] or "_"


def set_aside(refused: Sequence[Refused], *, source: str, folder: Path, quarantine: Path, now: datetime) -> None:
    """Write down what was refused of one source and copy the files; what was written down before keeps its first date.

    Only regular files below `folder` are copied, and none above the size that a reader would have looked at.
    """
    if not refused:
        return
    quarantine.mkdir(parents=True, exist_ok=True, mode=0o700)
    place = quarantine / folder_name(source)
    for one in refused:
        _copy(folder, one.file, place)
    rows = _rows(place / TABLE)
    known = {row[1:] for row in rows}
    at = now.isoformat(timespec="seconds")
    new = dict.fromkeys((source, one.file, one.reason) for one in refused)
    _write(place / TABLE, rows + [(at, *row) for row in new if row not in known])


def write_overview(quarantine: Path) -> None:
    """Make `refused.csv` on top from the folders' own tables."""
    if quarantine.is_dir():
        _write(quarantine / TABLE, [row for table in sorted(quarantine.glob(f"*/{TABLE}")) for row in _rows(table)])


def _copy(folder: Path, name: str, place: Path) -> None:
    source = folder / name
    try:
        root = folder.resolve()
        if source.is_symlink() or not source.is_file() or not source.resolve().is_relative_to(root):
            return
        if source.stat().st_size > LARGEST_FILE:
            return
        target = place / "files" / Path(*[folder_name(part) for part in source.resolve().relative_to(root).parts])
        if not target.exists():
            with atomic_path(target) as unfinished:
                shutil.copyfile(source, unfinished)
    except (OSError, ValueError):  # unreadable, or a name that no file can have: the reason alone is kept
        return


def _rows(table: Path) -> list[tuple[str, ...]]:
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [tuple(row) for row in csv.reader(file)][1:]


def _write(table: Path, rows: Sequence[tuple[str, ...]]) -> None:
    with (
        atomic_path(table) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        csv.writer(file).writerows([COLUMNS, *rows])
