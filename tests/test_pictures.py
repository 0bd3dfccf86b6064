from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ctcml.errors import BadInput
from ctcml.pictures import CLASS_COLOURS, class_colours, confusion_plot, gallery, mistakes_plot

CARD: dict[str, Any] = {
    "n": 30, "accuracy": {"value": 0.8, "low": 0.6, "high": 0.9, "cells": 30},
    "true_classes": ["ctc", "wbc", "cd45ev"], "predicted_classes": ["ctc", "wbc"],
    "confusion": [[9, 1], [0, 15], [2, 3]],
}  # fmt: skip
NONE: dict[str, Any] = {"mistakes": 0, "cells": 0, "low": None, "high": None, "above": [0, 0], "classes": {}}
MISTAKES: dict[str, Any] = {
    "thresholds": [0.75, 0.9],
    "by_cancer_type": [
        {
            "cancer_type": "breast", "patients": 9, "wrong": {**NONE, "mistakes": 6, "cells": 120, "low": 0.01, "high": 0.1},
            "missed": {
                "mistakes": 3, "cells": 40, "low": 0.0, "high": 0.182, "above": [2, 1],
                "classes": {"bare_nucleus": 1, "tdev": 2},
            },
            "false": {**NONE, "cells": 80, "low": 0.0, "high": 0.045},
        },
        {"cancer_type": "benign breast", "patients": 1, "wrong": {**NONE, "cells": 38}, "missed": NONE, "false": NONE},
    ],
    "by_probability": [{"low": 0.9, "high": 1.0, "ctc": 37, "missed": 0, "not_ctc": 1234, "false": 51}],
}  # fmt: skip


def drawn(path: Path) -> str:
    """The text that is drawn in an SVG: matplotlib leaves each string in a comment beside its glyphs."""
    return path.read_text(encoding="utf-8")


def ink(path: Path) -> float:
    return float((np.asarray(Image.open(path).convert("L")) < 200).mean())


def test_every_picture_is_the_same_bytes_twice_and_holds_ink(tmp_path: Path) -> None:
    for kind in ("png", "svg"):
        for name in ("a", "b"):
            confusion_plot(CARD, tmp_path / f"confusion-{name}.{kind}", simulated=True)
            mistakes_plot(MISTAKES, tmp_path / f"mistakes-{name}.{kind}", simulated=True)
        for what in ("confusion", "mistakes"):
            first, second = (tmp_path / f"{what}-{name}.{kind}" for name in ("a", "b"))
            assert first.read_bytes() == second.read_bytes()
    assert ink(tmp_path / "confusion-a.png") > 0.05
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_class_that_the_model_does_not_know_is_named_in_the_confusion(tmp_path: Path) -> None:
    confusion_plot(CARD, tmp_path / "confusion.svg", simulated=True)
    text = drawn(tmp_path / "confusion.svg")
    assert "cd45ev, unknown to the model (5)" in text
    assert "SIMULATED DATA" in text
    assert "90%" in text


def test_mistakes_are_tabled_with_their_intervals_how_sure_they_were_and_what_they_were_called(tmp_path: Path) -> None:
    mistakes_plot(MISTAKES, tmp_path / "mistakes.svg", simulated=True)
    text = drawn(tmp_path / "mistakes.svg")
    for words in (
        "3 of 40 (7.5%)",
        "95% CI 0.0% to 18.2%",
        "0.75 / 0.9",
        "2 / 1",
        "bare_nucleus 1",
        "1,234",
        "SIMULATED",
    ):
        assert words in text, words


def test_where_nothing_can_be_said_the_table_says_nothing_of_it(tmp_path: Path) -> None:
    benign = {**MISTAKES, "by_cancer_type": MISTAKES["by_cancer_type"][1:]}
    mistakes_plot(benign, tmp_path / "mistakes.svg", simulated=False)
    text = drawn(tmp_path / "mistakes.svg")
    assert "none there" in text
    assert "95% CI" not in text
    assert "SIMULATED" not in text


def test_known_classes_keep_their_colour_whoever_else_is_on_the_map() -> None:
    assert class_colours(["ctc", "zebra", "aardvark"])["ctc"] == class_colours(["ctc"])["ctc"] == CLASS_COLOURS["ctc"]
    several = class_colours([*CLASS_COLOURS, "new_one", "new_two"])
    assert len(set(several.values())) == len(several)


def test_a_gallery_shows_the_thumbnails_pixel_for_pixel(tmp_path: Path) -> None:
    red = np.zeros((80, 80, 3), dtype=np.uint8)
    red[..., 0] = 255
    gallery(
        [red] * 7, [f"ctc {at}" for at in range(7)], tmp_path / "g.png", columns=5, title="Cluster 7", simulated=True
    )
    picture = np.asarray(Image.open(tmp_path / "g.png").convert("RGB"))
    assert (picture == [255, 0, 0]).all(
        axis=2
    ).sum() == 7 * 192 * 192  # the middle 64 pixels of each, three times enlarged
    with pytest.raises(BadInput, match="no thumbnail"):
        gallery([], [], tmp_path / "g.png", columns=5, title="Cluster 7", simulated=True)


def test_only_png_and_svg_are_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"\.pdf"):
        confusion_plot(CARD, tmp_path / "confusion.pdf", simulated=False)
    assert not list(tmp_path.iterdir())
