"""The import doctor names what is wrong with an export, says nothing about a healthy one, and writes nothing."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import openpyxl
import pytest
import tifffile
from click.testing import CliRunner
from factories import a_cell
from malformed import Harmless, Variant, healthy_delivery, npz, put, table, tiff, variants, workbook

from ctcml import checkup
from ctcml.cli import cli
from ctcml.doctor import ADVICE, Report, examine, table_of
from ctcml.errors import BadInput
from ctcml.records import PIXEL_SIZE_UM, PLANES
from ctcml.simulate import simulate_laboratory

SAMPLES = ("171651.1.2", "171652.1.2")
OBJECTS = range(1, 7)
RESULTS = "export/Full Detection_0.1"
THUMBS = f"{RESULTS}/frames/{SAMPLES[0]}/Thumbs"
XLSX = f"{RESULTS}/output/{SAMPLES[0]}.xlsx"
CLINICAL = [
    ("patient", "sample", "sample_kind", "cancer_type", "blood_volume_ml"),
    ("Ada", SAMPLES[0], "patient", "breast", "7.5"),
    ("Bea", SAMPLES[1], "patient", "breast", "7.5"),
]
Damage = Callable[[Path], object]


def cell(sample: str, index: int, **size: int) -> np.ndarray:
    return a_cell(np.random.default_rng([int(sample[:6]), index]), **size)


def mask_of(pixels: np.ndarray) -> np.ndarray:
    """The outline of the object that `a_cell` draws in the middle, the same in each plane."""
    y, x = np.mgrid[: pixels.shape[1], : pixels.shape[2]]
    disc = (y - pixels.shape[1] / 2) ** 2 + (x - pixels.shape[2] / 2) ** 2 < 64
    return np.broadcast_to(disc, pixels.shape)


def thumbnail(index: int, sample: str = SAMPLES[0], ending: str = "") -> str:
    return f"{RESULTS}/frames/{sample}/Thumbs/{sample.replace('.', '_')}_thumb_{index}{ending}.tif"


def feature_rows(sample: str, *, um2_per_px: float = PIXEL_SIZE_UM**2, rows: int = len(OBJECTS)) -> list[list[object]]:
    size = float(mask_of(cell(sample, 1))[0].sum()) * um2_per_px
    return [
        ["CTC", "CellSearchIDs", "ThumbNr", "ch_1_Size", "ch_2_Size", "ch_3_MeanIntensity"],
        *([0, index, 1, size, size, 12.5] for index in range(1, rows + 1)),
    ]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two samples of six thumbnails with masks and feature tables, and their clinical table."""
    folder = tmp_path_factory.mktemp("healthy") / "delivery"
    for sample in SAMPLES:
        for index in OBJECTS:
            pixels = cell(sample, index)
            put(folder, thumbnail(index, sample), tiff(pixels))
            put(folder, thumbnail(index, sample, "_segm"), tiff(mask_of(pixels)))
        put(folder, f"{RESULTS}/frames/{sample}/Thumbs/ACCEPTThumbnails.txt", b"")
        put(folder, f"{RESULTS}/output/{sample}.xlsx", workbook(feature_rows(sample)))
    put(folder, "clinical.csv", table(CLINICAL))
    return folder


def examined(delivery: Path) -> Report:
    return examine(delivery / "export", clinical=delivery / "clinical.csv")


def found(report: Report) -> set[tuple[str, str]]:
    return {(one.level, one.code) for one in report.findings}


def replaced(name: str, content: bytes) -> Damage:
    return lambda delivery: put(delivery, name, content)


def without(*names: str) -> Damage:
    def damage(delivery: Path) -> None:
        for name in names:
            (delivery / name).unlink()

    return damage


def with_planes(change: Callable[[np.ndarray], np.ndarray], *objects: int, mask: bool = False) -> Damage:
    """Change the pixels (or the mask) of some objects of the first sample."""

    def damage(delivery: Path) -> None:
        for index in objects:
            pixels = cell(SAMPLES[0], index)
            planes = mask_of(pixels) if mask else pixels
            put(delivery, thumbnail(index, ending="_segm" if mask else ""), tiff(change(planes.copy())))

    return damage


def with_value(where: tuple[object, ...], value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(planes: np.ndarray) -> np.ndarray:
        planes[where] = value
        return planes

    return change


def large(delivery: Path) -> None:
    pixels = cell(SAMPLES[0], 2, height=81, width=40)
    put(delivery, thumbnail(2), tiff(pixels))
    put(delivery, thumbnail(2, ending="_segm"), tiff(mask_of(pixels)))


def in_jpeg(delivery: Path) -> None:
    with tifffile.TiffWriter(delivery / thumbnail(2)) as file:
        for plane in (cell(SAMPLES[0], 2) >> 4).astype(np.uint8):
            file.write(plane, photometric="minisblack", compression="jpeg", metadata=None, software=False)


def selection(delivery: Path) -> None:
    (delivery / THUMBS).rename((delivery / THUMBS).with_name("selected_Thumbs"))


def prior_only(delivery: Path) -> None:
    (delivery / THUMBS).rename((delivery / THUMBS).with_name("priorThumbs"))
    for mask in (delivery / THUMBS).with_name("priorThumbs").glob("*_segm.tif"):
        mask.unlink()


def exported_again(delivery: Path) -> None:
    shutil.copytree(delivery / RESULTS, delivery / "export" / "Marker Characterization_0.1")
    shutil.rmtree(delivery / "export" / "Marker Characterization_0.1" / "frames" / SAMPLES[1])


def emptied(delivery: Path) -> None:
    for file in (delivery / THUMBS).glob("*.tif"):
        file.unlink()


def copied(index: int, sample: str, to: int) -> Damage:
    """Put the pixels of the first sample's object 1 in the place of another one."""
    assert index == 1
    return lambda delivery: shutil.copy(delivery / thumbnail(1), delivery / thumbnail(to, sample))


def tagged(**tag: object) -> Damage:
    def damage(delivery: Path) -> None:
        how = {"photometric": "minisblack", "metadata": None, "software": False} | tag
        with tifffile.TiffWriter(delivery / thumbnail(3)) as file:
            for plane in cell(SAMPLES[0], 3):
                file.write(plane, contiguous=False, **how)

    return damage


def under(folder: str) -> Damage:
    def damage(delivery: Path) -> None:
        (delivery / "export").rename(delivery / "moved")
        (delivery / "export").mkdir()
        (delivery / "moved").rename(delivery / "export" / folder)

    return damage


def renamed_to(sample: str) -> Damage:
    """Give the first sample another name everywhere, in the clinical table as well."""

    def damage(delivery: Path) -> None:
        for file in (delivery / THUMBS).glob("*.tif"):
            file.rename(file.with_name(file.name.replace(SAMPLES[0].replace(".", "_"), sample.replace(".", "_"))))
        (delivery / THUMBS).parent.rename((delivery / THUMBS).parent.with_name(sample))
        (delivery / XLSX).rename((delivery / XLSX).with_name(f"{sample}.xlsx"))
        put(delivery, "clinical.csv", table(clinical(sample=sample)))

    return damage


def clinical(**changes: str) -> list[list[str]]:
    """The clinical table with other values in its first row."""
    header = list(CLINICAL[0])
    return [
        header,
        [changes.get(name, value) for name, value in zip(header, CLINICAL[1], strict=True)],
        list(CLINICAL[2]),
    ]


def in_table(column: str, value: object) -> Damage:
    rows = feature_rows(SAMPLES[0])
    return replaced(XLSX, workbook([[column, *rows[0]], *([value, *row] for row in rows[1:])]))


def numbered_labels(delivery: Path) -> None:
    put(delivery, "export/labelled.npz", npz(labels=np.array(["0", "ctc", "", "2"])))
    rows = [*CLINICAL, *((f"P{group}", group, "benign", "none", "7.5") for group in ("N-1", "N-2"))]
    put(delivery, "clinical.csv", table(rows))


def arrays_of_the_authors(delivery: Path) -> None:
    shutil.rmtree(delivery / "export")
    rng = np.random.default_rng(7)
    (delivery / "export").mkdir()
    np.save(delivery / "export" / "xval_5class_prepr.npy", rng.random((276, 80, 80, 3), np.float32))
    np.save(delivery / "export" / "yval_5class_prepr.npy", rng.integers(0, 5, 276))
    put(delivery, "clinical.csv", table(clinical(sample="xval_5class_prepr")[:2]))


FAULTS: dict[str, tuple[Damage, set[tuple[str, str]]]] = {
    "only a selection": (selection, {("error", "selection")}),
    "CellSearch's own events only": (prior_only, {("warning", "only-proposed")}),
    "two pages": (replaced(thumbnail(2), tiff(cell(SAMPLES[0], 2)[:2])), {("error", "page-count")}),
    "three pages among four": (
        lambda delivery: (
            put(delivery, thumbnail(2), tiff(cell(SAMPLES[0], 2)[:3])),
            put(delivery, thumbnail(2, ending="_segm"), tiff(mask_of(cell(SAMPLES[0], 2))[:3])),
        ),
        {("warning", "page-count")},
    ),
    "a broken file": (replaced(thumbnail(2), b"II*\0broken"), {("error", "refused")}),
    "a table that is none": (replaced(XLSX, b"no workbook"), {("error", "refused")}),
    "too few rows": (replaced(XLSX, workbook(feature_rows(SAMPLES[0], rows=4))), {("error", "fewer-rows")}),
    "more rows": (replaced(XLSX, workbook(feature_rows(SAMPLES[0], rows=8))), {("note", "more-rows")}),
    "sizes in px²": (replaced(XLSX, workbook(feature_rows(SAMPLES[0], um2_per_px=1))), {("error", "px2-sizes")}),
    "no table": (without(XLSX), {("note", "no-table")}),
    "a clipped object": (with_planes(with_value((1, 0, 9), 1), 4, mask=True), {("warning", "clipped")}),
    "an object larger than the window": (large, {("warning", "oversize")}),
    "a gap": (without(thumbnail(3), thumbnail(3, ending="_segm")), {("note", "gaps")}),
    "the same pixels twice": (copied(1, SAMPLES[0], 5), {("warning", "duplicates")}),
    "the same pixels in two patients": (copied(1, SAMPLES[1], 5), {("error", "duplicates")}),
    "a channel at its maximum": (with_planes(with_value((2, slice(9)), 4095), 1, 2, 3), {("warning", "saturated")}),
    "an empty channel": (with_planes(with_value((0,), 90), *OBJECTS), {("error", "empty-channel")}),
    "an empty channel of one object": (with_planes(with_value((1,), 0), 2), {("warning", "empty-channel")}),
    "a blank mask": (with_planes(with_value((), 0), 2, mask=True), {("warning", "blank-mask")}),
    "no mask": (without(thumbnail(2, ending="_segm")), {("note", "no-mask")}),
    "JPEG": (in_jpeg, {("warning", "lossy"), ("warning", "eight-bit")}),
    "8 bit": (with_planes(lambda planes: (planes >> 4).astype(np.uint8), 2), {("warning", "eight-bit")}),
    "a name in a folder": (under("Doe_Jane"), {("warning", "identifier")}),
    "a date in a folder": (under("1961-03-14"), {("warning", "identifier")}),
    "a number as the sample's name": (renamed_to("MRN00471123"), {("warning", "identifier")}),
    "a date in DateTime": (tagged(datetime="2024:03:02 12:00:00"), {("warning", "identifier")}),
    "a name in ImageDescription": (tagged(description="DOE^JANE"), {("warning", "identifier")}),
    "anybody as the artist": (tagged(extratags=[(315, 2, 0, "jd", True)]), {("warning", "identifier")}),
    "a computer": (tagged(extratags=[(316, 2, 0, "ws-07", True)]), {("warning", "identifier")}),
    "a number in DocumentName": (tagged(extratags=[(269, 2, 0, "acc 00471123", True)]), {("warning", "identifier")}),
    "a date in XMP": (tagged(extratags=[(700, 1, 20, b"<x>born 14.03.1961</", True)]), {("warning", "identifier")}),
    "a name in the table": (in_table("Comment", "Doe, Jane"), {("warning", "identifier")}),
    "a number in the table": (in_table("Comment", 471123), {("warning", "identifier")}),
    "a date over a column": (in_table("read 14.03.2019", 1), {("warning", "identifier")}),
    "no thumbnails": (emptied, {("error", "empty-sample")}),
    "two exports of a sample": (exported_again, {("error", "exported-twice")}),
    "nothing": (lambda delivery: shutil.rmtree(delivery / RESULTS), {("error", "nothing-found"), ("warning", "no-export")}),
    "labels that are numbers": (numbered_labels, {("warning", "odd-label")}),
    "arrays of the authors": (arrays_of_the_authors, {("note", "published-array")}),
    "no clinical row": (replaced("clinical.csv", table(CLINICAL[:2])), {("error", "no-clinical-row")}),
    "a row without a sample": (
        replaced("clinical.csv", table([*CLINICAL, ("Cid", "171653.1.2", "patient", "lung", "7.5")])),
        {("warning", "no-export")},
    ),
    "little blood": (replaced("clinical.csv", table(clinical(blood_volume_ml="4"))), {("warning", "blood-volume")}),
    "an impossible value": (replaced("clinical.csv", table(clinical(sample_kind="dog"))), {("error", "clinical-table")}),
    "no clinical table": (without("clinical.csv"), {("error", "clinical-table")}),
}  # fmt: skip


def test_a_healthy_export_has_no_finding(healthy: Path) -> None:
    report = examined(healthy)
    assert report.findings == ()
    assert (report.samples, report.thumbnails, report.kinds) == (2, 12, {"ACCEPT export": 2})
    assert report.page_orders == {"CD45,DAPI,CK,FITC": 12}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_nothing_else_is_blamed(healthy: Path, tmp_path: Path, fault: str) -> None:
    delivery = Path(shutil.copytree(healthy, tmp_path / "delivery"))
    damage, expected = FAULTS[fault]
    damage(delivery)
    report = examined(delivery)
    assert found(report) == expected, report.findings
    lines = table_of(report).splitlines()
    assert len(lines) <= 2 + len(expected) + len(report.findings)
    assert all(len(one.message.splitlines()) == 1 for one in report.findings)


def test_every_kind_of_finding_has_advice_and_a_test() -> None:
    assert {code for _, expected in FAULTS.values() for _, code in expected} | {"swapped-channels"} == set(ADVICE)


@pytest.mark.parametrize("number", [199, 200, 1000])
def test_as_many_thumbnails_as_accept_draws_at_most_are_told_apart(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "P" / "frames" / "S" / "selected_Thumbs"
    put(folder, "ACCEPTThumbnails.txt", b"")
    for index in range(1, number + 1):
        put(folder, f"S_thumb_{index}.tif", tiff(np.random.default_rng(index).integers(0, 4000, (3, 5, 5), np.uint16)))
    (message,) = (one.message for one in examine(tmp_path).findings if one.code == "selection")
    assert (f"exactly {number}, as many as ACCEPT draws at most" in message) == (number in (200, 1000))


def test_few_clipped_or_large_objects_are_noted_and_many_are_warned_of(tmp_path: Path) -> None:
    folder = tmp_path / "P" / "frames" / "S" / "Thumbs"
    for index in range(1, 21):
        size = {"height": 90, "width": 30} if index <= 2 else {}
        pixels = a_cell(np.random.default_rng(index), **size)
        put(folder, f"S_thumb_{index}.tif", tiff(pixels))
        put(folder, f"S_thumb_{index}_segm.tif", tiff(mask_of(pixels) | (index > 17)))
    levels = {one.code: (one.level, one.message) for one in examine(tmp_path).findings}
    assert levels["oversize"] == ("note", "2 of 20 thumbnails (1, 2) are larger than 80×80 px")
    assert levels["clipped"] == ("warning", "3 of 20 thumbnails (18, 19, 20): the mask touches the thumbnail's border")


def test_copies_within_a_patient_are_no_error_and_unknown_patients_are_said_to_be_unknown(
    healthy: Path, tmp_path: Path
) -> None:
    delivery = Path(shutil.copytree(healthy, tmp_path / "delivery"))
    copied(1, SAMPLES[1], 5)(delivery)
    put(delivery, "clinical.csv", table(clinical(patient="Bea")))
    (same,) = examined(delivery).findings
    assert (same.level, "of the same patient" in same.message) == ("warning", True)
    (unknown,) = examine(delivery / "export").findings
    assert (unknown.level, "who knows which patient" in unknown.message) == ("warning", True)


def test_blank_thumbnails_of_two_patients_are_not_taken_for_copies(healthy: Path, tmp_path: Path) -> None:
    delivery = Path(shutil.copytree(healthy, tmp_path / "delivery"))
    for sample in SAMPLES:
        put(delivery, thumbnail(2, sample), tiff(np.zeros((4, 30, 26), np.uint16)))
    assert found(examined(delivery)) == {("warning", "empty-channel")}


def test_a_part_of_an_export_is_examined_with_its_table_beside_it(healthy: Path) -> None:
    for part in (Path(THUMBS).parent, Path(THUMBS)):
        report = examine(healthy / part)
        assert (report.findings, report.thumbnails) == ((), 6)


def test_a_reader_that_fails_is_a_finding(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a fault of our own")

    monkeypatch.setattr(checkup, "read_source", fail)
    assert {(one.code, one.message) for one in examined(healthy).findings} == {
        ("refused", "could not be read (ZeroDivisionError: a fault of our own); report it")
    }


@pytest.mark.parametrize("variant", variants()[::4], ids=lambda variant: variant.name)
def test_the_doctor_blames_what_intake_would_refuse_and_never_fails(variant: Variant, tmp_path: Path) -> None:
    if variant.needs_a_plain_user and os.getuid() == 0:
        pytest.skip("root may read every file")
    delivery = healthy_delivery(tmp_path / "delivery", variant.kind)
    variant.damage(delivery)
    try:
        report = examined(delivery)
    except BadInput:
        assert not (delivery / "export").exists()
        return
    of_a_label = variant.kind == "historic" or "label" in variant.name
    if not of_a_label:  # which classes there are, the workspace knows
        assert (report.number_of("error") == 0) == isinstance(variant.expected, Harmless), report.findings


def test_a_missing_folder_and_an_impossible_page_order_are_named(healthy: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="none: no such file or folder"):
        examine(tmp_path / "none")
    with pytest.raises(BadInput, match="page order"):
        examine(healthy / "export", page_order=("CD45", "CK"))


# Swapped channels.


@pytest.fixture(scope="module")
def stained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SIMULATED laboratory of four patients with about 75 objects each."""
    folder = tmp_path_factory.mktemp("stained") / "lab"
    simulate_laboratory(folder, patients=4, objects_per_patient=75, historic_share=0.5, ambiguous_share=0.1, seed=31)
    return folder


@pytest.mark.parametrize("order", list(permutations(PLANES)), ids=",".join)
def test_every_wrong_order_of_the_channels_is_noticed_and_the_right_one_is_told(
    stained: Path, order: tuple[str, ...]
) -> None:
    report = examine(stained / "export", page_order=order)
    swapped = [one for one in report.findings if one.code == "swapped-channels"]
    if order == PLANES:
        assert swapped == []
    else:
        (one,) = swapped
        assert one.sample == ""
        assert "look like pages CD45, DAPI, CK, FITC" in one.message
        assert f"taken as {', '.join(order)}, FITC" in one.message


def test_one_swapped_sample_among_sound_ones_is_named_alone(stained: Path, tmp_path: Path) -> None:
    lab = Path(shutil.copytree(stained, tmp_path / "lab"))
    for file in lab.rglob("SIM-0002*_thumb_*.tif"):
        if not file.name.endswith("_segm.tif"):
            with tifffile.TiffFile(file) as pages:
                cd45, dapi, ck, fitc = (page.asarray() for page in pages.pages)
            file.write_bytes(tiff([dapi, cd45, ck, fitc]))
    (one,) = (one for one in examine(lab / "export").findings if one.code == "swapped-channels")
    assert (one.sample, "look like pages DAPI, CD45, CK, FITC" in one.message) == ("SIM-0002.1.1", True)


def test_a_few_objects_are_not_enough_to_judge_the_order(healthy: Path) -> None:
    assert examine(healthy / "export", page_order=("CK", "CD45", "DAPI")).findings == ()


def test_several_processes_find_what_one_finds(laboratory: Path) -> None:
    told: list[tuple[int, int]] = []
    alone = examine(laboratory / "export", clinical=laboratory / "clinical.csv")
    together = examine(
        laboratory / "export",
        clinical=laboratory / "clinical.csv",
        workers=2,
        progress=lambda done, all_: told.append((done, all_)),
    )
    assert alone == together
    assert told == [(done, 16) for done in range(1, 17)]
    assert not alone.number_of("error") + alone.number_of("warning")


# What it must not do.


def snapshot(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Mode, time and hash of everything below a folder."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in [folder, *folder.rglob("*")]
    }


def test_nothing_is_written_anywhere(healthy: Path, tmp_path: Path) -> None:
    delivery = Path(shutil.copytree(healthy, tmp_path / "delivery"))
    replaced(thumbnail(2), b"broken")(delivery)
    for path in [*delivery.rglob("*"), delivery]:
        path.chmod(path.stat().st_mode & 0o555)
    home = tmp_path / "home"
    home.mkdir()
    before = snapshot(tmp_path)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ctcml",
            "doctor",
            str(delivery / "export"),
            "--clinical",
            str(delivery / "clinical.csv"),
        ],
        cwd=home,
        env={**os.environ, "HOME": str(home), "TMPDIR": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert snapshot(tmp_path) == before
    for path in [delivery, *delivery.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def test_no_identifier_is_repeated(healthy: Path, tmp_path: Path) -> None:
    delivery = Path(shutil.copytree(healthy, tmp_path / "delivery"))
    renamed_to("Doe_Jane_00471123")(delivery)
    under("born 1961-03-14")(delivery)
    tagged_file = next(delivery.rglob("Doe_Jane_00471123_thumb_3.tif"))
    with tifffile.TiffWriter(tagged_file) as file:
        for plane in cell(SAMPLES[0], 3):
            file.write(plane, contiguous=False, metadata=None, description="DOE^JANE 7741231 14.03.1961")
    shutil.copy(next(delivery.rglob("Doe_Jane_00471123_thumb_1.tif")), next(delivery.rglob("171652_1_2_thumb_4.tif")))
    shutil.copy(tagged_file, tagged_file.with_name("3_thumb.tif"))
    table_file = next(delivery.rglob("Doe_Jane_00471123.xlsx"))
    book = openpyxl.load_workbook(table_file)
    book.active.cell(1, 7, "Comment")
    book.active.cell(2, 7, "Jane Doe, 14.03.1961")
    book.save(table_file)
    rows = [("file", "sample", "object_index"), ("Doe_Jane.tif", "Jane Doe", "1"), ("Doe_Jane.tif", "Jane Doe", "2")]
    put(delivery, "export/listed/manifest.csv", table(rows))
    put(delivery, "export/arrays/a.npz", npz(groups=np.array(["Doe, Jane"] * 4)))
    command = ["doctor", str(delivery / "export"), "--clinical", str(delivery / "clinical.csv")]
    for more in ([], ["--json"]):
        output = CliRunner().invoke(cli, [*command, *more]).output
        assert "identifier" in output
        for secret in ("Doe", "DOE", "Jane", "JANE", "00471123", "7741231", "1961", "03.1961", "03-14"):
            assert secret not in output


# The command.


def test_the_table_shows_five_examples_and_how_many_more(healthy: Path, tmp_path: Path) -> None:
    delivery = Path(shutil.copytree(healthy, tmp_path / "delivery"))
    for index in OBJECTS:
        put(delivery, thumbnail(index), b"broken")
    result = CliRunner().invoke(cli, ["doctor", str(delivery / "export"), "--page-order", "CD45, DAPI,CK"])
    lines = result.output.splitlines()
    assert result.exit_code == 1
    assert lines[0] == f"ERROR   refused (6): {ADVICE['refused']}"
    assert lines[1].startswith(f"    {thumbnail(1).removeprefix('export/')}: not readable as TIFF")
    assert lines[6] == "    … and 1 more"
    assert lines[-1] == "6 errors, 0 warnings, 0 notes; page order assumed: CD45, DAPI, CK"


def test_json_is_one_document(healthy: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["doctor", str(healthy / "export"), "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["thumbnails"], document["errors"], document["findings"]) == (12, 0, [])
    delivery = Path(shutil.copytree(healthy, tmp_path / "delivery"))
    selection(delivery)
    result = CliRunner().invoke(cli, ["doctor", str(delivery / "export"), "--json"])
    (finding,) = json.load(io.StringIO(result.stdout))["findings"]
    assert (result.exit_code, finding["code"], finding["advice"]) == (1, "selection", ADVICE["selection"])


def test_a_workspace_gives_its_own_page_order(healthy: Path, tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "params.yaml"
    text = source.read_text().replace("page_order: [CD45, DAPI, CK]", "page_order: [CK, DAPI, CD45]")
    put(tmp_path, "params.yaml", text.encode())
    command = ["doctor", str(healthy / "export"), "--json"]
    of_workspace = json.loads(CliRunner().invoke(cli, [*command, "--workspace", str(tmp_path)]).stdout)
    assert of_workspace["page_order"] == ["CK", "DAPI", "CD45"]
    assert of_workspace["page_orders"] == {"CK,DAPI,CD45,FITC": 12}
    given = [*command, "--workspace", str(tmp_path), "--page-order", "DAPI,CK,CD45"]
    assert json.loads(CliRunner().invoke(cli, given).stdout)["page_order"] == ["DAPI", "CK", "CD45"]
