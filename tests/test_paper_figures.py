"""Figures from made-up cells: drawn twice as SVG and PNG, stamped, or with the reason why there is none."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ctcml.model import make_model
from ctcml.paper_figures import (
    A_PLACE,
    PLACES,
    Drawn,
    Easel,
    Mapped,
    _four_places,
    figure_2,
    figure_2_rebuilt,
    figure_3,
    figure_5,
    figure_6,
    supplementary_1,
)
from ctcml.paper_survival import survival_reports

CLASSES = ["ctc", "tdev", "wbc"]


@pytest.fixture
def easel(tmp_path: Path) -> Easel:
    return Easel(folder=tmp_path, simulated=True)


def cells(number: int = 60, classes: Any = CLASSES) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "cell_uid": [f"c{at}" for at in range(number)],
            "sample_uid": "s1",
            "patient_uid": [f"p{at % 7}" for at in range(number)],
            "class_id": [classes[at % len(classes)] for at in range(number)],
            "cancer_type": rng.choice(["breast", "lung"], number),
        }
    )


def a_map(number: int = 60, called: str = "wbc") -> Mapped:
    return Mapped(places=np.random.default_rng(2).normal(size=(number, 2)), predicted=[called] * number)


def overlays(chosen: pd.DataFrame) -> dict[str, Any]:
    return {uid: np.full((30, 26, 3), 90, np.uint8) for uid in chosen["cell_uid"]}


def pictured(easel: Easel, drawn: Drawn) -> None:
    with Image.open(easel.folder / f"{drawn.stem}.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 10
    assert "<svg" in (easel.folder / f"{drawn.stem}.svg").read_text()


def test_fig_2_sets_both_networks_beside_each_other(easel: Easel) -> None:
    taught = ["ctc" if one == "ctc" else "no_ctc" for one in cells()["class_id"]]
    drawn = figure_2(easel, {"standard": a_map(), "autoencoder": a_map()}, cells(), taught)
    pictured(easel, drawn)
    assert "not told" in drawn.caption


def test_fig_2_shows_what_a_network_rebuilds_also_where_a_class_has_one_cell(easel: Easel) -> None:
    images = np.random.default_rng(3).integers(0, 255, (9, 80, 80, 3), dtype=np.uint8)
    drawn = figure_2_rebuilt(easel, make_model("autoencoder", 2), images, ["ctc"] * 8 + ["wbc"])
    pictured(easel, drawn)


def test_fig_3_says_what_a_class_was_called_that_the_network_never_learnt(easel: Easel) -> None:
    shown = cells(classes=["ctc", "wbc", "cd45ev"])
    maps, nine = figure_3(easel, a_map(), shown, "cd45ev", overlays, np.random.default_rng(4))
    assert "20 held-out cells of it are among the others. It calls them wbc (20)." in maps.caption
    assert nine.title.startswith("Fig. 3: 9 cells of cd45ev")
    for one in (maps, nine):
        pictured(easel, one)


def test_fig_5_needs_as_many_ctcs_as_it_shows(easel: Easel) -> None:
    few = cells(30)
    (missing,) = figure_5(easel, a_map(30), few, overlays, np.random.default_rng(5))
    assert missing.missing.startswith("10 settled CTCs are among the judged cells, and 20 are needed")
    assert not list(easel.folder.iterdir())
    drawn = figure_5(easel, a_map(90), cells(90), overlays, np.random.default_rng(5))
    assert [one.stem for one in drawn] == ["fig5-map", "fig5-cells", "fig5-frequency"]
    for one in drawn:
        pictured(easel, one)


def test_the_four_places_of_fig_5_leave_strays_out_and_show_no_cell_twice() -> None:
    rng = np.random.default_rng(6)
    xy = np.concatenate([rng.normal(size=(80, 2)), [[90.0, 90.0], [-90.0, 40.0]]])
    found = _four_places(xy, rng)
    rows = np.concatenate(found)
    assert [len(one) for one in found] == [A_PLACE] * PLACES
    assert len(set(rows.tolist())) == PLACES * A_PLACE
    assert not {80, 81} & set(rows.tolist())


def test_supplementary_1_says_when_no_ctc_was_missed(easel: Easel) -> None:
    none = {"mistakes": 0, "cells": 5, "low": None, "high": None, "above": [0], "classes": {}}
    report = {
        "thresholds": [0.75],
        "by_cancer_type": [{"cancer_type": "all", "patients": 3, "wrong": none, "missed": none, "false": none}],
        "by_probability": [],
    }
    false = cells(2).assign(kind="false", predicted="ctc", true_class="other", p_ctc=0.8, p_predicted=0.8)
    table, missed, shown = supplementary_1(easel, report, false, overlays)
    assert missed.missing == "the AE-CNN made no such mistake on the judged cells"
    for one in (table, shown):
        pictured(easel, one)


def reports(patients: int) -> Any:
    rng = np.random.default_rng(7)
    count = rng.integers(0, 12, patients)
    table = pd.DataFrame(
        {
            "cancer_type": "breast", "duration": rng.exponential(20, patients), "event": 1.0, "cutoff": 5.0,
            "manual": count, "standard": count, "autoencoder": count,
        }
    )  # fmt: skip
    return survival_reports(table, min_events=5, endpoint="os", denominator="proposed")


def test_fig_6_has_three_counts_of_all_patients_and_of_breast_cancer(easel: Easel) -> None:
    drawn = figure_6(easel, reports(50))
    assert [one.title.split(":")[0] for one in drawn] == [f"Fig. 6{letter}" for letter in "abcdef"]
    pictured(easel, drawn[0])


def test_fig_6_prints_refusals_for_all_patients_and_leaves_a_refused_cancer_type_out(easel: Easel) -> None:
    drawn = figure_6(easel, reports(12))
    assert [one.stem for one in drawn] == ["fig6-all-manual", "fig6-all-standard", "fig6-all-autoencoder"]
    assert "at least 5 are needed" in drawn[0].caption
