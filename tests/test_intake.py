"""Intake loses nothing, doubles nothing, and starts only when it can end well."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories import KEY, NOON, a_ledger

from ctcml.accept import find_samples, read_sample
from ctcml.errors import BadInput
from ctcml.identity import pseudonym
from ctcml.intake import Taken, take_in
from ctcml.records import Role
from ctcml.shards import read_pixels
from ctcml.tables import MANIFEST, read_folder
from ctcml.workspace import Workspace

BLOCK = (5, 1, 2)


def taken(inbox: Path, ws: Workspace) -> Taken:
    return take_in(
        inbox / "export",
        inbox / "clinical.csv",
        inbox / "historic_labels.csv",
        ws,
        key=KEY,
        block=BLOCK,
        seed=1,
        now=NOON,
        workers=1,
    )


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    ws = Workspace(tmp_path / "lab")
    a_ledger(ws.ledger)
    return ws


def refusals(ws: Workspace) -> list[dict[str, str]]:
    return list(csv.DictReader((ws.quarantine / "refused.csv").read_text().splitlines()))


@pytest.fixture
def inbox(laboratory: Path, tmp_path: Path) -> Path:
    """A copy of the simulated laboratory that a test may damage."""
    return Path(shutil.copytree(laboratory, tmp_path / "inbox"))


def test_every_thumbnail_of_the_export_is_in_a_shard_pixel_by_pixel(laboratory: Path, ws: Workspace) -> None:
    result = taken(laboratory, ws)
    manifest = read_folder(ws.manifest, MANIFEST)
    assert (result.samples, result.refused, result.thumbnails) == (16, 0, len(manifest))
    for sample in find_samples(laboratory / "export"):
        raw, _ = read_sample(sample)
        packed = read_pixels(ws.shards, pseudonym(KEY, "sample", sample.sample_id))
        assert len(packed) == len(raw)
        for one in raw:
            uid = pseudonym(KEY, "cell", sample.sample_id, str(one.object_index))
            assert np.array_equal(packed[uid], one.pixels)


def test_the_same_export_again_brings_nothing_new(laboratory: Path, ws: Workspace) -> None:
    taken(laboratory, ws)
    head, files = a_ledger(ws.ledger).head(), sorted(ws.data.rglob("*"))
    before = {file: file.read_bytes() for file in files if file.is_file()}
    again = taken(laboratory, ws)
    assert (again.samples, again.samples_known, again.thumbnails, again.patients, again.historic_labels) == (
        0,
        16,
        0,
        0,
        0,
    )
    assert {file: file.read_bytes() for file in files if file.is_file()} == before
    assert a_ledger(ws.ledger).head().length == head.length + 5  # only the opening of this test's own call


def test_an_intake_that_died_between_shard_and_manifest_is_finished(laboratory: Path, ws: Workspace) -> None:
    taken(laboratory, ws)
    whole = {file.name: file.read_bytes() for file in ws.manifest.iterdir()}
    for name in sorted(whole)[:3]:
        (ws.manifest / name).unlink()
    assert taken(laboratory, ws).samples == 3
    assert {file.name: file.read_bytes() for file in ws.manifest.iterdir()} == whole


def test_no_identifier_of_the_laboratory_is_in_data_or_ledger(laboratory: Path, ws: Workspace) -> None:
    taken(laboratory, ws)
    clinical = pd.read_csv(laboratory / "clinical.csv", dtype=str)
    written = b"".join(file.read_bytes() for file in [*ws.data.rglob("*.parquet"), ws.ledger])
    for name in {*clinical["patient"], *clinical["sample"]}:
        assert name.encode() not in written


def test_every_patient_gets_a_set_at_first_intake_for_good(laboratory: Path, ws: Workspace) -> None:
    taken(laboratory, ws)
    events = list(a_ledger(ws.ledger).events("patient_assigned"))
    assert len(events) == 16
    assert {event.body["role"] for event in events} >= {Role.TRAIN, Role.SEALED}


def test_a_damaged_thumbnail_is_quarantined_with_its_reason_and_the_rest_is_kept(inbox: Path, ws: Workspace) -> None:
    victim = sorted((inbox / "export").rglob("*_thumb_*.tif"))[0]
    victim.write_bytes(victim.read_bytes()[:40])
    result = taken(inbox, ws)
    rows = refusals(ws)
    assert result.refused == len(rows) == 1
    assert victim.name in rows[0]["file"]
    assert rows[0]["reason"]
    assert [file.read_bytes() for file in ws.quarantine.rglob("*.tif")] == [victim.read_bytes()]


def test_a_sample_without_a_clinical_row_is_refused_and_said(inbox: Path, ws: Workspace) -> None:
    lines = (inbox / "clinical.csv").read_text().splitlines(keepends=True)
    (inbox / "clinical.csv").write_text("".join(lines[:-1]))
    result = taken(inbox, ws)
    assert (result.samples, result.refused > 0) == (15, True)
    reasons = [row["reason"] for row in refusals(ws)]
    assert "sample has no row in the clinical table" in reasons


def test_a_capped_random_selection_is_refused_because_it_cannot_be_counted(inbox: Path, ws: Workspace) -> None:
    thumbs = sorted((inbox / "export").rglob("Thumbs"))[0]
    thumbs.rename(thumbs.with_name("selected_Thumbs"))
    assert taken(inbox, ws).samples == 15
    assert sum("capped random draw" in row["reason"] for row in refusals(ws)) == 1


def test_a_sample_that_was_exported_twice_is_refused_rather_than_counted_twice(inbox: Path, ws: Workspace) -> None:
    folder = sorted((inbox / "export").rglob("Thumbs"))[0].parent
    other = inbox / "export" / "Marker Characterization_0.1" / "frames" / folder.name
    shutil.copytree(folder, other)
    assert taken(inbox, ws).samples == 15
    assert sum(row["reason"].startswith("exported 2 times") for row in refusals(ws)) == 1


@pytest.mark.parametrize("broken", ["export", "clinical", "historic"])
def test_an_unusable_source_writes_nothing(inbox: Path, ws: Workspace, broken: str) -> None:
    if broken == "export":
        shutil.rmtree(inbox / "export")
    elif broken == "clinical":
        (inbox / "clinical.csv").write_text("patient\nx\n")
    else:
        (inbox / "historic_labels.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput):
        taken(inbox, ws)
    assert not ws.data.exists()
    assert not ws.quarantine.exists()
