"""Each change of instrument does what its name says to the counts, and only that."""

from typing import Any

import numpy as np
import pytest

from ctcml.images import Counts, to_input
from ctcml.instruments_in_silico import (
    FIRST,
    FOREIGN,
    FOREIGN_TOGETHER,
    INSTRUMENTS,
    JITTERED,
    JITTERED_TOGETHER,
    Instrument,
    seen_by,
)
from ctcml.pencil import CD45, CK, DAPI


def spot(plane: int, *, peak: int = 1000, floor: int = 100, side: int = 41) -> Counts:
    """One round spot in one plane on an even background."""
    y, x = np.mgrid[:side, :side] - side // 2
    pixels = np.full((3, side, side), floor, np.float64)
    pixels[plane] += peak * np.exp(-(x**2 + y**2) / (2 * 3.0**2))
    return np.rint(pixels).astype(np.uint16)


def seen(pixels: Counts, *, seed: int = 0, **changes: Any) -> np.ndarray:
    """As floats, so that differences of counts can be negative."""
    return seen_by(Instrument(**changes), pixels, np.random.default_rng(seed)).astype(np.float64)


def spread(plane: np.ndarray) -> float:
    """Standard deviation of a spot's light around its middle, px."""
    light = plane - np.median(plane)
    y, x = np.mgrid[: plane.shape[0], : plane.shape[1]]
    middle = (light * x).sum() / light.sum(), (light * y).sum() / light.sum()
    return float(np.sqrt((light * ((x - middle[0]) ** 2 + (y - middle[1]) ** 2)).sum() / light.sum() / 2))


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_an_instrument_gives_counts_that_a_recipe_takes_and_the_same_dice_give_the_same(name: str) -> None:
    pixels = spot(CK, peak=4500)
    once, twice = (seen_by(INSTRUMENTS[name], pixels, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(once, twice)
    assert (once.dtype, len(once)) == (np.uint16, 3)
    assert once.max() <= 4095
    assert to_input(once, recipe="asinh", background_percentile=10.0, asinh_scale=60.0).any()
    assert np.array_equal(once, pixels.clip(0, 4095)) == (name == FIRST)


def test_every_kind_of_change_is_there_alone_and_together_with_its_like() -> None:
    assert list(INSTRUMENTS) == [FIRST, *JITTERED, JITTERED_TOGETHER, *FOREIGN, FOREIGN_TOGETHER]
    assert INSTRUMENTS[JITTERED_TOGETHER] == Instrument(
        gain=(0.6, 1.35, 0.55), background=1.6, read_noise=1.8, blur_px=0.75
    )
    together = vars(INSTRUMENTS[FOREIGN_TOGETHER])
    assert {name for name, value in together.items() if value != vars(Instrument())[name]} == {
        name for changes in FOREIGN.values() for name in changes
    }


def test_the_blur_widens_a_point_by_a_quarter() -> None:
    # science notes: a point spread function 1.25 times as wide; the first one has about 1 px
    assert np.hypot(1.0, JITTERED["blur"]["blur_px"]) == pytest.approx(1.25)


def test_a_gain_multiplies_signal_and_background_of_its_own_plane() -> None:
    pixels = spot(CK)
    found = seen(pixels, gain=(0.6, 1.35, 0.5))
    np.testing.assert_allclose(found, pixels * np.array([0.6, 1.35, 0.5])[:, None, None], atol=0.5)


def test_more_background_adds_its_own_shot_noise() -> None:
    found = seen(np.full((3, 200, 200), 100, np.uint16), background=1.6)
    assert found.mean() == pytest.approx(160, abs=0.3)
    assert found.var() == pytest.approx(0.6 * 60 + 1 / 12, rel=0.05)  # 0.6 counts an electron, then whole counts


def test_more_read_noise_is_noise_of_the_camera_alone() -> None:
    found = seen(np.full((3, 200, 200), 1000, np.uint16), read_noise=1.8)
    assert found.mean() == pytest.approx(1000, abs=0.3)
    assert found.var() == pytest.approx((1.8**2 - 1) * 16 + 1 / 12, rel=0.05)


def test_blur_widens_a_spot_and_keeps_its_light() -> None:
    pixels = spot(DAPI)
    found = seen(pixels, blur_px=2.0)
    assert spread(found[DAPI]) == pytest.approx(np.hypot(3.0, 2.0), abs=0.1)
    assert (found[DAPI] - 100).sum() == pytest.approx((pixels[DAPI] - 100.0).sum(), rel=0.01)


def test_the_lamp_tilts_background_and_signal_along_a_direction_of_its_own() -> None:
    flat = np.full((3, 81, 81), 1000, np.uint16)
    found = seen(flat, gradient=0.3)
    assert found[:, 40, 40] == pytest.approx([1000] * 3)
    down, across = (np.gradient(found[0], axis=axis).mean() for axis in (0, 1))
    assert np.hypot(down, across) == pytest.approx(1000 * 0.3 / 40, rel=0.01)
    assert not np.allclose(found, seen(flat, seed=1, gradient=0.3), atol=20)


def test_bleed_through_shows_a_signal_in_the_neighbouring_plane_and_leaves_background_where_it_is() -> None:
    found = seen(spot(CK), ck_into_cd45=0.08)
    np.testing.assert_allclose(found[CD45] - 100, 0.08 * (spot(CK)[CK] - 100.0), atol=0.5)
    assert np.array_equal(found[[DAPI, CK]], spot(CK)[[DAPI, CK]])
    nucleus = seen(spot(DAPI), dapi_into_ck=0.06)
    np.testing.assert_allclose(nucleus[CK] - 100, 0.06 * (spot(DAPI)[DAPI] - 100.0), atol=0.5)


@pytest.mark.parametrize("zoom", [0.8, 1.25])
def test_other_pixels_make_a_spot_larger_or_smaller_and_not_brighter(zoom: float) -> None:
    found = seen(spot(CK, side=40), zoom=zoom)
    assert found.shape == (3, round(40 * zoom), round(40 * zoom))
    assert spread(found[CK]) == pytest.approx(3.0 * zoom, rel=0.05)
    assert found[CK].max() == pytest.approx(1100, rel=0.03)


def test_gamma_bends_the_scale_and_holds_its_ends() -> None:
    pixels = np.array([0, 1000, 4095], np.uint16).repeat(3).reshape(3, 1, 3).transpose(2, 1, 0).copy()
    assert seen(pixels, gamma=0.8)[0, 0].tolist() == [0, round(4095 * (1000 / 4095) ** 0.8), 4095]


def test_without_tags_the_range_is_lost_and_256_levels_are_left() -> None:
    pixels = spot(CK, peak=800)
    found = seen(pixels, untagged=True)
    assert (found % 16 == 0).all()
    factors = [found[plane].max() / pixels[plane].max() for plane in range(3)]
    assert all(0.9 < factor < 4095 / 900 * 1.2 for factor in factors)
    assert np.ptp(factors) > 0.1
    saturated = np.full((3, 4, 4), 4095, np.uint16)
    assert (seen(saturated, untagged=True) == 4080).all()


def test_the_thumbnail_of_the_first_instrument_is_left_as_it_was() -> None:
    pixels = spot(CK)
    for instrument in INSTRUMENTS.values():
        seen_by(instrument, pixels, np.random.default_rng(0))
    assert np.array_equal(pixels, spot(CK))
