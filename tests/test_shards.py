import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ctcml import tables
from ctcml.errors import BadInput, BrokenRecord
from ctcml.images import to_input
from ctcml.shards import (
    Packed,
    content_hash,
    counts_of,
    file_hash,
    pack_shard,
    read_inputs,
    read_pixels,
    read_shard,
    sample_uids,
    shard_paths,
)

ASINH = {"recipe": "asinh", "background_percentile": 10.0, "asinh_scale": 60.0}


GIVEN = {**ASINH, "recipe": "given"}


def packed(index, *, sample="s1", shape=(4, 20, 31), pixels=None, mask=True, depth=16, **more):
    rng = np.random.default_rng(index)
    pixels = rng.integers(0, 4096, shape, dtype=np.uint16) if pixels is None else pixels
    planes = ("CD45", "DAPI", "CK", "FITC", "extra5")[: len(pixels)]
    return Packed(
        cell_uid=f"{sample}-cell{index}", sample_uid=sample, object_index=index, planes=planes, pixels=pixels,
        mask=pixels > 2000 if mask else None, source_bit_depth=depth, source_order="CD45,DAPI,CK,FITC", **more,
    )  # fmt: skip


@pytest.fixture
def laboratory(tmp_path):
    """Two shards, of three and two thumbnails."""
    pack_shard([packed(10), packed(2, shape=(3, 95, 40)), packed(7, mask=False)], tmp_path / "s1.parquet")
    pack_shard([packed(1, sample="s0"), packed(2, sample="s0")], tmp_path / "s0.parquet")
    return tmp_path


@given(
    pixels=hnp.arrays(np.uint16, st.tuples(st.integers(3, 5), st.integers(1, 40), st.integers(1, 40))),
    bits=st.randoms(use_true_random=False),
    tags=st.lists(st.floats(0, 4096, width=32), max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_what_was_packed_is_read_back_to_the_last_bit(tmp_path_factory, pixels, bits, tags):
    mask = np.random.default_rng(bits.randrange(2**32)).random(pixels.shape) > 0.5
    one = packed(3, pixels=pixels, mask=False, restore_low=tuple(tags), restore_high=tuple(tags[::-1]))
    two = Packed(**{**vars(one), "cell_uid": "b", "object_index": 4, "mask": mask})
    path = tmp_path_factory.mktemp("shard") / "s1.parquet"
    pack_shard([one, two], path)
    back, masked = read_shard(path, verify=True)
    np.testing.assert_array_equal(back.pixels, pixels)
    np.testing.assert_array_equal(masked.mask, mask)
    assert back.pixels.dtype == np.uint16
    assert back.mask is None
    assert {k: v for k, v in vars(back).items() if k != "pixels"} == {
        k: v for k, v in vars(one).items() if k != "pixels"
    }


def test_a_shard_has_the_declared_columns(laboratory):
    table = tables.read_table(laboratory / "s1.parquet", tables.SHARD)
    assert table["planes"].tolist() == ["CD45,DAPI,CK", "CD45,DAPI,CK,FITC", "CD45,DAPI,CK,FITC"]
    assert table["object_index"].tolist() == [2, 7, 10]
    assert [len(mask) for mask in table["mask"]] == [3 * 95 * 40 // 8, 0, 4 * 20 * 31 // 8]


def test_the_same_thumbnails_give_the_same_bytes_in_whatever_order_they_come(tmp_path):
    cells = [packed(i) for i in (3, 1, 2)]
    first = pack_shard(cells, tmp_path / "a.parquet")
    assert pack_shard(cells[::-1], tmp_path / "b.parquet") == first
    assert file_hash(tmp_path / "a.parquet") == first


def test_packing_again_changes_nothing(tmp_path):
    path = tmp_path / "s1.parquet"
    first = pack_shard([packed(1)], path)
    written = path.stat().st_mtime_ns
    assert pack_shard([packed(1)], path) == first
    assert path.stat().st_mtime_ns == written


@pytest.mark.parametrize("other", [[packed(2)], [packed(1), packed(2)], [packed(1, mask=False)]])
def test_a_shard_is_never_changed(tmp_path, other):
    path = tmp_path / "s1.parquet"
    first = pack_shard([packed(1)], path)
    with pytest.raises(BrokenRecord, match="a shard is never changed"):
        pack_shard(other, path)
    assert file_hash(path) == first


def test_a_killed_write_leaves_no_half_shard(tmp_path, monkeypatch):
    def dies(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr(tables.pq, "write_table", dies)
    with pytest.raises(KeyboardInterrupt):
        pack_shard([packed(1)], tmp_path / "s1.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_sample_without_thumbnails_has_an_empty_shard(tmp_path):
    pack_shard([], tmp_path / "s9.parquet")
    assert read_shard(tmp_path / "s9.parquet") == []
    assert read_inputs(tmp_path, **ASINH)[1].shape == (0, 80, 80, 3)


def test_one_object_appears_once(tmp_path):
    with pytest.raises(BadInput, match="object_index appears twice"):
        pack_shard([packed(1), Packed(**{**vars(packed(1)), "cell_uid": "other"})], tmp_path / "s1.parquet")
    with pytest.raises(BadInput, match="cell_uid appears twice"):
        pack_shard([packed(1), Packed(**{**vars(packed(1)), "object_index": 2})], tmp_path / "s1.parquet")


def test_a_shard_holds_one_sample(tmp_path):
    with pytest.raises(BadInput, match="several samples"):
        pack_shard([packed(1), packed(2, sample="s2")], tmp_path / "s1.parquet")


def test_the_content_hash_sees_pixels_shape_and_plane_names_and_not_the_cell():
    pixels = np.arange(24, dtype=np.uint16).reshape(3, 2, 4)
    names = ("CD45", "DAPI", "CK")
    changed = pixels.copy()
    changed[2, 1, 3] += 1
    hashes = {
        content_hash(names, pixels),
        content_hash(names, changed),
        content_hash(names, pixels.reshape(3, 4, 2)),
        content_hash(("CD45", "CK", "DAPI"), pixels),
    }
    assert len(hashes) == 4
    assert content_hash(names, pixels.astype(">u2")) == content_hash(names, pixels)
    assert packed(1).content_sha256 == packed(1, sample="s2").content_sha256


def test_verifying_finds_pixels_that_were_changed_behind_our_back(laboratory):
    path = laboratory / "s1.parquet"
    table = tables.read_table(path, tables.SHARD)
    table.at[0, "pixels"] = bytes(len(table.at[0, "pixels"]))
    tables.write_table(table, tables.SHARD, path)
    with pytest.raises(BrokenRecord, match="s1-cell2 is not what its content_sha256 says"):
        read_shard(path, verify=True)


def test_a_truncated_shard_is_a_broken_record(laboratory):
    path = laboratory / "s1.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BrokenRecord, match="not readable"):
        read_shard(path)


@pytest.mark.parametrize("column", ["pixels", "mask"])
def test_bytes_that_do_not_fit_the_shape_are_a_broken_record(laboratory, column):
    path = laboratory / "s1.parquet"
    table = tables.read_table(path, tables.SHARD)
    table.at[0, column] = table.at[0, column][:-2]
    tables.write_table(table, tables.SHARD, path)
    with pytest.raises(BrokenRecord, match="s1-cell2"):
        read_shard(path)


def test_pixels_come_back_by_cell(laboratory):
    found = read_pixels(laboratory, "s1", ["s1-cell7", "s1-cell10"])
    assert set(found) == {"s1-cell7", "s1-cell10"}
    np.testing.assert_array_equal(found["s1-cell10"], packed(10).pixels)
    assert set(read_pixels(laboratory, "s1")) == {"s1-cell2", "s1-cell7", "s1-cell10"}


def test_a_cell_of_another_sample_is_not_found(laboratory):
    with pytest.raises(BadInput, match="s0-cell1"):
        read_pixels(laboratory, "s1", ["s0-cell1"])


def test_inputs_come_by_sample_and_then_by_object_index(laboratory):
    names, images = read_inputs(laboratory, **ASINH)
    assert names == ["s0-cell1", "s0-cell2", "s1-cell2", "s1-cell7", "s1-cell10"]
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images[4], to_input(packed(10).pixels, **ASINH))
    np.testing.assert_array_equal(images[2], to_input(packed(2, shape=(3, 95, 40)).pixels, **ASINH))


def test_inputs_of_chosen_samples_and_cells_keep_that_order(laboratory):
    names, images = read_inputs(laboratory, ["s1", "s0"], cell_uids=["s1-cell10", "s0-cell2", "s1-cell2"], **ASINH)
    assert names == ["s0-cell2", "s1-cell2", "s1-cell10"]
    np.testing.assert_array_equal(images[2], to_input(packed(10).pixels, **ASINH))
    assert read_inputs(laboratory, ["s0"], **ASINH)[0] == ["s0-cell1", "s0-cell2"]


def test_a_chosen_cell_that_is_nowhere_is_an_error_and_not_a_shorter_answer(laboratory):
    with pytest.raises(BadInput, match="1 of 2 cells are not in these shards"):
        read_inputs(laboratory, ["s0"], cell_uids=["s0-cell2", "s1-cell2"], **ASINH)


def test_a_missing_shard_is_a_broken_record(laboratory):
    shutil.move(laboratory / "s0.parquet", laboratory / "gone")
    with pytest.raises(BrokenRecord, match=r"s0\.parquet"):
        read_inputs(laboratory, ["s0"], **ASINH)


def test_pixels_must_have_the_three_planes_first_and_one_name_each():
    good = vars(packed(1))
    for wrong in (
        {"planes": ("DAPI", "CK", "CD45", "FITC")},
        {"planes": ("CD45", "DAPI", "CK")},
        {"pixels": packed(1).pixels.astype(np.float32)},
        {"mask": np.zeros((4, 20, 31), np.uint8)},
    ):
        with pytest.raises(BadInput, match="s1-cell1"):
            Packed(**{**good, **wrong})


def test_a_sample_of_several_intakes_is_read_as_one_by_file_and_then_by_object_index(laboratory):
    for number, cells in ((2, [packed(9), packed(1)]), (10, [packed(4)])):
        pack_shard(cells, laboratory / f"s1-{number}.parquet")
    assert sample_uids(laboratory) == ["s0", "s1"]
    assert [path.name for path in shard_paths(laboratory, "s1")] == ["s1.parquet", "s1-2.parquet", "s1-10.parquet"]
    order = ["s1-cell2", "s1-cell7", "s1-cell10", "s1-cell1", "s1-cell9", "s1-cell4"]
    names, images = read_inputs(laboratory, **ASINH)
    assert names == ["s0-cell1", "s0-cell2", *order]
    np.testing.assert_array_equal(images[-1], to_input(packed(4).pixels, **ASINH))
    assert read_inputs(laboratory, ["s1"], cell_uids=["s1-cell4", "s1-cell7"], **ASINH)[0] == ["s1-cell7", "s1-cell4"]
    assert list(read_pixels(laboratory, "s1")) == order
    assert list(read_pixels(laboratory, "s1", ["s1-cell9"])) == ["s1-cell9"]


def test_a_sample_whose_name_begins_like_another_is_not_its_supplement(tmp_path):
    for sample in ("ab", "abc"):
        pack_shard([packed(1, sample=sample)], tmp_path / f"{sample}.parquet")
    assert [path.name for path in shard_paths(tmp_path, "ab")] == ["ab.parquet"]
    assert shard_paths(tmp_path, "a") == []


def test_eight_bit_frames_without_tags_come_on_the_cameras_scale_and_stay_in_the_shard_as_they_were(tmp_path):
    grey = np.random.default_rng(1).integers(0, 256, (3, 20, 20), dtype=np.uint16)
    raw = packed(1, pixels=grey, depth=8)
    restored = packed(2, pixels=grey, depth=8, restore_low=(0.0, 0.0, 0.0), restore_high=(255.0, 255.0, 255.0))
    pack_shard([raw, restored], tmp_path / "s1.parquet")
    shown = read_pixels(tmp_path, "s1")
    np.testing.assert_array_equal(shown["s1-cell1"], 16 * grey)
    np.testing.assert_array_equal(shown["s1-cell2"], grey)
    for recipe in (ASINH, {**ASINH, "recipe": "paper"}):
        _, images = read_inputs(tmp_path, **recipe)
        np.testing.assert_array_equal(images[0], to_input(16 * grey, **recipe))
        np.testing.assert_array_equal(images[1], to_input(grey, **recipe))
    stored, _ = read_shard(tmp_path / "s1.parquet", verify=True)
    np.testing.assert_array_equal(stored.pixels, grey)
    np.testing.assert_array_equal(counts_of(stored), 16 * grey)


def test_preprocessed_images_keep_their_recipes_name_and_reach_the_network_as_they_came(tmp_path):
    image = np.random.default_rng(2).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    planes = image.transpose(2, 0, 1).astype(np.uint16)
    eight = packed(1, pixels=planes, depth=8, recipe="given:npz-uint8")
    sixteen = packed(2, pixels=planes * np.uint16(257), depth=16, recipe="given:prepr-float32")
    pack_shard([eight, sixteen], tmp_path / "s1.parquet")
    assert [one.recipe for one in read_shard(tmp_path / "s1.parquet")] == ["given:npz-uint8", "given:prepr-float32"]
    names, images = read_inputs(tmp_path, **GIVEN)
    assert names == ["s1-cell1", "s1-cell2"]
    for found in images:
        np.testing.assert_array_equal(found, image)
    shown = read_pixels(tmp_path, "s1")
    np.testing.assert_array_equal(shown["s1-cell1"], 16 * planes)
    assert int(shown["s1-cell2"].max()) == 65535 // 16


@pytest.mark.parametrize("recipe", ["asinh", "paper"])
def test_preprocessed_images_are_never_transformed_again(laboratory, recipe):
    pack_shard(
        [packed(5, pixels=np.ones((3, 80, 80), np.uint16), recipe="given:npz-uint8")], laboratory / "s1-2.parquet"
    )
    with pytest.raises(BadInput, match=r"s1-2\.parquet: cell s1-cell5 came preprocessed \(given:npz-uint8\)") as caught:
        read_inputs(laboratory, **{**ASINH, "recipe": recipe})
    assert "\n" not in str(caught.value)
    assert read_inputs(laboratory, ["s1"], cell_uids=["s1-cell7"], **{**ASINH, "recipe": recipe})[0] == ["s1-cell7"]


def test_camera_counts_do_not_pass_as_preprocessed(laboratory):
    with pytest.raises(BadInput, match=r"s0\.parquet: cell s0-cell1 holds camera counts"):
        read_inputs(laboratory, **GIVEN)


def test_values_that_no_eight_bit_frame_can_hold_are_a_broken_record(tmp_path):
    pack_shard([packed(1, depth=8)], tmp_path / "s1.parquet")
    for read in (lambda: read_pixels(tmp_path, "s1"), lambda: read_inputs(tmp_path, **ASINH)):
        with pytest.raises(BrokenRecord, match="cell s1-cell1: pixels go up to"):
            read()
