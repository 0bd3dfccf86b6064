"""The files here are written as ACCEPT writes them: LZW on the first page, PackBits on the others, 1-bit masks."""

import io
import os
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ctcml.accept import ExportedSample, files_of, find_samples, read_sample
from ctcml.errors import BadInput

SAMPLE = "SIM-0007.1.1"
WRITTEN = "SIM-0007_1_1"


def counts(index, shape=(4, 21, 34)):
    return np.random.default_rng(index).integers(0, 4300, shape, dtype=np.uint16)


def write_tiff(path, pages, compression=("lzw", "packbits"), **more):
    with tifffile.TiffWriter(path, **more) as tiff:
        for number, page in enumerate(pages):
            tiff.write(
                page, compression=compression[min(number, 1)], photometric="minisblack", metadata=None, contiguous=False
            )


def export(root, indices=(1, 2, 10), *, sample=SAMPLE, selection="Thumbs", ids=None):
    """Write one sample of an export and return its thumbnail folder; `ids` is the column CellSearchIDs."""
    results = root / "Full Detection_0.1"
    folder = results / "frames" / sample / selection
    folder.mkdir(parents=True)
    (folder / "ACCEPTThumbnails.txt").touch()
    for index in indices:
        stem = folder / f"{sample.replace('.', '_')}_thumb_{index}"
        write_tiff(f"{stem}.tif", counts(index))
        write_tiff(f"{stem}_segm.tif", counts(index) > 2000)
    if ids is not None:
        book = openpyxl.Workbook()
        book.active.append(["CTC", "CellSearchIDs", "ThumbNr", "ch_1_MeanIntensity"])
        for row, cellsearch_id in enumerate(ids):
            book.active.append([0, cellsearch_id, row % 2 + 1, 12.5])
        (results / "output").mkdir(exist_ok=True)
        book.save(results / "output" / f"{sample}.xlsx")
    return folder


def only_sample(root):
    (sample,) = find_samples(root)
    return sample


def read(root, **more):
    return read_sample(only_sample(root), **more)


def reason_for(root, name):
    (reason,) = [one.reason for one in read(root)[1] if one.file == name]
    assert "\n" not in reason
    return reason


# Finding samples


def test_samples_are_found_wherever_the_results_folder_lies(tmp_path):
    export(tmp_path / "2024" / "march", sample="B.1", ids=[1])
    export(tmp_path, sample="A.1")
    first, second = find_samples(tmp_path)
    assert (second.sample_id, first.sample_id) == ("A.1", "B.1")
    assert first.feature_table == tmp_path / "2024/march/Full Detection_0.1/output/B.1.xlsx"
    assert second.feature_table is None


def test_all_events_are_preferred_to_a_selection(tmp_path):
    export(tmp_path, selection="selected_Thumbs")
    assert only_sample(tmp_path).events == "selection"
    export(tmp_path, selection="Thumbs")
    sample = only_sample(tmp_path)
    assert sample.folder.name == "Thumbs"
    assert sample.events == "all"


def test_a_sample_without_thumbnails_is_no_sample(tmp_path):
    (tmp_path / "frames" / "A.1" / "something").mkdir(parents=True)
    assert find_samples(tmp_path) == []


def test_a_sample_that_two_processors_exported_appears_twice(tmp_path):
    export(tmp_path / "Marker Characterization_0.1")
    export(tmp_path)
    assert [one.sample_id for one in find_samples(tmp_path)] == [SAMPLE, SAMPLE]


def test_links_out_of_the_export_are_not_followed(tmp_path):
    export(tmp_path / "elsewhere")
    (tmp_path / "inbox" / "frames").mkdir(parents=True)
    (tmp_path / "inbox" / "frames" / SAMPLE).symlink_to(tmp_path / "elsewhere/Full Detection_0.1/frames" / SAMPLE)
    (tmp_path / "inbox" / "more").symlink_to(tmp_path / "elsewhere")
    assert find_samples(tmp_path / "inbox") == []


@pytest.mark.parametrize("depth", ["frames", f"frames/{SAMPLE}", f"frames/{SAMPLE}/Thumbs"])
def test_an_export_may_be_entered_at_any_folder(tmp_path, monkeypatch, depth):
    export(tmp_path, ids=[1] * 10)
    monkeypatch.chdir(tmp_path / "Full Detection_0.1" / depth)
    for root in (Path.cwd(), Path()):
        sample = only_sample(root)
        assert (sample.sample_id, sample.events) == (SAMPLE, "all")
        assert sample.folder.resolve() == tmp_path / "Full Detection_0.1/frames" / SAMPLE / "Thumbs"
        assert [one.proposed for one in read_sample(sample)[0]] == [True] * 3


def test_a_folder_of_thumbnails_outside_frames_is_named_after_its_parent(tmp_path):
    export(tmp_path)
    (tmp_path / "Full Detection_0.1/frames" / SAMPLE).rename(tmp_path / "one sample")
    for root in (tmp_path / "one sample", tmp_path / "one sample" / "Thumbs"):
        sample = only_sample(root)
        assert (sample.sample_id, sample.folder) == ("one sample", tmp_path / "one sample" / "Thumbs")


@pytest.mark.parametrize("root", ["nothing", "Thumbs", "frames/A.1"])
def test_where_nothing_is_there_is_no_sample(tmp_path, root):
    assert find_samples(tmp_path / root) == []


@pytest.mark.parametrize(("thumbnails", "capped"), [(199, False), (200, True), (201, False), (1000, True)])
def test_a_selection_of_just_as_many_as_accept_draws_at_most_is_a_capped_draw(tmp_path, thumbnails, capped):
    folder = export(tmp_path, [], selection="selected_Thumbs")
    for index in range(1, thumbnails + 1):
        (folder / f"{index}_thumb.tif").touch()
        (folder / f"{index}_thumb_segm.tif").touch()
    sample = only_sample(tmp_path)
    assert (sample.events, sample.capped) == ("selection", capped)
    assert only_sample(folder) == sample


def test_all_events_are_never_a_capped_draw(tmp_path):
    folder = export(tmp_path, [])
    for index in range(1, 201):
        (folder / f"{index}_thumb.tif").touch()
    assert not only_sample(tmp_path).capped


def prior(root, numbers=(1, 2)):
    """Write thumbnails that CellSearch itself proposed, 8-bit and without masks, into a sample of an export."""
    folder = root / "Full Detection_0.1" / "frames" / SAMPLE / "priorThumbs"
    folder.mkdir(parents=True)
    for number in numbers:
        write_tiff(folder / f"{number}_thumb_prior.tif", (counts(number) % 256).astype(np.uint8))
    return folder


def test_events_of_a_sample_with_nothing_else_were_all_proposed_by_cellsearch(tmp_path):
    folder = prior(tmp_path)
    sample = only_sample(tmp_path)
    assert (sample.folder, sample.events) == (folder, "proposed")
    assert only_sample(folder) == sample
    thumbnails, refused = read_sample(sample)
    assert refused == []
    assert [(one.object_index, one.proposed, one.mask, one.source_bit_depth) for one in thumbnails] == [
        (1, True, None, 8),
        (2, True, None, 8),
    ]
    np.testing.assert_array_equal(thumbnails[0].pixels, counts(1) % 256)


def test_proposed_events_are_not_counted_twice(tmp_path):
    prior(tmp_path)
    export(tmp_path, [1, 2, 10])
    sample = only_sample(tmp_path)
    assert (sample.folder.name, sample.events) == ("Thumbs", "all")
    assert len(read_sample(sample)[0]) == 3


def test_numbers_of_proposed_events_are_not_rows_of_the_table(tmp_path):
    export(tmp_path, ids=[None] * 10)
    shutil.rmtree(tmp_path / "Full Detection_0.1" / "frames")
    prior(tmp_path)
    assert only_sample(tmp_path).feature_table is None
    assert [one.proposed for one in read(tmp_path)[0]] == [True, True]


def test_a_sample_that_may_not_be_entered_is_named(tmp_path):
    folder = export(tmp_path)
    sample = only_sample(tmp_path)
    shutil.rmtree(folder)
    thumbnails, refused = read_sample(sample)
    assert thumbnails == []
    assert [one.file for one in refused] == ["."]
    assert files_of(sample) == []


def test_the_files_of_a_sample_are_its_thumbnails_masks_and_table(tmp_path):
    folder = export(tmp_path, [1, 10], ids=[1] * 10)
    (folder / "notes.txt").touch()
    sample = only_sample(tmp_path)
    names = [f"{WRITTEN}_thumb_{index}{end}.tif" for index in (1, 10) for end in ("", "_segm")]
    assert files_of(sample) == [*(folder / name for name in sorted(names)), sample.feature_table]
    assert all(path.is_file() for path in files_of(sample))


# Reading thumbnails


def test_every_thumbnail_comes_back_with_its_very_pixels_and_mask(tmp_path):
    export(tmp_path)
    thumbnails, refused = read(tmp_path)
    assert refused == []
    assert [one.sample_id for one in thumbnails] == [SAMPLE] * 3
    for one in thumbnails:
        np.testing.assert_array_equal(one.pixels, counts(one.object_index))
        np.testing.assert_array_equal(one.mask, counts(one.object_index) > 2000)
        assert one.pixels.dtype == np.uint16
        assert one.mask.dtype == bool
        assert one.planes == ("CD45", "DAPI", "CK", "FITC")
        assert one.source_order == "CD45,DAPI,CK,FITC"
        assert one.source_bit_depth == 16


def test_thumbnails_come_in_order_of_number_and_not_of_name(tmp_path):
    export(tmp_path, [10, 9, 2, 100, 1])
    assert [one.object_index for one in read(tmp_path)[0]] == [1, 2, 9, 10, 100]


def test_older_and_prior_names_are_read_too(tmp_path):
    folder = export(tmp_path, [])
    write_tiff(folder / "3_thumb.tif", counts(3))
    write_tiff(folder / "3_thumb_segm.tif", counts(3) > 2000)
    write_tiff(folder / "12_thumb_prior.tif", counts(12))
    third, twelfth = read(tmp_path)[0]
    assert (third.object_index, twelfth.object_index) == (3, 12)
    assert third.mask is not None
    assert twelfth.mask is None


def test_pictures_of_whole_frames_are_skipped_without_a_word(tmp_path):
    folder = export(tmp_path, [1])
    for name in ("1_seg.tif", "overview_thumbnail.tif", "overview_mask.tif", "notes.txt"):
        (folder / name).write_bytes(b"not for us")
    thumbnails, refused = read(tmp_path)
    assert (len(thumbnails), refused) == (1, [])


def test_pages_of_another_instrument_are_put_into_our_order(tmp_path):
    folder = export(tmp_path, [1])
    (one,), _ = read(tmp_path, page_order=("DAPI", "FITC", "CK", "CD45"))
    assert one.planes == ("CD45", "DAPI", "CK", "FITC")
    assert one.source_order == "DAPI,FITC,CK,CD45"
    np.testing.assert_array_equal(one.pixels, counts(1)[[3, 0, 2, 1]])
    np.testing.assert_array_equal(one.mask, (counts(1) > 2000)[[3, 0, 2, 1]])
    assert folder.is_dir()


def test_extra_pages_are_kept_and_named(tmp_path):
    folder = export(tmp_path, [])
    write_tiff(folder / "1_thumb.tif", counts(1, (6, 9, 9)))
    write_tiff(folder / "2_thumb.tif", counts(2, (3, 9, 9)))
    six, three = read(tmp_path)[0]
    assert six.planes == ("CD45", "DAPI", "CK", "FITC", "extra5", "extra6")
    assert three.planes == ("CD45", "DAPI", "CK")


def test_a_page_order_without_the_three_planes_is_a_mistake_of_ours(tmp_path):
    export(tmp_path)
    with pytest.raises(BadInput, match="page order"):
        read(tmp_path, page_order=("CD45", "DAPI", "PE"))


def test_big_endian_files_give_the_same_counts(tmp_path):
    folder = export(tmp_path, [])
    write_tiff(folder / "1_thumb.tif", counts(1), byteorder=">")
    np.testing.assert_array_equal(read(tmp_path)[0][0].pixels, counts(1))


def test_ccitt_masks_are_read(tmp_path):
    # MATLAB's imwrite uses CCITT for 1-bit pages; here Pillow writes them.
    folder = export(tmp_path, [1])
    pages = [Image.fromarray(page > 2000) for page in counts(1)]
    for compression in ("tiff_ccitt", "group3", "group4"):
        pages[0].save(
            folder / f"{WRITTEN}_thumb_1_segm.tif", compression=compression, save_all=True, append_images=pages[1:]
        )
        (one,), refused = read(tmp_path)
        assert refused == []
        np.testing.assert_array_equal(one.mask, counts(1) > 2000)


def test_eight_bit_pages_keep_their_values_and_say_that_their_scale_is_unknown(tmp_path):
    folder = export(tmp_path, [])
    write_tiff(folder / "1_thumb.tif", (counts(1) % 256).astype(np.uint8))
    (one,), refused = read(tmp_path)
    assert (one.source_bit_depth, refused) == (8, [])
    assert one.pixels.dtype == np.uint16
    np.testing.assert_array_equal(one.pixels, counts(1) % 256)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_red_green_and_blue_of_one_page_are_cd45_ck_and_dapi(tmp_path, dtype):
    folder = export(tmp_path, [])
    colour = counts(1, (20, 30, 3)).astype(dtype)
    tifffile.imwrite(folder / "1_thumb.tif", colour, photometric="rgb")
    write_tiff(folder / "1_thumb_segm.tif", counts(2, (1, 20, 30)) > 2000)
    (one,), refused = read(tmp_path)
    assert refused == []
    assert (one.planes, one.source_order) == (("CD45", "DAPI", "CK"), "CD45,CK,DAPI")
    np.testing.assert_array_equal(one.pixels, np.moveaxis(colour, 2, 0)[[0, 2, 1]])
    np.testing.assert_array_equal(one.mask, np.repeat(counts(2, (1, 20, 30)) > 2000, 3, axis=0))


def test_a_mask_with_a_page_a_colour_is_put_into_our_order_too(tmp_path):
    folder = export(tmp_path, [])
    tifffile.imwrite(folder / "1_thumb.tif", counts(1, (20, 30, 3)), photometric="rgb")
    write_tiff(folder / "1_thumb_segm.tif", counts(2, (3, 20, 30)) > 2000)
    (one,), _ = read(tmp_path)
    np.testing.assert_array_equal(one.mask, (counts(2, (3, 20, 30)) > 2000)[[0, 2, 1]])


@pytest.mark.parametrize("inside", [1, 255])
def test_masks_of_one_byte_a_pixel_are_read(tmp_path, inside):
    folder = export(tmp_path, [1])
    write_tiff(folder / f"{WRITTEN}_thumb_1_segm.tif", ((counts(1) > 2000) * inside).astype(np.uint8))
    np.testing.assert_array_equal(read(tmp_path)[0][0].mask, counts(1) > 2000)


def test_a_broken_mask_costs_the_mask_only(tmp_path):
    folder = export(tmp_path, [1])
    name = f"{WRITTEN}_thumb_1_segm.tif"
    (folder / name).write_bytes((folder / name).read_bytes()[:-3])
    (one,), _ = read(tmp_path)
    assert one.mask is None
    np.testing.assert_array_equal(one.pixels, counts(1))
    assert reason_for(tmp_path, name).endswith("kept without a mask")


def test_a_mask_whose_zero_is_white_is_turned_over(tmp_path):
    folder = export(tmp_path, [1])
    with tifffile.TiffWriter(folder / f"{WRITTEN}_thumb_1_segm.tif") as tiff:
        for page in counts(1) > 2000:
            tiff.write(~page, photometric="miniswhite", metadata=None, contiguous=False)
    np.testing.assert_array_equal(read(tmp_path)[0][0].mask, counts(1) > 2000)


# Which events CellSearch presented


def test_proposed_is_taken_from_the_row_with_the_objects_number(tmp_path):
    # Rows 3..9 are gaps: empty thumbnails are not written, but the table has their rows.
    export(tmp_path, [1, 2, 10], ids=[None, 17, 5, 5, 5, 5, 5, 5, 5, float("nan")])
    assert [one.proposed for one in read(tmp_path)[0]] == [False, True, False]


def test_proposed_is_unknown_without_a_table(tmp_path):
    export(tmp_path)
    assert [one.proposed for one in read(tmp_path)[0]] == [None, None, None]


def test_a_table_with_too_few_rows_belongs_to_another_export(tmp_path):
    export(tmp_path, [1, 2, 10], ids=[1, 2, 3])
    assert {one.proposed for one in read(tmp_path)[0]} == {None}
    assert "has 3 rows but object 10 exists" in reason_for(tmp_path, f"{SAMPLE}.xlsx")


def test_a_damaged_table_costs_the_column_and_not_the_thumbnails(tmp_path):
    export(tmp_path, ids=[1] * 10)
    table = only_sample(tmp_path).feature_table
    table.write_bytes(table.read_bytes()[:700])
    assert {one.proposed for one in read(tmp_path)[0]} == {None}
    assert "not readable as XLSX" in reason_for(tmp_path, table.name)


def test_a_table_without_the_column_says_so(tmp_path):
    export(tmp_path, ids=[1] * 10)
    table = only_sample(tmp_path).feature_table
    book = openpyxl.load_workbook(table)
    book.active["B1"] = "SomethingElse"
    book.save(table)
    assert "no column CellSearchIDs" in reason_for(tmp_path, table.name)


# What ACCEPT measured


def write_table(root, header, rows):
    book = openpyxl.Workbook()
    for row in (header, *rows):
        book.active.append(list(row))
    path = root / "Full Detection_0.1" / "output" / f"{SAMPLE}.xlsx"
    path.parent.mkdir(exist_ok=True)
    book.save(path)
    return path


def test_features_are_taken_from_the_row_with_the_objects_number_and_never_by_thumbnr(tmp_path):
    export(tmp_path, [1, 3])
    rows = [[1, 3, 10.5, 7], [2, 1, 20.5, 8], [3, 2, 30.5, 9]]
    write_table(tmp_path, ["CellSearchIDs", "ThumbNr", "ch_1_MeanIntensity", "ch_2_Overlay_ch_1"], rows)
    first, third = read(tmp_path)[0]
    assert first.features == {"ch_1_MeanIntensity": 10.5, "ch_2_Overlay_ch_1": 7.0}
    assert third.features == {"ch_1_MeanIntensity": 30.5, "ch_2_Overlay_ch_1": 9.0}


def test_only_finite_numbers_of_columns_named_as_accepts_are_features(tmp_path):
    export(tmp_path, [1])
    row = {"CellSearchIDs": 1, "CTC": 1, "ch_1_P2A": "1.25", "ch_2_P2A": "NaN", "ch_3_P2A": None, "ch_4_P2A": "Inf"}
    row |= {"ch_1_note": "bright", "ch_1_seen": True, "ch_x_P2A": 1, "ch_1 P2A": 2, "ch_1_Mass": -3}
    write_table(tmp_path, row.keys(), [row.values()])
    ((one,), refused) = read(tmp_path)
    assert (one.features, refused) == ({"ch_1_P2A": 1.25, "ch_1_Mass": -3.0}, [])


def test_a_table_without_ids_still_gives_its_features(tmp_path):
    export(tmp_path, [1])
    path = write_table(tmp_path, ["ThumbNr", "ch_1_Mass"], [[1, 5]])
    ((one,), _) = read(tmp_path)
    assert (one.proposed, one.features) == (None, {"ch_1_Mass": 5.0})
    assert "no column CellSearchIDs" in reason_for(tmp_path, path.name)


def test_ids_written_as_text_are_ids(tmp_path):
    export(tmp_path, [1, 2, 3, 4])
    write_table(tmp_path, ["CellSearchIDs"], [["17"], ["0"], ["NaN"], [" 5 "]])
    assert [one.proposed for one in read(tmp_path)[0]] == [True, False, False, True]


def sizes(root, um2_per_pixel, page_order=("CD45", "DAPI", "CK")):
    """Export three thumbnails with a table whose sizes are so many µm² a pixel; object 2's mask is missing."""
    folder = export(root, [1, 2, 3])
    (folder / f"{WRITTEN}_thumb_2_segm.tif").unlink()
    columns = ["CellSearchIDs", *(f"ch_{page}_{name}" for page in range(1, 5) for name in ("Size", "MeanIntensity"))]
    rows = [
        [1, *(value for page in counts(index) > 2000 for value in (page.sum() * um2_per_pixel, 9.5))]
        for index in (1, 2, 3)
    ]
    path = write_table(root, columns, rows)
    thumbnails, refused = read(root, page_order=page_order)
    return path, thumbnails, refused


@pytest.mark.parametrize("page_order", [("CD45", "DAPI", "CK"), ("DAPI", "FITC", "CK", "CD45")])
def test_sizes_in_square_micrometres_are_kept(tmp_path, page_order):
    _, thumbnails, refused = sizes(tmp_path, 0.4096, page_order)
    assert refused == []
    assert thumbnails[0].features["ch_2_Size"] == pytest.approx(0.4096 * (counts(1)[1] > 2000).sum())


@pytest.mark.parametrize("page_order", [("CD45", "DAPI", "CK"), ("DAPI", "FITC", "CK", "CD45")])
def test_sizes_in_pixels_are_found_by_the_masks_and_left_out(tmp_path, page_order):
    # The format notes: thumbnails that ACCEPT imported again carry Size in px² under the same name.
    path, thumbnails, refused = sizes(tmp_path, 1.0, page_order)
    assert [one.file for one in refused] == [path.name]
    assert "px²" in refused[0].reason
    for one in thumbnails:
        assert set(one.features) == {f"ch_{page}_MeanIntensity" for page in range(1, 5)}
        np.testing.assert_array_equal(np.sort(one.pixels, axis=0), np.sort(counts(one.object_index), axis=0))


def change_sheet(path, old, new):
    """Write a workbook again with its sheet's XML changed."""
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "xl/worksheets/sheet1.xml":
                assert old in content
                content = content.replace(old, new)
            target.writestr(name, content)


@pytest.mark.parametrize("far", [b"XFD1048576", b"A1048576", b"XFD1", b"DA2", b"a100000"])
def test_one_cell_far_out_does_not_make_the_table_huge(tmp_path, far):
    export(tmp_path, [1])
    path = write_table(tmp_path, ["CellSearchIDs"], [[1]])
    change_sheet(path, b'r="A2"', b"r = '" + far + b"'")
    assert len(read(tmp_path)[0]) == 1
    assert "beyond column CZ or row 99999" in reason_for(tmp_path, path.name)


def test_a_table_that_unzips_to_gigabytes_is_refused_before_it_does(tmp_path, monkeypatch):
    export(tmp_path, [1])
    path = write_table(tmp_path, ["CellSearchIDs"], [[1]])
    monkeypatch.setattr("ctcml.accept.LARGEST_TABLE", 1000)
    monkeypatch.setattr("python_calamine.CalamineWorkbook", None)
    assert "unzips to more than 1000 bytes" in reason_for(tmp_path, path.name)


def test_an_empty_table_says_so(tmp_path):
    export(tmp_path, [1])
    path = write_table(tmp_path, [], [])
    assert "has 0 rows but object 1 exists" in reason_for(tmp_path, path.name)


def test_a_table_of_no_bytes_is_refused(tmp_path):
    export(tmp_path, [1], ids=[1])
    path = only_sample(tmp_path).feature_table
    path.write_bytes(b"")
    assert "has 0 bytes" in reason_for(tmp_path, path.name)


@pytest.mark.parametrize("workbook", ["content.xml", "xl/workbook.bin"])
def test_another_kind_of_workbook_under_the_name_is_refused(tmp_path, workbook):
    # The reader would take them too, and they can declare a million rows in a few bytes.
    export(tmp_path, [1], ids=[1])
    path = only_sample(tmp_path).feature_table
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(workbook, b"<x/>")
    assert "not an XLSX workbook" in reason_for(tmp_path, path.name)


@given(at=st.integers(0, 10**6), flipped=st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_a_damaged_byte_of_the_table_never_raises(tmp_path_factory, at, flipped):
    root = tmp_path_factory.mktemp("damaged")
    export(root, [1], ids=[1])
    path = only_sample(root).feature_table
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= flipped
    path.write_bytes(content)
    thumbnails, refused = read(root)
    assert len(thumbnails) == 1
    assert thumbnails[0].proposed is (None if refused else True)


# Files that are refused: the others are read all the same


def refuse(tmp_path, write, *, index=5):
    """Put one bad file among two good ones; return why it was refused."""
    folder = export(tmp_path, [4, 6])
    name = f"{WRITTEN}_thumb_{index}.tif"
    write(folder / name)
    thumbnails, refused = read(tmp_path)
    assert [one.object_index for one in thumbnails] == [4, 6]
    assert [one.file for one in refused] == [name]
    return reason_for(tmp_path, name)


def test_an_empty_file_is_refused(tmp_path):
    assert "has 0 bytes" in refuse(tmp_path, lambda path: path.touch())


def test_something_else_named_tif_is_refused(tmp_path):
    assert "not readable as TIFF" in refuse(tmp_path, lambda path: path.write_text("this is no picture"))


def test_too_few_pages_are_refused(tmp_path):
    assert "2 pages, expected 3" in refuse(tmp_path, lambda path: write_tiff(path, counts(5)[:2]))


def test_too_many_pages_are_refused(tmp_path):
    assert "more than 16 pages" in refuse(tmp_path, lambda path: write_tiff(path, counts(5, (17, 8, 8))))


def test_pages_that_differ_in_shape_are_refused(tmp_path):
    pages = [counts(5)[0], counts(5)[1], counts(5)[2][:-1]]
    assert "pages differ in shape" in refuse(tmp_path, lambda path: write_tiff(path, pages))


def test_an_unknown_compression_is_refused(tmp_path):
    assert "compression 34712" in refuse(tmp_path, lambda path: write_tiff(path, counts(5), ("jpeg2000", "jpeg2000")))


def declare_width(path, width):
    """Write a good file, then let every page's header lie about its width."""
    write_tiff(path, counts(5), ("none", "none"))
    true, wrong = struct.pack("<HHII", 256, 4, 1, 34), struct.pack("<HHII", 256, 4, 1, width)  # tag ImageWidth
    assert path.read_bytes().count(true) == 4
    path.write_bytes(path.read_bytes().replace(true, wrong))


def test_a_header_that_declares_a_huge_picture_is_refused_before_it_is_decoded(tmp_path):
    assert "declares 21×2000000000 pixels" in refuse(tmp_path, lambda path: declare_width(path, 2_000_000_000))


def test_a_file_without_any_width_is_refused(tmp_path):
    refuse(tmp_path, lambda path: declare_width(path, 0))


def test_a_width_that_is_wrong_by_one_is_refused_and_not_sheared(tmp_path):
    refuse(tmp_path, lambda path: declare_width(path, 35))


def test_a_link_to_another_folder_is_refused(tmp_path):
    write_tiff(tmp_path / "private.tif", counts(5))
    assert "link to another folder" in refuse(tmp_path, lambda path: path.symlink_to(tmp_path / "private.tif"))


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    assert "not a regular file" in refuse(tmp_path, os.mkfifo)


def test_a_dangling_link_is_refused(tmp_path):
    assert "link" in refuse(tmp_path, lambda path: path.symlink_to(tmp_path / "nowhere.tif"))


def test_a_file_named_after_another_sample_is_refused(tmp_path):
    folder = export(tmp_path, [1])
    write_tiff(folder / "SIM-0008_1_1_thumb_2.tif", counts(2))
    assert len(read(tmp_path)[0]) == 1
    assert f"expected {WRITTEN}_thumb_<i>.tif" in reason_for(tmp_path, "SIM-0008_1_1_thumb_2.tif")


def test_an_object_that_is_there_twice_is_taken_once(tmp_path):
    folder = export(tmp_path, [1])
    write_tiff(folder / "1_thumb.tif", counts(2))
    assert len(read(tmp_path)[0]) == 1
    assert "there twice" in reason_for(tmp_path, f"{WRITTEN}_thumb_1.tif")


@pytest.mark.parametrize("name", ["cell 7.tif", "thumb_7.tif", f"{WRITTEN}_thumb_0.tif", f"{WRITTEN}_thumb_x.tif"])
def test_a_name_without_an_objects_number_is_refused(tmp_path, name):
    folder = export(tmp_path, [1])
    write_tiff(folder / name, counts(7))
    assert "name is not" in reason_for(tmp_path, name)


@pytest.mark.parametrize(
    ("pages", "why"),
    [
        (counts(1)[:, :-1] > 0, "mask has shape"),
        (counts(1)[:3] > 0, "mask has shape"),
        (counts(1), "pixels are uint16"),
    ],
)
def test_a_mask_that_does_not_fit_is_left_out_and_the_pixels_kept(tmp_path, pages, why):
    folder = export(tmp_path, [1])
    name = f"{WRITTEN}_thumb_1_segm.tif"
    write_tiff(folder / name, pages)
    (one,), _ = read(tmp_path)
    assert one.mask is None
    assert why in reason_for(tmp_path, name)


def test_a_file_cut_at_any_byte_is_refused_and_never_read_as_a_darker_one(tmp_path):
    folder = export(tmp_path, [])
    path = folder / "1_thumb.tif"
    write_tiff(path, counts(1, (4, 3, 4)))
    whole = path.read_bytes()
    sample = only_sample(tmp_path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        thumbnails, refused = read_sample(sample)
        assert (len(thumbnails), len(refused)) == (0, 1), f"cut after {length} of {len(whole)} bytes"


@given(at=st.integers(0, 10**6), flipped=st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_a_damaged_byte_never_raises(tmp_path_factory, at, flipped):
    folder = tmp_path_factory.mktemp("damaged")
    write_tiff(folder / "1_thumb.tif", counts(1, (4, 8, 9)))
    content = bytearray((folder / "1_thumb.tif").read_bytes())
    content[at % len(content)] ^= flipped
    (folder / "1_thumb.tif").write_bytes(content)
    thumbnails, refused = read_sample(ExportedSample(sample_id="x", folder=folder, feature_table=None))
    assert len(thumbnails) + len(refused) == 1


def test_pixels_alone_are_the_same_and_what_is_wrong_with_mask_and_table_is_not_looked_at(tmp_path):
    folder = export(tmp_path)
    next(folder.glob("*_1_segm.tif")).write_bytes(b"no mask")
    sample = find_samples(tmp_path)[0]
    (whole, refused), (alone, none) = read_sample(sample), read_sample(sample, pixels_only=True)
    assert len(refused) == 1
    assert none == []
    assert [one.object_index for one in alone] == [one.object_index for one in whole]
    assert all((one.pixels == other.pixels).all() for one, other in zip(alone, whole, strict=True))
    assert {one.mask for one in alone} == {None}
