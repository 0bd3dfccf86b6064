"""Which cells are on the map, which of them are drawn, and which lie within an outline."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser.workspace_with_results import build

from ctcml import tables
from ctcml.workspace import Workspace
from dashboards import atlas
from dashboards.atlas import Filters
from dashboards.records import NotMade


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return build(tmp_path_factory.mktemp("full"))


def cells_of(ws: Workspace) -> pd.DataFrame:
    found = atlas.atlas(ws)
    assert isinstance(found, pd.DataFrame)
    return found


def many(counts: dict[tuple[str, bool], int]) -> pd.DataFrame:
    rows = [key for key, number in counts.items() for _ in range(number)]
    return pd.DataFrame(rows, columns=["predicted", "flagged"])


def test_every_placed_cell_is_on_the_map_once_with_the_class_that_the_champion_gives_it(full: Workspace) -> None:
    cells = cells_of(full)
    placed = tables.read_table(full.map, tables.MAP)
    said = tables.read_folder(full.embeddings, tables.EMBEDDING).set_index("cell_uid")
    assert sorted(cells["cell_uid"]) == sorted(placed["cell_uid"])
    assert cells["predicted"].tolist() == said.loc[cells["cell_uid"], "predicted"].tolist()
    assert cells["probability"].tolist() == [max(one) for one in said.loc[cells["cell_uid"], "probabilities"]]


def test_no_label_of_a_held_out_patient_colours_a_dot(full: Workspace, tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root)
    cells = cells_of(ws)
    other = cells[cells["settled"].isna()].iloc[0]
    row = {"cell_uid": other.cell_uid, "sample_uid": other.sample_uid, "patient_uid": other.patient_uid}
    row |= {"class_id": "ctc", "role": "steering", "purpose": "evaluation", "how": "both readers agree"}
    truth = tables.read_table(ws.truth, tables.TRUTH)
    tables.write_table(pd.concat([truth, pd.DataFrame([row])], ignore_index=True), tables.TRUTH, ws.truth)
    again = cells_of(ws).set_index("cell_uid")["settled"]
    assert pd.isna(again[other.cell_uid])
    assert set(again.dropna().index) == set(truth.loc[truth["role"] == "train", "cell_uid"])


def test_a_map_without_discovery_has_no_cluster_and_no_novelty(full: Workspace, tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "copy")
    shutil.copytree(full.root, ws.root)
    ws.cell_discovery.unlink()
    cells = cells_of(ws)
    assert (cells["cluster"] == -1).all()
    assert cells["novelty"].isna().all()
    assert not cells["flagged"].any()


def test_what_is_not_made_is_named_with_its_command(tmp_path: Path) -> None:
    assert atlas.atlas(Workspace(tmp_path)) == NotMade(what="Latent map", command="ctcml repro map")


def test_a_rare_class_is_drawn_whole_and_a_frequent_one_by_lot() -> None:
    cells = many({("wbc", False): 50_000, ("ctc", False): 9_000, ("ctc", True): 40, ("tdev", False): 960})
    shown = atlas.drawn(cells, most=20_000)
    counts = shown.groupby(["predicted", "flagged"]).size()
    assert counts["ctc", True] == 40
    assert counts["tdev", False] == 960
    assert counts["wbc", False] > counts["ctc", False] > 2500
    assert 19_990 <= len(shown) <= 20_000
    assert not shown.index.duplicated().any()


def test_the_same_lot_falls_each_time_and_few_cells_are_all_drawn() -> None:
    cells = many({("wbc", False): 5000, ("ctc", False): 10})
    assert atlas.drawn(cells, most=1000).index.tolist() == atlas.drawn(cells, most=1000).index.tolist()
    assert atlas.drawn(cells, most=None) is cells
    assert atlas.drawn(cells, most=5010) is cells


def test_filters_let_pass_what_all_of_them_name(full: Workspace) -> None:
    cells = cells_of(full)
    assert len(atlas.filtered(cells, Filters())) == len(cells)
    some = atlas.filtered(cells, Filters(predicted=("ctc",), cancer_type=("breast", "lung")))
    assert set(some["predicted"]) == {"ctc"}
    assert set(some["cancer_type"]) == {"breast", "lung"}
    flagged = atlas.filtered(cells, Filters(flagged=True))
    assert len(flagged) == cells["flagged"].sum() > 0


def test_a_lasso_takes_what_is_inside_of_it_also_where_it_is_hollow() -> None:
    hollow = ((0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0), (0.0, 6.0), (5.0, 6.0), (5.0, 4.0), (0.0, 4.0))
    x, y = np.array([1.0, 7.0, 1.0, -1.0, 11.0]), np.array([1.0, 5.0, 5.0, 5.0, 5.0])
    assert atlas.within(x, y, [hollow]).tolist() == [True, True, False, False, False]


def test_inside_and_outside_are_as_matplotlib_tells_them() -> None:
    from matplotlib.path import Path as Outline

    rng = np.random.default_rng(3)
    turns = np.sort(rng.uniform(0, 2 * np.pi, 40))
    corners = np.c_[np.cos(turns), np.sin(turns)] * rng.uniform(0.4, 1.0, (40, 1))
    x, y = rng.uniform(-1, 1, (2, 5000))
    found = atlas.within(x, y, [tuple(map(tuple, corners))])
    assert (found == Outline(corners).contains_points(np.c_[x, y])).all()
    assert 0.2 < found.mean() < 0.8


def test_two_outlines_take_the_cells_of_both() -> None:
    boxes = atlas.outlines_of({"box": [{"x": [0, 1], "y": [0, 1]}, {"x": [4, 5], "y": [0, 1]}]})
    assert atlas.within(np.array([0.5, 2.5, 4.5]), np.array([0.5, 0.5, 0.5]), boxes).tolist() == [True, False, True]


def test_an_outline_comes_back_from_the_address_as_it_was() -> None:
    lasso = {"x": np.linspace(-3, 4, 500).tolist(), "y": np.sin(np.linspace(0, 6, 500)).tolist()}
    outlines = atlas.outlines_of({"lasso": [lasso], "box": [{"x": [0, 1], "y": [2, 3]}]})
    assert atlas.from_text(atlas.as_text(outlines)) == outlines
    assert max(map(len, outlines)) <= atlas.OUTLINE_POINTS


@pytest.mark.parametrize("typed", ["1 2 3", "a b c d e f", "1 2 3 4", "nan 1 2 3 4 5", "_", "1,2,3,4,5,6"])
def test_an_address_that_holds_no_outline_selects_nothing(typed: str) -> None:
    assert atlas.from_text(typed) == ()


def test_a_summary_counts_every_selected_cell_once_and_names_those_without_a_value() -> None:
    cells = pd.DataFrame(
        {
            "cell_uid": list("abcd"),
            "sample_uid": ["s1", "s1", "s2", "s3"],
            "patient_uid": ["p1", "p1", "p1", "p2"],
            "settled": pd.Categorical(["ctc", "ctc", None, "wbc"]),
        }
    )
    found = atlas.summary(cells, "settled")
    assert found["cells"].tolist() == [2, 1, 1]
    assert found["cells"].sum() == 4
    assert found["patients"].tolist()[0] == 1
    assert found["settled"].isna().sum() == 1
