"""ACCEPT's features: the definitions, against figures worked out by hand and against scikit-image."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import perimeter, regionprops

from ctcml.errors import BadInput
from ctcml.features import eccentricities, measure, own_mask, perimeters
from ctcml.records import FEATURES

ROWS, COLUMNS = np.mgrid[:41, :41] - 20
DISC = ROWS**2 + COLUMNS**2 <= 12**2
ELLIPSE = (ROWS / 6) ** 2 + (COLUMNS / 15) ** 2 <= 1
SQUARE = (abs(ROWS) <= 5) & (abs(COLUMNS) <= 5)
NOTHING = np.zeros_like(DISC)


def a_thumbnail(*masks: np.ndarray, counts: int = 300, background: int = 100) -> tuple[np.ndarray, np.ndarray]:
    mask = np.stack(masks)
    return np.where(mask, background + counts, background).astype(np.uint16), mask


def test_the_columns_are_those_of_accepts_table() -> None:
    assert len(FEATURES) == 3 * 9 + 2
    assert FEATURES[0] == "ch_1_Eccentricity"
    assert FEATURES[-3:] == ("ch_3_P2A", "ch_2_Overlay_ch_1", "ch_2_Overlay_ch_3")
    assert tuple(measure(*a_thumbnail(DISC, DISC, DISC))) == FEATURES


def test_a_square_of_11_pixels_has_the_size_perimeter_and_mass_that_one_counts_by_hand() -> None:
    found = measure(*a_thumbnail(NOTHING, SQUARE, NOTHING))
    assert found["ch_2_Size"] == pytest.approx(121 * 0.64**2)
    assert found["ch_2_Perimeter"] == 40
    assert found["ch_2_P2A"] == pytest.approx(40**2 / (4 * math.pi * 121))
    assert found["ch_2_Eccentricity"] == pytest.approx(0, abs=1e-6)
    assert found["ch_2_Mass"] == 121 * 300


def test_a_disc_is_round() -> None:
    found = measure(*a_thumbnail(DISC, DISC, DISC))
    assert found["ch_1_Eccentricity"] == pytest.approx(0, abs=1e-6)
    assert found["ch_1_Perimeter"] == pytest.approx(2 * math.pi * 12, rel=0.05)
    assert found["ch_1_P2A"] == pytest.approx(1, abs=0.1)


def test_an_ellipse_has_the_eccentricity_of_its_axes() -> None:
    found = measure(*a_thumbnail(NOTHING, NOTHING, ELLIPSE))
    assert found["ch_3_Eccentricity"] == pytest.approx(math.sqrt(1 - (6 / 15) ** 2), abs=0.01)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(bool, (2, 9, 13), elements=st.booleans()))
def test_shapes_are_those_of_scikit_image(masks: np.ndarray) -> None:
    for mask, around, stretched in zip(masks, perimeters(masks), eccentricities(masks), strict=True):
        assert around == pytest.approx(perimeter(mask, neighborhood=4))
        if mask.any():
            (region,) = regionprops(mask.astype(np.uint8))
            assert stretched == pytest.approx(region.eccentricity, abs=1e-6)


def test_brightness_is_counted_above_the_median_of_the_unlabelled_pixels_and_never_below_0() -> None:
    pixels, mask = a_thumbnail(SQUARE, SQUARE, SQUARE, counts=0, background=100)
    pixels[0][SQUARE] = np.arange(121) + 40  # the first 60 lie below the background
    found = measure(pixels, mask)
    above = np.maximum(np.arange(121) - 60, 0)
    assert found["ch_1_MeanIntensity"] == pytest.approx(above.mean())
    assert found["ch_1_MedianIntensity"] == np.median(above)
    assert found["ch_1_MaxIntensity"] == 60
    assert found["ch_1_StandardDeviation"] == pytest.approx(above.std())
    assert found["ch_1_Mass"] == above.sum()


def test_a_given_background_is_used_instead() -> None:
    found = measure(*a_thumbnail(DISC, DISC, DISC), background=(100, 150, 500))
    assert [found[f"ch_{channel}_MaxIntensity"] for channel in (1, 2, 3)] == [300, 250, 0]


def test_an_empty_mask_has_no_shape_and_no_brightness() -> None:
    found = measure(*a_thumbnail(NOTHING, NOTHING, DISC))
    assert all(math.isnan(found[f"ch_1_{name}"]) for name in ("Eccentricity", "Perimeter", "P2A"))
    assert all(found[f"ch_1_{name}"] == 0 for name in ("Size", "Mass", "MeanIntensity", "MaxIntensity"))
    assert math.isnan(found["ch_2_Overlay_ch_3"])


def test_the_overlay_is_the_share_of_the_nucleus_that_another_stain_covers() -> None:
    half = SQUARE & (COLUMNS < 0)
    found = measure(*a_thumbnail(half, SQUARE, DISC))
    assert found["ch_2_Overlay_ch_1"] == pytest.approx(5 / 11)
    assert found["ch_2_Overlay_ch_3"] == 1


def test_a_mask_that_fills_its_box_leaves_the_darkest_pixel_as_background() -> None:
    pixels = np.arange(3 * 16, dtype=np.uint16).reshape(3, 4, 4) + 50
    assert measure(pixels, np.ones_like(pixels, dtype=bool))["ch_1_MaxIntensity"] == 15


def test_without_a_mask_a_bright_disc_is_found_and_an_empty_channel_stays_empty() -> None:
    rng = np.random.default_rng(0)
    pixels, mask = a_thumbnail(NOTHING, DISC, DISC, NOTHING)
    pixels = (pixels + rng.normal(0, 8, pixels.shape)).round().astype(np.uint16)
    made = own_mask(pixels)
    assert not made[0].any()
    assert (made[1] ^ mask[1]).sum() < 0.25 * mask[1].sum()
    assert measure(pixels, None)["ch_3_MeanIntensity"] == pytest.approx(300, rel=0.15)


def test_two_planes_or_a_mask_of_another_shape_are_refused() -> None:
    pixels, mask = a_thumbnail(DISC, DISC, DISC)
    with pytest.raises(BadInput, match="3 planes"):
        measure(pixels[:2], mask[:2])
    with pytest.raises(BadInput, match="mask"):
        measure(pixels, mask[:, 1:])
