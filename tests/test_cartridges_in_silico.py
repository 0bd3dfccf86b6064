"""A simulated cartridge keeps the instrument's format, and a detection is judged against what was planted in it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from ctcml.cartridges import Layout, files_of, find_samples, read_sample
from ctcml.cartridges_in_silico import (
    COLUMNS,
    HEIGHT_PX,
    KINDS,
    WIDTH_PX,
    compare_detection,
    write_cartridge,
)
from ctcml.errors import BadInput
from ctcml.thumbnails import RawThumbnail

FRAMES = 4
LAYOUT = Layout(rows=2, columns=2)


@pytest.fixture(scope="module")
def cartridge(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("cartridges") / "990001.1.2"
    return folder, write_cartridge(folder, frames=FRAMES, objects_per_frame=15, seed=3)


@pytest.fixture(scope="module")
def thumbnails(cartridge: tuple[Path, pd.DataFrame]) -> list[RawThumbnail]:
    (found,), _ = find_samples(cartridge[0].parent, fewest_frames=FRAMES)
    thumbnails, refused = read_sample(found)
    assert refused == []
    return thumbnails


def in_frames(thumbnails: list[RawThumbnail]) -> pd.DataFrame:
    rows = []
    for one in thumbnails:
        row, column = LAYOUT.place(one.frame)
        rows.append((one.frame, one.x_px - column * WIDTH_PX, one.y_px - row * HEIGHT_PX))
    return pd.DataFrame(rows, columns=["frame", "x", "y"])


def planted(*rows: tuple[int, float, float, float, float, bool]) -> pd.DataFrame:
    """Rows of frame, x, y, diameter_um, snr, isolated."""
    table = pd.DataFrame(rows, columns=["frame", "x", "y", "diameter_um", "snr", "isolated"])
    return table.assign(kind="ctc")[list(COLUMNS)]


def found(*rows: tuple[int, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["frame", "x", "y"])


def test_frames_are_stored_as_the_instrument_does(cartridge: tuple[Path, pd.DataFrame]) -> None:
    paths = sorted(cartridge[0].glob("processed/*.tif"))
    assert len(paths) == FRAMES
    with tifffile.TiffFile(paths[0]) as tiff:
        assert len(tiff.pages) == 4
        for page in tiff.pages:
            assert (page.shape, page.dtype) == ((HEIGHT_PX, WIDTH_PX), np.uint8)
            assert {754, 755, 756} <= set(page.tags.keys())
            assert page.tags[755].value < 90 < page.tags[756].value
            assert int(page.asarray().max()) == 255


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_processes(tmp_path: Path) -> None:
    tables = [
        write_cartridge(tmp_path / place / "5.1", frames=2, objects_per_frame=5, seed=8, workers=workers)
        for place, workers in (("a", 1), ("b", 2))
    ]
    pd.testing.assert_frame_equal(*tables)
    names = [path.relative_to(tmp_path / "a") for path in sorted((tmp_path / "a").rglob("*")) if path.is_file()]
    assert len(names) == 2 + 2
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_every_planted_object_is_described(cartridge: tuple[Path, pd.DataFrame]) -> None:
    table = cartridge[1]
    assert tuple(table.columns) == COLUMNS
    assert table["frame"].value_counts().to_dict() == dict.fromkeys(range(1, FRAMES + 1), 15)
    assert set(table["kind"]) <= set(KINDS)
    assert table["isolated"].all()
    assert table["x"].between(40, WIDTH_PX - 40).all()
    assert table["diameter_um"].between(1, 60).all()


def test_objects_are_found_where_they_were_planted(
    cartridge: tuple[Path, pd.DataFrame], thumbnails: list[RawThumbnail]
) -> None:
    quality = compare_detection(cartridge[1], in_frames(thumbnails))
    assert quality.planted == FRAMES * 15
    assert quality.found == len(thumbnails)
    assert quality.sought >= 50
    assert quality.found_share >= 0.96  # one of sixty may be missed; `ctcml bench cartridge` holds 4,000 to 99 %
    assert quality.false_share <= 0.05


def test_what_cellsearch_presents_is_found_again_and_is_mostly_tumour_cells(
    cartridge: tuple[Path, pd.DataFrame], thumbnails: list[RawThumbnail]
) -> None:
    table, seen = cartridge[1], in_frames(thumbnails).assign(proposed=[one.proposed for one in thumbnails])
    presented = compare_detection(table, seen[seen["proposed"]])
    assert presented.found >= (table["kind"] == "ctc").sum() - 1 > 0
    assert presented.false_share == 0


def test_some_objects_lie_beside_another_when_asked(tmp_path: Path) -> None:
    table = write_cartridge(tmp_path / "6.1", frames=2, objects_per_frame=30, seed=1, isolated=False)
    close = table[~table["isolated"]]
    assert 4 <= len(close) <= 30
    for _, one in close.iterrows():
        others = table[(table["frame"] == one["frame"]) & (table.index != one.name)]
        assert np.hypot(others["x"] - one["x"], others["y"] - one["y"]).min() < 60


def test_more_objects_than_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="do not fit"):
        write_cartridge(tmp_path / "6.1", frames=1, objects_per_frame=300, seed=1)


def test_nothing_of_it_can_be_taken_for_a_patients(cartridge: tuple[Path, pd.DataFrame]) -> None:
    assert "SIMULATED" in (cartridge[0] / "SIMULATED.txt").read_text()
    (one,), _ = find_samples(cartridge[0], fewest_frames=FRAMES)
    assert "SIMULATED DATA" in files_of(one)[0].read_text()


def test_a_detection_within_8_pixels_of_a_planted_object_counts_once() -> None:
    table = planted((1, 100, 100, 8, 20, True), (2, 100, 100, 8, 20, True), (2, 300, 300, 8, 20, True))
    quality = compare_detection(table, found((1, 103, 104), (1, 100, 102), (2, 100, 109)))
    assert quality.sought == 3
    assert quality.found_share == pytest.approx(1 / 3)
    assert quality.false_share == pytest.approx(2 / 3)
    assert quality.misplaced_share == pytest.approx(2 / 3)


def test_a_detection_on_nothing_is_false_and_not_misplaced() -> None:
    quality = compare_detection(planted((1, 100, 100, 8, 20, True)), found((1, 100, 100), (1, 500, 500), (9, 5, 5)))
    assert (quality.found_share, quality.false_share, quality.misplaced_share) == (1, pytest.approx(2 / 3), 0)


def test_small_dim_and_close_objects_are_counted_apart_but_never_make_a_detection_false() -> None:
    table = planted((1, 100, 100, 3, 20, True), (1, 300, 100, 8, 4, True), (1, 500, 100, 8, 20, False))
    quality = compare_detection(table, found((1, 100, 100), (1, 500, 100)))
    assert (quality.sought, quality.small_or_dim, quality.close) == (0, 2, 1)
    assert (quality.small_or_dim_share, quality.close_share, quality.false_share) == (0.5, 1, 0)
    assert np.isnan(quality.found_share)
