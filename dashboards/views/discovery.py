"""Where the model's knowledge ends: the latent map, the clusters, and the thumbnails of the flagged ones."""

import pandas as pd
import streamlit as st

from ctcml.workspace import Workspace
from dashboards import atlas, records
from dashboards.map_charts import WAYS, map_chart
from dashboards.records import NotMade
from dashboards.session import viewed
from dashboards.views.pieces import chart, empty, picture

COLOURS, DOTS = ("predicted", "novelty", "flagged"), 20_000


def show(workspace: Workspace) -> None:
    """Draw the page."""
    st.title("Discovery")
    viewed(workspace, "discovery")
    st.caption(
        "Each dot is a thumbnail, placed by what the network saw in it. "
        "A cluster is flagged when cells without a label are over-represented in it."
    )
    show_shifts(workspace)
    groups = records.clusters(workspace)
    ringed = None if isinstance(groups, NotMade) else choose_cluster(groups)
    left, right = st.columns([1, 1])
    with left:
        show_map(workspace, ringed)
    with right:
        st.subheader("Clusters")
        if isinstance(groups, NotMade):
            empty(groups)
        else:
            show_table(groups, records.class_names(workspace))
    if not isinstance(groups, NotMade):
        show_sheets(workspace, groups, ringed)


def show_shifts(workspace: Workspace) -> None:
    """A batch that differs as a whole is said to, before any cluster of it could be taken for a discovery."""
    found = records.shifts(workspace)
    if isinstance(found, NotMade):
        return
    for row in found[found["shifted"]].itertuples():
        st.warning(f"{row.instrument}: {row.verdict}")
    calm = found[~found["shifted"]]
    if len(calm):
        with st.expander(f"Batches compared with their reference: {len(calm)}"):
            for row in calm.itertuples():
                st.markdown(f"**{row.instrument}**: {row.verdict}")


def choose_cluster(groups: pd.DataFrame) -> int | None:
    """A cluster to ring on the map, kept in the address; the flagged ones are offered first."""
    numbers = [int(number) for number in groups["cluster"]]
    return st.selectbox(
        "Cluster",
        numbers,
        index=None,
        key="cluster",
        bind="query-params",
        placeholder="choose one to ring its cells on the map",
    )


def show_map(workspace: Workspace, ringed: int | None) -> None:
    """The map, coloured as the address says."""
    cells = atlas.atlas(workspace)
    if isinstance(cells, NotMade):
        empty(cells)
        return
    offered = [name for name in COLOURS if name == "predicted" or (cells["cluster"] >= 0).any()]
    colour_by = st.segmented_control(
        "Colour by",
        offered,
        default=offered[0],
        required=True,
        key="colour",
        bind="query-params",
        format_func=lambda one: WAYS[one],
    )
    shown = atlas.drawn(cells, most=DOTS)
    if ringed is not None:  # all of it, whatever the lot said
        shown = cells.loc[shown.index.union(cells.index[cells["cluster"] == ringed])]
    figure = map_chart(
        shown,
        method=records.chosen_map(workspace),
        colour_by=colour_by,
        names=records.class_names(workspace),
        simulated=records.is_simulated(workspace),
        ringed=ringed,
    ).update_layout(dragmode="zoom")
    chart(figure, key="map", alt=f"Latent map of {len(shown)} thumbnails coloured by {WAYS[colour_by]}")
    st.html(
        'All cells, and what lies where, are on <a href="map" target="_self" style="color: inherit">the page Latent map</a>.'
    )


def show_table(groups: pd.DataFrame, names: dict[str, str]) -> None:
    """The clusters, flagged ones first."""
    shown = groups.assign(
        nearest_class=groups["nearest_class"].map(lambda one: names.get(one, one)),
        largest_sample_share=100 * groups["largest_sample_share"],
    )
    st.dataframe(
        shown,
        hide_index=True,
        height="content" if len(shown) <= 16 else 640,
        column_order=[
            "cluster",
            "name",
            "verdict",
            "profile",
            "archive",
            "reference",
            "ratio",
            "stability",
            "nearest_class",
            "largest_sample_share",
        ],
        column_config={
            "cluster": st.column_config.NumberColumn("Cluster", width=60),
            "name": st.column_config.TextColumn(
                "Name", width=120, help="stays with the cells when they are clustered again; the number does not"
            ),
            "verdict": st.column_config.TextColumn("Verdict", width=160),
            "archive": st.column_config.NumberColumn("Unlabelled", width=80, help="cells that no reader has named yet"),
            "reference": st.column_config.NumberColumn("Labelled", width=70),
            "ratio": st.column_config.NumberColumn(
                "Ratio", width=60, format="%.1f", help="share of all unlabelled cells over the share expected"
            ),
            "stability": st.column_config.NumberColumn(
                "Stability",
                width=75,
                format="%.2f",
                help="bootstrap Jaccard index: 1 comes back each time, below 0.5 dissolves",
            ),
            "profile": st.column_config.TextColumn("Markers", width=170),
            "nearest_class": st.column_config.TextColumn("Nearest class", width=100),
            "largest_sample_share": st.column_config.NumberColumn(
                "Largest sample",
                width=95,
                format="%.0f %%",
                help="share of the cluster from one sample; a high one points to an artefact",
            ),
        },
    )


def show_sheets(workspace: Workspace, groups: pd.DataFrame, ringed: int | None) -> None:
    """Contact sheets: the chosen cluster's, or those of all flagged ones."""
    wanted = groups[groups["cluster"] == ringed] if ringed is not None else groups[groups["flagged"]]
    st.subheader("Typical, border and random thumbnails")
    if wanted.empty:
        st.info("No cluster is flagged.")
    else:
        st.caption("Red: CD45, green: cytokeratin, blue: DAPI.")
    for row in wanted.itertuples():
        with st.container(border=True):
            st.markdown(f"**Cluster {row.cluster}**: {row.verdict}")
            sheet = records.contact_sheet(workspace, int(row.cluster))
            if isinstance(sheet, NotMade):
                empty(sheet)
            else:
                picture(sheet)
