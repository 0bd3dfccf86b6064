"""The Sample page: from any count to precisely its cells, and from a cell to all that is known of it."""

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
from browser.workspace_with_results import build
from pages import draw_page, html_of, texts

from ctcml import tables
from ctcml.trace import trace_count
from ctcml.workspace import Workspace
from dashboards import records
from dashboards.addresses import sample_query
from dashboards.views.cohort_filters import Counted
from dashboards.views.sample import samples_table
from dashboards.views.sample_cell import readings_table
from dashboards.views.sample_gallery import BINS, bins_of, counted_of


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return build(tmp_path_factory.mktemp("full"))


def counts_of(ws: Workspace) -> pd.DataFrame:
    found = records.counts(ws)
    assert isinstance(found, pd.DataFrame)
    return found


def query_of(row: Mapping[str, object], ws: Workspace, **more: str) -> dict[str, str]:
    return sample_query(
        str(row["sample_uid"]),
        records.class_names(ws),
        class_id=str(row["class_id"]),
        denominator=str(row["denominator"]),
        threshold=float(row["threshold"]),  # type: ignore[arg-type]
        **more,
    )


def a_ctc_sample(ws: Workspace, *, role: str | None = None) -> str:
    """A sample with several CTCs; of a patient in that set."""
    counts = counts_of(ws)
    rows = counts[(counts["class_id"] == "ctc") & (counts["denominator"] == "proposed") & (counts["threshold"] == 0)]
    if role:
        rows = rows[[records.set_of(ws, uid) == role for uid in rows["patient_uid"]]]
    return str(rows.sort_values("count")["sample_uid"].iloc[-1])


def test_every_count_of_the_workspace_leads_to_precisely_its_cells(full: Workspace) -> None:
    model = records.champion(full)
    assert isinstance(model, dict)
    counts = counts_of(full)
    assert counts.groupby("sample_uid").size().eq(5 * 2 * 4).all()
    for row in counts.to_dict("records"):
        cells = records.cells_of_sample(full, row["sample_uid"])
        assert isinstance(cells, pd.DataFrame)
        counted = Counted(
            class_id=row["class_id"], denominator=row["denominator"], threshold=round(float(row["threshold"]), 6)
        )
        found = counted_of(cells, row["sample_uid"], model["classes"], counted)
        assert len(found) == row["count"], row
        assert found["predicted"].eq(row["class_id"]).all()
        assert found["probability"].is_monotonic_decreasing
        assert sum(len(rows) for _, rows in bins_of(found)) == row["count"]


def test_the_page_of_an_address_shows_as_many_thumbnails_as_were_counted(full: Workspace) -> None:
    counts = counts_of(full)
    chosen = counts[counts["count"].between(2, 60)].groupby(["class_id", "denominator", "threshold"]).head(1)
    for row in chosen.sample(10, random_state=2).to_dict("records"):
        app = draw_page("sample", full, **query_of(row, full))
        assert not app.exception
        name = records.class_names(full)[row["class_id"]]
        assert app.subheader[0].value == f"{row['count']:,} {name} of {row['events']:,} events"
        of_count = [one for one in html_of(app) if 'class="ctcml-tiles"' in one]
        bins = sum(1 for one in app.markdown if one.value.startswith("**Probability "))
        assert sum(one.count("<li>") for one in of_count[:bins]) == row["count"]


def test_the_page_and_the_trace_name_the_same_cells_in_the_same_order(full: Workspace) -> None:
    model = records.champion(full)
    assert isinstance(model, dict)
    uid = a_ctc_sample(full)
    cells = records.cells_of_sample(full, uid)
    assert isinstance(cells, pd.DataFrame)
    for class_id, denominator, threshold in (("ctc", "proposed", 0.0), ("wbc", "all", 0.0), ("tdev", "all", 0.75)):
        counted = Counted(class_id=class_id, denominator=denominator, threshold=threshold)
        traced = trace_count(full, uid, class_id=class_id, denominator=denominator, threshold=threshold)
        found = counted_of(cells, uid, model["classes"], counted)
        assert found["cell_uid"].tolist() == [one.cell_uid for one in traced.cells]


def test_bins_hold_each_cell_once_the_surest_bin_first() -> None:
    chances = pd.DataFrame({"probability": [1.0, 0.95, 0.949, 0.9, 0.75, 0.5, 0.2]})
    bins = bins_of(chances)
    assert [len(rows) for _, rows in bins] == [2, 2, 1, 1, 1]
    assert len(bins) == len(BINS)
    assert pd.concat([rows for _, rows in bins]).index.tolist() == chances.index.tolist()


def test_a_bin_shows_the_surest_cells_until_all_are_asked_for(full: Workspace) -> None:
    counts = counts_of(full)
    row = counts.sort_values("count").iloc[-1].to_dict()
    few = draw_page("sample", full, **query_of(row, full))
    every = draw_page("sample", full, **query_of(row, full), most="every cell")
    shown = [max(one.count("<li>") for one in html_of(app)) for app in (few, every)]
    assert shown[0] <= 60
    assert shown[1] == max(len(rows) for _, rows in bins_of(_found(full, row)))


def _found(ws: Workspace, row: Mapping[str, object]) -> pd.DataFrame:
    cells, model = records.cells_of_sample(ws, str(row["sample_uid"])), records.champion(ws)
    assert isinstance(cells, pd.DataFrame)
    assert isinstance(model, dict)
    counted = Counted(class_id=str(row["class_id"]), denominator=str(row["denominator"]), threshold=0.0)
    return counted_of(cells, str(row["sample_uid"]), model["classes"], counted)


def test_without_a_sample_all_are_listed_most_tumour_cells_first(full: Workspace) -> None:
    app = draw_page("sample", full)
    assert not app.exception
    table = app.dataframe[0].value
    assert len(table) == len(counts_of(full)["sample_uid"].unique())
    assert table["per_7_5_ml"].is_monotonic_decreasing


def test_a_sample_without_thumbnails_is_listed_without_a_count(full: Workspace) -> None:
    clinical = records.clinical(full)
    assert isinstance(clinical, pd.DataFrame)
    more = pd.concat([clinical, clinical.head(1).assign(sample_uid="f" * 24)])
    table = samples_table(counts_of(full), more)
    assert table["count"].isna().sum() == 1
    assert table["sample_uid"].iloc[-1] == "f" * 24


def test_a_sample_that_is_not_in_the_workspace_is_said_so_and_the_list_is_shown(full: Workspace) -> None:
    app = draw_page("sample", full, sample="0123456789")
    assert app.warning[0].value == "Sample 0123456789 is not in this workspace; choose another one."
    assert len(app.dataframe) == 1


def test_the_address_may_name_a_class_by_its_id_too(full: Workspace) -> None:
    uid = a_ctc_sample(full)
    app = draw_page("sample", full, **{"sample": uid, "class": "wbc", "among": "all"})
    assert (app.session_state["class"], app.session_state["among"]) == ("wbc", "all")


def test_another_class_is_one_click_away(full: Workspace) -> None:
    app = draw_page("sample", full, sample=a_ctc_sample(full), among="all objects")
    app.button(key="show-wbc").click().run()
    assert app.session_state["class"] == "wbc"
    assert " WBC of " in app.subheader[0].value


def read_cell(ws: Workspace, sample_uid: str, *, settled: bool = False) -> str:
    """A cell of the sample that two people read, and that was settled."""
    opinions = tables.read_table(ws.opinions, tables.OPINIONS)
    cells = records.cells_of_sample(ws, sample_uid)
    assert isinstance(cells, pd.DataFrame)
    read = cells[cells["cell_uid"].isin(opinions["cell_uid"])]
    if settled:
        read = read[read["cell_uid"].isin(tables.read_table(ws.truth, tables.TRUTH)["cell_uid"])]
    return str(read["cell_uid"].iloc[0])


def test_a_cell_is_shown_with_all_channels_probabilities_readings_hashes_and_versions(full: Workspace) -> None:
    sample_uid = a_ctc_sample(full, role="train")
    cell_uid = read_cell(full, sample_uid, settled=True)
    app = draw_page("sample", full, sample=sample_uid, cell=cell_uid)
    assert not app.exception
    panels = next(one for one in html_of(app) if 'class="ctcml-panels"' in one)
    assert panels.count("<img") == 4
    manifest = tables.read_table(full.manifest / f"{sample_uid}.parquet", tables.MANIFEST).set_index("cell_uid")
    proof = app.code[0].value
    assert manifest.loc[cell_uid, "content_sha256"] in proof
    assert manifest.loc[cell_uid, "shard_sha256"] in proof
    assert "model 2, weights 4f4f" in proof
    assert "\ndata " in proof
    assert "\ncode " in proof
    by_alt = {tuple(one.value.columns): one.value for one in app.dataframe}
    chances = by_alt["Class", "Probability"]["Probability"]
    assert chances.sum() == pytest.approx(1, abs=1e-5)
    assert len(by_alt["Reader", "As", "Said", "Confidence", "When"]) >= 2
    assert "Settled as **" in texts(app)


def test_what_readers_called_a_sealed_patients_cell_stays_hidden(full: Workspace) -> None:
    sample_uid = a_ctc_sample(full, role="sealed")
    app = draw_page("sample", full, sample=sample_uid, cell=read_cell(full, sample_uid))
    assert not app.exception
    assert "for the gate alone" in texts(app)
    assert "Settled as" not in texts(app)
    (said,) = (one.value for one in app.dataframe if "Said" in one.value)
    assert set(said["Said"]) == {"sealed"}


def test_one_leafs_from_cell_to_cell_of_a_count_and_back_to_the_gallery(full: Workspace) -> None:
    sample_uid = a_ctc_sample(full)
    order = [one.cell_uid for one in trace_count(full, sample_uid).cells]
    app = draw_page("sample", full, sample=sample_uid, cell=order[0])
    assert app.button(key="previous-cell").disabled
    app.button(key="next-cell").click().run()
    assert app.query_params["cell"] in (order[1], [order[1]])
    assert f"number 2 of {len(order)} of this count" in texts(app)
    app.button(key="close-cell").click().run()
    assert "cell" not in app.query_params
    assert not app.code


def test_a_cell_of_another_sample_is_refused(full: Workspace) -> None:
    app = draw_page("sample", full, sample=a_ctc_sample(full), cell="0" * 24)
    assert f"Cell {'0' * 24} is not one of this sample." in app.warning[0].value


def test_a_reading_is_told_with_who_as_what_and_when(full: Workspace) -> None:
    cells = trace_count(full, a_ctc_sample(full, role="train"), denominator="all").cells
    readings = next(one.readings for one in cells if one.readings)
    table = readings_table(readings, records.class_names(full))
    assert len(table) == len(readings)
    assert set(table["As"]) <= {"reader", "check of two who agreed", "adjudicator"}
    assert table["When"].str.contains("2026").all()


def test_the_signed_file_of_a_count_holds_its_cells_and_the_audit_log_knows_who_took_it(
    full: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctcml.identity import load_key
    from ctcml.trace_file import verify_trace
    from dashboards import session
    from dashboards.views import sample_gallery

    given: dict[str, object] = {}

    def keep(workspace: Workspace, label: str, data: object, **about: object) -> None:
        given.update(about, data=data)

    monkeypatch.setattr(session, "export_button", keep)
    sample_uid = a_ctc_sample(full)
    sample_gallery.show_signed_file(full, sample_uid, Counted(class_id="ctc", denominator="proposed", threshold=0.0))
    path = tmp_path / str(given["file_name"])
    path.write_bytes(given["data"]())  # type: ignore[operator]
    record = verify_trace(path, load_key(full.key))
    assert len(record["cells"]) == record["count"]["count"] == len(trace_count(full, sample_uid).cells)
    assert sum(name.endswith(".png") for name in zipfile.ZipFile(path).namelist()) == len(record["cells"])
    assert (given["what"], given["sample_uid"]) == ("trace", sample_uid)


def test_looking_at_a_sample_is_written_into_the_audit_log_once(full: Workspace, tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root, ignore=shutil.ignore_patterns("audit.jsonl"))
    sample_uid = a_ctc_sample(ws)
    draw_page("sample", ws, sample=sample_uid).run()
    lines = [json.loads(line) for line in ws.audit.read_text().splitlines()]
    viewed = [one for one in lines if sample_uid in json.dumps(one)]
    assert len(viewed) == 1
    assert "view" in json.dumps(viewed[0])


def test_counts_of_another_champion_are_not_passed_off_as_these_cells(full: Workspace, tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root)
    counts = counts_of(ws)
    tables.write_table(counts.assign(count=counts["count"] + 1), tables.COUNTS, ws.counts)
    app = draw_page("sample", ws, sample=a_ctc_sample(ws))
    assert "Run `ctcml repro count`" in app.error[0].value


def test_a_cell_whose_pixels_were_changed_is_not_shown_as_evidence(full: Workspace, tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root)
    sample_uid = a_ctc_sample(ws)
    path = ws.shards / f"{sample_uid}.parquet"
    shard = tables.read_table(path, tables.SHARD)
    pixels = [one[::-1] for one in shard["pixels"]]
    tables.write_table(shard.assign(pixels=pixels), tables.SHARD, path)
    cell_uid = trace_count(full, sample_uid).cells[0].cell_uid
    app = draw_page("sample", ws, sample=sample_uid, cell=cell_uid)
    assert "not what intake wrote down" in app.exception[0].message
    assert not any('class="ctcml-panels"' in one for one in html_of(app))


def test_a_sample_whose_pixels_are_on_another_machine_still_shows_its_counts(full: Workspace, tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root, ignore=shutil.ignore_patterns("shards"))
    app = draw_page("sample", ws, sample=a_ctc_sample(ws))
    assert not app.exception
    assert " CTC of " in app.subheader[0].value
    assert "no pixels here" in "".join(html_of(app))


def test_an_empty_workspace_names_the_commands(tmp_path: Path) -> None:
    app = draw_page("sample", Workspace(tmp_path))
    assert not app.exception
    assert all("Run `ctcml " in one.value for one in app.info)
    assert len(app.info) == 2
