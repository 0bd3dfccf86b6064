"""The drawn objects carry the markers that define their class."""

import numpy as np
import pytest

from ctcml.cells_in_silico import KINDS, TRANSITIONS, draw_object
from ctcml.pencil import CD45, CK, DAPI, draw_stain

STAINED, UNSTAINED = 60.0, 60.0  # counts above background


def brightest(kind: str, *, ambiguity: float = 0.0, number: int = 60) -> np.ndarray:
    """Brightest counts per object and channel, (number, 4), each object from another patient."""
    rng = np.random.default_rng(4)
    return np.array([draw_object(kind, ambiguity, draw_stain(rng), rng).max(axis=(1, 2)) for _ in range(number)])


@pytest.mark.parametrize(
    ("kind", "present", "absent"),
    [
        ("ctc", (CK, DAPI), (CD45,)),
        ("tdev", (CK,), (DAPI, CD45)),
        ("wbc", (CD45, DAPI), (CK,)),
        ("cd45ev", (CD45,), (DAPI, CK)),
        ("bare_nucleus", (DAPI,), (CD45, CK)),
    ],
)
def test_a_clear_object_carries_the_markers_of_its_class(
    kind: str, present: tuple[int, ...], absent: tuple[int, ...]
) -> None:
    counts = brightest(kind)
    for channel in present:
        assert np.mean(counts[:, channel] > STAINED) > 0.75
    for channel in absent:
        assert np.mean(counts[:, channel] < UNSTAINED) > 0.9


def test_every_transition_names_two_classes_and_one_marker() -> None:
    for first, second, channel, start, end in TRANSITIONS:
        assert first in KINDS
        assert second in KINDS
        assert channel in (CD45, DAPI, CK)
        assert start != end


def test_objects_at_the_border_of_two_classes_look_alike() -> None:
    clear = np.median(brightest("wbc", ambiguity=0.05)[:, CD45]) / np.median(
        brightest("bare_nucleus", ambiguity=0.05)[:, CD45]
    )
    border = np.median(brightest("wbc", ambiguity=1.0)[:, CD45]) / np.median(
        brightest("bare_nucleus", ambiguity=1.0)[:, CD45]
    )
    assert border < clear / 3


def test_tumour_cells_are_at_least_four_micrometres_and_vesicles_are_of_many_sizes() -> None:
    rng = np.random.default_rng(2)
    areas = {"ctc": [], "tdev": []}
    for kind, found in areas.items():
        for _ in range(80):
            plane = draw_object(kind, 0.0, draw_stain(rng), rng)[CK]
            found.append(np.sum(plane > 0.3 * plane.max()))
    assert np.percentile(areas["ctc"], 5) > np.pi * (4 / 0.64 / 2) ** 2
    assert np.percentile(areas["tdev"], 95) > 6 * np.percentile(areas["tdev"], 20)
