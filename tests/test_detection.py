"""Detection: what stands out of the noise is found whole, once, in the middle of its thumbnail; noise itself is not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ctcml.detection import MARGIN_PX, SMALLEST_PX, detect
from ctcml.errors import BadInput

HEIGHT, WIDTH = 260, 320


def a_frame(*discs: tuple[int, int, int, float, int], noise: float = 9.0, seed: int = 0) -> np.ndarray:
    """Four planes of noise over 110 counts; a disc is (row, column, radius px, counts, plane)."""
    rng = np.random.default_rng(seed)
    field = 110 + rng.normal(0, noise, (4, HEIGHT, WIDTH))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for row, column, radius, counts, plane in discs:
        field[plane][(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] += counts
    return field.round().clip(0, 4095).astype(np.uint16)


def middles(frame: np.ndarray) -> list[tuple[float, float]]:
    return [(one.row, one.column) for one in detect(frame).objects]


def test_objects_are_found_in_whichever_channel_they_show_by_row_then_column() -> None:
    frame = a_frame((200, 60, 8, 300, 0), (60, 200, 6, 150, 2), (60, 80, 7, 200, 3))
    assert middles(frame) == [pytest.approx(at, abs=1.5) for at in ((60, 80), (60, 200), (200, 60))]


def test_a_disc_of_4_um_at_an_snr_of_5_is_found() -> None:
    assert middles(a_frame((100, 100, 3, 45, 1))) == [pytest.approx((100, 100), abs=2)]


@pytest.mark.parametrize("seed", range(4))
def test_an_empty_frame_shows_nothing(seed: int) -> None:
    assert middles(a_frame(seed=seed)) == []


def test_stains_of_one_cell_are_one_object_with_a_mask_each() -> None:
    (one,) = detect(a_frame((100, 100, 5, 300, 1), (100, 101, 9, 300, 2))).objects
    nucleus, cytokeratin = one.mask[1].sum(), one.mask[2].sum()
    assert nucleus == pytest.approx(np.pi * 25, rel=0.4)
    assert cytokeratin == pytest.approx(np.pi * 81, rel=0.3)
    assert not one.mask[0].any()
    assert not (one.mask[1] & ~one.mask[2]).any()


def test_brightness_does_not_inflate_an_object() -> None:
    areas = [int(detect(a_frame((100, 100, 8, counts, 0))).objects[0].mask[0].sum()) for counts in (150, 3500)]
    assert areas[1] == pytest.approx(areas[0], rel=0.15)


def test_the_box_is_grown_by_20_percent_and_5_pixels_at_least() -> None:
    small, large = detect(a_frame((60, 60, 4, 400, 0), (150, 200, 30, 400, 0))).objects
    for one, least in ((small, MARGIN_PX), (large, round(0.2 * 61))):
        seen = np.flatnonzero(one.mask.any(axis=(0, 2)))
        assert seen[0] == one.mask.shape[1] - 1 - seen[-1]
        assert seen[0] >= least


def test_beside_the_border_the_thumbnail_is_smaller_but_the_object_stays_in_its_middle() -> None:
    (one,) = detect(a_frame((12, 100, 8, 400, 0))).objects
    seen = np.flatnonzero(one.mask.any(axis=(0, 2)))
    assert one.rows.start == 0
    assert seen[0] == one.mask.shape[1] - 1 - seen[-1] < MARGIN_PX
    assert (one.rows.start + one.rows.stop - 1) / 2 == one.row


def test_what_touches_the_border_is_counted_and_left_out() -> None:
    detected = detect(a_frame((2, 100, 8, 400, 0), (100, WIDTH - 3, 8, 400, 1), (130, 130, 8, 400, 2)))
    assert [(one.row, one.column) for one in detected.objects] == [pytest.approx((130, 130), abs=1)]
    assert detected.at_border == 2


def test_an_object_of_fewer_pixels_than_asked_is_none() -> None:
    frame = a_frame((100, 100, 3, 200, 0))
    area = int(detect(frame).objects[0].mask.any(axis=0).sum())
    assert area >= SMALLEST_PX
    assert len(detect(frame, smallest_px=area).objects) == 1
    assert len(detect(frame, smallest_px=area + 1).objects) == 0


def test_dead_and_hot_pixels_are_no_objects() -> None:
    frame, rng = a_frame(), np.random.default_rng(5)
    for plane in frame:
        rows, columns = rng.integers(3, HEIGHT - 3, 25), rng.integers(3, WIDTH - 3, 25)
        plane[rows, columns] = 900
        plane[rng.integers(0, HEIGHT, 25), rng.integers(0, WIDTH, 25)] = 0
    assert middles(frame) == []


def test_a_mask_holds_only_its_own_object() -> None:
    first, second = detect(a_frame((100, 100, 8, 400, 0), (100, 121, 8, 400, 0))).objects
    assert first.columns.stop > second.columns.start  # the boxes overlap
    for one in (first, second):
        assert np.ptp(np.flatnonzero(one.mask.any(axis=(0, 1)))) < 20


def test_uneven_light_and_haze_are_background() -> None:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    haze = 40 * np.sin(rows / 25) * np.cos(columns / 35) + 0.3 * columns
    frame = (a_frame((100, 100, 8, 200, 0)) + haze.clip(-60, None)).clip(0).astype(np.uint16)
    assert middles(frame) == [pytest.approx((100, 100), abs=2)]


def test_steps_of_an_8_bit_archive_that_swallow_the_noise_are_no_objects() -> None:
    quiet = a_frame((100, 100, 8, 600, 0), noise=4.0)
    coarse = (quiet // 16 * 16).astype(np.uint16)
    assert middles(coarse) == [pytest.approx((100, 100), abs=2)]


def test_the_background_is_the_median_where_no_object_lies() -> None:
    frame = a_frame((130, 130, 60, 900, 1))
    assert detect(frame).background == pytest.approx((110, 110, 110, 110), abs=1)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint16, st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40))))
def test_any_frame_is_survived_and_every_box_lies_inside_it(frame: np.ndarray) -> None:
    for one in detect(frame).objects:
        assert frame[:, one.rows, one.columns].shape == one.mask.shape
        assert one.rows.start >= 0
        assert one.columns.start >= 0


def test_a_single_plane_without_channels_is_refused() -> None:
    with pytest.raises(BadInput, match="planes, height, width"):
        detect(np.zeros((40, 40), np.uint16))
