"""The latent map: every cell where the network sees it, an outline around some of them, and what they look like."""

from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from ctcml.workspace import Workspace
from dashboards import atlas, records
from dashboards.addresses import sample_address, sample_query
from dashboards.atlas import Filters, Outline
from dashboards.map_charts import MAP_CONFIG, WAYS, map_chart
from dashboards.palette import on_dark
from dashboards.records import NotMade, Stamp
from dashboards.session import export_button, viewed
from dashboards.tiles import tiles_html
from dashboards.views.paper_figures import show_paper_figures
from dashboards.views.pieces import empty, is_dark

VIEWS = {"map": "Map", "paper": "The paper's figures"}
MOST = {"20000": 20_000, "50000": 50_000, "all": None}
ORDERS = {"novel": "most novel first", "sure": "surest first", "doubtful": "most doubtful first"}
TILES = 120  # thumbnails at once
AREA = "area"  # in the address, and what was selected last in the session


def show(workspace: Workspace) -> None:
    """Draw the page."""
    st.title("Latent map")
    view = st.segmented_control(
        "View",
        list(VIEWS),
        default="map",
        required=True,
        key="view",
        bind="query-params",
        format_func=lambda one: VIEWS[one],
        label_visibility="collapsed",
    )
    cells = atlas.atlas(workspace)
    if view == "paper":
        show_paper_figures(workspace)
    elif isinstance(cells, NotMade):
        empty(cells)
    else:
        viewed(workspace, "map")
        st.caption(
            "Each dot is a thumbnail, placed by what the network saw in it; the axes have no unit. "
            "Draw an outline around some dots to see their thumbnails."
        )
        explore(workspace)


@st.fragment  # what is chosen here runs this function alone: the rest of the page stays as it is
def explore(workspace: Workspace) -> None:
    """The map with its filters, and the cells within the outline below it."""
    cells = atlas.atlas(workspace)
    if isinstance(cells, NotMade):
        empty(cells)
        return
    names = records.class_names(workspace)
    method, colour_by, most = choose_look(cells)
    filters = choose_filters(cells, names)
    kept = atlas.filtered(cells, filters)
    if kept.empty:
        st.info("No cell passes these filters.")
        return
    if AREA not in st.session_state:
        st.session_state[AREA] = atlas.as_text(atlas.from_text(st.query_params.get(AREA, "")))
    look = (method, colour_by, most, filters, is_dark())
    figure = figure_of(
        workspace,
        atlas.stamp_of(workspace),
        look,
        outlines=outlines_to_draw(look),
        names=tuple(names.items()),
        simulated=records.is_simulated(workspace),
    )
    key = f"map-{hash(look)}"
    st.plotly_chart(
        figure,
        theme=None,
        config=MAP_CONFIG,
        key=key,
        on_select=partial(remember, key),
        selection_mode=("box", "lasso"),
        alt=f"Latent map of {len(kept)} thumbnails coloured by {WAYS[colour_by]}",
    )
    st.query_params[AREA] = st.session_state[AREA]
    if not st.session_state[AREA]:
        del st.query_params[AREA]
    outlines = atlas.from_text(st.session_state[AREA])
    chosen = kept[atlas.within(kept[f"{method}_x"].to_numpy(), kept[f"{method}_y"].to_numpy(), outlines)]
    told = f"{len(kept):,} cells" + (
        f", {MOST[most]:,} of them drawn by lot, rare classes whole" if is_cut(kept, most) else ""
    )
    st.caption(f"{told}. An outline takes all cells within it, also those that are not drawn.")
    show_selection(workspace, chosen if outlines else kept.head(0), names)
    taken = chosen if outlines else kept
    if len(taken):
        show_exports(workspace, taken, look, names)


def is_cut(cells: pd.DataFrame, most: str) -> bool:
    """Whether there are more cells than dots."""
    return MOST[most] is not None and len(cells) > MOST[most]


def choose_look(cells: pd.DataFrame) -> tuple[str, str, str]:
    """Which map, coloured by what, of how many dots; all three in the address."""
    left, middle, right = st.columns([1, 3, 1.3])
    method = left.segmented_control(
        "Map",
        list(atlas.METHODS),
        default="tsne",
        required=True,
        key="by",
        bind="query-params",
        format_func=lambda one: atlas.METHODS[one],
    )
    offered = [one for one in WAYS if cells[one].notna().any()]
    colour_by = middle.segmented_control(
        "Colour by",
        offered,
        default="predicted" if "predicted" in offered else offered[0],
        required=True,
        key="colour",
        bind="query-params",
        format_func=lambda one: WAYS[one],
    )
    most = right.segmented_control(
        "Dots",
        list(MOST),
        default="20000",
        required=True,
        key="dots",
        bind="query-params",
        format_func=lambda one: "all" if MOST[one] is None else f"{MOST[one]:,}",
    )
    return method, colour_by, most


def choose_filters(cells: pd.DataFrame, names: Mapping[str, str]) -> Filters:
    """Which cells are on the map, in the address."""
    columns = st.columns([1, 1, 1, 0.7], vertical_alignment="bottom")
    chosen = {}
    for place, (name, label) in zip(
        columns,
        {"predicted": "Predicted class", "cancer_type": "Cancer type", "instrument": "Instrument"}.items(),
        strict=False,
    ):
        chosen[name] = place.multiselect(
            label,
            list(cells[name].cat.categories),
            key=f"only-{name}",
            bind="query-params",
            placeholder="all",
            format_func=lambda one: names.get(one, one),
        )
    flagged = columns[3].checkbox("flagged clusters only", key="only-flagged", bind="query-params")
    return Filters(**{name: tuple(some) for name, some in chosen.items()}, flagged=flagged)


@lru_cache(maxsize=16)  # the same figure to the byte is not sent to a browser again
def figure_of(
    workspace: Workspace,
    stamp: Stamp,
    look: tuple[str, str, str, Filters, bool],
    *,
    outlines: tuple[Outline, ...],
    names: tuple[tuple[str, str], ...],
    simulated: bool,
) -> go.Figure:
    """The map in that look."""
    method, colour_by, most, filters, dark = look
    cells = atlas.atlas(workspace)
    shown = atlas.drawn(atlas.filtered(cells, filters), most=MOST[most])
    figure = map_chart(
        shown, method=method, colour_by=colour_by, names=dict(names), simulated=simulated, outlines=outlines
    )
    return on_dark(figure) if dark else figure


def outlines_to_draw(look: tuple[Any, ...]) -> tuple[Outline, ...]:
    """The outlines that a figure is born with: those of the address, or of the former look of the map.

    What is drawn on the figure itself must not change it, or it would be sent again. Another map has other places.
    """
    state = st.session_state
    former = state.get("map-look")
    if former is not None and former[0][0] != look[0]:
        state[AREA] = ""
    if former is None or former[0] != look:
        state["map-look"] = (look, atlas.from_text(state[AREA]))
    return state["map-look"][1]


def remember(key: str) -> None:
    """Keep what was just selected, or that nothing is any more."""
    st.session_state[AREA] = atlas.as_text(atlas.outlines_of(st.session_state[key]["selection"]))


def show_selection(workspace: Workspace, chosen: pd.DataFrame, names: Mapping[str, str]) -> None:
    """How many cells of whom, by class and cluster, and their thumbnails."""
    if not st.session_state[AREA]:
        return
    st.subheader("Selected cells")
    if chosen.empty:
        st.info("No cell lies within the outline.")
        return
    viewed(workspace, "cells on the map", outline=st.session_state[AREA], cells=len(chosen))
    st.markdown(
        f"**{len(chosen):,}** cells in {chosen['sample_uid'].nunique():,} samples of "
        f"{chosen['patient_uid'].nunique():,} patients"
    )
    tables = st.columns(3)
    for place, by in zip(tables, ("predicted", "cluster", "cancer_type"), strict=True):
        found = atlas.summary(chosen, by)
        if by == "predicted":
            found[by] = found[by].map(lambda one: names.get(one, one))
        elif by == "cluster":
            found[by] = found[by].map(lambda one: "none" if one < 0 else str(one))
        place.dataframe(
            found.rename(columns={by: WAYS[by].capitalize(), **{one: one.capitalize() for one in found.columns[1:]}}),
            hide_index=True,
            height="content" if len(found) <= 7 else 282,
        )
    order = st.segmented_control(
        "Thumbnails",
        list(ORDERS),
        default="novel",
        required=True,
        key="order",
        bind="query-params",
        format_func=lambda one: ORDERS[one],
    )
    shown = atlas.in_order(chosen, order).head(TILES)
    if len(shown) < len(chosen):
        st.caption(f"The first {len(shown)} of {len(chosen):,}.")
    st.html(show_tiles(workspace, shown, names))


def show_tiles(workspace: Workspace, cells: pd.DataFrame, names: Mapping[str, str]) -> str:
    """Thumbnails with class and probability; each leads to its cell among all cells of its class in its sample."""
    classes = dict(zip(cells["cell_uid"], cells["predicted"], strict=True))

    def to_cell(cell_uid: str, sample_uid: str) -> str:
        return sample_address(
            sample_query(sample_uid, names, class_id=classes[cell_uid], denominator="all", cell_uid=cell_uid)
        )

    captions = {
        one.cell_uid: f"{names.get(one.predicted, one.predicted)} {one.probability:.2f}" for one in cells.itertuples()
    }
    return tiles_html(workspace, cells[["cell_uid", "sample_uid"]], captions=captions, link=to_cell)


def show_exports(workspace: Workspace, cells: pd.DataFrame, look: tuple[Any, ...], names: Mapping[str, str]) -> None:
    """Places and labels of the selection, or of all cells on the map, as a table; the map as a picture."""
    method, colour_by = look[:2]
    stamp = "simulated-" if records.is_simulated(workspace) else ""
    what = {"method": method, "cells": len(cells)}
    with st.container(horizontal=True):
        export_button(
            workspace,
            f"CSV of {len(cells):,} cells",
            lambda: table_of(cells, method),
            file_name=f"{stamp}map-{method}.csv",
            mime="text/csv",
            what="map cells",
            key="map-csv",
            **what,
        )
        for ending, mime in (("png", "image/png"), ("svg", "image/svg+xml")):
            export_button(
                workspace,
                ending.upper(),
                partial(picture_of, workspace, cells, method, colour_by, names, ending),
                file_name=f"{stamp}map-{method}-{colour_by}.{ending}",
                mime=mime,
                what="map picture",
                key=f"map-{ending}",
                **what,
            )


def table_of(cells: pd.DataFrame, method: str) -> bytes:
    """Pseudonyms, places and labels as CSV."""
    columns = [
        "cell_uid",
        "sample_uid",
        "patient_uid",
        f"{method}_x",
        f"{method}_y",
        "predicted",
        "probability",
        "settled",
    ]
    columns += ["cancer_type", "site", "instrument", "cluster", "novelty", "flagged"]
    return cells[columns].to_csv(index=False).encode()


def picture_of(
    workspace: Workspace, cells: pd.DataFrame, method: str, colour_by: str, names: Mapping[str, str], ending: str
) -> bytes:
    """The map as a paper prints it, on white and of all cells."""
    from ctcml import map_pictures

    xy, simulated = cells[[f"{method}_x", f"{method}_y"]].to_numpy(), records.is_simulated(workspace)
    title = f"{atlas.METHODS[method]} of the latents: {WAYS[colour_by]}"
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"map.{ending}"
        if colour_by in ("novelty", "flagged"):
            map_pictures.novelty_plot(
                xy, cells["novelty"].to_numpy(), cells["flagged"].to_numpy(), path, simulated=simulated, title=title
            )
        elif colour_by in ("predicted", "settled"):
            labels = cells[colour_by].astype(object).where(cells[colour_by].notna(), map_pictures.UNLABELLED)
            map_pictures.map_plot(
                xy, labels.tolist(), path, simulated=simulated, title=title, rest=map_pictures.UNLABELLED
            )
        else:
            groups = cells[colour_by].astype(object)
            if colour_by == "cluster":
                groups = groups.map(lambda one: "" if one < 0 else f"cluster {one}")
            map_pictures.grouped_plot(xy, groups)(path, simulated=simulated, title=title)
        return path.read_bytes()
