"""Swapped channels betray themselves by marks that hold in every laboratory, and a sound order is left in peace."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from ctcml.accept import find_samples, read_sample
from ctcml.staining import CLEARLY, FEWEST, ORDERS, Staining, likelier_order, look_at, staining_of

Thumbnails = list[np.ndarray]


@pytest.fixture(scope="module")
def samples(laboratory: Path) -> list[Thumbnails]:
    """The thumbnails of a SIMULATED laboratory of 16 patients, few objects each."""
    return [[one.pixels for one in read_sample(sample)[0]] for sample in find_samples(laboratory / "export")]


def a_body(height: int, radius: float, peak: float) -> np.ndarray:
    y, x = np.mgrid[:height, :height] - (height - 1) / 2
    return peak * (np.hypot(y, x) < radius)


def cells(body: str, seed: int, number: int = 12) -> Thumbnails:
    """Leukocytes (CD45 of 300 counts) or tumour cells (CK of 900), each around a smaller nucleus; planes CD45, DAPI, CK."""
    rng = np.random.default_rng(seed)
    around = {"cd45": (300, 0), "ck": (0, 900)}[body]
    return [
        (
            np.stack([a_body(40, 10, around[0]), a_body(40, 6, 500), a_body(40, 10, around[1])])
            + rng.normal(100, 5, (3, 40, 40))
        ).astype(np.uint16)
        for _ in range(number)
    ]


def test_a_stain_is_told_from_noise_and_from_a_hot_pixel() -> None:
    pixels = cells("cd45", 1)[0]
    pixels[2, 20, 20] = 4000
    peak, stained, area = look_at(pixels)
    assert stained.tolist() == [True, True, False]
    assert abs(peak[1] - 500) < 15
    assert abs(area[0] - np.pi * 100) < 20
    assert abs(area[1] - np.pi * 36) < 12


def test_an_empty_plane_and_a_thumbnail_of_one_pixel_show_no_stain() -> None:
    assert not look_at(np.zeros((3, 30, 30), np.uint16))[1].any()
    assert not look_at(np.full((4, 1, 1), 4095, np.uint16))[1].any()


def test_a_nucleus_is_smaller_than_the_stain_around_it() -> None:
    staining = staining_of([*cells("cd45", 2), *cells("ck", 3)])
    assert staining.area[0, 1] == pytest.approx(np.log(100 / 36), abs=0.15)
    assert staining.area[2, 1] == pytest.approx(np.log(100 / 36), abs=0.15)
    assert np.isnan(staining.area[0, 2])  # CD45 and CK never lie together here


def test_too_few_objects_say_nothing_instead_of_something_wrong() -> None:
    staining = staining_of(cells("cd45", 4, number=FEWEST - 1))
    assert np.isnan(staining.area).all()
    assert np.isnan(staining.brightness).all()
    assert staining_of([]).objects == 0
    assert likelier_order([staining_of([])]) == ((0, 1, 2), 0.0)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_right_order_is_found_whatever_the_order_of_the_planes(
    samples: list[Thumbnails], order: tuple[int, int, int]
) -> None:
    shuffled = [staining_of([pixels[list(order)] for pixels in sample]) for sample in samples]
    likeliest, ratio = likelier_order(shuffled)
    assert tuple(order[plane] for plane in likeliest) == (0, 1, 2)
    assert (ratio >= CLEARLY) == (order != (0, 1, 2))


def test_planes_in_another_order_give_the_same_marks_in_that_order(samples: list[Thumbnails]) -> None:
    largest = max(samples, key=len)
    as_named, shuffled = staining_of(largest), staining_of([pixels[[2, 0, 1]] for pixels in largest])
    np.testing.assert_allclose(shuffled.marks((1, 2, 0)), as_named.marks((0, 1, 2)))


def test_a_sound_order_is_never_less_likely_than_itself() -> None:
    nothing = Staining(
        objects=40, area=np.full((3, 3), np.nan), together=np.full((3, 3), 0.25), brightness=np.full(3, np.nan)
    )
    assert likelier_order([nothing]) == (ORDERS[0], 0.0)
