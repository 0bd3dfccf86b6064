"""What is refused is kept with its reason, and nothing of it can reach outside the quarantine."""

import csv
import os
from datetime import timedelta
from pathlib import Path

import pytest
from factories import NOON

from ctcml.quarantine import set_aside, write_overview
from ctcml.thumbnails import Refused


def rows(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.read_text().splitlines()))


def test_a_refusal_is_written_once_and_keeps_its_first_date(tmp_path: Path) -> None:
    refused, place = [Refused(file="a.tif", reason="has 0 bytes")], tmp_path / "quarantine"
    (tmp_path / "a.tif").touch()
    for days in (0, 1):
        set_aside(refused, source="S-1", folder=tmp_path, quarantine=place, now=NOON + timedelta(days=days))
    write_overview(place)
    assert rows(place / "refused.csv") == rows(place / "S-1" / "refused.csv")
    (row,) = rows(place / "refused.csv")
    assert (row["at"][:10], row["source"], row["file"], row["reason"]) == ("2026-03-02", "S-1", "a.tif", "has 0 bytes")


def test_a_file_that_was_mended_stays_in_the_record_beside_what_came_later(tmp_path: Path) -> None:
    place = tmp_path / "quarantine"
    for name in ("a.tif", "b.tif"):
        set_aside([Refused(file=name, reason="truncated")], source="S-1", folder=tmp_path, quarantine=place, now=NOON)
    assert [row["file"] for row in rows(place / "S-1" / "refused.csv")] == ["a.tif", "b.tif"]


def test_refused_files_are_copied_and_the_source_is_left_as_it_was(tmp_path: Path) -> None:
    source = tmp_path / "export" / "sub" / "a.tif"
    source.parent.mkdir(parents=True)
    source.write_bytes(b"half")
    set_aside(
        [Refused(file="sub/a.tif", reason="truncated")],
        source="S-1",
        folder=tmp_path / "export",
        quarantine=tmp_path / "quarantine",
        now=NOON,
    )
    assert (tmp_path / "quarantine" / "S-1" / "files" / "sub" / "a.tif").read_bytes() == b"half"
    assert source.read_bytes() == b"half"


@pytest.mark.parametrize("name", ["../secret.tif", "link.tif", "pipe.tif", "nothing.tif", "bad\0name.tif", "sub"])
def test_what_is_no_file_of_the_source_is_recorded_and_not_copied(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "export"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.tif").write_text("secret")
    (folder / "link.tif").symlink_to(tmp_path / "secret.tif")
    os.mkfifo(folder / "pipe.tif")
    place = tmp_path / "quarantine"
    set_aside([Refused(file=name, reason="why")], source="S-1", folder=folder, quarantine=place, now=NOON)
    assert [file.name for file in place.rglob("*") if file.is_file()] == ["refused.csv"]
    assert place.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("source", ["../../etc", "..", "a/b", ".hidden", "S 1\n2", ""])
def test_the_name_of_a_source_cannot_lead_out_of_the_quarantine(tmp_path: Path, source: str) -> None:
    place = tmp_path / "quarantine"
    set_aside([Refused(file="x", reason="why")], source=source, folder=tmp_path, quarantine=place, now=NOON)
    (table,) = place.glob("*/refused.csv")
    assert table.resolve().is_relative_to(place.resolve())
    assert [path.name for path in tmp_path.iterdir()] == ["quarantine"]


def test_nothing_refused_makes_no_quarantine(tmp_path: Path) -> None:
    set_aside([], source="S-1", folder=tmp_path, quarantine=tmp_path / "quarantine", now=NOON)
    write_overview(tmp_path / "quarantine")
    assert list(tmp_path.iterdir()) == []
