"""Labelled arrays: the very pixels come back, and no file from outside is unpickled, trusted or able to stop the reader."""

import hashlib
import io
import json
import os
import pickle
import re
import struct
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ctcml import arrays
from ctcml.arrays import ArraySample, files_of, find_samples, published_hash, read_sample
from ctcml.thumbnails import RawThumbnail, Refused, UnfitFileError

COUNT = 6
VAL5 = "val_set/xval_5class_prepr.npy"  # 276 rows: the smallest of the published sets


def members(**other: Any) -> dict[str, Any]:
    """Six pictures of two groups."""
    rng = np.random.default_rng(1)
    return {
        "images": rng.integers(0, 256, (COUNT, 8, 9, 3), dtype=np.uint8),
        "labels": np.array(["CTC", "WBC", "Bare nucleus", "", "CTC", "tdEV"]),
        "groups": np.array(["p1", "p1", "p2", "p2", "p1", "p2"]),
        **other,
    }


def archive(folder: Path, **other: Any) -> Path:
    """Write `members(**other)`; a member of None is left out, one of bytes is written as it is."""
    path = folder / "cells.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, value in members(**other).items():
            if value is not None:
                file.writestr(f"{name}.npy", value if isinstance(value, bytes) else npy(value))
    return path


def npy(values: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(values), **how)
    return buffer.getvalue()


def npy_that_declares(shape: str, descr: str, content: bytes = b"", fortran: str = "False") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def everything(path: Path) -> tuple[list[RawThumbnail], list[Refused]]:
    samples, refused = find_samples(path)
    thumbnails = []
    for sample in samples:
        found, wrong = read_sample(sample)
        thumbnails += found
        refused += wrong
    return thumbnails, refused


def only_reason(path: Path) -> str:
    """The one reason for which nothing of a file was taken in; its name must be said."""
    thumbnails, refused = everything(path)
    assert thumbnails == []
    assert {one.file for one in refused} == {path.name}
    assert len({one.reason for one in refused}) == 1
    assert "\n" not in refused[0].reason
    return refused[0].reason


def published(root: Path, images: np.ndarray | None = None, labels: np.ndarray | None = None, name: str = VAL5) -> Path:
    """Put a pair of files with the authors' names into `root`; images are sparse zeros unless they are given."""
    x, y = root / name, (root / name).with_name("y" + Path(name).name[1:])
    x.parent.mkdir(exist_ok=True)
    with x.open("wb") as file:
        if images is None:
            file.write(npy_that_declares("(276, 80, 80, 3)", "'<f4'"))
            file.truncate(file.tell() + 276 * 80 * 80 * 3 * 4)
        else:
            np.save(file, images)
    np.save(y, np.arange(276) % 5 if labels is None else labels)
    return x


# What comes in.


def test_each_group_is_a_sample_and_an_object_is_numbered_by_its_row_in_the_file(tmp_path: Path) -> None:
    samples, refused = find_samples(archive(tmp_path))
    assert refused == []
    assert [(one.sample_id, [row.object_index for row in one.rows]) for one in samples] == [
        ("p1", [1, 2, 5]),
        ("p2", [3, 4, 6]),
    ]
    assert pickle.loads(pickle.dumps(samples)) == samples
    assert files_of(samples[0]) == [tmp_path / "cells.npz"]


def test_a_picture_says_that_it_was_preprocessed_and_what_its_label_is(tmp_path: Path) -> None:
    path = archive(tmp_path)
    before = path.read_bytes()
    thumbnails, refused = everything(path)
    assert refused == []
    assert {(one.recipe, one.source_bit_depth, one.planes, one.source_order) for one in thumbnails} == {
        ("given:npz-uint8", 8, ("CD45", "DAPI", "CK"), "CD45,DAPI,CK")
    }
    assert {one.object_index: one.label for one in thumbnails} == {
        1: "ctc", 2: "wbc", 3: "bare_nucleus", 4: "", 5: "ctc", 6: "tdev"
    }  # fmt: skip
    assert all(one.mask is None and one.proposed is None for one in thumbnails)
    assert path.read_bytes() == before


@given(
    images=hnp.arrays(
        st.sampled_from([np.dtype("u1"), np.dtype("<u2"), np.dtype(">u2")]),
        st.tuples(st.integers(1, 7), st.integers(1, 12), st.integers(1, 12), st.just(3)),
    ),
    channels=st.permutations(["CD45", "DAPI", "CK"]),
    data=st.data(),
    deflated=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_pixels_of_an_npz_come_back_exactly_in_our_order(
    tmp_path: Path, images: np.ndarray, channels: list[str], data: st.DataObject, deflated: bool
) -> None:
    groups = data.draw(st.lists(st.integers(0, 3), min_size=len(images), max_size=len(images)))
    save = np.savez_compressed if deflated else np.savez
    save(tmp_path / "x.npz", images=images, labels=np.arange(len(images)), groups=groups, channels=channels)
    thumbnails, refused = everything(tmp_path / "x.npz")
    assert refused == []
    assert sorted(one.object_index for one in thumbnails) == list(range(1, len(images) + 1))
    for one in thumbnails:
        row = one.object_index - 1
        assert (one.sample_id, one.label, one.pixels.dtype) == (str(groups[row]), str(row), np.uint16)
        assert one.source_bit_depth == 8 * images.dtype.itemsize
        for plane, name in zip(one.pixels, ("CD45", "DAPI", "CK"), strict=True):
            np.testing.assert_array_equal(plane, images[row, :, :, channels.index(name)])


def test_labels_and_groups_may_be_numbers_or_bytes(tmp_path: Path) -> None:
    path = archive(
        tmp_path, labels=np.array([b"CTC", b"2", b"", b"a", b"b", b"c"]), groups=np.array([7, 7, 8, 8, 8, 8])
    )
    samples, refused = find_samples(path)
    assert refused == []
    assert [one.sample_id for one in samples] == ["7", "8"]
    assert [row.label for row in samples[0].rows] == ["ctc", "2"]  # a bare number is for intake to judge


def test_every_array_below_a_folder_is_found_and_links_are_not_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inbox", tmp_path / "elsewhere"
    (inside / "a").mkdir(parents=True)
    outside.mkdir()
    archive(inside / "a")
    archive(outside)
    (inside / "linked").symlink_to(outside)
    (inside / "linked.npz").symlink_to(outside / "cells.npz")
    (inside / "notes.npy").write_bytes(npy(np.zeros(3)))
    os.mkfifo(inside / "pipe.npz")
    samples, refused = find_samples(inside)
    assert [one.path for one in samples] == [inside / "a" / "cells.npz"] * 2
    assert [one.file for one in refused] == ["linked.npz", "notes.npy", "pipe.npz"]


def test_a_row_without_a_group_is_refused_by_its_number_and_the_others_are_kept(tmp_path: Path) -> None:
    path = archive(tmp_path, groups=np.array(["p1", "", "p2", "p\n2", "p1", "p2"]), ids=np.arange(COUNT))
    samples, refused = find_samples(path)
    assert [one.file for one in refused] == ["cells.npz, row 2", "cells.npz, row 4"]
    assert [row.object_index for one in samples for row in one.rows] == [1, 5, 3, 6]


# What does not.


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("member", ["images", "labels", "groups", "ids", "channels"])
def test_objects_are_refused_and_never_unpickled(tmp_path: Path, member: str) -> None:
    mark = tmp_path / "unpickled"
    content = npy(np.array([Bomb(mark)] * COUNT, dtype=object))
    assert "no objects" in only_reason(archive(tmp_path, **{member: content}))
    assert not mark.exists()


U1 = "'|u1'"
HOSTILE = {
    "no images": ({"images": None}, "0 members 'images'"),
    "no labels": ({"labels": None}, "0 members 'labels'"),
    "no groups": ({"groups": None}, "0 members 'groups'"),
    "fewer labels": ({"labels": np.array(["CTC"] * 5)}, r"expected 6 strings"),
    "more groups": ({"groups": np.array(["a"] * 7)}, r"expected 6 strings"),
    "fewer ids": ({"ids": np.arange(5)}, r"expected 6 strings"),
    "doubled ids": ({"ids": np.array(["a", "b", "c", "d", "e", "b"])}, "'b' stands there twice"),
    "labels in columns": ({"labels": np.eye(6, dtype=int)}, "expected 6 strings"),
    "labels that are NaN": ({"labels": np.full(6, np.nan)}, "labels are float64"),
    "groups that are NaN": ({"groups": np.full(6, np.nan)}, "groups are float64"),
    "groups that are no text": ({"groups": npy_that_declares("(6,)", "'<U1'", b"\xff" * 24)}, "damaged"),
    "labels not of UTF-8": ({"labels": np.array([b"\xe4"] * 6)}, "damaged"),
    "two channels": ({"channels": np.array(["CD45", "CK"])}, "expected 3 strings"),
    "foreign channels": ({"channels": np.array(["red", "green", "blue"])}, "in any order"),
    "a channel twice": ({"channels": np.array(["CK", "CK", "DAPI"])}, "in any order"),
    "floats": ({"images": np.zeros((6, 8, 9, 3))}, "images are float64"),
    "NaN": ({"images": np.full((6, 8, 9, 3), np.nan, np.float32)}, "images are float32"),
    "signed": ({"images": np.zeros((6, 8, 9, 3), np.int8)}, "images are int8"),
    "four channels": ({"images": np.zeros((6, 8, 9, 4), np.uint8)}, "expected uint8 or uint16"),
    "channels first": ({"images": np.zeros((6, 3, 8, 9), np.uint8)}, "expected uint8 or uint16"),
    "grey": ({"images": np.zeros((6, 8, 9), np.uint8)}, "expected uint8 or uint16"),
    "a number": ({"images": np.uint8(3)}, "expected uint8 or uint16"),
    "no rows": ({"images": np.zeros((0, 8, 9, 3), np.uint8)}, "expected rows in C order"),
    "no pixels": ({"images": np.zeros((6, 0, 9, 3), np.uint8)}, "expected rows in C order"),
    "Fortran order": ({"images": np.asfortranarray(members()["images"])}, "Fortran order True"),
    "structured": ({"images": np.zeros(6, [("r", "u1"), ("g", "u1")])}, "expected plain numbers"),
    "a header bomb": ({"images": npy_that_declares("(6, 65536, 65536, 3)", U1)}, "declares 77309411328 bytes"),
    "a lying header": ({"images": npy_that_declares("(7, 8, 9, 3)", U1, bytes(6 * 216))}, "declares 1512 bytes"),
    "a modest header": ({"images": npy_that_declares("(5, 8, 9, 3)", U1, bytes(6 * 216))}, "1296 follow"),
    "a very wide picture": ({"images": np.zeros((1, 1, 5000, 3), np.uint8)}, "2048 pixels a side"),
    "a negative side": ({"images": npy_that_declares("(-6, -8, 9, 3)", U1, bytes(6 * 216))}, "C order"),
    "a side that is True": ({"images": npy_that_declares("(6, True, 9, 3)", U1, bytes(6 * 27))}, "C order"),
    "a shape that is code": ({"images": npy_that_declares("__import__('os').getpid()", U1)}, "damaged"),
    "deep brackets": ({"images": npy_that_declares("(" * 3000 + ")" * 3000, U1)}, "damaged"),
    "a huge header": ({"images": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b"x" * 200}, "damaged"),
    "another version": ({"images": b"\x93NUMPY\x03\x00" + npy(np.zeros(3))[8:]}, r"version \(3, 0\)"),
    "not an array": ({"images": b"JPEG?"}, "damaged"),
    "empty": ({"images": b""}, "damaged"),
    "a cut member": ({"images": npy(members()["images"])[:-9]}, "1287 follow"),
    "a bomb of labels": (
        {
            "images": npy_that_declares("(1000001, 1, 1, 3)", U1, bytes(3000003)),
            "labels": npy_that_declares("(1000001,)", U1, bytes(1000001)),
        },
        "expected at most 1000000",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_an_archive_that_is_not_what_it_should_be_is_one_line(tmp_path: Path, case: str) -> None:
    other, reason = HOSTILE[case]
    found = only_reason(archive(tmp_path, **other))
    assert re.search(reason, found), found


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_refused(tmp_path: Path, share: float) -> None:
    path = archive(tmp_path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "damaged" in only_reason(path)


def test_a_changed_byte_of_the_pixels_is_noticed_before_a_picture_is_handed_on(tmp_path: Path) -> None:
    path = tmp_path / "cells.npz"
    np.savez(path, **members())  # stored, so nothing but the checksum can tell
    content = bytearray(path.read_bytes())
    place = content.find(members()["images"].tobytes())
    content[place + 5 * 216 + 7] ^= 1  # in the last picture, which is not of the first group
    path.write_bytes(content)
    assert "Bad CRC-32" in only_reason(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    header = npy_that_declares("(60000, 80, 80, 3)", "'<u2'")
    with zipfile.ZipFile(tmp_path / "cells.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("images.npy", header)
        file.getinfo("images.npy").file_size = len(header) + 60000 * 80 * 80 * 3 * 2
    assert "2304000000 bytes, expected at most" in only_reason(tmp_path / "cells.npz")


def test_an_archive_that_unpacks_to_less_than_it_says_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "cells.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("images.npy", npy_that_declares("(6, 800, 800, 3)", "'|u1'"))
        file.getinfo("images.npy").file_size += 6 * 800 * 800 * 3
        for name in ("labels", "groups"):
            file.writestr(f"{name}.npy", npy(members()[name]))
    assert re.search("damaged|cut off", only_reason(tmp_path / "cells.npz"))


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("labels.npy", npy(np.array(["WBC"] * COUNT)))
    assert "2 members 'labels'" in only_reason(path)


@given(where=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_to_an_archive_raises_or_changes_a_pixel_unnoticed(
    tmp_path: Path, where: list[tuple[int, int]]
) -> None:
    path = archive(tmp_path)
    content = bytearray(path.read_bytes())
    for place, value in where:
        content[place % len(content)] = value
    path.write_bytes(content)
    thumbnails, refused = everything(path)
    assert thumbnails or refused
    for one in thumbnails:
        np.testing.assert_array_equal(one.pixels.transpose(1, 2, 0), members()["images"][one.object_index - 1])


def test_an_archive_that_changed_since_it_was_found_is_refused(tmp_path: Path) -> None:
    samples, _ = find_samples(archive(tmp_path))
    short = {name: value[:3] for name, value in members().items()}
    archive(tmp_path, **short)
    assert [one.reason for one in read_sample(samples[0])[1]] == ["is cut off; copy it again"]
    (tmp_path / "cells.npz").unlink()
    thumbnails, refused = read_sample(samples[0])
    assert (thumbnails, [one.file for one in refused]) == ([], ["cells.npz"])


# The authors' arrays.


def test_a_published_set_is_one_sample_with_our_classes_and_says_what_is_not_verified(tmp_path: Path) -> None:
    path = published(tmp_path)
    (sample,), refused = find_samples(tmp_path)
    assert refused == []
    assert (sample.sample_id, len(sample.rows)) == ("xval_5class_prepr", 276)
    assert [row.label for row in sample.rows[:6]] == ["wbc", "ctc", "other", "bare_nucleus", "tdev", "wbc"]
    assert "no sha256 is published" in sample.notes[0]
    assert "not verified" in sample.notes[1]
    assert files_of(sample) == [path, path.with_name("yval_5class_prepr.npy")]
    assert find_samples(path)[0] == [sample]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [("2", ["", "ctc"]), ("6", ["wbc", "cd45ev", "ctc", "other", "bare_nucleus", "tdev"])],
)
def test_the_label_ids_are_those_of_the_set(tmp_path: Path, classes: str, expected: list[str]) -> None:
    name = f"xval_{classes}class_prepr.npy"
    path = published(tmp_path, labels=np.arange(355)[:, None] % len(expected), name=name)
    with path.open("wb") as file:
        file.write(npy_that_declares("(355, 80, 80, 3)", "'<f4'"))
        file.truncate(file.tell() + 355 * 80 * 80 * 3 * 4)
    (sample,), refused = find_samples(path)
    assert refused == []
    assert [row.label for row in sample.rows[: len(expected)]] == expected
    assert any("come without a label" in note for note in sample.notes) == (classes == "2")


def test_greys_of_eight_bit_come_back_as_such_and_finer_values_as_sixteen(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    greys = rng.integers(0, 256, (80, 80, 3))
    images = np.zeros((276, 80, 80, 3), np.float32)
    images[0] = greys / 255
    images[1] = fine = rng.random((80, 80, 3), np.float32)
    images[2, 3, 4, 1] = np.nan
    images[3, 3, 4, 1] = 1.001
    images[4, 3, 4, 1] = -0.01
    images[5, 3, 4, 1] = np.inf
    thumbnails, refused = everything(published(tmp_path, images))
    assert [one.file for one in refused] == [f"xval_5class_prepr.npy, row {row}" for row in (3, 4, 5, 6)]
    assert len(thumbnails) == 272
    first, second = thumbnails[:2]
    assert (first.recipe, first.source_order, first.planes) == (
        "given:prepr-float32", "CD45,CK,DAPI", ("CD45", "DAPI", "CK")
    )  # fmt: skip
    assert (first.source_bit_depth, second.source_bit_depth) == (8, 16)
    np.testing.assert_array_equal(first.pixels, greys.transpose(2, 0, 1)[[0, 2, 1]])
    np.testing.assert_allclose(second.pixels / 65535, fine.transpose(2, 0, 1)[[0, 2, 1]], atol=0.6 / 65535)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))), st.sampled_from("<>"))
@settings(max_examples=100, deadline=None)
def test_every_grey_survives_its_float(greys: np.ndarray, order: str) -> None:
    counts, depth = arrays._counts((greys / 255).astype(f"{order}f4"))
    assert depth == 8
    np.testing.assert_array_equal(counts, greys)


@pytest.mark.parametrize("value", [-2e-6, 1 + 2e-6, np.nan, -np.inf])
def test_a_value_outside_zero_to_one_is_no_picture(value: float) -> None:
    with pytest.raises(UnfitFileError, match="expected 0 to 1"):
        arrays._counts(np.array([[[0.5, value, 0.1]]], np.float64))


def test_a_rounding_error_at_the_ends_is_allowed() -> None:
    counts, depth = arrays._counts(np.array([[[-5e-7, 1 + 5e-7, 0.30001]]], np.float64))
    assert (counts.ravel().tolist(), depth) == ([0, 65535, 19661], 16)


def test_a_published_name_with_another_hash_is_a_note_and_not_a_refusal(tmp_path: Path) -> None:
    path = tmp_path / "xtrain_5class_prepr.npy"
    with path.open("wb") as file:
        file.write(npy_that_declares("(1556, 80, 80, 3)", "'<f4'"))
        file.truncate(file.tell() + 1556 * 80 * 80 * 3 * 4)
    np.save(tmp_path / "ytrain_5class_prepr.npy", np.zeros(1556))
    assert published_hash(path) == "mismatch"
    (sample,), refused = find_samples(tmp_path)
    assert refused == []
    assert sample.notes[0].startswith("sha256 is not the published one")
    assert len(sample.rows) == 1556


def test_the_published_hash_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "xtrain_2class_prepr.npy"
    path.write_bytes(b"as published")
    assert published_hash(path) == "mismatch"
    monkeypatch.setitem(arrays.PUBLISHED_SHA256, path.name, hashlib.sha256(b"as published").hexdigest())
    assert published_hash(path) == "known"
    assert published_hash(tmp_path / "xval_2class_prepr.npy") == "unknown"


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (np.zeros((275, 80, 80, 3), np.float32), None, r"has shape \(275, 80, 80, 3\), the published set \(276"),
        (np.zeros((276, 40, 40, 3), np.float32), None, "the published set"),
        (np.zeros((276, 80, 80, 3), np.uint8), None, "expected float32"),
        (np.array([{}] * 276), None, "no objects"),
        (None, np.zeros(275), "expected 276 numbers"),
        (None, np.zeros((276, 5)), "expected 276 numbers"),
        (None, np.array(["ctc"] * 276), "expected 276 numbers"),
        (None, np.array([{}] * 276), "no objects"),
    ],
)
def test_a_pair_that_is_not_the_published_set_is_refused(
    tmp_path: Path, images: np.ndarray | None, labels: np.ndarray | None, reason: str
) -> None:
    (refused,) = find_samples(published(tmp_path, images, labels))[1]
    assert re.search(reason, refused.reason), refused.reason


def test_a_label_that_the_set_does_not_have_is_refused_by_its_row(tmp_path: Path) -> None:
    labels = np.zeros(276)
    labels[[0, 7, 9, 20]] = [5, np.nan, 0.5, -1]
    (sample,), refused = find_samples(published(tmp_path, labels=labels))
    assert [one.file for one in refused] == [f"xval_5class_prepr.npy, row {row}" for row in (1, 8, 10, 21)]
    assert len(sample.rows) == 272


def test_one_file_of_a_pair_alone_is_refused(tmp_path: Path) -> None:
    path = published(tmp_path)
    labels = path.with_name("yval_5class_prepr.npy")
    assert find_samples(labels)[1][0].reason.startswith("holds labels only")
    labels.rename(tmp_path / "away")
    (refused,) = find_samples(tmp_path)[1]
    assert (refused.file, "labels yval_5class_prepr.npy are not beside it" in refused.reason) == (VAL5, True)
    (tmp_path / "away").rename(labels)
    path.unlink()
    (refused,) = find_samples(tmp_path)[1]
    assert (refused.file, "holds labels only" in refused.reason) == ("val_set/yval_5class_prepr.npy", True)


def test_a_place_where_nothing_is_gives_nothing(tmp_path: Path) -> None:
    assert find_samples(tmp_path) == ([], [])
    assert "not a regular file" in only_reason(tmp_path / "missing.npz")


# Data that no one here made.


@pytest.mark.real
def test_published_cells_have_the_figures_of_their_provenance() -> None:
    """Jurkat cells by imaging flow cytometry (Blasi et al., Nat Commun 7:10256, 2016): not CTCs, other stains."""
    folder = os.environ.get("CTCML_REAL_DATA")
    if not folder:
        pytest.skip("CTCML_REAL_DATA is not set")
    told = json.loads((Path(folder) / "jurkat_ifc.json").read_text(encoding="utf-8"))
    samples: list[ArraySample]
    samples, refused = find_samples(Path(folder) / "jurkat_ifc.npz")
    thumbnails = []
    for sample in samples:
        found, wrong = read_sample(sample)
        thumbnails += found
        refused += wrong
    assert refused == []
    assert len(samples) == told["n_groups"]
    assert sorted(one.object_index for one in thumbnails) == list(range(1, told["n"] + 1))
    assert Counter(one.label for one in thumbnails) == {
        name.lower(): count for name, count in told["class_counts"].items()
    }
    means = np.mean([one.pixels.mean(axis=(1, 2)) for one in thumbnails], axis=0)
    np.testing.assert_allclose(means, told["channel_mean"], atol=0.006)
