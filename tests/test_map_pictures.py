"""Pictures of maps say how many cells of what they show, and never more than the cells can tell."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ctcml.errors import BadInput
from ctcml.map_pictures import (
    GROUP_COLOURS,
    REST_COLOUR,
    beside_plot,
    draw_maps,
    frequency_plot,
    map_plot,
    novelty_plot,
)
from ctcml.pictures import CLASS_COLOURS


def a_map(cells: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(cells, 2))


def holds(path: Path, colour: str) -> bool:
    """Whether a picture has a pixel of exactly this colour."""
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return bool((np.asarray(Image.open(path).convert("RGB")) == wanted).all(axis=2).any())


def test_each_class_is_named_with_its_number_of_cells_the_rest_last_and_grey(tmp_path: Path) -> None:
    labels = ["ctc"] * 3 + ["not labelled"] * 4
    for ending in ("svg", "png"):
        map_plot(a_map(7), labels, tmp_path / f"m.{ending}", simulated=True, rest="not labelled")
    text = (tmp_path / "m.svg").read_text()
    assert text.index("ctc (3)") < text.index("not labelled (4)")
    assert "SIMULATED DATA" in text
    assert holds(tmp_path / "m.png", CLASS_COLOURS["ctc"])
    assert holds(tmp_path / "m.png", REST_COLOUR)
    with pytest.raises(BadInput, match=r"\(3, 2\) for 1 cells"):
        map_plot(np.ones((3, 2)), ["ctc"], tmp_path / "m.svg", simulated=True)


def test_dots_are_pixels_also_in_an_svg_so_that_many_cells_make_no_large_file(tmp_path: Path) -> None:
    for cells in (10, 4000):
        map_plot(a_map(cells), ["ctc"] * cells, tmp_path / f"{cells}.svg", simulated=False)
    text = (tmp_path / "4000.svg").read_text()
    assert "<image" in text
    assert text.count("<use") < 200
    assert "SIMULATED" not in text


def test_no_class_is_hidden_below_another_that_lies_on_the_same_spot(tmp_path: Path) -> None:
    labels = ["ctc", "wbc"] * 200
    map_plot(np.round(a_map(400), 1), labels, tmp_path / "m.png", simulated=False)
    assert holds(tmp_path / "m.png", CLASS_COLOURS["ctc"])
    assert holds(tmp_path / "m.png", CLASS_COLOURS["wbc"])


def test_every_picture_is_the_same_bytes_twice(tmp_path: Path) -> None:
    xy = a_map(60)
    for ending in ("png", "svg"):
        for name in ("a", "b"):
            map_plot(xy, ["ctc", "wbc"] * 30, tmp_path / f"map-{name}.{ending}", simulated=True)
            novelty_plot(xy, xy[:, 0], xy[:, 1] > 1, tmp_path / f"novelty-{name}.{ending}", simulated=True)
        for what in ("map", "novelty"):
            first, second = (tmp_path / f"{what}-{name}.{ending}" for name in ("a", "b"))
            assert first.read_bytes() == second.read_bytes()


def test_novelty_counts_the_flagged_and_the_cells_without_a_score(tmp_path: Path) -> None:
    novelty = np.r_[np.linspace(0, 1, 50), np.full(10, np.nan)]
    novelty_plot(a_map(60), novelty, np.arange(60) < 7, tmp_path / "n.svg", simulated=True)
    text = (tmp_path / "n.svg").read_text()
    assert "flagged (7)" in text
    assert "no score: labelled, or of a held-out patient (10)" in text
    novelty_plot(a_map(3), np.full(3, np.nan), np.zeros(3, bool), tmp_path / "none.svg", simulated=True)
    assert "flagged (0)" in (tmp_path / "none.svg").read_text()


def test_a_cancer_type_with_few_cells_gets_no_frequencies(tmp_path: Path) -> None:
    types = ["breast"] * 200 + ["lung"] * 8
    patients = [f"p{at % 9}" for at in range(200)] + ["q"] * 8
    frequency_plot(a_map(208), types, patients, tmp_path / "f.svg", simulated=True)
    text = (tmp_path / "f.svg").read_text()
    assert "200 cells of 9 patients; peak" in text
    assert "8 cells of 1 patient: too few for frequencies" in text
    assert "grey: all 208 cells" in text
    with pytest.raises(BadInput, match="no cell"):
        frequency_plot(a_map(0), [], [], tmp_path / "f.svg", simulated=True)


def test_strays_do_not_shrink_the_frequencies_and_are_counted(tmp_path: Path) -> None:
    xy = np.vstack([np.random.default_rng(0).uniform(size=(300, 2)), [[500.0, 0.0]]])
    frequency_plot(xy, ["breast"] * 301, ["p"] * 301, tmp_path / "f.svg", simulated=False)
    assert "1 of them outside the axes" in (tmp_path / "f.svg").read_text()


def test_two_networks_stand_side_by_side_with_the_held_out_class_named(tmp_path: Path) -> None:
    labels = ["ctc"] * 20 + ["cd45ev"] * 5
    panels = [("Standard CNN", a_map(25), labels), ("AE-CNN", a_map(25, seed=1), labels)]
    beside_plot(panels, tmp_path / "b.svg", simulated=True, highlight="cd45ev")
    text = (tmp_path / "b.svg").read_text()
    for words in ("Standard CNN (25 cells)", "AE-CNN (25 cells)", "cd45ev, highlighted", "SIMULATED DATA"):
        assert words in text
    with pytest.raises(BadInput, match="no map to draw"):
        beside_plot([], tmp_path / "b.svg", simulated=True)


def test_more_groups_than_colours_are_put_together_and_none_shares_a_colour(tmp_path: Path) -> None:
    names = [f"site {at:02}" for at in range(len(GROUP_COLOURS) + 2) for _ in range(20 - at)] + [None] * 3
    cells = pd.DataFrame(a_map(len(names)), columns=["x", "y"]).assign(
        predicted="wbc",
        true_class=None,
        cancer_type="breast",
        instrument=names,
        novelty=0.1,
        flagged=False,
        patient_uid="p",
    )
    draw_maps(cells, tmp_path, name="tsne", simulated=True)
    text = (tmp_path / "instrument-tsne.svg").read_text()
    assert "further ones (19)" in text
    assert "not stated (3)" in text
    assert "site 10" not in text
    assert len(set(GROUP_COLOURS)) == len(GROUP_COLOURS)
    assert not (tmp_path / "frequency-tsne.svg").exists()  # there is no CTC
