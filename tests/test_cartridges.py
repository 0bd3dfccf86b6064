"""A raw cartridge: every frame in its place, every object once, whatever is damaged named, and nothing else lost."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile

from ctcml.cartridges import (
    Cartridge,
    Layout,
    files_of,
    find_samples,
    layout_of,
    read_frame,
    read_record,
    read_sample,
    restored,
)
from ctcml.features import FEATURES
from ctcml.records import PLANES
from ctcml.thumbnails import RawThumbnail, Refused, UnfitFileError

HEIGHT, WIDTH = 120, 160
FILTERS = ("DNA", "FITC", "CK-PE", "CD45-APC")
ENDS = ((90.0, 600.0), (100.0, 355.0), (80.0, 1100.0), (70.0, 325.0))


def stored_frame(*cells: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Four pages in 8 bit; a cell (row, column) is bright in DNA and CK, the first and third page."""
    rng = np.random.default_rng(seed)
    pages = rng.normal(20, 3, (4, HEIGHT, WIDTH))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for row, column in cells:
        away = (rows - row) ** 2 + (columns - column) ** 2
        pages[0][away <= 25] = 150
        pages[2][away <= 64] = 200
    pages = pages.clip(0, 254).round()
    pages[:, 0, 0] = 255
    return pages.astype(np.uint8)


def put_frame(path: Path, pages: np.ndarray, ends: tuple[tuple[float, float], ...] | None = ENDS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as tiff:
        for number, page in enumerate(pages):
            low, high = ends[number] if ends else (0, 0)
            tags = [(754, "H", 1, 1), (755, "d", 1, low), (756, "d", 1, high)] if ends else []
            tiff.write(page, photometric="minisblack", metadata=None, extratags=tags)
    return path


def xml(events: str = "", *, rows: int = 2, columns: int = 2, filters: tuple[str, ...] = FILTERS) -> str:
    named = "".join(f"<record><filtername>{name}</filtername></record>" for name in filters)
    return (
        '<?xml version="1.0"?><archive>'
        f"<runs><record><numrows>{rows}</numrows><numcols>{columns}</numcols><camxsize>{WIDTH}</camxsize>"
        f"<camysize>{HEIGHT}</camysize></record></runs><test_filters>{named}</test_filters>"
        f"<events>{events}</events></archive>"
    )


def an_event(rid: int, x: int, y: int, *, assigned: bool = True) -> str:
    return (
        f"<record><rid>{rid}</rid><framenum>1</framenum><location>({x - 9},{y - 9}) ({x + 9},{y + 9})</location>"
        f"<assigned>{str(assigned).lower()}</assigned><numselected>0</numselected></record>"
    )


def a_cartridge(folder: Path, events: str = "", *, frames: int = 4, **how: object) -> Path:
    """Frames with a cell at row 40, column 50, and in frame 2 a second one at (80, 110)."""
    for number in range(1, frames + 1):
        cells = ((40, 50), (80, 110)) if number == 2 else ((40, 50),)
        put_frame(folder / "processed" / f"{folder.name}-{number}.tif", stored_frame(*cells, seed=number))
    (folder / f"{folder.name.split('.')[0]}.xml").write_text(xml(events, **how))
    return folder


def read(folder: Path, **how: int) -> tuple[list[RawThumbnail], list[Refused]]:
    (cartridge,), refused = find_samples(folder, fewest_frames=3)
    assert refused == []
    return read_sample(cartridge, **how)


# Finding.


def test_a_cartridge_is_found_by_its_xml_with_its_frames_in_numeric_order(tmp_path: Path) -> None:
    folder = a_cartridge(tmp_path / "171651.1.2", frames=12)
    (cartridge,), refused = find_samples(tmp_path, fewest_frames=12)
    assert refused == []
    assert cartridge.sample_id == "171651.1.2"
    assert cartridge.xml == folder / "171651.xml"
    assert [path.stem.split("-")[1] for path in cartridge.frames] == [str(number) for number in range(1, 13)]
    assert files_of(cartridge) == [cartridge.xml, *cartridge.frames]
    assert pickle.loads(pickle.dumps(cartridge)) == cartridge


def test_frames_lie_in_the_folder_or_down_a_chain_of_single_folders(tmp_path: Path) -> None:
    for place, below in (("a.1", "."), ("b.1", "one/two/three")):
        folder = tmp_path / place
        for number in range(3):
            put_frame(folder / below / f"f{number}.tif", stored_frame())
        (folder / f"{place[0]}.xml").write_text(xml())
    found, refused = find_samples(tmp_path, fewest_frames=3)
    assert refused == []
    assert [(one.sample_id, len(one.frames)) for one in found] == [("a.1", 3), ("b.1", 3)]


def test_without_an_xml_a_folder_of_frames_is_a_cartridge_too(tmp_path: Path) -> None:
    (a_cartridge(tmp_path / "7.1") / "7.xml").unlink()
    (cartridge,), refused = find_samples(tmp_path, fewest_frames=4)
    assert (cartridge.sample_id, cartridge.xml, refused) == ("7.1", None, [])


def test_an_xml_beside_too_few_frames_is_refused(tmp_path: Path) -> None:
    a_cartridge(tmp_path / "7.1")
    found, (refused,) = find_samples(tmp_path)
    assert found == []
    assert refused.file == "7.1/7.xml"
    assert "4 frames, expected 100" in refused.reason


def test_thumbnails_of_an_export_or_of_a_listed_folder_are_no_cartridge(tmp_path: Path) -> None:
    for number in range(5):
        put_frame(tmp_path / "frames" / "s1" / "Thumbs" / f"s1_thumb_{number}.tif", stored_frame())
        put_frame(tmp_path / "frames" / "s1" / f"{number}_seg.tif", stored_frame())
        put_frame(tmp_path / "listed" / f"cell{number}.tif", stored_frame())
    (tmp_path / "listed" / "manifest.csv").touch()
    assert find_samples(tmp_path, fewest_frames=3) == ([], [])


# The layout.


def test_the_known_layouts_are_those_of_celltracks() -> None:
    sizes = {frames: layout_of(frames) for frames in (175, 210, 180, 170, 144, 140)}
    expected = {175: (5, 35), 210: (6, 35), 180: (5, 36), 170: (5, 34), 144: (4, 36), 140: (4, 35)}
    assert {frames: (one.rows, one.columns) for frames, one in sizes.items() if one} == expected
    assert layout_of(211) is None


def test_even_rows_run_from_right_to_left() -> None:
    layout = Layout(rows=5, columns=35)
    assert [layout.place(frame) for frame in (1, 35, 36, 70, 71, 175)] == [
        (0, 0), (0, 34), (1, 34), (1, 0), (2, 0), (4, 34),
    ]  # fmt: skip


def test_objects_lie_where_the_snake_puts_their_frame_in_the_mosaic(tmp_path: Path) -> None:
    thumbnails, _ = read(a_cartridge(tmp_path / "7.1"))
    places = [(one.object_index, one.frame, one.x_px, one.y_px) for one in thumbnails]
    expected = [
        (10001, 1, 50, 40),
        (20001, 2, WIDTH + 50, 40),
        (20002, 2, WIDTH + 110, 80),
        (30001, 3, WIDTH + 50, HEIGHT + 40),
        (40001, 4, 50, HEIGHT + 40),
    ]
    assert places == [pytest.approx(one, abs=1) for one in expected]


# Pixels.


def test_the_range_is_restored_from_the_tags_and_a_page_of_zeros_is_all_low() -> None:
    stored = np.array([[[0, 100, 200]], [[0, 0, 0]]], np.uint16)
    assert restored(stored, [(10, 410), (7, 90)]).tolist() == [[[10, 210, 410]], [[7, 7, 7]]]


def test_thumbnails_hold_restored_counts_in_our_order_and_say_how_they_were_restored(tmp_path: Path) -> None:
    one = read(a_cartridge(tmp_path / "7.1"))[0][0]
    assert one.planes == (*PLANES, "FITC")
    assert one.source_order == "DAPI,FITC,CK,CD45"
    assert one.source_bit_depth == 8
    assert one.restore_low == (70, 90, 80, 100)
    assert one.restore_high == (325, 600, 1100, 355)
    page = stored_frame((40, 50), seed=1)[2].astype(float)
    high, wide = one.pixels.shape[1:]
    top, left = round(one.y_px - (high - 1) / 2), round(one.x_px - (wide - 1) / 2)
    assert np.array_equal(one.pixels[2], np.rint(80 + page * (1020 / 255))[top : top + high, left : left + wide])
    assert one.mask is not None
    assert one.mask.shape == one.pixels.shape


def test_16_bit_frames_without_tags_are_taken_as_they_are(tmp_path: Path) -> None:
    path = put_frame(tmp_path / "f1.tif", stored_frame((40, 50)).astype(np.uint16) * 9, ends=None)
    frame = read_frame(path, tmp_path)
    assert (frame.planes, frame.ends, frame.bit_depth) == ((*PLANES, "FITC"), (), 16)
    assert int(frame.pixels.max()) == 255 * 9


def test_frames_that_went_through_jpeg_are_read_and_marked(tmp_path: Path) -> None:
    path = tmp_path / "f1.tif"
    with tifffile.TiffWriter(path) as tiff:
        for page, (low, high) in zip(stored_frame((40, 50)), ENDS, strict=True):
            tags = [(755, "d", 1, low), (756, "d", 1, high)]
            tiff.write(page, photometric="minisblack", metadata=None, extratags=tags, compression="jpeg")
    assert read_frame(path, tmp_path).lossy


def test_the_filters_of_the_xml_name_the_pages(tmp_path: Path) -> None:
    folder = a_cartridge(tmp_path / "7.1", filters=("CD45-APC", "Marker", "PE", "Hoechst"))
    one = read(folder)[0][0]
    assert one.planes == ("CD45", "DAPI", "CK", "Marker")
    assert one.source_order == "CD45,Marker,CK,DAPI"
    assert one.features["ch_1_MaxIntensity"] > 100 > one.features["ch_2_MaxIntensity"]


def test_features_are_measured_over_the_background_of_the_frame(tmp_path: Path) -> None:
    one = read(a_cartridge(tmp_path / "7.1"))[0][0]
    assert tuple(one.features) == FEATURES
    assert one.features["ch_3_MedianIntensity"] == pytest.approx((200 - 20) * 4, abs=8)
    assert one.features["ch_2_Overlay_ch_3"] == 1


def test_the_number_of_processes_changes_nothing(tmp_path: Path) -> None:
    (cartridge,), _ = find_samples(a_cartridge(tmp_path / "7.1", an_event(1, 50, 40)), fewest_frames=4)
    seen = list[tuple[int, int]]()
    alone, together = read_sample(cartridge), read_sample(cartridge, workers=2, progress=lambda *n: seen.append(n))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert alone[1] == together[1]
    for one, other in zip(alone[0], together[0], strict=True):
        assert (one.object_index, one.x_px, one.proposed) == (other.object_index, other.x_px, other.proposed)
        assert np.array_equal(one.pixels, other.pixels)


# CellSearch's events.


def test_an_object_within_30_pixels_of_an_event_was_proposed(tmp_path: Path) -> None:
    events = an_event(1, 50 + 20, 40 + 20) + an_event(2, WIDTH + 110 + 25, 80 + 20, assigned=False)
    thumbnails, (refused,) = read(a_cartridge(tmp_path / "7.1", events))
    assert [one.object_index for one in thumbnails if one.proposed] == [10001]
    assert all(one.proposed is not None for one in thumbnails)
    assert refused.file == "7.xml"
    assert "1 of CellSearch's 2 events have no detected object (0 of them called a CTC): rid 2;" in refused.reason


def test_two_events_at_one_object_are_matched_once_the_nearer_first(tmp_path: Path) -> None:
    events = an_event(8, 50 + 9, 40) + an_event(9, 50 + 2, 40)
    thumbnails, (refused,) = read(a_cartridge(tmp_path / "7.1", events))
    assert [one.object_index for one in thumbnails if one.proposed] == [10001]
    assert "rid 8;" in refused.reason


def test_without_an_xml_no_one_knows_what_was_proposed(tmp_path: Path) -> None:
    folder = a_cartridge(tmp_path / "7.1", frames=4)
    frames = tuple(sorted((folder / "processed").iterdir()))
    renamed = tuple(path.rename(path.with_name(f"{place}.tif")) for place, path in enumerate(frames, start=137))
    thumbnails, (missing,) = read_sample(Cartridge(sample_id="7.1", folder=folder, xml=None, frames=renamed))
    assert {one.proposed for one in thumbnails} == {None}
    assert [one.frame for one in thumbnails] == [137, 138, 138, 139, 140]
    assert "and 86 more are missing, expected 1 to 140" in missing.reason


def test_an_event_without_a_readable_location_is_told(tmp_path: Path) -> None:
    broken = "<record><rid>5</rid><location>(1,2)</location><assigned>true</assigned></record>"
    _, (refused,) = read(a_cartridge(tmp_path / "7.1", an_event(1, 50, 40) + broken))
    assert "1 of 2 events have no readable location" in refused.reason


# What is damaged.


def damaged(path: Path, how: str) -> None:
    pages = stored_frame((40, 50))
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:30_000])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "no tags":
        put_frame(path, pages, ends=None)
    elif how == "high below low":
        put_frame(path, pages, ends=((5, 1), *ENDS[1:]))
    elif how == "not a number":
        put_frame(path, pages, ends=((float("nan"), 1), *ENDS[1:]))
    elif how == "three pages":
        put_frame(path, pages[:3], ends=ENDS[:3])
    elif how == "floats":
        put_frame(path, pages.astype(np.float32))
    elif how == "link":
        outside = path.parent.parent.parent / "outside.tif"
        path.rename(outside)
        path.symlink_to(outside)
    else:
        raise AssertionError(how)


@pytest.mark.parametrize(
    "how", ["truncated", "empty", "no tags", "high below low", "not a number", "three pages", "floats", "link"]
)
def test_a_damaged_frame_is_named_and_the_others_are_read(tmp_path: Path, how: str) -> None:
    folder = a_cartridge(tmp_path / "7.1")
    damaged(folder / "processed" / "7.1-2.tif", how)
    thumbnails, (refused,) = read(folder)
    assert [one.object_index for one in thumbnails] == [10001, 30001, 40001]
    assert refused.file == "processed/7.1-2.tif"
    assert "\n" not in refused.reason


def test_a_missing_frame_is_named_and_leaves_the_others_in_their_place(tmp_path: Path) -> None:
    folder = a_cartridge(tmp_path / "7.1")
    whole, _ = read(folder)
    (folder / "processed" / "7.1-2.tif").unlink()
    rest, (refused,) = read(folder)
    assert "frames 2 are missing" in refused.reason
    known = {one.object_index: one.x_px for one in whole}
    assert {one.object_index: one.x_px for one in rest} == {key: x for key, x in known.items() if key // 10_000 != 2}


def test_a_frame_beyond_the_layout_is_refused(tmp_path: Path) -> None:
    thumbnails, (refused,) = read(a_cartridge(tmp_path / "7.1", frames=5))
    assert len(thumbnails) == 5
    assert refused.file == "processed/7.1-5.tif"


ENTITIES = '<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;&x;">]><archive>&z;</archive>'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ENTITIES.encode(), "DOCTYPE"),
        (ENTITIES.encode("utf-16"), "DOCTYPE"),
        (b"<archive><events>", "not readable as XML"),
        (b"<a>" * 50, "nested deeper"),
        (b"", "has 0 bytes"),
        (xml(rows=100_000).encode(), "numrows"),
        (xml(filters=("DNA", "FITC", "CK", "CK-2")).encode(), "filters"),
        (b'<?xml version="1.0" encoding="nonsense"?><archive/>', "not readable as XML"),
    ],
)
def test_an_xml_that_is_not_fit_is_refused_with_its_reason(tmp_path: Path, text: bytes, reason: str) -> None:
    (tmp_path / "7.xml").write_bytes(text)
    with pytest.raises(UnfitFileError, match=reason):
        read_record(tmp_path / "7.xml", tmp_path)


def test_a_cartridge_whose_xml_is_damaged_is_read_in_the_usual_page_order_and_says_so(tmp_path: Path) -> None:
    folder = a_cartridge(tmp_path / "7.1", frames=140)
    (folder / "7.xml").write_text(ENTITIES)
    frames = sorted((folder / "processed").iterdir())
    for path in frames[3:]:
        path.write_bytes(b"II")
    (cartridge,), _ = find_samples(tmp_path)
    thumbnails, refused = read_sample(cartridge)
    assert {(one.proposed, one.source_order) for one in thumbnails} == {(None, "DAPI,FITC,CK,CD45")}
    assert refused[0].file == "7.xml"
    assert "DOCTYPE" in refused[0].reason
    assert len(refused) == 1 + 137


def test_a_cartridge_of_no_known_size_without_an_xml_is_refused_whole(tmp_path: Path) -> None:
    frames = (tmp_path / "4.tif",)
    thumbnails, (refused,) = read_sample(Cartridge(sample_id="7", folder=tmp_path, xml=None, frames=frames))
    assert thumbnails == []
    assert "expected 100 to 210 without an XML" in refused.reason


def test_a_frame_of_a_bright_constant_or_of_nothing_gives_no_object(tmp_path: Path) -> None:
    folder = a_cartridge(tmp_path / "7.1")
    put_frame(folder / "processed" / "7.1-1.tif", np.zeros((4, HEIGHT, WIDTH), np.uint8))
    put_frame(folder / "processed" / "7.1-3.tif", np.full((4, HEIGHT, WIDTH), 255, np.uint8))
    thumbnails, refused = read(folder)
    assert refused == []
    assert [one.frame for one in thumbnails] == [2, 2, 4]
