"""What the dashboard reads, what it imports, and what it says when there is nothing to show."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser.workspace_with_results import build
from pages import draw_page as page
from streamlit.testing.v1 import AppTest

import dashboards
from ctcml import tables
from ctcml.audit import entries
from ctcml.errors import BadInput, BadTable
from ctcml.workspace import Workspace
from dashboards import atlas, data_records, model_charts, records, scorecard_charts
from dashboards.palette import CLASS_COLOURS, SPARE_COLOURS, class_colours
from dashboards.records import NotMade
from dashboards.views.pieces import said
from dashboards.views.review import agreement_table, by_class, overall, said_of_checks
from dashboards.views.scorecards import beside_table, said_of_worst, shares
from dashboards.views.verdict import change_table, open_reasons, said_of_changes

APP = Path(dashboards.__file__).with_name("app.py")
PAGES = ("cohort", "latent_map", "discovery", "review", "models", "data")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return build(tmp_path_factory.mktemp("full"))


def test_the_dashboard_reaches_no_torch_prefect_mlflow_or_label_studio_even_indirectly() -> None:
    forbidden = ["torch", "prefect", "mlflow", "label_studio_sdk", "labelstudio", "flows", "lifelines", "sklearn"]
    code = (
        "import pkgutil, sys, dashboards.app, dashboards.screenshot, dashboards.views;"
        "[__import__(one.name) for one in pkgutil.iter_modules(dashboards.views.__path__, 'dashboards.views.')];"
        f"print([name for name in {forbidden} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=APP.parents[1])
    assert done.stdout.strip() == "[]"


def test_an_argument_names_the_workspace_before_the_environment_does(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    environment = {"CTCML_WORKSPACE": str(tmp_path / "b")}
    assert records.open_workspace([], environment).root.name == "b"
    assert records.open_workspace(["--workspace", str(tmp_path / "a")], environment).root.name == "a"
    assert records.open_workspace([f"--workspace={tmp_path / 'a'}"], {}).root.name == "a"


def test_without_a_workspace_one_line_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="set CTCML_WORKSPACE"):
        records.open_workspace([], {})
    with pytest.raises(BadInput, match="ctcml init"):
        records.open_workspace(["--workspace", str(tmp_path / "nowhere")], {})


def test_the_app_shows_an_error_as_one_line_and_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTCML_WORKSPACE", str(tmp_path / "nowhere"))
    app = AppTest.from_file(str(APP), default_timeout=60).run()
    assert "is not a folder" in app.error[0].value
    assert not app.exception


@pytest.mark.parametrize("name", PAGES)
def test_an_empty_workspace_names_the_command_that_makes_what_is_missing(name: str, tmp_path: Path) -> None:
    app = page(name, Workspace(tmp_path))
    assert not app.exception
    assert app.info
    assert all("Run `ctcml " in info.value for info in app.info)


@pytest.mark.parametrize("name", PAGES)
def test_each_page_of_a_full_workspace_is_drawn_without_an_empty_place(name: str, full: Workspace) -> None:
    app = page(name, full)
    assert not app.exception
    assert not app.info
    assert not app.error


@pytest.mark.parametrize("name", PAGES)
def test_the_audit_log_hears_of_each_page_that_shows_patients(name: str, full: Workspace) -> None:
    before = len(list(entries(full)))
    page(name, full)
    told = list(entries(full))[before:]
    assert [(one.who, one.action) for one in told] == [("local", "view")]
    assert name.removeprefix("latent_") in told[0].what


def test_the_first_page_says_research_use_only_and_simulated(full: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTCML_WORKSPACE", str(full.root))
    app = AppTest.from_file(str(APP), default_timeout=60).run()
    badges = " ".join(element.value for element in app.markdown)
    assert "RESEARCH USE ONLY" in badges
    assert "SIMULATED DATA" in badges
    assert [metric.value for metric in app.metric[:4]] == ["48", f"{len(records.manifest(full)):,}", "version 2", "5"]


def test_real_patients_are_not_called_simulated(full: Workspace, tmp_path: Path) -> None:
    people = records.clinical(full)
    assert isinstance(people, pd.DataFrame)
    assert records.is_simulated(full)
    real = Workspace(tmp_path)
    tables.write_table(
        people.assign(covariate_simulated="no"), tables.CLINICAL, real.clinical, extra_prefix="covariate_"
    )
    assert not records.is_simulated(real)
    assert not records.is_simulated(Workspace(tmp_path / "empty"))


def test_a_table_made_again_is_read_again(full: Workspace, tmp_path: Path) -> None:
    people = records.clinical(full)
    assert isinstance(people, pd.DataFrame)
    ws = Workspace(tmp_path)
    for rows in (3, 7):
        tables.write_table(people.head(rows), tables.CLINICAL, ws.clinical, extra_prefix="covariate_")
        assert records.cards(ws).patients == rows


def test_a_cluster_in_the_address_that_does_not_exist_is_ignored(full: Workspace) -> None:
    assert page("discovery", full, cluster="999").session_state["cluster"] is None
    assert page("discovery", full, cluster="1").session_state["cluster"] == 1


def test_a_broken_report_is_named_in_one_line(tmp_path: Path) -> None:
    ws = Workspace(tmp_path)
    ws.derived.mkdir()
    ws.survival.write_text("{half a report")
    with pytest.raises(BadTable, match=r"survival\.json: not readable as JSON"):
        records.survival(ws)
    ws.survival.write_text("[]")
    with pytest.raises(BadTable, match="a list, expected an object"):
        records.survival(ws)


def test_flagged_clusters_come_first_and_have_a_contact_sheet(full: Workspace) -> None:
    groups = records.clusters(full)
    assert isinstance(groups, pd.DataFrame)
    assert groups["flagged"].iloc[0]
    assert list(groups["flagged"]) == sorted(groups["flagged"], reverse=True)
    assert all(
        isinstance(records.contact_sheet(full, number), Path) for number in groups.loc[groups["flagged"], "cluster"]
    )
    assert isinstance(records.contact_sheet(full, 999), NotMade)


def test_the_newest_gate_verdict_comes_first(full: Workspace) -> None:
    reports = records.promotions(full)
    assert isinstance(reports, list)
    assert [report["version"] for report in reports] == ["4", "3", "2", "1"]


def test_a_champion_that_no_registry_numbered_is_named_by_its_weights(tmp_path: Path) -> None:
    ws = Workspace(tmp_path)
    assert records.champion_version(ws) == "none"
    ws.champion.mkdir(parents=True)
    (ws.champion / "model.json").write_text('{"weights_sha256": "abcdef0123"}')
    assert records.champion_version(ws) == "weights abcdef01"
    (ws.champion / "version.json").write_text('{"version": "7"}')
    assert records.champion_version(ws) == "version 7"


def test_the_queue_is_counted_by_purpose_and_reason(full: Workspace) -> None:
    queued = records.queue_composition(full)
    assert isinstance(queued, pd.DataFrame)
    assert queued.set_index(["purpose", "reason"])["cells"].to_dict() == {
        ("evaluation", "random"): 560,
        ("training", "novel"): 160,
        ("training", "random"): 30,
        ("training", "uncertain"): 50,
    }


def test_reconstructions_are_in_the_order_of_the_schedule(full: Workspace) -> None:
    pictures = records.reconstructions(full)
    assert isinstance(pictures, list)
    assert [path.stem.rsplit("-", 1)[1] for path in pictures] == ["0", "10", "100", "1000"]


def test_known_classes_keep_their_colour_whatever_readers_add() -> None:
    coloured = class_colours(["doublet", "ctc", "platelet"])
    assert coloured["ctc"] == CLASS_COLOURS["ctc"]
    assert {coloured["doublet"], coloured["platelet"]} <= set(SPARE_COLOURS)
    assert coloured["doublet"] != coloured["platelet"]


def test_a_figure_that_no_cell_informs_is_left_out_of_the_comparison() -> None:
    known, unknown = (
        {"value": 0.9, "low": 0.8, "high": 1.0, "cells": 20},
        {"value": None, "low": None, "high": None, "cells": 0},
    )
    card = {
        "ctc_sensitivity": known,
        "ctc_specificity": known,
        "accuracy": known,
        "balanced_accuracy": known,
        "classes": [{"class_id": "ctc", "recall": known}, {"class_id": "wbc", "recall": unknown}],
    }
    assert "Recall: CTC" in shares(card, {"ctc": "CTC"})
    assert not any("wbc" in name for name in shares(card, {}))


def test_agreement_is_shown_for_training_and_for_evaluation_apart(full: Workspace) -> None:
    found = records.agreement(full)
    assert isinstance(found, dict)
    table = agreement_table(overall(found)).set_index("Compared")
    training, evaluation = (found["by_purpose"][name] for name in ("training", "evaluation"))
    assert table.loc[table.index.str.startswith("Training"), "Cells"].tolist() == [training["n"]]
    assert table.loc[table.index.str.startswith("Evaluation"), "Cohen's κ"].tolist() == [said(evaluation["kappa"])]
    assert found["n"] == training["n"] + evaluation["n"]


def test_each_figure_of_agreement_is_shown_with_its_interval(full: Workspace) -> None:
    found = records.agreement(full)
    assert isinstance(found, dict)
    rows = agreement_table(overall(found))
    told = rows.loc[rows["Cells"] > 0, ["Exact agreement", "Cohen's κ", "Gwet's AC1"]].to_numpy().ravel()
    assert len(told) >= 9
    assert all(re.fullmatch(r"-?[\d.]+%? \(-?[\d.]+%? to -?[\d.]+%?\)", one) for one in told)


def test_an_undefined_figure_is_a_dash_and_is_not_drawn() -> None:
    nothing = {"value": None, "low": None, "high": None}
    assert said(nothing) == "–"
    one = {"n": 3, "kappa": nothing, "ac1": {"value": 1.0, "low": 0.4, "high": 1.0}}
    never = {"n": 0, "kappa": nothing, "ac1": nothing}
    drawn = by_class({"wbc": one, "ctc": never}, {"ctc": "CTC", "wbc": "WBC"})
    assert drawn == {"WBC (3)": {"ac1": (1.0, 0.4, 1.0)}}
    assert len(model_charts.agreement_chart(drawn, simulated=False).data) == 1


def test_classes_are_drawn_as_dots_with_whiskers_and_a_proposed_one_last(full: Workspace) -> None:
    found = records.agreement(full)
    assert isinstance(found, dict)
    drawn = by_class(found["by_class"], records.names_of_classes(full))
    assert list(drawn)[-1].startswith("CD45EV, proposed")
    figure = model_charts.agreement_chart(drawn, simulated=True)
    assert [trace.name for trace in figure.data] == ["Cohen's κ", "Gwet's AC1"]
    for trace in figure.data:
        assert len(trace.x) == len(drawn)
        assert all(width > 0 for width in trace.error_x.arrayminus)
    assert "simulated data" in str(figure.layout.annotations)


def test_an_occasion_without_a_kappa_leaves_a_gap_and_no_error() -> None:
    one = (0.8, 0.7, 0.9)
    figure = model_charts.agreement_over_time(["round-1", "round-2"], [None, one], [None, one], simulated=True)
    assert list(figure.data[-1].x) == [1]
    assert list(figure.layout.xaxis.ticktext) == ["round-1", "round-2"]


def test_checks_that_nobody_made_are_said_to_be_none() -> None:
    assert "No cell" in said_of_checks({"n": 0, "differs": {"value": None, "low": None, "high": None}})


def test_readings_that_allow_no_figure_at_all_are_still_drawn(full: Workspace, tmp_path: Path) -> None:
    from ctcml.agreement import agreement_report

    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root)
    rows = pd.DataFrame(columns=list(tables.OPINIONS)).astype({"lead_time_s": float, "repeat": bool})
    report = agreement_report(
        rows, classes=["ctc"], settled={}, cluster={}, predicted={}, bootstrap=5, rng=np.random.default_rng(0)
    )
    ws.agreement.write_text(json.dumps(report))
    app = page("review", ws)
    assert not app.exception
    assert "There are no cells of the evaluation arm yet" in " ".join(one.value for one in app.markdown)


def signed_form(ws: Workspace, **given: str) -> AppTest:
    """The page after somebody filled in the form of the open proposal and signed."""
    app = page("review", ws)
    for kind in ("by", "action"):
        if kind in given:
            app.button_group(key=f"{kind}-cd45ev").set_value(given[kind])
    for kind in ("password", "reason"):
        app.text_input(key=f"{kind}-cd45ev").set_value(given.get(kind, ""))
    if "definition" in given:
        app.text_area(key="definition-cd45ev").set_value(given["definition"])
    return next(one for one in app.button if one.label == "Sign").click().run()


def changed_beside_the_audit_log(before: dict[Path, bytes], after: dict[Path, bytes]) -> list[str]:
    """Which files a page changed; that it tells the audit log is another test's affair."""
    return [path.name for path in after if after[path] != before.get(path) and not path.name.startswith("audit")]


def test_a_vote_on_the_dashboard_appends_one_signed_request_and_changes_nothing_else(
    full: Workspace, tmp_path: Path
) -> None:
    from ctcml.requests import read_requests, require_signed_by

    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root)
    before = {path: path.read_bytes() for path in ws.root.rglob("*") if path.is_file()}
    app = signed_form(ws, by="ben", action="accept_class", password="of-ben", reason="I saw them too")
    assert not app.exception
    assert "Signed as request" in app.success[0].value
    *_, last = read_requests(ws.requests)
    assert (last.by, last.action, last.body["class_id"], last.body["reason"]) == (
        "ben", "accept_class", "cd45ev", "I saw them too"
    )  # fmt: skip
    assert last.body["definition"].startswith("CD45+ alone")  # anna's, which ben left as it was
    require_signed_by(last, "of-ben")
    after = {path: path.read_bytes() for path in ws.root.rglob("*") if path.is_file()}
    assert changed_beside_the_audit_log(before, after) == ["requests.jsonl"]
    assert not any(b"of-ben" in content for content in after.values())
    assert app.text_input(key="password-cd45ev").value == ""


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"by": "ben", "action": "accept_class"}, "password missing"),
        ({"password": "of-ben", "action": "accept_class"}, "name missing"),
        ({"by": "ben", "password": "of-ben"}, "decision missing"),
        ({"by": "ben", "password": "of-ben", "action": "accept_class", "definition": " "}, "definition missing"),
    ],
)
def test_a_vote_that_lacks_something_is_not_signed(
    given: dict[str, str], told: str, full: Workspace, tmp_path: Path
) -> None:
    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root)
    before = ws.requests.read_bytes()
    app = signed_form(ws, **given)
    assert told in app.error[0].value
    assert ws.requests.read_bytes() == before


def test_who_has_voted_or_signed_is_not_asked_again(full: Workspace, tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root)
    offered = page("review", ws).button_group(key="by-cd45ev")
    assert offered.options == ["ben", "carla", "dora"]  # anna has voted
    app = signed_form(ws, by="ben", action="reject_class", password="of-ben")
    assert app.button_group(key="by-cd45ev").options == ["carla", "dora"]


def test_a_request_waits_until_a_flow_wrote_what_came_of_it_and_a_refusal_is_told(
    full: Workspace, tmp_path: Path
) -> None:
    from browser.workspace_with_results import NOON

    from ctcml.ledger import Draft, Ledger

    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root)
    (waiting,) = records.requests(ws)
    body = {
        "request": waiting.request,
        "action": waiting.action,
        "outcome": "refused: not signed with the password of 'dora'",
    }
    Ledger(ws.ledger).append([Draft(kind="request", by="dora", body=body)], now=NOON)
    assert records.requests(ws) == []
    assert "not signed with the password" in " ".join(one.value for one in page("review", ws).markdown)


def said_on(app: AppTest) -> str:
    """All that a page says in words."""
    return "\n".join(one.value for kind in (app.markdown, app.caption, app.warning, app.error) for one in kind)


def sign_on(app: AppTest, key: str, button: str, **given: str) -> AppTest:
    """The models page after somebody filled in that form and signed."""
    for kind in ("by", "version"):
        if kind in given:
            app.button_group(key=f"{kind}-{key}").set_value(given[kind])
    for kind in ("password", "reason"):
        app.text_input(key=f"{kind}-{key}").set_value(given.get(kind, ""))
    return next(one for one in app.button if one.label == button).click().run()


@pytest.fixture
def copied(full: Workspace, tmp_path: Path) -> Workspace:
    """All that signing needs; what takes long to draw stays behind."""
    ws = Workspace(tmp_path / "copy")
    heavy = shutil.ignore_patterns("embeddings", "manifest", "champion", "pictures", "map.parquet", "drift.json")
    shutil.copytree(full.root, ws.root, ignore=heavy)
    return ws


def test_a_promotion_signed_on_the_dashboard_is_one_signed_request_and_nothing_else(copied: Workspace) -> None:
    from ctcml.requests import read_requests, require_signed_by

    before = {path: path.read_bytes() for path in copied.root.rglob("*") if path.is_file()}
    app = sign_on(page("models", copied), "promote-4", "Sign the promotion", by="ben", reason="fewer false CTCs")
    assert app.error[0].value == "Not signed: password missing."
    app = sign_on(app, "promote-4", "Sign the promotion", password="of-ben")
    assert app.error[0].value == "Not signed: reason missing."
    assert copied.requests.read_bytes() == before[copied.requests]
    app = sign_on(app, "promote-4", "Sign the promotion", password="of-ben", reason="fewer false CTCs")
    assert "Signed as request" in app.success[0].value
    assert "**Promote version 4**, signed by ben" in said_on(app)
    assert "Sign the promotion" not in [one.label for one in app.button]  # once is enough
    *_, last = read_requests(copied.requests)
    assert (last.by, last.action, last.body) == ("ben", "promote", {"version": "4", "reason": "fewer false CTCs"})
    require_signed_by(last, "of-ben")
    after = {path: path.read_bytes() for path in copied.root.rglob("*") if path.is_file()}
    assert changed_beside_the_audit_log(before, after) == ["requests.jsonl"]
    assert not any(b"of-ben" in content for content in after.values())
    review = said_on(page("review", copied))
    assert "version 4" not in review  # the class desk tells of classes only
    assert "speck" in review
    assert "speck" not in said_on(app)


def test_a_rollback_names_a_former_champion_and_a_reason_and_a_refusal_is_told(copied: Workspace) -> None:
    from browser.workspace_with_results import NOON

    from ctcml.ledger import Draft, Ledger

    before = copied.requests.read_bytes()
    app = sign_on(page("models", copied), "rollback", "Sign the rollback", by="anna", password="of-anna")
    assert "Not signed: version, reason missing." in app.error[0].value
    assert copied.requests.read_bytes() == before
    assert app.button_group(key="version-rollback").options == ["1"]
    given = {"password": "of-anna", "version": "1", "reason": "misses small CTCs"}
    app = sign_on(app, "rollback", "Sign the rollback", **given)
    assert "**Roll back to version 1**, signed by anna" in said_on(app)
    (_, one) = records.requests(copied)
    assert (one.action, one.body) == ("rollback", {"version": "1", "reason": "misses small CTCs"})
    body = {"request": one.request, "action": "rollback", "outcome": "refused: not signed with the password of 'anna'"}
    Ledger(copied.ledger).append([Draft(kind="request", by="anna", body=body)], now=NOON)
    app = app.run()
    assert "not signed with the password of 'anna'" in said_on(app)
    assert "Sign the rollback" in [one.label for one in app.button]
    assert "not signed with the password of 'anna'" not in said_on(page("review", copied))


@pytest.mark.parametrize("version", ["1", "3"])
def test_older_and_refused_reports_are_drawn_and_cannot_be_signed(version: str, full: Workspace) -> None:
    app = page("models", full, version=f"version {version}")
    assert app.session_state["version"] == version
    assert not app.exception
    assert not app.info
    assert "Sign the promotion" not in [one.label for one in app.button]
    assert ("the sealed set stayed closed" in said_on(app)) == (version == "3")


def test_what_was_judged_against_a_former_champion_cannot_be_signed(copied: Workspace) -> None:
    from browser.workspace_with_results import NOON

    from ctcml.ledger import Draft, Ledger

    body = {"version": "1", "before": "2", "counts_before": None, "changes": None}
    Ledger(copied.ledger).append([Draft(kind="rollback", by="anna", why="misses small CTCs", body=body)], now=NOON)
    app = page("models", copied)
    assert "Sign the promotion" not in [one.label for one in app.button]
    assert "judged against version 2, and version 1 is champion now" in said_on(app)
    history = next(one.value for one in app.dataframe if "in place of" in one.value)
    assert history[["Version", "was", "in place of"]].to_numpy().tolist() == [
        ["1", "brought back", "2"], ["2", "promoted", "1"], ["1", "promoted", "–"]
    ]  # fmt: skip
    assert history["Why"].iloc[0] == "misses small CTCs"
    assert "no former champion" in said_on(app)


def test_a_table_of_changes_that_is_not_the_judged_one_is_not_shown(copied: Workspace) -> None:
    table = copied.reports / "changes-4.csv"
    table.write_text(table.read_text().replace("True", "False"))
    app = page("models", copied)
    assert "not the table that the gate reported" in app.error[0].value
    assert not any("Cut-off" in one.value for one in app.dataframe)


def test_the_models_page_names_the_worst_cluster_and_the_budget(full: Workspace) -> None:
    reports = records.promotions(full)
    assert isinstance(reports, list)
    worst = reports[0]["challenger"]["worst_cluster"]["name"]
    app = page("models", full)
    told = said_on(app)
    assert any("Cut-off" in one.value for one in app.dataframe)
    assert f"Worst cluster: challenger in {worst}" in told
    assert "opened 3 of 20 times; 17 of 20 looks are left" in told
    assert "at temperature 0.70" in told
    assert "counts cross their cut-off" in told


def test_flips_come_first_and_the_table_has_every_sample(full: Workspace) -> None:
    found, people = records.changes(full, "4"), records.clinical(full)
    assert isinstance(found, pd.DataFrame)
    assert isinstance(people, pd.DataFrame)
    table = change_table(found)
    assert len(table) == len(people)
    flips = int(found["flips"].sum())
    assert flips > 0
    assert (table.iloc[:, 0] == "crosses").tolist() == [True] * flips + [False] * (len(table) - flips)
    assert said_of_changes(found).startswith(f"**{flips} of {len(table)} CTC counts cross")
    assert (
        said_of_changes(found.assign(flips=False, side_changes=False)) == "None of 72 CTC counts crosses its cut-off."
    )


def test_of_a_report_only_what_is_not_met_is_read_first(full: Workspace) -> None:
    reports = records.promotions(full)
    assert isinstance(reports, list)
    fit, refused = reports[0], reports[1]
    assert open_reasons(fit) == [f"All {len(fit['requirements'])} requirements are met on 1001 settled cells."]
    assert open_reasons(refused) == refused["reasons"]
    failed = [{**one, "outcome": "refuse"} if one["name"] == "recall of wbc" else one for one in fit["requirements"]]
    (told,) = open_reasons(fit | {"requirements": failed})
    assert told.startswith("recall of wbc")


def test_in_the_picture_of_requirements_better_is_right_also_for_errors() -> None:
    gain = {"name": "a", "against": "champion", "outcome": "promote", "figure": 0.02, "low": -0.01, "high": 0.04}
    error = gain | {"name": "b", "figure": -0.02, "low": -0.04, "high": 0.01, "limit": 0.1, "lower_is_better": True}
    unsure = error | {"name": "c", "low": None, "high": None}
    rows = [gain | {"limit": -0.05, "lower_is_better": False}, error, unsure]
    figure = scorecard_charts.requirements_chart(rows, simulated=True)
    met, limits = figure.data
    assert list(met.x) == pytest.approx([2, 2, 2])
    assert list(met.error_x.arrayminus) == pytest.approx([3, 3, 0])
    assert list(limits.x) == pytest.approx([-5, -10, -10])
    assert "simulated data" in str(figure.layout.annotations)


def test_a_scorecard_without_readers_or_groups_shows_dashes_and_no_worst_cluster(full: Workspace) -> None:
    reports = records.promotions(full)
    assert isinstance(reports, list)
    after = reports[0]["challenger"]
    alone = after | {"kappa": after["kappa"] | {"readers": None, "model_as_reader": None}}
    table = beside_table(None, alone).set_index("Figure")
    assert (table["Champion"] == "–").all()
    assert table.loc["κ of two readers", "Readers"] == "–"
    assert table.loc["CTCs miscounted / settled CTCs", "Challenger"] == said(
        after["count_error"]["share"], percent=True
    )
    assert said_of_worst(None, {}) == "No cluster has enough settled cells to be called the worst."


def test_a_gallery_outside_the_review_folder_is_not_shown(full: Workspace) -> None:
    assert records.gallery(full, {"gallery": "gallery/cd45ev.png"}) is not None
    assert records.gallery(full, {"gallery": "../params.yaml"}) is None
    assert records.gallery(full, {"gallery": "gallery/none.png"}) is None
    assert records.gallery(full, {"gallery": None}) is None


def test_every_command_that_an_empty_place_names_exists(tmp_path: Path) -> None:
    from ctcml.cli import cli
    from ctcml.stages import STAGES

    ws = Workspace(tmp_path)
    places = (
        records.clinical,
        records.manifest,
        records.classes,
        records.counts,
        records.survival,
        atlas.atlas,
        data_records.versions,
        data_records.intakes,
        data_records.findings,
        data_records.ledger_head,
        records.clusters,
        records.agreement,
        records.proposals,
        records.queue_composition,
        records.promotions,
        lambda ws: records.changes(ws, "1"),
        records.drift,
        records.champion,
        records.history,
        records.reconstructions,
    )
    for place in places:
        missing = place(ws)
        assert isinstance(missing, NotMade)
        _, command, *stages = missing.command.split()
        assert command in cli.list_commands(None), missing  # type: ignore[arg-type]
        assert set(stages) <= {stage.__name__ for stage in STAGES}
