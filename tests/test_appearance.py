"""What a thumbnail looks like: each number is what one would measure by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ctcml.appearance import FLOOR, NAMES, appearance, brightness
from ctcml.errors import BadInput


def a_picture(*spots: tuple[int, slice, slice, int]) -> NDArray[np.uint8]:
    picture = np.zeros((1, 80, 80, 3), np.uint8)
    for channel, rows, columns, grey in spots:
        picture[0, rows, columns, channel] = grey
    return picture


def measured(picture: NDArray[np.uint8]) -> dict[str, float]:
    return dict(zip(NAMES, appearance(picture)[0].tolist(), strict=True))


def test_a_square_has_the_size_brightness_and_shape_of_a_square() -> None:
    found = measured(a_picture((1, slice(30, 40), slice(50, 60), 116)))
    assert found["dapi_brightness"] == pytest.approx(np.log2(1 + 100 * (116 - FLOOR)), abs=1e-4)
    assert found["dapi_peak"] == 116
    assert found["dapi_area"] == found["dapi_core"] == 10
    assert found["dapi_radius"] == pytest.approx(np.sqrt(2 * (10**2 - 1) / 12), abs=1e-3)
    assert found["dapi_eccentricity"] == pytest.approx(0, abs=0.02)
    assert found["dapi_mean_square"] == pytest.approx(np.sqrt(100 * 116**2 / 6400), rel=1e-5)
    assert found["dapi_roughness"] == pytest.approx(40 * 116 / (100 * 116), rel=1e-5)  # the outline over the sum
    assert all(value == 0 for name, value in found.items() if name.startswith(("cd45", "ck")))


def test_a_line_is_eccentric() -> None:
    assert measured(a_picture((2, slice(40, 41), slice(20, 60), 200)))["ck_eccentricity"] == pytest.approx(1, abs=0.01)


def test_two_planes_over_each_other_are_alike_and_beside_each_other_apart() -> None:
    over = measured(a_picture((1, slice(30, 40), slice(30, 40), 90), (2, slice(30, 40), slice(30, 40), 200)))
    beside = measured(a_picture((1, slice(30, 40), slice(30, 40), 90), (2, slice(30, 40), slice(50, 60), 200)))
    assert (over["dapi_ck_likeness"], over["dapi_ck_distance"]) == (pytest.approx(1), pytest.approx(0, abs=1e-3))
    assert (beside["dapi_ck_likeness"], beside["dapi_ck_distance"]) == (0, pytest.approx(20, abs=1e-3))


def test_a_turned_or_mirrored_cell_looks_the_same() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (1, 80, 80, 3), dtype=np.uint8)
    for other in (np.rot90(picture, axes=(1, 2)), picture[:, :, ::-1]):
        np.testing.assert_allclose(appearance(np.ascontiguousarray(other)), appearance(picture), rtol=1e-3, atol=2e-3)


def test_many_pictures_are_measured_as_each_alone_and_black_ones_have_zeros() -> None:
    pictures = np.random.default_rng(1).integers(0, 255, (300, 80, 80, 3), dtype=np.uint8)
    pictures[7] = 0
    found = appearance(pictures)
    assert found.shape == (300, len(NAMES))
    assert not found[7].any()
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[299], appearance(pictures[299:])[0], rtol=1e-5)
    assert (brightness(found) == found[:, [0, 9, 18]]).all()


def test_other_shapes_are_refused() -> None:
    with pytest.raises(BadInput, match="expected uint8"):
        appearance(np.zeros((2, 40, 40, 3), np.uint8))
