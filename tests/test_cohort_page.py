"""The Cohort page: counts with their uncertainty, survival by any choice, each count a click away from its cells."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser.workspace_with_results import build
from pages import draw_page, texts
from streamlit.testing.v1 import AppTest

import dashboards
from ctcml import tables
from ctcml.workspace import Workspace
from dashboards import patient_charts, records, session, survival_charts
from dashboards.addresses import DENOMINATORS
from dashboards.views import cohort_counts, survival_report
from dashboards.views.cohort_counts import COLUMNS, counts_table
from dashboards.views.cohort_filters import Counted, People, narrowed, rows_of
from dashboards.views.cohort_survival import spread_rows
from dashboards.views.survival_report import curves_file, figures_file, medians_table, said_p

APP = Path(dashboards.__file__).with_name("app.py")
CTC = Counted(class_id="ctc", denominator="proposed", threshold=0.0)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return build(tmp_path_factory.mktemp("full"))


def counts_of(ws: Workspace) -> pd.DataFrame:
    found = records.counts(ws)
    assert isinstance(found, pd.DataFrame)
    return found


def clinical_of(ws: Workspace) -> pd.DataFrame:
    found = records.clinical(ws)
    assert isinstance(found, pd.DataFrame)
    return found


def stored(ws: Workspace, *, group: str = "all", source: str = "model", kind: str = "reports") -> dict[str, Any]:
    found = records.survival(ws)
    assert isinstance(found, dict)
    return next(one for one in found[kind] if (one["group"], one["source"]) == (group, source))


def shown_table(app: AppTest) -> pd.DataFrame:
    return next(one.value for one in app.dataframe if "per_7_5_ml" in one.value)


def test_the_counts_of_the_address_are_shown_most_cells_first_with_all_that_is_known(full: Workspace) -> None:
    app = draw_page(
        "cohort", full, **{"class": "WBC", "among": DENOMINATORS["all"], "when": "its probability is ≥ 0.75"}
    )
    assert not app.exception
    table = shown_table(app)
    counts = counts_of(full)
    rows = counts[
        (counts["class_id"] == "wbc") & (counts["denominator"] == "all") & np.isclose(counts["threshold"], 0.75)
    ]
    assert list(table.columns) == list(COLUMNS)
    assert sorted(table["count"]) == sorted(rows["count"])
    assert table["per_7_5_ml"].is_monotonic_decreasing
    assert "WBC among all objects, counted when its probability is ≥ 0.75." in texts(app)


def test_site_line_and_cancer_type_narrow_the_counts_together(full: Workspace) -> None:
    clinical = clinical_of(full)
    app = draw_page("cohort", full, cancer="Breast", site=["A", "B"], line="1")  # type: ignore[arg-type]
    wanted = clinical[
        (clinical["cancer_type"] == "breast") & clinical["site"].isin(["A", "B"]) & (clinical["line_of_therapy"] == "1")
    ]
    assert 0 < len(wanted) < len(clinical)
    assert set(shown_table(app)["sample_uid"]) == set(wanted["sample_uid"])


def test_first_samples_and_follow_up_samples_are_told_apart(full: Workspace) -> None:
    clinical, rows = clinical_of(full), rows_of(counts_of(full), CTC)
    by_draw = {draws: narrowed(rows, clinical, People(), draws=draws) for draws in ("every", "first", "later")}
    assert len(by_draw["first"]) == clinical["patient_uid"].nunique()
    assert by_draw["later"]["draw_day"].gt(0).all()
    assert len(by_draw["every"]) == len(by_draw["first"]) + len(by_draw["later"])


def test_filters_that_leave_nobody_say_so(full: Workspace, tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root)
    clinical = clinical_of(ws)
    lonely = clinical.assign(site=np.where(clinical["cancer_type"] == "lung", "Z", clinical["site"]))
    tables.write_table(lonely, tables.CLINICAL, ws.clinical, extra_prefix="covariate_")
    app = draw_page("cohort", ws, cancer="Breast", site="Z")
    assert "take one of them away" in app.info[0].value


def test_each_row_links_to_the_page_with_precisely_its_cells(full: Workspace) -> None:
    counted = Counted(class_id="tdev", denominator="all", threshold=0.9)
    rows = narrowed(rows_of(counts_of(full), counted), clinical_of(full), People())
    table = counts_table(rows, counted, records.class_names(full))
    for uid, address in zip(table["sample_uid"], table["address"], strict=True):
        assert address == (f"sample?sample={uid}&class=tdEV&among=all+objects&when=its+probability+is+%E2%89%A5+0.90")


def test_a_click_on_a_point_opens_that_sample_with_the_count_that_was_clicked(
    full: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = counts_of(full)
    row = rows_of(counts, Counted(class_id="wbc", denominator="all", threshold=0.0)).iloc[3]
    opened: list[tuple[str, str, dict[str, str]]] = []
    monkeypatch.setattr(cohort_counts, "go_to", lambda *what: opened.append(what))
    monkeypatch.setattr(cohort_counts, "chart", lambda figure, **_: [{"customdata": figure.data[0].customdata[0]}])
    rows = narrowed(counts[counts["sample_uid"] == row["sample_uid"]].loc[[row.name]], clinical_of(full), People())
    counted = Counted(class_id="wbc", denominator="all", threshold=0.0)
    cohort_counts.show_chart(rows, counted, records.class_names(full), simulated=True)
    assert opened == [("Sample", "sample", {"sample": row["sample_uid"], "class": "WBC", "among": "all objects"})]


def test_the_export_holds_the_table_as_it_is_shown(full: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(
        session, "export_button", lambda ws, label, data, **about: given.append({"data": data, **about})
    )
    rows = narrowed(rows_of(counts_of(full), CTC), clinical_of(full), People(cancer_type="lung"))
    cohort_counts.show_table(full, rows, CTC, {})
    (export,) = given
    lines = export["data"]().decode().splitlines()
    assert lines[0].split(",") == [name for name in COLUMNS if name != "address"]
    assert len(lines) == len(rows) + 1 == export["samples"] + 1


def test_each_sample_lies_on_a_side_of_its_cut_off_or_is_undecided(full: Workspace) -> None:
    app = draw_page("cohort", full)
    (said,) = (one.value for one in app.markdown if one.value.startswith("Of "))
    sides = rows_of(counts_of(full), CTC)["side"].value_counts()
    assert [int(one) for one in re.findall(r"\*\*(\d+)\*\*", said)] == [
        sides[name] for name in ("above", "undecided", "below")
    ]
    without = draw_page("cohort", full, **{"class": "WBC"})
    assert not any(one.value.startswith("Of ") for one in without.markdown)


@pytest.mark.parametrize("section", ["Counts", "Survival", "By hand and by model", "Subclasses"])
def test_each_section_of_a_full_workspace_is_drawn(section: str, full: Workspace) -> None:
    app = draw_page("cohort", full, show=section)
    assert not app.exception
    assert not app.error


def test_the_prespecified_comparison_is_the_one_of_the_stage_and_nothing_is_computed(
    full: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ctcml.cohort

    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed although it was stored")

    monkeypatch.setattr(ctcml.cohort, "cohort_report", never)
    for address in ({}, {"counted": "hand, at the time"}, {"cancer": "Breast"}, {"from": "a landmark"}):
        app = draw_page("cohort", full, show="Survival", **address)
        assert not app.exception, address
    assert "Log-rank p" in [one.label for one in draw_page("cohort", full, show="Survival").metric]


@pytest.mark.parametrize(
    "address",
    [
        {"cut": "another number", "at": "3"},
        {"class": "tdEV", "cut": "another number"},
        {"among": DENOMINATORS["all"]},
        {"when": "its probability is ≥ 0.90"},
        {"cut": "searched"},
    ],
)
def test_whatever_is_not_prespecified_is_stamped_exploratory(address: dict[str, str], full: Workspace) -> None:
    assert "exploratory" not in texts(draw_page("cohort", full, show="Survival", cancer="Breast"))
    app = draw_page("cohort", full, show="Survival", cancer="Breast", **address)
    assert not app.exception
    assert ":orange-badge[exploratory]" in [one.value for one in app.markdown]


def test_a_searched_cut_off_comes_with_its_corrected_p_and_no_hazard_ratio(full: Workspace) -> None:
    app = draw_page("cohort", full, show="Survival", cut="searched")
    labels = [one.label for one in app.metric]
    assert "Searched cut-off" in labels
    assert "Log-rank p, corrected for the search" in labels
    assert "Hazard ratio" not in labels
    assert "permutations that repeat the search" in texts(app)
    assert "no hazard ratio at a searched cut-off" in app.warning[0].value


def test_a_narrowed_comparison_has_the_patients_of_the_filter(full: Workspace) -> None:
    clinical = clinical_of(full)
    wanted = clinical[clinical["site"].eq("A") & clinical["draw_day"].eq(0)]
    app = draw_page("cohort", full, show="Survival", site="A")
    arms = app.dataframe[0].value
    assert arms["Patients"].sum() == len(wanted)


def test_a_report_is_computed_once_until_its_tables_change(full: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    import ctcml.cohort

    times, true = [], ctcml.cohort.cohort_report

    def counting(*args: Any, **kwargs: Any) -> Any:
        times.append(1)
        return true(*args, **kwargs)

    monkeypatch.setattr(ctcml.cohort, "cohort_report", counting)
    for _ in range(2):
        draw_page("cohort", full, show="Survival", cut="another number", at="7")
    assert len(times) == 1


def test_every_way_of_counting_has_its_hazard_ratio_and_the_draws_come_last() -> None:
    source = {"n": 48, "hr": 2.0, "low": 1.0, "high": 4.0, "refusal": None}
    spread = {
        "sources": [
            {"name": "manual", **source},
            {"name": "reader anna", **source, "cells_read": 91, "cells_changed": 4},
            {"name": "model", **source, "hr": None, "refusal": "an arm has 2 events"},
        ],
        "draws": {
            "n": 200,
            "low": 1.4,
            "median": 2.1,
            "high": 2.9,
            "pooled": 2.0,
            "pooled_low": 0.9,
            "pooled_high": 4.5,
        },
    }
    assert spread_rows(spread) == [
        ("by hand, 48 patients", 2.0, 1.0, 4.0),
        ("reader anna, changed 4 of 91 cells", 2.0, 1.0, 4.0),
        ("200 draws of what tubes may hold", 2.1, 1.4, 2.9),
        ("the draws, pooled", 2.0, 0.9, 4.5),
    ]
    assert len(spread_rows(spread | {"draws": None})) == 2
    figure = survival_charts.ratios_chart(spread_rows(spread), simulated=True)
    assert list(figure.data[0].x) == [2.0, 2.0, 2.1, 2.0]
    assert "simulated data" in str(figure.layout.annotations)


def test_the_spread_of_the_hazard_ratio_and_the_c_index_are_on_the_page(full: Workspace) -> None:
    app = draw_page("cohort", full, show="Survival")
    told = texts(app)
    assert "The prespecified hazard ratio under each way of counting" in told
    assert re.search(r"C-index of the count in 48 patients: 0\.\d\d by the model, 0\.\d\d by hand", told)
    for other in ({"site": "A"}, {"from": "a landmark"}):  # it belongs to the prespecified comparison alone
        assert "under each way of counting" not in texts(draw_page("cohort", full, show="Survival", **other))


def test_the_table_of_risk_adds_up_at_each_time(full: Workspace) -> None:
    report = stored(full)
    figure = survival_charts.survival_chart(report, endpoint="os", simulated=True)
    rows = [[int(number) for number in trace.text] for trace in figure.data if trace.mode == "text"]
    assert len(rows) == 6
    for arm, (at_risk, censored, events) in zip(report["arms"], (rows[:3], rows[3:]), strict=True):
        assert [sum(column) for column in zip(at_risk, censored, events, strict=True)] == [arm["n"]] * len(at_risk)
    assert figure.layout.yaxis2.ticktext[0] == f"<b>{report['arms'][0]['name']}</b>  at risk"


def test_curves_from_a_landmark_say_where_their_time_begins(full: Workspace) -> None:
    for kind, told in (
        ("reports", "Months since the blood draw"),
        ("landmarks", "Months since the landmark at 1.4 months"),
    ):
        figure = survival_charts.survival_chart(stored(full, kind=kind), endpoint="os", simulated=True)
        assert figure.layout.xaxis.title.text == told


def test_the_hazard_over_the_count_passes_through_one_at_its_reference(full: Workspace) -> None:
    spline = stored(full)["spline"]
    figure = survival_charts.spline_chart(spline, simulated=True)
    line = figure.data[1]
    at = int(np.abs(np.asarray(line.customdata, dtype=float) - spline["reference"]).argmin())
    assert line.y[at] == pytest.approx(1, abs=0.1)
    assert figure.layout.yaxis.type == "log"
    assert figure.data[0].showlegend is False


def test_restricted_means_are_shown_where_the_hazard_ratio_changes_over_time(full: Workspace, tmp_path: Path) -> None:
    ws = Workspace(tmp_path)
    report = stored(full)
    means = {
        "horizon": 24.0, "difference": -6.5, "low": -9.0, "high": -4.0, "p": 0.002,
        "arms": [{"name": "few", "mean": 19.2, "low": 18, "high": 20}, {"name": "many", "mean": 12.7, "low": 11, "high": 14}],
    }  # fmt: skip
    changed = report | {"restricted": means, "cox": report["cox"] | {"proportional_p": 0.01}}
    ws.derived.mkdir()
    ws.survival.write_text(json.dumps({"simulated": True, "endpoint": "os", "reports": [changed]}))
    app = draw_page("cohort", ws, show="Survival")
    assert not app.exception
    shown = {one.label: one.value for one in app.metric}
    assert shown["Restricted mean, difference"] == "-6.5 months"
    assert "p 0.010, the ratio changes over time" in texts(app)
    assert "few 19.2, many 12.7" in texts(app)


def test_no_hazard_ratio_is_shown_without_the_check_of_proportional_hazards(full: Workspace) -> None:
    app = draw_page("cohort", full, show="Survival")
    assert "Hazard ratio" in [one.label for one in app.metric]
    assert sum("Proportional hazards: p " in one.value for one in app.caption) >= 2


def test_curves_and_figures_leave_the_page_as_files(full: Workspace) -> None:
    report = stored(full)
    assert curves_file(report, ".png", simulated=True).startswith(b"\x89PNG")
    assert b"<svg" in curves_file(report, ".svg", simulated=True)[:400]
    found = json.loads(figures_file(report, simulated=True))
    assert found["simulated"] is True
    assert found["logrank"] == report["logrank"]


def test_exports_of_survival_say_what_they_are(full: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(session, "export_button", lambda ws, label, data, **about: given.append(about))
    survival_report.export_buttons(full, stored(full), simulated=True)
    assert [one["file_name"] for one in given] == [
        f"survival-model-count-all-patients.{ending}" for ending in ("svg", "png", "json")
    ]
    assert all(one["what"] == "survival" and one["patients"] == 48 for one in given)


def test_looking_at_the_cohort_is_written_into_the_audit_log(full: Workspace, tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root, ignore=shutil.ignore_patterns("audit.jsonl"))
    draw_page("cohort", ws, show="Survival", cancer="Lung")
    (line,) = ws.audit.read_text().splitlines()
    assert "lung" in line
    assert "survival" in line


def test_a_p_value_is_never_printed_as_zero() -> None:
    assert said_p(1e-12) == "< 0.001"
    assert said_p(0.0499) == "0.050"


def test_the_cancer_type_of_the_address_filters_the_survival_analysis(full: Workspace) -> None:
    app = draw_page("cohort", full, show="Survival", cancer="Lung")
    assert app.session_state["cancer"] == "lung"
    assert "events among" in app.warning[0].value


def test_an_arm_without_a_curve_has_no_median_rather_than_one_not_reached(full: Workspace) -> None:
    arms = medians_table(stored(full, group="lung"))
    assert arms.loc[arms["Events"] < 5, "Median, months"].tolist() == ["–"]


def test_the_count_chart_draws_each_sample_once_and_a_cut_off_for_each_cancer_type(full: Workspace) -> None:
    counts = records.counts(full)
    assert isinstance(counts, pd.DataFrame)
    rows = counts[(counts["class_id"] == "ctc") & (counts["threshold"] == 0) & (counts["denominator"] == "proposed")]
    figure = patient_charts.counts_chart(rows, name_of_class="CTC", simulated=True)
    drawn = np.concatenate([np.asarray(trace.y, dtype=float) for trace in figure.data if trace.customdata is not None])
    assert sorted(np.expm1(drawn).round(3)) == sorted(rows["per_7_5_ml"].round(3))
    said = " ".join(str(one.text) for one in figure.layout.annotations)
    assert said.count("cut-off") == 4
    assert said.count("exploratory") == 1
    assert "simulated data" in said


def test_a_class_without_a_cut_off_is_drawn_without_a_line(full: Workspace) -> None:
    counts = records.counts(full)
    assert isinstance(counts, pd.DataFrame)
    rows = counts[(counts["class_id"] == "wbc") & (counts["threshold"] == 0) & (counts["denominator"] == "all")]
    figure = patient_charts.counts_chart(rows, name_of_class="WBC", simulated=False)
    said = " ".join(str(one.text) for one in figure.layout.annotations)
    assert "cut-off" not in said
    assert "simulated" not in said


def test_survival_curves_are_steps_and_a_refused_arm_keeps_its_numbers_at_risk() -> None:
    arm = {
        "name": "< 5",
        "n": 4,
        "events": 2,
        "times": [0, 3, 8],
        "survival": [1, 0.75, 0.5],
        "low": [1, 0.1, 0.05],
        "high": [1, 0.9, 0.8],
        "censored": [5],
        "at_risk": [4, 2],
    }
    thin = {
        "name": "≥ 5",
        "n": 1,
        "events": 0,
        "times": [],
        "survival": [],
        "low": [],
        "high": [],
        "censored": [],
        "at_risk": [1, 0],
    }
    figure = survival_charts.survival_chart({"arms": [arm, thin], "risk_times": [0, 6]}, endpoint="os", simulated=True)
    curve = next(trace for trace in figure.data if trace.name and trace.name.startswith("< 5"))
    assert list(curve.x) == [0, 3, 3, 8, 8]
    assert list(curve.y) == [1, 1, 0.75, 0.75, 0.5]
    assert [list(trace.text) for trace in figure.data if trace.mode == "text"] == [["4", "2"], ["1", "0"]]


def test_a_survival_analysis_that_was_refused_says_why(tmp_path: Path) -> None:
    ws = Workspace(tmp_path)
    ws.derived.mkdir()
    thin = {
        "name": "≥ 5",
        "n": 1,
        "events": 0,
        "median": None,
        "median_low": None,
        "median_high": None,
        "times": [],
        "survival": [],
        "low": [],
        "high": [],
        "censored": [],
        "at_risk": [1],
    }
    report = {
        "label": "model, all",
        "source": "model",
        "group": "all",
        "exploratory": False,
        "n": 1,
        "events": 0,
        "arms": [thin],
        "risk_times": [0],
        "logrank": None,
        "cox": None,
        "refusals": ["arm ≥ 5: 0 events among 1 patients"],
        "notes": [],
    }
    ws.survival.write_text(json.dumps({"simulated": False, "endpoint": "os", "reports": [report]}))
    app = draw_page("cohort", ws, show="Survival")
    assert not app.exception
    assert app.warning[0].value == "arm ≥ 5: 0 events among 1 patients"
