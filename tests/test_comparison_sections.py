"""The sections "by hand and by model" and "subclasses": every figure is drawn, and what is missing names its command."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser.workspace_with_results import build
from pages import draw_page
from streamlit.testing.v1 import AppTest

from ctcml.by_hand import UNTOLD
from ctcml.workspace import Workspace
from dashboards import records
from dashboards.comparison_charts import hazards_chart, ratios_chart, subclasses_chart, tubes_chart
from dashboards.views.comparison import by_cancer_type, captions_of, changes_table, of_hand
from dashboards.views.subclasses import portraits_table, remarks, survival_table


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return build(tmp_path_factory.mktemp("full"), patients=24)


@pytest.fixture
def copy(full: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(full.root, tmp_path / "copy")
    return Workspace(tmp_path / "copy")


def section(name: str, ws: Workspace, group: str = "all", **address: str) -> AppTest:
    return draw_page(name, ws, group, **address)


def words(app: AppTest) -> str:
    return " ".join(one.value for kind in (app.caption, app.markdown, app.info, app.warning) for one in kind)


@pytest.mark.parametrize(
    ("name", "command"), [("comparison", "ctcml repro compare"), ("subclasses", "ctcml repro subclass")]
)
def test_an_empty_workspace_names_the_command_once(name: str, command: str, tmp_path: Path) -> None:
    app = section(name, Workspace(tmp_path))
    assert not app.exception
    assert len(app.info) == 1
    assert command in app.info[0].value


@pytest.mark.parametrize("group", ["all", "breast", "lung"])
def test_hand_and_model_are_compared_for_all_and_for_each_cancer_type(full: Workspace, group: str) -> None:
    app = section("comparison", full, group)
    assert not app.exception
    assert not app.info
    report = records.by_hand(full)
    assert isinstance(report, dict)
    figures = next(one for one in report["operator"]["groups"] if one["group"] == group)
    metrics = {one.label: (one.value, one.delta) for one in app.metric}
    for label, name in (
        ("Events on which both agree", "agreement"),
        ("CTCs by hand that the model finds", "hand_found"),
    ):
        one = figures[name]
        assert metrics[label] == (f"{one['value']:.1%}", f"{one['low']:.1%} to {one['high']:.1%}")
    assert "Lin's concordance" in metrics
    assert f"{figures['events']:,} events that CellSearch itself presented" in words(app)
    assert "83.8 %" in words(app)


def test_the_address_names_the_hand(full: Workspace) -> None:
    app = section("comparison", full, hand="readers, cells that the model learnt")
    assert not app.exception
    assert "flatter" in words(app)
    assert "settled cells, whether CellSearch presented them or not" in words(app)


def test_a_source_without_the_operators_calls_is_said_to_and_shows_the_readers(copy: Workspace) -> None:
    report = json.loads(copy.by_hand.read_text())
    copy.by_hand.unlink()
    copy.by_hand.write_text(json.dumps(report | {"operator": {"says": UNTOLD, "groups": []}}))
    app = section("comparison", copy)
    assert not app.exception
    assert "the source does not say which events its operator called a CTC" in words(app)
    assert any(one.label == "Events on which both agree" for one in app.metric)
    copy.by_hand.unlink()
    copy.by_hand.write_text(json.dumps(report | {"operator": {"says": UNTOLD, "groups": []}, "readers": []}))
    assert "No cell of this comparison has been settled by readers yet" in words(section("comparison", copy))


def test_who_changes_side_is_listed_by_pseudonym_with_a_way_to_the_cells(full: Workspace) -> None:
    tubes = records.by_hand_samples(full)
    assert isinstance(tubes, pd.DataFrame)
    moved = tubes[tubes["changes_side"]]
    table = changes_table(moved)
    assert len(table) == len(moved) > 0
    assert table["address"].iloc[0] == f"sample?sample={moved['sample_uid'].iloc[0]}"
    assert set(table["side_manual"]) <= {"above", "below"}
    app = section("comparison", full)
    assert f"{len(moved)} of {tubes['cutoff'].notna().sum()} tubes with a cut-off change side" in words(app)


def test_a_group_that_nobody_counted_by_hand_is_said_to_be_so(full: Workspace) -> None:
    app = section("comparison", full, "pancreas")
    assert not app.exception
    assert "No tube here was counted by hand and by the model" in words(app)


def test_the_figures_of_a_hand_that_is_not_in_the_report_are_empty() -> None:
    assert of_hand({"operator": {"groups": [], "says": ""}, "events": "", "readers": []}, "evaluation")["groups"] == []


def test_captions_say_what_the_other_one_says() -> None:
    row = {"cell_uid": "c", "called_by": "model", "predicted": "ctc", "read_as": "", "p_ctc": 0.978}
    assert captions_of(pd.DataFrame([row, row | {"cell_uid": "d", "read_as": "other"}])) == {
        "c": "0.98 no CTC",
        "d": "0.98 other",
    }


def test_the_table_by_cancer_type_leaves_the_sum_out() -> None:
    estimate = {"value": 0.9, "low": 0.8, "high": 1.0}
    one = {"events": 10, "both": 3, "hand_only": 1, "model_only": 2, **dict.fromkeys(("agreement", "hand_found", "model_confirmed", "kappa"), estimate)}  # fmt: skip
    table = by_cancer_type([{"group": "all", **one}, {"group": "lung", **one}])
    assert table["Cancer type"].tolist() == ["lung"]
    assert table[["CTCs by hand", "CTCs by the model"]].to_numpy().tolist() == [[4, 5]]


@pytest.mark.parametrize("group", ["all", "breast"])
def test_subclasses_are_told_drawn_and_stamped_exploratory(full: Workspace, group: str) -> None:
    app = section("subclasses", full, group)
    assert not app.exception
    assert not app.info
    assert "exploratory" in words(app)
    shown = [frame.value for frame in app.dataframe]
    assert shown[0]["Subclass"].tolist() == [f"tdev-{number}" for number in range(1, 7)]
    assert "p, corrected" in shown[1]


def test_a_refused_class_is_shown_with_its_sentence(copy: Workspace) -> None:
    report = json.loads(copy.subclass_report.read_text())
    refused = {"class_id": "ctc", "wanted": 3, "refusal": "ctc: 12 cells of training patients, at least 60 are needed", "cells": 0, "subclasses": [], "survival": [], "sheets": {}, "map": None, "hazards": None}  # fmt: skip
    copy.subclass_report.unlink()
    copy.subclass_report.write_text(json.dumps(report | {"classes": [refused]}))
    app = section("subclasses", copy)
    assert not app.exception
    assert app.warning[0].value == "Ctc: 12 cells of training patients, at least 60 are needed."


def test_a_lost_picture_names_the_command_that_draws_it(copy: Workspace) -> None:
    (copy.pictures / "subclasses" / "tdev-2.png").unlink()
    app = section("subclasses", copy)
    assert not app.exception
    assert "tdev-2.png: not there; `ctcml repro subclass` draws it" in words(app)


def test_a_subclass_without_a_hazard_ratio_has_its_refusal_in_the_table(full: Workspace) -> None:
    report = records.subclass_report(full)
    assert isinstance(report, dict)
    one = report["classes"][0]["survival"][0]
    thin = one | {"cox_log_count": None, "logrank": None, "p_corrected": None, "refusals": ["arm < 2: too few"]}
    row = survival_table([thin]).iloc[0]
    assert (row["Hazard ratio"], row["p, corrected"], row["Log-rank p of the arms"]) == ("–", "–", "–")
    assert remarks([thin])[0] == "tdev-1: arm < 2: too few."
    assert portraits_table(report["classes"][0])["Stability"].str.contains("stable").all()


def some_tubes() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample_uid": ["s-1", "s-2", "s-3"], "patient_uid": ["0123456789ab"] * 3, "cancer_type": ["breast", "breast", "lung"],
            "manual": [4.0, 0.0, 9.0], "model": [6.0, 0.0, 7.0], "low": [2.0, 0.0, 3.0], "high": [13.0, 3.0, 15.0],
            "cutoff": [5.0, 5.0, 5.0], "exploratory": [False, False, True],
            "side_manual": ["below", "below", "above"], "side_model": ["above", "below", "above"], "changes_side": [True, False, False],
        }
    )  # fmt: skip


def test_a_point_says_a_short_pseudonym_and_leads_to_its_sample() -> None:
    figure = tubes_chart(some_tubes(), simulated=True)
    breast, lung = figure.data[1:]
    assert (breast.name, lung.name) == ("breast", "lung")
    assert list(breast.customdata[0]) == ["01234567", 4.0, 6.0, 2.0, 13.0, "below → above", "s-1"]
    assert breast.marker.line.width == (2, 0)  # the one that changes side is ringed
    assert breast.marker.symbol != lung.marker.symbol
    assert np.abs(np.array(breast.x) - np.log1p([4.0, 0.0])).max() < 0.05
    lines = {(shape.line.dash, round(float(shape.x0), 3)) for shape in figure.layout.shapes if shape.x0 == shape.x1}
    assert lines == {("dash", 1.792), ("dot", 1.792)}  # ln(1 + 5), cleared and exploratory


def test_the_limits_of_agreement_are_drawn_where_they_are() -> None:
    figures = {name: {"value": value, "low": value * 0.9, "high": value * 1.1} for name, value in (("bias", 1.2), ("lower", 0.5), ("upper", 2.9))}  # fmt: skip
    figure = ratios_chart(some_tubes(), figures, simulated=False)
    heights = {round(float(np.exp(shape.y0)), 3) for shape in figure.layout.shapes if shape.y0 == shape.y1}
    assert heights == {1.2, 0.5, 2.9}
    nothing = {"value": None, "low": None, "high": None}
    assert not ratios_chart(
        some_tubes(), dict.fromkeys(("bias", "lower", "upper"), nothing), simulated=False
    ).layout.shapes


def test_subclasses_without_a_hazard_ratio_have_no_point() -> None:
    fit = {"hr": 1.5, "low": 1.1, "high": 2.0}
    reports = [
        {"class_id": "tdev", "subclass": 1, "cox_log_count": fit},
        {"class_id": "tdev", "subclass": 2, "cox_log_count": None},
    ]
    assert list(hazards_chart(reports, simulated=False).data[0].y) == ["tdev-1"]
    counts = pd.DataFrame({"subclass": [1, 2], "per_7_5_ml": [3.0, 0.0], "low": 0.0, "high": 9.0, "patient_uid": "0123456789ab"})  # fmt: skip
    assert [box.name for box in subclasses_chart(counts, ["tdev-1", "tdev-2"], simulated=True).data] == [
        "tdev-1",
        "tdev-2",
    ]
