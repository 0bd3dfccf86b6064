"""Cells drawn into memory are what the simulated laboratory would write."""

import numpy as np
import pytest

from ctcml.cells_in_silico import KINDS
from ctcml.drawn_cells import DrawnCell, draw_cells
from ctcml.simulate import CANCER_TYPES


@pytest.fixture(scope="module")
def cells() -> list[DrawnCell]:
    return draw_cells(3, patients=6, objects=30)


def test_a_cohort_holds_all_six_kinds_and_each_patient_has_one_cancer_type(cells: list[DrawnCell]) -> None:
    assert {one.kind for one in cells} == set(KINDS)
    assert len({one.patient for one in cells}) == len({(one.patient, one.cancer_type) for one in cells}) == 6
    assert {one.cancer_type for one in cells} <= set(CANCER_TYPES)


def test_a_cell_is_three_planes_of_counts_and_does_not_keep_its_frame_in_memory(cells: list[DrawnCell]) -> None:
    for one in cells:
        for pixels in (one.restored, one.unrestored):
            assert pixels.dtype == np.uint16
            assert len(pixels) == 3
            assert pixels.base is None
        assert one.restored.shape == one.unrestored.shape


def test_without_tags_a_cell_has_at_most_256_levels_a_sixteenth_of_the_scale_apart(cells: list[DrawnCell]) -> None:
    assert all((one.unrestored % 16 == 0).all() and one.unrestored.max() <= 4080 for one in cells)
    assert not all((one.restored % 16 == 0).all() for one in cells)


def test_the_same_seed_draws_the_same_cells_and_another_does_not(cells: list[DrawnCell]) -> None:
    again, other = (draw_cells(seed, patients=6, objects=30) for seed in (3, 4))
    assert all(np.array_equal(one.restored, two.restored) for one, two in zip(cells, again, strict=True))
    assert len(other) != len(cells) or any(
        one.restored.shape != two.restored.shape for one, two in zip(cells, other, strict=True)
    )
