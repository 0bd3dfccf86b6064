from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ctcml.survival_pictures import km_plot, spread_plot

ARM: dict[str, Any] = {
    "name": "< 5", "n": 4, "events": 2, "median": 12.0, "median_low": 6.0, "median_high": None,
    "times": [0.0, 6.0, 9.0, 12.0], "survival": [1.0, 0.75, 0.75, 0.4], "low": [1.0, 0.2, 0.2, 0.05],
    "high": [1.0, 0.95, 0.95, 0.8], "censored": [9.0], "at_risk": [4, 3, 1], "events_before": [0, 1, 2],
    "censored_before": [0, 0, 1],
}  # fmt: skip
REPORT: dict[str, Any] = {
    "label": "breast cancer", "endpoint": "os", "landmark_months": None, "exploratory": False,
    "risk_times": [0.0, 6.0, 12.0], "arms": [ARM, {**ARM, "name": "≥ 5", "median": None, "median_low": None}],
    "logrank": {"chi2": 6.0, "p": 0.0143}, "refusals": [], "notes": [], "searched": None, "restricted": None,
    "cox": {"hr": 2.1, "low": 1.2, "high": 3.7, "p": 0.01, "proportional_p": 0.5},
    "follow_up": {"median": 23.7, "low": 20.0, "high": None},
}  # fmt: skip
SOURCE: dict[str, Any] = {
    "name": "manual", "n": 60, "hr": 2.0, "low": 1.1, "high": 3.6, "proportional_p": 0.4, "refusal": None,
    "cells_read": None, "cells_changed": None, "patients_changed": None,
}  # fmt: skip
SPREAD: dict[str, Any] = {
    "sources": [
        SOURCE,
        {**SOURCE, "name": "reader anna", "cells_read": 158, "cells_changed": 29, "patients_changed": 22},
        {**SOURCE, "name": "model", "hr": None, "low": None, "high": None, "refusal": "an arm has 2 events"},
    ],
    "draws": {
        "n": 400, "refused": 0, "low": 1.6, "median": 1.9, "high": 2.2, "pooled": 1.9, "pooled_low": 1.0,
        "pooled_high": 3.6,
    },
}  # fmt: skip


def drawn(path: Path) -> str:
    """The text that is drawn in an SVG: matplotlib leaves each string in a comment beside its glyphs."""
    return path.read_text(encoding="utf-8")


def km(tmp_path: Path, *, simulated: bool = False, unit: str = "months", **changed: Any) -> str:
    km_plot({**REPORT, **changed}, tmp_path / "km.svg", simulated=simulated, unit=unit)
    return drawn(tmp_path / "km.svg")


def test_below_the_curves_stands_who_is_at_risk_and_who_was_lost_or_died_before(tmp_path: Path) -> None:
    text = km(tmp_path)
    for words in ("At risk", "Censored", "Events", "Overall survival", "Months", "Breast cancer"):
        assert words in text


def test_the_figures_stand_with_their_intervals_and_the_check_of_proportional_hazards(tmp_path: Path) -> None:
    text = km(tmp_path)
    for words in (
        "Median &lt; 5: 12.0 months (95% CI 6.0 to not reached)",
        "Median ≥ 5: not reached",
        "Log-rank p = 0.014",
        "Hazard ratio 2.10 (95% CI 1.20 to 3.70; proportional hazards p = 0.50)",
        "Median follow-up (reverse Kaplan-Meier): 23.7 months",
    ):
        assert words in text
    for words in ("SIMULATED", "EXPLORATORY", "not proportional"):
        assert words not in text


def test_simulated_and_exploratory_curves_are_stamped_in_the_picture(tmp_path: Path) -> None:
    text = km(tmp_path, simulated=True, exploratory=True)
    assert "SIMULATED DATA" in text
    assert "EXPLORATORY" in text


def test_a_hazard_ratio_that_is_only_an_average_says_so_and_gives_the_restricted_means(tmp_path: Path) -> None:
    arms = [{"name": name, "mean": mean, "low": 1.0, "high": 30.0} for name, mean in (("< 5", 21.2), ("≥ 5", 11.3))]
    means = {"horizon": 35.0, "arms": arms, "difference": -9.8, "low": -13.7, "high": -6.0, "p": 1e-6}
    text = km(tmp_path, cox={**REPORT["cox"], "proportional_p": 0.001}, restricted=means)
    assert "Hazards not proportional" in text
    assert "Mean within 35 months: 21.2 and 11.3, difference -9.8 (95% CI -13.7 to -6.0; p &lt; 0.001)" in text


def test_refused_arms_are_drawn_as_words_and_not_as_curves(tmp_path: Path) -> None:
    empty = {**ARM, "times": [], "survival": [], "low": [], "high": [], "censored": [], "median": None}
    text = km(
        tmp_path, arms=[empty, empty], logrank=None, cox=None, refusals=["arm < 5: 1 event; no curve and no comparison"]
    )
    assert "Arm &lt; 5: 1 event" in text
    assert "no curve: see below" in text
    assert "Median" not in text


def test_curves_from_a_landmark_name_it_on_their_axis(tmp_path: Path) -> None:
    assert "Months from the landmark (at 1.4 months)" in km(tmp_path, landmark_months=1.38, endpoint="pfs")
    assert "Days from the landmark (at 42 days)" in km(tmp_path, landmark_months=42, unit="days")
    assert "Progression-free survival" in km(tmp_path, endpoint="pfs")


def test_the_p_of_a_searched_cut_off_says_that_it_pays_for_the_search(tmp_path: Path) -> None:
    searched = {"cutoff": 5.0, "chi2": 20.0, "p_corrected": 0.0143, "candidates": 12, "permutations": 500}
    assert "Log-rank p = 0.014, corrected for the search" in km(tmp_path, searched=searched)


def test_a_spread_shows_each_way_to_count_how_much_a_reader_changed_and_what_was_refused(tmp_path: Path) -> None:
    spread_plot(SPREAD, tmp_path / "s.svg", label="Who read the cells", simulated=True, exploratory=True)
    text = drawn(tmp_path / "s.svg")
    for words in (
        "2.00 (1.10 to 3.60), n = 60",
        "29 of 158 cells read change 22 counts",
        "an arm has 2 events",
        "400 draws of the counts",
        "1.90 (1.60 to 2.20)",
        "SIMULATED DATA",
        "EXPLORATORY",
    ):
        assert words in text


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_survival_is_the_same_bytes_twice_and_holds_ink(tmp_path: Path, kind: str) -> None:
    for name in ("a", "b"):
        km_plot(REPORT, tmp_path / f"km-{name}.{kind}", simulated=True)
        spread_plot(SPREAD, tmp_path / f"s-{name}.{kind}", label="Spread", simulated=True, exploratory=False)
    for what in ("km", "s"):
        assert (tmp_path / f"{what}-a.{kind}").read_bytes() == (tmp_path / f"{what}-b.{kind}").read_bytes()
        if kind == "png":
            picture = np.asarray(Image.open(tmp_path / f"{what}-a.png").convert("L"))
            assert (picture < 200).mean() > 0.005
