"""The latent map as a picture: every cell is drawn, and the same colour means the same thing."""

from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from browser.workspace_with_results import build

from ctcml.workspace import Workspace
from dashboards import atlas
from dashboards.map_charts import WAYS, map_chart
from dashboards.palette import CLASS_COLOURS


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    found = atlas.atlas(Workspace(build(tmp_path_factory.mktemp("full")).root))
    assert isinstance(found, pd.DataFrame)
    return found


def chart(cells: pd.DataFrame, colour_by: str, **more: object) -> go.Figure:
    names = {"ctc": "CTC", "wbc": "WBC"}
    return map_chart(cells, colour_by=colour_by, names=names, **{"method": "tsne", "simulated": True} | more)


@pytest.mark.parametrize("way", WAYS)
def test_every_cell_is_drawn_once_whatever_it_is_coloured_by(way: str, cells: pd.DataFrame) -> None:
    figure = chart(cells, way)
    drawn = np.concatenate([np.asarray(trace.x) for trace in figure.data])
    assert sorted(drawn) == sorted(cells["tsne_x"].to_numpy(np.float32))
    assert "simulated data" in str(figure.layout.annotations)


def test_the_other_map_has_other_places(cells: pd.DataFrame) -> None:
    umap = np.concatenate([np.asarray(trace.x) for trace in chart(cells, "predicted", method="umap").data])
    assert sorted(umap) == sorted(cells["umap_x"].to_numpy(np.float32))


def test_a_class_has_its_colour_and_its_name(cells: pd.DataFrame) -> None:
    ctc = next(trace for trace in chart(cells, "predicted").data if trace.name == "CTC")
    assert ctc.marker.color == CLASS_COLOURS["ctc"]
    assert len(ctc.x) == (cells["predicted"] == "ctc").sum()


def test_cells_without_a_value_lie_below_the_others_in_grey(cells: pd.DataFrame) -> None:
    first = chart(cells, "settled").data[0]
    assert first.name == "no settled label"
    assert len(first.x) == cells["settled"].isna().sum()
    assert first.marker.color.startswith("rgba")


def test_more_clusters_than_colours_are_put_together(cells: pd.DataFrame) -> None:
    many = cells.assign(cluster=np.arange(len(cells)) % 30)
    figure = chart(many, "cluster")
    smaller = next(trace for trace in figure.data if trace.name == "smaller clusters")
    coloured = [trace for trace in figure.data if trace.name.startswith("cluster ")]
    assert len(coloured) == 7
    assert len(smaller.x) == len(cells) - sum(len(trace.x) for trace in coloured)


def test_a_ringed_cluster_is_drawn_on_top_of_all(cells: pd.DataFrame) -> None:
    figure = chart(cells, "predicted", ringed=0)
    assert figure.data[-1].name == "cluster 0"
    assert len(figure.data[-1].x) == (cells["cluster"] == 0).sum()


def test_an_outline_of_the_address_is_drawn_as_a_selection(cells: pd.DataFrame) -> None:
    figure = chart(cells, "predicted", outlines=[((0.0, 1.0), (2.0, 1.0), (2.0, 3.0))])
    assert figure.layout.selections[0].path == "M0.0,1.0L2.0,1.0L2.0,3.0Z"


def test_places_are_sent_as_bytes_and_not_as_text(cells: pd.DataFrame) -> None:
    assert '"bdata"' in chart(cells, "predicted").to_json()
    assert len(chart(cells, "predicted").to_json()) < 40 * len(cells) + 8000


def test_a_map_without_any_cell_is_drawn_empty(cells: pd.DataFrame, tmp_path: Path) -> None:
    for way in WAYS:
        assert sum(len(trace.x) for trace in chart(cells.head(0), way).data) == 0
