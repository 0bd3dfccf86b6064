"""A listed folder: the very pixels come back, a wrong line is refused alone, and nothing outside the folder is read."""

import io
import os
import pickle
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from factories import a_cell
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from ctcml.errors import BadInput
from ctcml.folders import files_of, find_samples, read_sample
from ctcml.records import PLANES
from ctcml.thumbnails import RawThumbnail, Refused

HEADER = "file,sample,object_index,mask,proposed,label\n"
CELL = a_cell(np.random.default_rng(3))
MASK = CELL > 400


def put(folder: Path, name: str, content: bytes | np.ndarray) -> Path:
    """Write a file; an array becomes a PNG (h, w, 3) or a TIFF with a page a plane (planes, h, w)."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        content = imagecodecs.png_encode(content) if name.endswith(".png") else tiff(content)
    path.write_bytes(content)
    return path


def tiff(planes: np.ndarray, **how: object) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for plane in planes:
            file.write(plane, photometric="minisblack", metadata=None, **how)
    return buffer.getvalue()


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, interlace: int = 0, extra: bytes = b"") -> bytes:
    """A PNG whose header says this, over 14 bytes of zeros."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(bytes(14))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def listed(folder: Path, *lines: str, header: str = HEADER) -> Path:
    put(folder, "manifest.csv", (header + "".join(f"{line}\n" for line in lines)).encode())
    return folder


def everything(root: Path, page_order: tuple[str, ...] = PLANES) -> tuple[list[RawThumbnail], list[Refused]]:
    samples, refused = find_samples(root)
    thumbnails = []
    for sample in samples:
        found, wrong = read_sample(sample, page_order=page_order)
        thumbnails += found
        refused += wrong
    return thumbnails, refused


# What comes in.


def test_a_folder_of_two_samples_with_masks_and_labels_is_read(tmp_path: Path) -> None:
    put(tmp_path, "s1/a.tif", CELL)
    put(tmp_path, "s1/a_segm.tif", tiff(MASK))
    put(tmp_path, "b.tif", CELL[:3])
    put(tmp_path, "c.tif", CELL + 1)
    listed(
        tmp_path,
        "c.tif,S 2.1,10,,NO,Bare nucleus",
        "s1/a.tif,S-1.1,7,s1/a_segm.tif,yes,CTC",
        "b.tif,S 2.1,9,,,",
    )
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    samples, refused = find_samples(tmp_path)
    assert refused == []
    assert [(one.sample_id, [row.object_index for row in one.rows]) for one in samples] == [
        ("S 2.1", [9, 10]),
        ("S-1.1", [7]),
    ]
    assert pickle.loads(pickle.dumps(samples)) == samples
    (nine, ten), refused = read_sample(samples[0], page_order=PLANES)
    assert refused == []
    assert (nine.proposed, nine.label, nine.planes) == (None, "", PLANES)
    assert (ten.proposed, ten.label, ten.planes) == (False, "bare_nucleus", (*PLANES, "FITC"))
    (seven,), refused = read_sample(samples[1], page_order=PLANES)
    assert refused == []
    assert (seven.proposed, seven.label, seven.source_bit_depth, seven.recipe) == (True, "ctc", 16, "")
    np.testing.assert_array_equal(seven.pixels, CELL)
    np.testing.assert_array_equal(seven.mask, MASK)
    assert files_of(samples[1]) == [tmp_path / name for name in ("manifest.csv", "s1/a.tif", "s1/a_segm.tif")]
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


@given(
    pixels=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(3, 6), st.integers(1, 20), st.integers(1, 20)),
    ),
    page_order=st.permutations(PLANES).map(tuple),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_pixels_of_a_tiff_come_back_exactly_in_our_order(
    tmp_path: Path, pixels: np.ndarray, page_order: tuple[str, ...]
) -> None:
    put(tmp_path, "a.tif", pixels)
    put(tmp_path, "m.tif", tiff(pixels % 2 == 1))
    (one,), refused = everything(listed(tmp_path, "a.tif,s,1,m.tif,,"), page_order)
    assert refused == []
    assert (one.pixels.dtype, one.source_bit_depth) == (np.uint16, 8 * pixels.dtype.itemsize)
    wanted = [*(page_order.index(name) for name in PLANES), *range(3, len(pixels))]
    np.testing.assert_array_equal(one.pixels, pixels[wanted])
    np.testing.assert_array_equal(one.mask, pixels[wanted] % 2 == 1)
    assert one.source_order.split(",")[:3] == list(page_order)


@given(
    picture=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3)),
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_pixels_of_a_png_come_back_exactly_with_all_their_bits(tmp_path: Path, picture: np.ndarray) -> None:
    # Pillow would give 16-bit RGB back as 8 bit.
    put(tmp_path, "a.png", picture)
    (one,), refused = everything(listed(tmp_path, "a.png,s,1,,,"), ("DAPI", "FITC", "CK", "CD45"))
    assert refused == []
    assert (one.planes, one.source_order) == (PLANES, "CD45,CK,DAPI")
    assert (one.pixels.dtype, one.source_bit_depth) == (np.uint16, 8 * picture.dtype.itemsize)
    for plane, colour in zip(one.pixels, (0, 2, 1), strict=True):  # CD45 red, DAPI blue, CK green
        np.testing.assert_array_equal(plane, picture[:, :, colour])


def test_a_one_page_rgb_tiff_has_cd45_in_red_ck_in_green_and_dapi_in_blue(tmp_path: Path) -> None:
    picture = np.zeros((6, 5, 3), np.uint8)
    picture[..., 0], picture[..., 1], picture[..., 2] = 10, 20, 30
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, picture, photometric="rgb", metadata=None)
    put(tmp_path, "a.tif", buffer.getvalue())
    (one,), _ = everything(listed(tmp_path, "a.tif,s,1,,,"))
    assert one.planes == PLANES
    assert one.pixels[:, 0, 0].tolist() == [10, 30, 20]
    assert one.source_order == "CD45,CK,DAPI"


def test_one_mask_page_stands_for_every_plane(tmp_path: Path) -> None:
    picture = np.ascontiguousarray(np.moveaxis(CELL[:3], 0, 2))
    put(tmp_path, "a.png", picture)
    put(tmp_path, "b.png", picture)
    put(tmp_path, "one.tif", tiff(MASK[:1]))
    buffer = io.BytesIO()
    Image.fromarray(MASK[0]).save(buffer, "PNG")  # one bit a pixel
    put(tmp_path, "grey.png", buffer.getvalue())
    thumbnails, refused = everything(listed(tmp_path, "a.png,s,1,one.tif,,", "b.png,s,2,grey.png,,"))
    assert refused == []
    for one in thumbnails:
        np.testing.assert_array_equal(one.mask, np.repeat(MASK[:1], 3, axis=0))


def test_every_manifest_below_is_found_and_links_are_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "inbox", tmp_path / "outside"
    for folder in (root / "b", root / "a" / "deep", outside):
        put(folder, "x.tif", CELL)
        listed(folder, "x.tif,s,1,,,", "x.tif,s,0,,,")
    (root / "linked").symlink_to(outside)
    samples, refused = find_samples(root)
    assert [one.folder.relative_to(root).as_posix() for one in samples] == ["a/deep", "b"]
    assert [one.file for one in refused] == ["a/deep/manifest.csv, line 3", "b/manifest.csv, line 3"]


def test_a_spreadsheets_habits_are_no_mistakes(tmp_path: Path) -> None:
    put(tmp_path, "breast/a.tif", CELL)
    text = '\ufeffFile , SAMPLE,object_index,operator\r\nbreast\\a.tif,"Müller, 1",007,me\r\n,,,\r\n\r\n'
    put(tmp_path, "manifest.csv", text.encode())
    (one,), refused = everything(tmp_path)
    assert refused == []
    assert (one.sample_id, one.object_index, one.proposed) == ("Müller, 1", 7, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("yes", True), ("True", True), ("1", True), ("no", False), ("FALSE", False), ("0", False), ("", None)],
)
def test_what_cellsearch_proposed_may_be_said_in_several_ways(tmp_path: Path, text: str, expected: bool | None) -> None:
    ((one,), _) = find_samples(listed(tmp_path, f"a.tif,s,1,,{text},"))
    assert one.rows[0].proposed is expected


def test_what_the_operator_called_a_ctc_is_read_and_unknown_without_the_column(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif", "c.tif"):
        put(tmp_path, name, CELL)
    header = "file,sample,object_index,proposed,assigned\n"
    listed(tmp_path, "a.tif,s,1,yes,yes", "b.tif,s,2,yes,No", "c.tif,s,3,no,", header=header)
    called, refused = everything(tmp_path)
    assert refused == []
    assert [one.assigned for one in called] == [True, False, None]
    listed(tmp_path, "a.tif,s,1,,yes,")
    assert everything(tmp_path)[0][0].assigned is None


# What does not.

WRONG_LINES = {
    "no sample": ("a.tif, ,1,,,", "sample is ''"),
    "a sample of two lines": ('a.tif,"s\n1",1,,,', "sample is 's\\n1'"),
    "index 0": ("a.tif,s,0,,,", "object_index is '0', expected 1 to 999999999"),
    "index too large": ("a.tif,s,1000000000,,,", "expected 1 to 999999999"),
    "index of 5,000 digits": (f"a.tif,s,{'9' * 5000},,,", "expected 1 to 999999999"),
    "index negative": ("a.tif,s,-1,,,", "object_index is '-1'"),
    "index with a point": ("a.tif,s,1.0,,,", "object_index is '1.0'"),
    "index NaN": ("a.tif,s,NaN,,,", "object_index is 'NaN'"),
    "index in other digits": ("a.tif,s,٣,,,", "object_index is '٣'"),
    "index missing": ("a.tif,s,,,,", "object_index is ''"),
    "proposed": ("a.tif,s,1,,maybe,", "proposed is 'maybe'"),
    "label": ("a.tif,s,1,,,???", "label is '???'"),
    "no file": (",s,1,,,", "names the file ''"),
    "the folder itself": (".,s,1,,,", "names the file '.'"),
    "the folder above": ("../a.tif,s,1,,,", "names the file '../a.tif'"),
    "the folder above, hidden": ("x/../../a.tif,s,1,,,", "expected a path below"),
    "the folder above, with backslashes": (r"x\..\..\a.tif,s,1,,,", "expected a path below"),
    "an absolute path": ("/etc/passwd,s,1,,,", "names the file '/etc/passwd'"),
    "a drive": (r"C:\a.tif,s,1,,,", "expected a path below"),
    "a share": (r"\\server\share\a.tif,s,1,,,", "expected a path below"),
    "a NUL": ("a\0.tif,s,1,,,", "expected a path below"),
    "a mask above": ("a.tif,s,1,../m.tif,,", "names the file '../m.tif'"),
    "too few cells": ("a.tif,s,1", "has 3 cells, expected 6"),
    "too many cells": ("a.tif,s,1,,,,", "has 7 cells, expected 6"),
    "an object twice": ("c.tif,good,1,,,", "object 1 of this sample stands in line 2 too"),
    "a file twice": ("./good.tif,s,1,,,", "good.tif stands in line 2 too"),
}


@pytest.mark.parametrize("case", WRONG_LINES)
def test_a_wrong_line_is_refused_by_its_number_and_the_others_are_kept(tmp_path: Path, case: str) -> None:
    line, reason = WRONG_LINES[case]
    put(tmp_path, "good.tif", CELL)
    put(tmp_path, "last.tif", CELL)
    thumbnails, refused = everything(listed(tmp_path, "good.tif,good,1,,,", line, "last.tif,good,2,,,"))
    assert [one.object_index for one in thumbnails] == [1, 2]
    number = 3 + line.count("\n")
    assert [one.file for one in refused] == [f"manifest.csv, line {number}"]
    assert reason in refused[0].reason
    assert "\n" not in refused[0].reason


WRONG_MANIFESTS = {
    "empty": (b"", "has 0 bytes"),
    "no lines": (HEADER.encode(), "lists no file"),
    "latin-1": (HEADER.encode() + "a.tif,Müller,1,,,\n".encode("latin-1"), "not UTF-8 (byte 52)"),
    "UTF-16": (HEADER.encode("utf-16"), "not UTF-8"),
    "a missing column": (b"file,sample\na.tif,s\n", "has the columns ['file', 'sample']"),
    "semicolons": (b"file;sample;object_index\na.tif;s;1\n", "separated by commas"),
    "a column twice": (b"file,sample,object_index,Label,label\na.tif,s,1,ctc,wbc\n", "once"),
    "a required column twice": (b"file,sample,object_index,file\na.tif,s,1,b.tif\n", "once"),
    "no header": (b"a.tif,s,1\n", "has the columns"),
    "only line ends": (b"\n\n\n", "has the columns []"),
    "an open quote": (HEADER.encode() + b'"a.tif,s,1,,,\n', "is not a CSV table"),
    "a cell of 200,000 letters": (HEADER.encode() + b"a" * 200_000, "is not a CSV table"),
    "a picture": (imagecodecs.png_encode(np.zeros((4, 4, 3), np.uint8)), "not UTF-8"),
}


@pytest.mark.parametrize("case", WRONG_MANIFESTS)
def test_a_manifest_that_cannot_be_used_is_one_line(tmp_path: Path, case: str) -> None:
    content, reason = WRONG_MANIFESTS[case]
    put(tmp_path, "manifest.csv", content)
    samples, (refused,) = find_samples(tmp_path)
    assert (samples, refused.file) == ([], "manifest.csv")
    assert reason in refused.reason
    assert "\n" not in refused.reason


def test_nothing_outside_the_folder_is_read_through_a_link(tmp_path: Path) -> None:
    root, outside = tmp_path / "inbox", tmp_path / "outside"
    put(outside, "secret.tif", CELL)
    put(root, "real.tif", CELL)
    (root / "file.tif").symlink_to(outside / "secret.tif")
    (root / "folder").symlink_to(outside)
    (root / "circle.tif").symlink_to(root / "circle.tif")
    (root / "dangling.tif").symlink_to(root / "nothing")
    os.mkfifo(root / "pipe.tif")
    names = ["file.tif", "folder/secret.tif", "circle.tif", "dangling.tif", "pipe.tif", "missing.tif", "x" * 300]
    listed(root, *(f"{name},s,{n},,," for n, name in enumerate(names, 1)), "real.tif,s,99,folder/secret.tif,,")
    ((sample,), refused) = find_samples(root)
    assert refused == []
    (one,), refused = read_sample(sample, page_order=PLANES)
    assert (one.object_index, one.mask) == (99, None)
    assert [one.file for one in refused] == [*names, "folder/secret.tif"]
    assert {one.reason.split(";")[0] for one in refused} == {"is no file in the folder of manifest.csv"}
    assert files_of(sample) == [root / "manifest.csv", root / "real.tif"]


def test_a_manifest_that_is_a_link_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    listed(tmp_path / "outside", "a.tif,s,1,,,")
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "manifest.csv").symlink_to(tmp_path / "outside" / "manifest.csv")
    samples, (refused,) = find_samples(tmp_path / "inbox")
    assert (samples, refused.file) == ([], "manifest.csv")


TRUE_PNG = imagecodecs.png_encode(np.full((30, 40, 3), 7, np.uint16))
WRONG_PICTURES = {
    "empty.tif": (b"", "has 0 bytes"),
    "text.tif": (b"not a picture", ""),
    "cut.tif": (tiff(CELL)[:2000], ""),
    "two_pages.tif": (tiff(CELL[:2]), ""),
    "floats.tif": (tiff(CELL.astype(np.float32)), ""),
    "start.png": (TRUE_PNG[:8], "is cut off or is not a PNG"),
    "header.png": (TRUE_PNG[:20], "cannot be decoded|cut off"),
    "half.png": (TRUE_PNG[:50], "cannot be decoded"),
    "flipped.png": (TRUE_PNG[:60] + bytes([TRUE_PNG[60] ^ 1]) + TRUE_PNG[61:], "cannot be decoded"),
    "no_header.png": (b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b""), "not a PNG"),
    "bomb.png": (png(65536, 65536), "declares 65536×65536 pixels"),
    "wide.png": (png(4097, 1), "declares 1×4097 pixels"),
    "nothing.png": (png(0, 4), "declares 4×0 pixels"),
    "false_size.png": (png(2000, 2000), "cannot be decoded"),
    "grey.png": (png(1, 1, colour=0), "is a grey PNG"),
    "palette.png": (png(1, 1, colour=3), "colour type 3"),
    "grey_alpha.png": (png(1, 1, colour=4), "colour type 4"),
    "alpha.png": (png(1, 1, colour=6), "colour type 6"),
    "transparent.png": (png(1, 1, extra=chunk(b"tRNS", bytes(6))), "transparency"),
    "interlaced.png": (png(1, 1, interlace=1), "interlacing"),
    "depth.png": (png(1, 1, depth=4), "cannot be decoded"),
    "circle.png": (b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xf4" * 9, "not a PNG"),
}


@pytest.mark.parametrize("name", WRONG_PICTURES)
def test_a_picture_that_is_not_what_it_should_be_is_one_line_and_the_others_are_kept(tmp_path: Path, name: str) -> None:
    content, reason = WRONG_PICTURES[name]
    put(tmp_path, name, content)
    put(tmp_path, "good.tif", CELL)
    (one,), (refused,) = everything(listed(tmp_path, f"{name},s,1,,,", "good.tif,s,2,,,"))
    assert (one.object_index, refused.file) == (2, name)
    assert any(part in refused.reason for part in reason.split("|")), refused.reason
    assert "\n" not in refused.reason


@given(where=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_to_a_png_raises(tmp_path: Path, where: list[tuple[int, int]]) -> None:
    content = bytearray(TRUE_PNG)
    for place, value in where:
        content[place % len(content)] = value
    put(tmp_path, "a.png", bytes(content))
    thumbnails, refused = everything(listed(tmp_path, "a.png,s,1,,,"))
    assert len(thumbnails) + len(refused) == 1


@pytest.mark.parametrize(
    "content",
    [
        tiff(MASK[:2]),
        tiff(MASK[:, :-1]),
        b"",
        b"no mask",
        png(1, 1, colour=0),
        png(1, 1, colour=6),
        imagecodecs.png_encode((CELL[2] >> 4).astype(np.uint8)),
    ],
    ids=["pages", "size", "empty", "text", "PNG size", "PNG alpha", "PNG of a cell"],
)
def test_an_unfit_mask_is_refused_and_its_thumbnail_is_kept(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, "a.tif", CELL)
    put(tmp_path, "m", content)
    (one,), (refused,) = everything(listed(tmp_path, "a.tif,s,1,m,,"))
    assert (one.mask, refused.file) == (None, "m")
    assert "object 1 is taken without a mask" in refused.reason


def test_a_page_order_without_our_planes_is_the_callers_mistake(tmp_path: Path) -> None:
    ((sample,), _) = find_samples(listed(tmp_path, "a.tif,s,1,,,"))
    with pytest.raises(BadInput, match="page order"):
        read_sample(sample, page_order=("CD45", "DAPI"))


def test_a_place_where_nothing_is_gives_nothing(tmp_path: Path) -> None:
    assert find_samples(tmp_path / "missing") == ([], [])
    assert find_samples(tmp_path) == ([], [])
