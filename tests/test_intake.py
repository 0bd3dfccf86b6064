"""Intake loses nothing, doubles nothing, and starts only when it can end well."""

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from factories import KEY, NOON, a_ledger
from filelock import FileLock

from ctcml.accept import find_samples, read_sample
from ctcml.errors import BadInput, BrokenRecord, ServiceDown
from ctcml.identity import pseudonym
from ctcml.intake import Taken, take_in, verify_data
from ctcml.ledger import Draft, Ledger, withdrawn_uid
from ctcml.packing import kept_findings
from ctcml.records import Role
from ctcml.shards import read_inputs, read_pixels, read_shard
from ctcml.tables import GIVEN_FEATURES, MANIFEST, read_folder, read_table
from ctcml.workspace import Workspace

BLOCK = (5, 1, 2)


def taken(inbox: Path, ws: Workspace, **more: Any) -> Taken:
    numbers: dict[str, Any] = {"key": KEY, "block": BLOCK, "seed": 1, "now": NOON, "workers": 1}
    sources = (inbox / "export", inbox / "clinical.csv", inbox / "historic_labels.csv")
    return take_in(*sources, ws, **(numbers | more))


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


def test_the_same_export_copied_elsewhere_is_read_again_and_brings_nothing_new(inbox: Path, ws: Workspace) -> None:
    taken(inbox, ws)
    receipts = {file.name: file.read_bytes() for file in ws.receipts.iterdir()}
    for file in inbox.rglob("*.tif"):
        os.utime(file, (1, 1))
    again = taken(inbox, ws)
    assert (again.samples, again.samples_known, again.thumbnails, again.refused) == (0, 16, 0, 0)
    assert {file.name for file in ws.receipts.iterdir()} == set(receipts)
    assert {file.name: file.read_bytes() for file in ws.receipts.iterdir()} != receipts


def test_what_the_checkup_finds_is_kept_with_the_sample_and_the_next_intake_still_knows_it(
    inbox: Path, ws: Workspace
) -> None:
    taken(inbox, ws)
    kept = kept_findings(ws)
    assert set(kept) == {file.stem for file in ws.manifest.glob("*.parquet")}
    told = [one for listed in kept.values() for one in listed]
    assert "gaps" in {one["code"] for one in told}  # ACCEPT leaves numbers of empty thumbnails out
    assert not any("SIM-" in one["message"] or ".tif" in one["message"] for one in told)
    assert taken(inbox, ws).samples_known == 16


def first_sample(inbox: Path) -> Path:
    return sorted((inbox / "export").rglob("Thumbs"))[0]


def test_what_a_later_export_adds_to_a_sample_becomes_a_supplement(inbox: Path, ws: Workspace) -> None:
    folder = first_sample(inbox)
    late = [*folder.glob("*_thumb_1.tif"), *folder.glob("*_thumb_2.tif")]
    aside = inbox / "aside"
    aside.mkdir()
    for file in late:
        file.rename(aside / file.name)
    taken(inbox, ws)
    before = {file: file.read_bytes() for file in ws.shards.iterdir()}
    for file in aside.iterdir():
        file.rename(folder / file.name)
    again = taken(inbox, ws)
    assert (again.samples, again.samples_grown, again.thumbnails) == (0, 1, len(late))
    assert {file: file.read_bytes() for file in before} == before
    uid = pseudonym(KEY, "sample", folder.parent.name)
    assert len(read_shard(ws.shards / f"{uid}-2.parquet")) == len(late)
    (source,) = [one for one in find_samples(inbox / "export") if one.sample_id == folder.parent.name]
    raw, _ = read_sample(source)
    assert (
        len(read_pixels(ws.shards, uid)) == len(raw) == (read_folder(ws.manifest, MANIFEST)["sample_uid"] == uid).sum()
    )
    assert taken(inbox, ws).thumbnails == 0


@pytest.mark.parametrize("lost", ["", "-2"])
def test_a_manifest_that_was_lost_is_made_again_and_no_other_shard_is_touched(
    inbox: Path, ws: Workspace, lost: str
) -> None:
    folder, aside = first_sample(inbox), inbox / "aside"
    aside.mkdir()
    for part in (1, 2, 3):  # an export that grew twice
        late = [*folder.glob(f"*_thumb_{part + 2}.tif"), *folder.glob(f"*_thumb_{part + 2}_segm.tif")]
        for file in late if part > 1 else []:
            file.rename(aside / file.name)
    for part in (1, 2, 3):
        for file in [*aside.glob(f"*_thumb_{part + 2}.tif"), *aside.glob(f"*_thumb_{part + 2}_segm.tif")]:
            file.rename(folder / file.name)
        taken(inbox, ws)
    uid = pseudonym(KEY, "sample", folder.parent.name)
    whole = everything(ws)
    assert f"data/shards/{uid}-3.parquet" in whole
    (ws.manifest / f"{uid}{lost}.parquet").unlink()
    taken(inbox, ws, verify=True)
    assert everything(ws) == whole


def test_an_object_that_came_back_with_other_pixels_is_refused_and_the_first_stays(inbox: Path, ws: Workspace) -> None:
    taken(inbox, ws)
    before = {file: file.read_bytes() for file in ws.data.rglob("*.parquet")}
    first, second = sorted(first_sample(inbox).glob("*_thumb_[0-9].tif"))[:2]
    shutil.copyfile(second, first)
    assert taken(inbox, ws).thumbnails == 0
    assert sum("differs from what was taken in as cell" in row["reason"] for row in refusals(ws)) == 1
    assert {file: file.read_bytes() for file in before} == before


def test_verify_reads_every_file_and_notices_a_changed_shard(laboratory: Path, ws: Workspace) -> None:
    cells = taken(laboratory, ws).thumbnails
    assert taken(laboratory, ws, verify=True).thumbnails == 0
    assert verify_data(ws, workers=1) == cells
    shard = sorted(ws.shards.iterdir())[3]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(BrokenRecord, match=shard.stem):
        verify_data(ws, workers=1)


def test_what_accept_measured_is_kept_beside_the_pixels(laboratory: Path, ws: Workspace) -> None:
    taken(laboratory, ws)
    for file in ws.manifest.iterdir():
        given = read_table(ws.given_features / file.name, GIVEN_FEATURES, extra_prefix="ch_")
        assert list(given["cell_uid"]) == list(read_table(file, MANIFEST)["cell_uid"])
        assert given["ch_1_MeanIntensity"].notna().all()


def test_a_second_intake_at_the_same_time_is_told_to_wait(laboratory: Path, ws: Workspace) -> None:
    ws.private.mkdir(parents=True)
    with FileLock(ws.private / "intake.lock"), pytest.raises(ServiceDown, match="an intake is at work"):
        taken(laboratory, ws)
    assert not ws.data.exists()


def test_a_patient_who_has_withdrawn_is_not_taken_in_again(laboratory: Path, ws: Workspace) -> None:
    clinical = pd.read_csv(laboratory / "clinical.csv", dtype=str)
    gone = pseudonym(KEY, "patient", clinical["patient"][0])
    body = {"withdrawn_uid": withdrawn_uid(KEY, gone), "samples": 0, "cells": 0}
    Ledger(ws.ledger).append([Draft(kind="withdrawal", by="test", body=body)], now=NOON)
    result = taken(laboratory, ws)
    assert result.samples == 15
    assert gone not in set(read_folder(ws.manifest, MANIFEST)["patient_uid"])
    assert gone not in {event.body["patient_uid"] for event in Ledger(ws.ledger).events("patient_assigned")}
    assert [row["reason"] for row in refusals(ws) if row["file"] == clinical["sample"][0]] == [
        "the patient has withdrawn; delete the files"
    ]


INTAKE = """
import sys
from pathlib import Path
from test_intake import taken
from ctcml.workspace import Workspace
taken(Path(sys.argv[1]), Workspace(Path(sys.argv[2])), workers=int(sys.argv[3]))
"""


def everything(ws: Workspace) -> dict[str, Any]:
    """All files of a workspace by name, and what the ledger says, but for how much the last intake still had to do."""
    kept = [*ws.data.rglob("*"), *ws.quarantine.rglob("*")]
    files: dict[str, Any] = {file.relative_to(ws.root).as_posix(): file.read_bytes() for file in kept if file.is_file()}
    return files | {"ledger": [(one.kind, one.body) for one in Ledger(ws.ledger).events() if one.kind != "intake"]}


def damaged(inbox: Path) -> Path:
    """A delivery with something to refuse."""
    victim = sorted((inbox / "export").rglob("*_thumb_*.tif"))[0]
    victim.write_bytes(victim.read_bytes()[:40])
    return inbox


def kill_and_finish(
    inbox: Path, whole: dict[str, Any], place: Path, rng: np.random.Generator, longest_s: float
) -> bool:
    """Kill an intake at a random moment, finish it, compare; says whether it was killed before its end."""
    ws = Workspace(place)
    a_ledger(ws.ledger)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen([sys.executable, "-c", INTAKE, str(inbox), str(place), "2"], env=environment)
    begun = time.monotonic()
    while not ws.clinical.exists() and process.poll() is None:  # starting Python is not what is tried here
        time.sleep(0.005)
    time.sleep(rng.uniform(0, longest_s))
    killed = process.poll() is None
    family = []
    with suppress(psutil.NoSuchProcess):  # it may end by itself while we look
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
    psutil.wait_procs(family)
    assert time.monotonic() - begun < 120
    taken(inbox, ws)
    assert everything(ws) == whole
    return killed


def whole_intake(inbox: Path, place: Path) -> tuple[dict[str, Any], float]:
    ws = Workspace(place)
    a_ledger(ws.ledger)
    begun = time.monotonic()
    taken(inbox, ws)
    return everything(ws), time.monotonic() - begun


def test_killed_at_any_moment_the_next_intake_ends_as_if_nothing_had_happened(inbox: Path, tmp_path: Path) -> None:
    whole, seconds = whole_intake(damaged(inbox), tmp_path / "whole")
    rng = np.random.default_rng(4)
    killed = [kill_and_finish(inbox, whole, tmp_path / f"lab-{n}", rng, seconds) for n in range(4)]
    assert any(killed)


@pytest.mark.trial
@pytest.mark.timeout(3600)
def test_two_hundred_kills_lose_and_double_nothing(
    inbox: Path, tmp_path: Path, figure: Callable[[str, str], None]
) -> None:
    whole, seconds = whole_intake(damaged(inbox), tmp_path / "whole")
    rng = np.random.default_rng(5)
    killed = 0
    for number in range(200):
        place = tmp_path / f"lab-{number}"
        killed += kill_and_finish(inbox, whole, place, rng, seconds)
        shutil.rmtree(place)
    figure(
        "intake killed at a random moment, then finished", f"{killed} of 200 before its end; 200 of 200 the same bytes"
    )
    assert killed > 100


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
    taken(inbox, ws, verify=True)
    assert refusals(ws) == rows


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


@pytest.mark.real
@pytest.mark.skipif("CTCML_REAL_DATA" not in os.environ, reason="CTCML_REAL_DATA names no folder")
def test_real_images_that_came_as_an_array_reach_the_network_as_they_are(tmp_path: Path, ws: Workspace) -> None:
    source = Path(os.environ["CTCML_REAL_DATA"]) / "jurkat_ifc.npz"
    with np.load(source) as real:
        images, groups = real["images"], real["groups"]
    rows = [f"{group},{group},cell_line,other,7.5\n" for group in sorted(set(groups))]
    (tmp_path / "clinical.csv").write_text("patient,sample,sample_kind,cancer_type,blood_volume_ml\n" + "".join(rows))
    sources = (source, tmp_path / "clinical.csv", None)
    numbers: dict[str, Any] = {"key": KEY, "block": BLOCK, "seed": 1, "now": NOON, "workers": 1}
    result = take_in(*sources, ws, **numbers)
    assert (result.samples, result.thumbnails, result.refused) == (6, 3018, 0)
    assert (result.historic_labels, result.historic_labels_refused) == (
        0,
        3018,
    )  # cell-cycle phases are no class of ours
    assert {row["reason"].split("'")[1] for row in refusals(ws)} >= {"g1", "prophase"}
    recipe: dict[str, Any] = {"recipe": "given", "background_percentile": 10.0, "asinh_scale": 60.0}
    uids, inputs = read_inputs(ws.shards, **recipe)
    place = dict(zip(uids, inputs, strict=True))
    for number in range(0, 3018, 97):
        uid = pseudonym(KEY, "cell", str(groups[number]), str(number + 1))
        assert np.array_equal(place[uid], images[number])
    assert take_in(*sources, ws, **numbers).thumbnails == 0
