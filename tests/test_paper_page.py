"""The page and the files of a report from made-up results: stamps, the paper's column, what is missing, what is unknown."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctcml.paper_figures import Drawn
from ctcml.paper_page import page
from ctcml.paper_report import write_report
from ctcml.paper_tables import cards, set_tables, threshold_tables
from ctcml.published import SIX

ABOUT: dict[str, Any] = {
    "made": "2026-03-02T12:00:00+00:00", "data_version": None, "code_commit": None, "software": "ctcml 0", "networks": [],
    "machine": {"threads": 1, "device": "cpu"}, "durations_s": {"whole": 60.0, "networks": 30.0},
    "parameters": {
        "profile": "modern", "seed": 20, "seeds": 1, "image": {"recipe": "asinh"},
        "numbers": {"betas": (0.0, 100.0), "epochs": (2, 8)},
    },
}  # fmt: skip


def results(*, simulated: bool = True, seeds: int = 1, survival: dict[str, Any] | None = None) -> dict[str, Any]:
    classes = tuple(sorted(SIX))
    rng = np.random.default_rng(1)
    truth, patients = rng.choice(classes, 400).astype(object), np.repeat([f"p{at:02}" for at in range(20)], 20)
    said: Any = {name: [rng.dirichlet(np.ones(6), 400) for _ in range(seeds)] for name in ("standard", "autoencoder")}
    dice = np.random.default_rng(2)
    mistaken = {"mistakes": 1, "cells": 9, "low": 0.0, "high": 0.4, "above": [1], "classes": {"wbc": 1}}
    of_type = {"patients": 9, "wrong": mistaken, "missed": mistaken, "false": {**mistaken, "cells": 0, "mistakes": 0}}
    beside = {"breast": {"wrong": 0.05, "cells": 3460}, "<sarcoma>": {"wrong": None, "cells": None}}
    return {
        "simulated": simulated, "seeds": seeds, "judged_on": "held-out patients", "notes": ["other: too few"], "in_short": ["short"],
        "sets": [
            {
                "name": "all 6 classes", "left_out": [],
                "tables": set_tables(truth, patients, classes, said, bootstrap=50, rng=dice),
                "cards": cards(truth, patients, classes, said, bootstrap=50, seed=1),
            }
        ],
        "thresholds": threshold_tables(truth, patients, classes, said, thresholds=(0.75, 0.9), bootstrap=50, rng=dice),
        "mistakes": {
            "thresholds": [0.75], "by_probability": [],
            "by_cancer_type": [{"cancer_type": name, "paper": paper, **of_type} for name, paper in beside.items()],
        },
        "survival": survival or {"reports": [], "agreement": [], "denominator": "proposed", "patients": 0, "trained_on": 0},
    }  # fmt: skip


def drawn(missing: str = "the clinical table has no follow-up") -> list[Drawn]:
    return [Drawn(number="6", stem="fig6-all", title="Fig. 6: survival by counts", missing=missing)]


@pytest.fixture
def html(tmp_path: Path) -> str:
    return page(tmp_path, results(), drawn(), [], ABOUT)


def test_the_papers_figures_are_a_column_of_their_own_with_a_word_on_what_they_are(html: str) -> None:
    assert "<td>95.5%</td>" in html  # "from 95.47% accuracy to 96.43% accuracy"
    assert "<td>96.4%</td>" in html
    assert "no figure has to equal them" in html
    assert "<td>36</td>" in html  # "36 true CTCs were not recognized"
    assert "5% of 3,460" in html


def test_one_training_a_network_is_said_not_to_compare_the_kinds(html: str, tmp_path: Path) -> None:
    assert "Each network was trained once" in html
    several = page(tmp_path, results(seeds=3), drawn(), [], ABOUT)
    assert "Each network was trained once" not in several
    assert "Means over 3 seeds" in several
    assert "over seeds (" in several


def test_a_missing_figure_says_why_and_names_from_tables_are_escaped(html: str) -> None:
    assert "not drawn, because the clinical table has no follow-up." in html
    assert "&lt;sarcoma&gt;" in html
    assert "<sarcoma>" not in html


def test_real_data_are_not_called_simulated(tmp_path: Path, html: str) -> None:
    assert "SIMULATED DATA" in html
    assert "SIMULATED" not in page(tmp_path, results(simulated=False), drawn(), [], ABOUT)


def test_counts_of_all_events_are_called_exploratory(tmp_path: Path) -> None:
    arm = {"name": "< 5", "n": 9, "events": 2, "median": None, "median_low": None, "median_high": None}
    refused = {
        "label": "AE-CNN, all patients", "group": "all", "source": "autoencoder", "n": 9, "events": 2, "refusals": ["too few"],
        "arms": [arm, arm], "cox": None, "logrank": None, "exploratory": True, "paper_medians": None,
    }  # fmt: skip
    found = {"reports": [refused], "agreement": [], "denominator": "all", "patients": 9, "trained_on": 4}
    html = page(tmp_path, results(survival=found), drawn(), [], ABOUT)
    assert "<b>Exploratory:</b>" in html
    assert "Of these patients 4 are among those whose labelled cells trained the networks" in html
    assert "too few" in html


def test_the_folder_holds_page_tables_checklists_and_report_and_stays_out_of_git(tmp_path: Path) -> None:
    report = write_report(tmp_path, results(), drawn(), {"seed": "20"}, about=ABOUT)
    names = {one.relative_to(tmp_path).as_posix() for one in tmp_path.rglob("*") if one.is_file()}
    tables = {f"tables/{name}.csv" for name in ("figures", "confusion", "thresholds", "mistakes", "survival")}
    lists = {"checklist-remark.md", "checklist-tripod-ai.md", "checklist-claim.md"}
    assert names == {"report.html", "report.json", ".gitignore"} | tables | lists
    assert json.loads((tmp_path / "report.json").read_text())["sets"][0]["name"] == report["sets"][0]["name"]
    with (tmp_path / "tables" / "figures.csv").open() as file:
        accuracy = next(one for one in csv.DictReader(file) if one["figure"] == "accuracy")
    assert (accuracy["standard_paper"], accuracy["autoencoder_paper"]) == ("0.9547", "0.9643")
    assert (tmp_path / ".gitignore").read_text().endswith("*\n")
