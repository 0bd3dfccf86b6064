import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from ctcml.errors import BadInput
from ctcml.images import (
    GAP,
    OUTSIDE,
    background,
    contact_sheet,
    encode_png,
    overlay,
    reader_panels,
    recipe_tag,
    stretched,
    to_camera_scale,
    to_given,
    to_input,
    to_inputs,
)

ASINH = {"recipe": "asinh", "background_percentile": 10.0, "asinh_scale": 60.0}
PAPER = {"recipe": "paper", "background_percentile": 10.0, "asinh_scale": 60.0}


def blob(height=30, width=40, planes=4, seed=0, peak=1000.0):
    """A cell in the middle of a noisy background: CD45 absent, DAPI and CK present."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    cell = np.exp(-((y - height / 2) ** 2 + (x - width / 2) ** 2) / 40)
    signal = np.stack([np.zeros_like(cell), cell, cell * 1.5, cell][:planes]) * peak
    return rng.poisson(80 + signal).astype(np.uint16)


counts = hnp.arrays(np.uint16, st.tuples(st.integers(3, 4), st.integers(1, 100), st.integers(1, 100)))


def test_asinh_is_the_published_formula_on_every_count():
    above = np.array([0, 1, 60, 95, 600, 4095, 65535])
    pixels = np.zeros((3, 4, 4), np.uint16)  # more than half is 0, so the background is 0
    pixels[0].flat[9:] = above
    wanted = np.clip(np.round(255 * np.arcsinh(above / 60) / np.arcsinh(4095 / 60)), 0, 255)
    image = to_input(pixels, **ASINH)
    np.testing.assert_array_equal(image[38:42, 38:42, 0].ravel()[9:], wanted)
    assert wanted[-2] == 255


def test_paper_casts_twelve_bit_to_eight_after_the_background_step():
    pixels = np.full((3, 10, 10), 100, np.uint16)
    pixels[2, 5, 5] = 100 + 95  # a dim stain of 95 counts is left with few grey levels
    image = to_input(pixels, **PAPER)
    assert image[40, 40, 2] == 95 >> 4
    assert image.sum() == 95 >> 4


def test_background_is_taken_over_the_true_thumbnail_and_not_over_its_padding():
    pixels = np.full((3, 20, 20), 300, np.uint16)  # after padding the 10th percentile would be 0
    assert to_input(pixels, **ASINH).max() == 0


def test_background_of_an_oversize_thumbnail_counts_the_pixels_that_are_cropped_away():
    pixels = np.full((3, 80, 160), 500, np.uint16)
    pixels[:, :, :40] = 100  # a quarter of the true thumbnail, none of it in the crop
    assert background(pixels, 10.0).tolist() == [100, 100, 100]
    wanted = np.round(255 * np.arcsinh(400 / 60) / np.arcsinh(4095 / 60))
    assert set(to_input(pixels, **ASINH).ravel()) == {wanted}


def test_each_plane_has_its_own_background():
    pixels = np.stack([np.full((9, 9), level, np.uint16) for level in (10, 200, 3000)])
    assert background(pixels, 10.0).tolist() == [10, 200, 3000]
    assert to_input(pixels, **ASINH).max() == 0


@given(counts)
@settings(max_examples=50, deadline=None)
def test_background_is_numpys_lower_percentile(pixels):
    wanted = np.percentile(pixels.reshape(len(pixels), -1), 10, axis=1, method="lower")
    np.testing.assert_array_equal(background(pixels, 10.0), wanted)


@given(counts)
@settings(max_examples=50, deadline=None)
def test_padding_is_symmetric_to_one_pixel_and_zero_outside(pixels):
    image = to_input(pixels, **ASINH)
    assert image.shape == (80, 80, 3)
    assert image.dtype == np.uint8
    height, width = (min(80, n) for n in pixels.shape[1:])
    top, left = (80 - height) // 2, (80 - width) // 2
    outside = np.ones((80, 80), bool)
    outside[top : top + height, left : left + width] = False
    assert not image[outside].any()
    assert abs((80 - height - top) - top) <= 1


def test_planes_beyond_the_third_are_left_out():
    pixels = blob(planes=4)
    np.testing.assert_array_equal(to_input(pixels, **ASINH), to_input(pixels[:3], **ASINH))


def test_many_at_once_are_the_same_as_one_by_one():
    thumbnails = [blob(h, w, seed=h) for h, w in ((20, 31), (80, 80), (95, 40), (90, 101))]
    np.testing.assert_array_equal(to_inputs(thumbnails, **ASINH), np.stack([to_input(t, **ASINH) for t in thumbnails]))
    assert to_inputs([], **ASINH).shape == (0, 80, 80, 3)


def test_the_shard_is_left_as_it_was():
    pixels = blob()
    before = pixels.copy()
    to_input(pixels, **ASINH)
    reader_panels(pixels)
    np.testing.assert_array_equal(pixels, before)


def test_an_image_that_went_through_a_recipe_is_never_transformed_again():
    once = to_input(blob(), **ASINH)
    with pytest.raises(BadInput, match=r"uint8 \(80, 80, 3\), expected raw uint16"):
        to_input(once, **ASINH)


@pytest.mark.parametrize("shape", [(2, 20, 20), (3, 0, 20), (20, 20), (1, 3, 20, 20)])
def test_pixels_of_another_shape_are_refused(shape):
    with pytest.raises(BadInput, match="expected raw uint16 counts"):
        to_input(np.zeros(shape, np.uint16), **ASINH)


def test_an_unknown_recipe_is_refused():
    with pytest.raises(BadInput, match="recipe 'log'"):
        to_input(blob(), recipe="log", background_percentile=10.0, asinh_scale=60.0)


def test_recipes_with_other_numbers_have_other_names():
    names = {
        recipe_tag("asinh", background_percentile=10.0, asinh_scale=60.0),
        recipe_tag("asinh", background_percentile=5.0, asinh_scale=60.0),
        recipe_tag("asinh", background_percentile=10.0, asinh_scale=30.5),
        recipe_tag("paper", background_percentile=10.0, asinh_scale=60.0),
    }
    assert len(names) == 4


def test_overlay_shows_cd45_red_ck_green_and_dapi_blue():
    for plane, colour in ((0, 0), (1, 2), (2, 1)):
        pixels = np.full((3, 21, 21), 50, np.uint16)
        pixels[plane, 5:15, 5:15] = 900
        picture = overlay(pixels)
        assert picture.shape == (21, 21, 3)
        assert picture[10, 10].tolist() == [255 * (colour == c) for c in range(3)]
        assert picture[0, 0].tolist() == [0, 0, 0]


def test_an_empty_plane_stays_dark_instead_of_showing_its_noise_as_signal():
    rng = np.random.default_rng(3)
    noise = rng.poisson(60, (3, 40, 40)).astype(np.uint16)  # camera noise of about 8 counts
    assert stretched(noise).max() < 80
    assert np.median(stretched(noise)) < 20


def test_a_dim_stain_is_still_visible_to_a_reader():
    pixels = np.full((3, 40, 40), 60, np.uint16)
    pixels[0, 15:25, 15:25] += 95
    assert stretched(pixels)[0, 20, 20] > 100


def windows(row):
    """The four windows of a reader's row, and what lies between them."""
    starts = [place * (80 + GAP) for place in range(4)]
    return [row[:, x : x + 80, :3] for x in starts], [row[:, x - GAP : x] for x in starts[1:]]


@pytest.mark.parametrize("name", ["auto", "fixed"])
def test_a_reader_sees_three_planes_and_their_overlay_in_one_row(name):
    row = reader_panels(blob(80, 80))[name]
    assert (row.shape, row.dtype) == ((80, 4 * 80 + 3 * GAP, 4), np.uint8)
    (cd45, dapi, ck, colour), gaps = windows(row)
    for plane in (cd45, dapi, ck):
        assert (plane == plane[..., :1]).all()
    without_bar = np.s_[:70]
    np.testing.assert_array_equal(
        colour[without_bar], np.stack([cd45[..., 0], ck[..., 0], dapi[..., 0]], -1)[without_bar]
    )
    assert all((gap == 0).all() for gap in gaps)  # transparent: the page shows through, light or dark


def test_auto_is_each_planes_own_contrast_and_fixed_is_what_the_network_sees():
    pixels = blob(30, 40)
    auto, fixed = (windows(reader_panels(pixels)[name])[0] for name in ("auto", "fixed"))
    for plane in range(3):
        inside = np.s_[25:55, 20:60]
        np.testing.assert_array_equal(auto[plane][inside][..., 0], stretched(pixels)[plane])
        np.testing.assert_array_equal(fixed[plane][inside][..., 0], to_input(pixels, **ASINH)[inside][..., plane])


def test_at_fixed_contrast_the_brighter_of_two_cells_looks_brighter():
    dim, bright = (np.full((3, 40, 40), 60, np.uint16) for _ in range(2))
    dim[:, 15:25, 15:25] += 300
    bright[:, 15:25, 15:25] += 1200
    seen = [
        [windows(reader_panels(cell)[name])[0][0][40, 40, 0] for cell in (dim, bright)] for name in ("auto", "fixed")
    ]
    assert seen[0][0] == seen[0][1] == 255
    assert seen[1][0] < seen[1][1]


@pytest.mark.parametrize("name", ["auto", "fixed"])
def test_the_window_shows_where_the_thumbnail_ends(name):
    ck = windows(reader_panels(blob(30, 40))[name])[0][2]
    assert (ck[:25] == OUTSIDE).all()
    assert (ck[25:55, :20] == OUTSIDE).all()


@pytest.mark.parametrize("name", ["auto", "fixed"])
def test_the_scale_bar_is_ten_micrometres_long(name):
    # The accept notes: 0.64 µm a pixel.
    overlaid = windows(reader_panels(np.zeros((3, 80, 80), np.uint16))[name])[0][3]
    rows, columns = np.nonzero((overlaid == 255).all(axis=-1))
    assert abs((np.ptp(columns) + 1) * 0.64 - 10) <= 0.64 / 2 + 1e-9
    assert np.ptp(rows) == 0


def test_a_png_gives_back_the_very_picture_and_is_the_same_twice():
    for picture in (stretched(blob())[0], overlay(blob())):
        png = encode_png(picture)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), picture)
        assert encode_png(picture) == png


def test_a_contact_sheet_lays_pictures_row_by_row():
    tiles = [np.full((80, 80, 3), 50 + level, np.uint8) for level in range(5)]
    sheet = contact_sheet(tiles, columns=3, scale=1)
    assert sheet.shape == (2 * 68 + 4, 3 * 68 + 4, 3)
    assert [sheet[36, 36 + 68 * k, 0] for k in range(3)] == [50, 51, 52]
    assert [sheet[36 + 68, 36 + 68 * k, 0] for k in range(2)] == [53, 54]


def test_a_long_caption_does_not_run_into_its_neighbour():
    tiles = [np.zeros((80, 80, 3), np.uint8)] * 2
    long = contact_sheet(tiles, columns=2, captions=["cluster 17 with a very long name indeed", ""], scale=1)
    assert (long[68:82, 5:64] > 100).any()
    assert not (long[68:82, 72:] > 100).any()


def test_captions_come_one_a_picture():
    with pytest.raises(BadInput, match="1 captions for 2 pictures"):
        contact_sheet([overlay(blob())] * 2, columns=2, captions=["one"])


def test_an_empty_contact_sheet_is_still_a_picture():
    assert contact_sheet([], columns=4).shape[2] == 3


def given(value, shape=(3, 80, 80)):
    return np.full(shape, value, np.uint16)


def test_eight_bit_frames_that_nobody_restored_are_brought_to_the_cameras_scale():
    pixels = np.arange(256, dtype=np.uint16).repeat(3).reshape(3, 16, 16)
    scaled = to_camera_scale(pixels, bit_depth=8, restored=False, recipe="")
    np.testing.assert_array_equal(scaled, 16 * pixels)
    assert scaled.max() == 4080  # of 4095: a 12-bit count cast to 8 bit lost its lowest four bits
    assert scaled.dtype == np.uint16


@pytest.mark.parametrize(("bit_depth", "restored"), [(16, False), (8, True), (16, True), (12, False)])
def test_camera_counts_are_left_as_they_are(bit_depth, restored):
    pixels = given(3000)
    assert to_camera_scale(pixels, bit_depth=bit_depth, restored=restored, recipe="") is pixels


@pytest.mark.parametrize(("bit_depth", "white"), [(8, 255), (16, 65535)])
def test_a_reader_sees_preprocessed_images_as_bright_as_counts(bit_depth, white):
    pixels = given(0)
    pixels[1, 30:50, 30:50] = white
    scaled = to_camera_scale(pixels, bit_depth=bit_depth, restored=False, recipe="given:prepr-float32")
    assert scaled.max() in (4080, 4095)
    assert overlay(scaled)[40, 40].tolist() == [0, 0, 255]


def test_values_above_their_depth_are_refused_and_not_wrapped_round():
    for wrong in (
        {"bit_depth": 8, "restored": False, "recipe": ""},
        {"bit_depth": 12, "restored": False, "recipe": "x"},
    ):
        with pytest.raises(BadInput, match=r"go up to 256 at (8|12) bit"):
            to_camera_scale(given(256), **wrong)
    with pytest.raises(BadInput, match="go up to 256 at 8 bit"):
        to_given(given(256), bit_depth=8)


def test_an_image_that_came_preprocessed_passes_as_it_came():
    image = to_input(blob(), **ASINH)
    planes = image.transpose(2, 0, 1).astype(np.uint16)
    np.testing.assert_array_equal(to_given(planes, bit_depth=8), image)
    np.testing.assert_array_equal(to_given(planes * np.uint16(257), bit_depth=16), image)


def test_sixteen_bit_values_are_rounded_to_the_nearest_of_eight_bit():
    values = np.array([0, 128, 129, 385, 386, 65535], np.uint16)
    image = to_given(values.repeat(3).reshape(6, 3).T.reshape(3, 1, 6), bit_depth=16)
    assert image[39, 37:43, 0].tolist() == [0, 0, 1, 1, 2, 255]


def test_a_preprocessed_image_of_another_size_is_padded_or_cropped_in_the_middle_and_nothing_else():
    small = given(7, (3, 20, 40))
    image = to_given(small, bit_depth=8)
    assert (image[30:50, 20:60] == 7).all()
    assert image.sum() == 7 * 20 * 40 * 3
    large = given(0, (4, 100, 80))
    large[:, 10:90] = 9
    assert (to_given(large, bit_depth=8) == 9).all()


def test_camera_counts_have_no_recipe_given():
    with pytest.raises(BadInput, match="recipe 'given': expected 'asinh' or 'paper' for camera counts"):
        to_input(blob(), recipe="given", background_percentile=10.0, asinh_scale=60.0)


def test_the_papers_background_step_does_nothing_once_a_thumbnail_is_padded():
    # Zeune et al. 2020 subtract "the lowest 10 % of the intensity values": after padding those are the padding's zeros.
    pixels = blob(70, 70)
    padded = np.pad(pixels, ((0, 0), (5, 5), (5, 5)))
    assert background(padded, 10.0).tolist() == [0, 0, 0, 0]
    assert background(pixels, 10.0).min() > 50
