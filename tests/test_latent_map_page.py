"""The page of the latent map, without a browser: what the address says is what is shown, selected and taken away."""

import io
import shutil
from pathlib import Path

import pandas as pd
import pytest
from browser.workspace_with_results import build
from pages import draw_page, html_of, texts

from ctcml.audit import entries
from ctcml.workspace import Workspace
from dashboards import atlas
from dashboards.views import latent_map, paper_figures
from dashboards.views.latent_map import picture_of, table_of

EVERYTHING = "-1000 -1000 1000 -1000 1000 1000 -1000 1000"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return build(tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def cells(full: Workspace) -> pd.DataFrame:
    found = atlas.atlas(full)
    assert isinstance(found, pd.DataFrame)
    return found


def test_without_an_outline_no_thumbnail_is_read(full: Workspace) -> None:
    app = draw_page("latent_map", full)
    assert not app.exception
    assert not html_of(app)
    assert "Selected cells" not in texts(app)


def test_an_outline_in_the_address_brings_its_cells_back(full: Workspace, cells: pd.DataFrame) -> None:
    left, low = cells[["tsne_x", "tsne_y"]].quantile(0.2)
    right, high = cells[["tsne_x", "tsne_y"]].quantile(0.8)
    inside = cells[cells["tsne_x"].between(left, right) & cells["tsne_y"].between(low, high)]
    app = draw_page("latent_map", full, area=f"{left} {low} {right} {low} {right} {high} {left} {high}")
    assert f"**{len(inside):,}** cells in {inside['sample_uid'].nunique():,} samples" in texts(app)
    assert app.dataframe[0].value["Cells"].sum() == len(inside)


def test_thumbnails_lead_to_their_cells_and_the_total_is_named(full: Workspace, cells: pd.DataFrame) -> None:
    app = draw_page("latent_map", full, area=EVERYTHING, **{"only-predicted": "CTC"})
    ctc = cells[cells["predicted"] == "ctc"]
    tiles = next(one for one in html_of(app) if "ctcml-tiles" in one)
    assert tiles.count("<img") == min(latent_map.TILES, len(ctc))
    assert f"The first {latent_map.TILES} of {len(ctc):,}" in texts(app)
    most_novel = ctc.sort_values("novelty", ascending=False).iloc[0]
    assert f"sample?sample={most_novel.sample_uid}" in tiles
    assert f"cell={most_novel.cell_uid}" in tiles


def test_the_most_doubtful_cells_come_first_when_asked_for(full: Workspace, cells: pd.DataFrame) -> None:
    app = draw_page("latent_map", full, area=EVERYTHING, order="most doubtful first")
    tiles = next(one for one in html_of(app) if "ctcml-tiles" in one)
    shown = [cells.set_index("cell_uid").loc[part.split("&")[0].split('"')[0]] for part in tiles.split("cell=")[1:]]
    told = [one.probability for one in shown]
    assert told == sorted(told)
    assert told[0] == cells["probability"].min()


def test_filters_that_nothing_passes_say_so(full: Workspace, cells: pd.DataFrame) -> None:
    calm = next(one for one in ("ctc", "wbc") if not cells.loc[cells["predicted"] == one, "flagged"].any())
    app = draw_page("latent_map", full, **{"only-predicted": calm.upper(), "only-flagged": "true"})
    assert not app.exception
    assert "No cell passes these filters." in texts(app)


def test_nonsense_in_the_address_selects_nothing_and_breaks_nothing(full: Workspace) -> None:
    app = draw_page("latent_map", full, area="'; drop", colour="smell", dots="7", by="pca")
    assert not app.exception
    assert "Selected cells" not in texts(app)


def test_looking_at_the_map_is_written_into_the_audit_log_once(full: Workspace, tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root)
    before = len(list(entries(ws))) if ws.audit.exists() else 0
    app = draw_page("latent_map", ws)
    app.run()
    assert [one.what for one in list(entries(ws))[before:]] == ["map"]


def test_the_table_of_a_selection_has_pseudonyms_places_and_labels(cells: pd.DataFrame) -> None:
    found = pd.read_csv(io.BytesIO(table_of(cells.head(50), "umap")))
    assert found["cell_uid"].tolist() == cells["cell_uid"].head(50).tolist()
    assert found["umap_x"].to_numpy() == pytest.approx(cells["umap_x"].head(50).to_numpy())
    assert {"predicted", "settled", "cluster", "novelty"} <= set(found.columns)
    assert "tsne_x" not in found


@pytest.mark.parametrize("colour_by", ["predicted", "settled", "novelty", "flagged", "cluster", "cancer_type"])
def test_the_map_is_taken_away_as_a_picture_that_says_that_it_is_simulated(
    colour_by: str, full: Workspace, cells: pd.DataFrame
) -> None:
    picture = picture_of(full, cells, "tsne", colour_by, {}, "svg")
    assert picture.startswith(b"<?xml")
    assert picture_of(full, cells.head(100), "umap", colour_by, {}, "png").startswith(b"\x89PNG")


def test_the_figures_of_the_paper_are_named_and_what_is_missing_says_how_to_make_it(
    full: Workspace, tmp_path: Path
) -> None:
    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root)
    picture = next(full.root.rglob("*.png"))
    (ws.pictures / "map").mkdir()
    for name in ("frequency-tsne.png", "frequency-umap.png", "predicted-class-tsne.png"):
        shutil.copyfile(picture, ws.pictures / "map" / name)
    app = draw_page("latent_map", ws, view="The paper's figures")
    told = texts(app)
    assert not app.exception
    assert "Fig. 5c" in told
    assert "`ctcml reproduce`" in told
    frequencies = next(one for one in paper_figures.PANELS if one.figure == "Fig. 5c")
    assert [one.name for one in paper_figures.pictures_of(ws, frequencies, "umap")] == ["frequency-umap.png"]


def test_a_broken_map_is_named_in_one_line(full: Workspace, tmp_path: Path) -> None:
    from ctcml.errors import BadTable

    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root)
    ws.map.write_bytes(b"no table")
    with pytest.raises(BadTable, match=r"map\.parquet") as told:
        atlas.atlas(ws)
    assert "\n" not in str(told.value)
