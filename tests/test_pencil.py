"""Shapes are where and as large as asked."""

import numpy as np
import pytest

from ctcml.pencil import CHANNELS, CK, DAPI, Pencil, draw_stain


@pytest.fixture
def pencil() -> Pencil:
    rng = np.random.default_rng(0)
    return Pencil(draw_stain(rng), rng)


def test_a_smooth_blob_has_the_area_of_its_circle_whatever_its_stretch(pencil: Pencil) -> None:
    for stretch in (1.0, 1.4):
        area = pencil.blob(CK, 12, stretch=stretch, angle=0.7, rough=0).sum()
        assert area == pytest.approx(np.pi * 12**2, rel=0.05)


def test_a_blob_lies_where_it_was_put_up_to_the_chromatic_shift(pencil: Pencil) -> None:
    plane = pencil.blob(DAPI, 6, at=(10, -14), rough=0)
    rows, columns = np.indices(plane.shape)
    middle = (pencil.side - 1) / 2
    down, right = pencil.stain.shift_px[DAPI]
    assert (rows * plane).sum() / plane.sum() - middle == pytest.approx(10 + down, abs=0.1)
    assert (columns * plane).sum() / plane.sum() - middle == pytest.approx(-14 + right, abs=0.1)


def test_patients_differ_in_staining_but_stay_in_range() -> None:
    rng = np.random.default_rng(1)
    stains = [draw_stain(rng) for _ in range(200)]
    gains = np.log([stain.gain for stain in stains])
    assert gains.shape == (200, len(CHANNELS))
    assert gains.std(axis=0) == pytest.approx([0.22, 0.26, 0.26, 0.25], abs=0.05)
    assert all(sum(stain.ck_habits) == pytest.approx(1) for stain in stains)


def test_a_diameter_stays_between_its_limits(pencil: Pencil) -> None:
    drawn = [pencil.radius_px(12, 1.0, low_um=4, high_um=20) * 2 * 0.64 / pencil.stain.size_factor for _ in range(300)]
    assert min(drawn) == pytest.approx(4)
    assert max(drawn) == pytest.approx(20)
