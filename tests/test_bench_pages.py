"""What the bench of the pages measures with: its laboratory is read by every page, and its table says what was asked."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pages import draw_page

from ctcml import tables
from ctcml.cli import cli
from ctcml.shards import read_shard
from ctcml.workspace import Workspace
from dashboards import atlas, records
from dashboards.bench_pages import figures_of
from dashboards.bench_workspace import write_laboratory


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    ws = Workspace(tmp_path_factory.mktemp("bench") / "lab")
    write_laboratory(ws, patients=24, cells=900, seed=3)
    return ws


def test_the_laboratory_has_as_many_patients_and_cells_as_asked_for_and_says_that_it_is_simulated(
    lab: Workspace,
) -> None:
    found = records.cards(lab)
    assert (found.patients, found.thumbnails) == (24, 900)
    assert records.is_simulated(lab)


def test_every_cell_has_pixels_a_place_and_a_class(lab: Workspace) -> None:
    cells = atlas.atlas(lab)
    assert not isinstance(cells, records.NotMade)
    packed = [one.cell_uid for path in lab.shards.glob("*.parquet") for one in read_shard(path, verify=True)]
    assert sorted(packed) == sorted(cells["cell_uid"]) == sorted(records.manifest(lab)["cell_uid"])
    assert cells["predicted"].notna().all()
    assert np.isfinite(cells[["tsne_x", "umap_y"]].to_numpy()).all()


def test_the_classes_have_the_shares_that_are_written_down(lab: Workspace) -> None:
    from dashboards.bench_workspace import KINDS, SHARES

    told = records.table_of(lab.truth, "TRUTH")
    assert set(told["class_id"]) <= set(KINDS)
    predicted = atlas.atlas(lab)["predicted"].value_counts(normalize=True)
    assert predicted[list(KINDS)].to_numpy() == pytest.approx(np.array(SHARES), abs=0.08)


@pytest.mark.parametrize("name", ["cohort", "sample", "latent_map", "discovery", "models", "data"])
def test_each_page_draws_the_laboratory(name: str, lab: Workspace) -> None:
    app = draw_page(name, lab)
    assert not app.exception
    assert not app.error


def test_the_same_seed_gives_the_same_laboratory(lab: Workspace, tmp_path: Path) -> None:
    again = Workspace(tmp_path / "lab")
    write_laboratory(again, patients=24, cells=900, seed=3, analysed=False)
    assert again.map.read_bytes() == lab.map.read_bytes()
    assert tables.read_table(again.counts, tables.COUNTS).equals(tables.read_table(lab.counts, tables.COUNTS))


def test_the_table_holds_medians_beside_what_was_asked_and_ratios_to_the_same_number_of_dots() -> None:
    ours = {
        "the very first page of a new server": [6.0],
        "first page": [2.0, 1.0, 9.0],
        "latent map, 20,000 dots": [2.0],
        "latent map, all dots": [5.0],
        "map: another colour": [0.4],
    }
    rows = figures_of(ours, {"plain plotly, 20,000 dots": 8.0, "plain plotly, all dots": 15.0}, cells=60_000)
    told = {one.name: (one.value, one.asked) for one in rows}
    assert told["first page"] == ("2.00 s (longest 9.00 s)", "<= 3 s")
    assert told["map: another colour"][1] == "<= 1 s"
    assert told["plain plotly, 20,000 dots"][0] == "8.00 s, 4.0 x ours"
    assert told["plain plotly, all dots"][0] == "15.00 s, 3.0 x ours"


def test_a_folder_that_is_there_already_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["bench", "pages", "--folder", str(tmp_path)])
    assert done.exit_code != 0
    assert "not there yet" in str(done.output) + str(done.exception)
