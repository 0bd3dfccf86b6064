"""One cell with all that is known of it: its planes, what model and readers said, and the hashes that prove it."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from ctcml.shards import read_shard, shard_paths
from ctcml.workspace import Workspace
from dashboards import records
from dashboards.records import Stamp
from dashboards.tiles import CONTRASTS, panels_html
from dashboards.views.pieces import when

if TYPE_CHECKING:
    from ctcml.trace import Said, Trace, TracedCell

DUTIES = {"reader": "reader", "check": "check of two who agreed", "adjudicator": "adjudicator"}


def show_cell(
    workspace: Workspace,
    sample_uid: str,
    cells: pd.DataFrame,
    order: Sequence[str],
    classes: Sequence[str],
    names: Mapping[str, str],
) -> None:
    """The cell of the address, if it names one of this sample; `order` are the cells of the count, to leaf through."""
    cell_uid = st.query_params.get("cell")
    if not cell_uid:
        return
    rows = cells[cells["cell_uid"] == cell_uid]
    if rows.empty:
        st.warning(f"Cell {cell_uid} is not one of this sample.")
        return
    row = rows.iloc[0]
    with st.container(border=True):
        _show_head(cell_uid, order)
        trace = traced(workspace, sample_uid, str(row["predicted"]))
        cell = next(one for one in trace.cells if one.cell_uid == cell_uid)
        _show_panels(workspace, sample_uid, cell)
        left, middle, right = st.columns(3)
        with left:
            _show_probabilities(row, classes, names)
        with middle:
            _show_opinions(cell, names, labels_sealed=trace.labels_sealed)
        with right:
            _show_origin(workspace, trace, cell)


def traced(workspace: Workspace, sample_uid: str, class_id: str) -> "Trace":
    """The trace of all cells of a sample that the model calls so, read again when anything behind it changes."""
    stamp = records.stamp_of(
        workspace.counts,
        workspace.opinions,
        workspace.truth,
        workspace.cell_discovery,
        workspace.roles,
        workspace.champion / "model.json",
        *shard_paths(workspace.shards, sample_uid),
    )
    return _traced(workspace, sample_uid, class_id, stamp)


@lru_cache(maxsize=32)
def _traced(workspace: Workspace, sample_uid: str, class_id: str, stamp: Stamp) -> "Trace":
    from ctcml.trace import trace_count

    return trace_count(workspace, sample_uid, class_id=class_id, denominator="all")


def _show_head(cell_uid: str, order: Sequence[str]) -> None:
    """The cell's name, and the ways to its neighbours in the count and back."""
    at = order.index(cell_uid) if cell_uid in order else None
    with st.container(horizontal=True, vertical_alignment="center"):
        where = f", number {at + 1} of {len(order)} of this count" if at is not None else ", not one of this count"
        st.markdown(f"**Cell `{cell_uid}`**{where}")
        if at is not None:
            before, after = order[at - 1] if at else None, order[at + 1] if at + 1 < len(order) else None
            _step("Previous", before, key="previous-cell", shortcut="Left")
            _step("Next", after, key="next-cell", shortcut="Right")
        st.button("Close", key="close-cell", on_click=_close, type="tertiary")


def _step(label: str, cell_uid: str | None, *, key: str, shortcut: str) -> None:
    st.button(label, key=key, on_click=_choose, args=(cell_uid,), disabled=cell_uid is None, shortcut=shortcut)


def _choose(cell_uid: str) -> None:
    st.query_params["cell"] = cell_uid


def _close() -> None:
    st.query_params.pop("cell", None)


def _show_panels(workspace: Workspace, sample_uid: str, cell: "TracedCell") -> None:
    packed = next(
        one
        for path in shard_paths(workspace.shards, sample_uid)
        if path.name == cell.shard
        for one in read_shard(path)
        if one.cell_uid == cell.cell_uid
    )
    named = {name: contrast for contrast, name in CONTRASTS.items()}
    shown = st.segmented_control(
        "Contrast", list(named), default=next(iter(named)), required=True, key="contrast", bind="query-params"
    )
    st.html(panels_html(packed, contrast=named[shown]))


def _show_probabilities(row: pd.Series, classes: Sequence[str], names: Mapping[str, str]) -> None:
    st.markdown(f"**The model says {names.get(row['predicted'], row['predicted'])}**")
    table = pd.DataFrame(
        {
            "Class": [names.get(one, one) for one in classes],
            "Probability": [float(one) for one in row["probabilities"]],
        }
    ).sort_values("Probability", ascending=False)
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "Probability": st.column_config.ProgressColumn("Probability", format="%.3f", min_value=0, max_value=1)
        },
        alt="Probability of each class",
    )
    st.caption("As the network says it; the counts' intervals use calibrated ones.")


def _show_opinions(cell: "TracedCell", names: Mapping[str, str], *, labels_sealed: bool) -> None:
    """What readers said and what was settled; of a sealed patient only that it was read."""
    st.markdown("**The readers**")
    if labels_sealed:
        st.caption("A sealed patient: what readers called this cell is for the gate alone.")
    if not cell.readings:
        st.caption("Nobody has read this cell.")
    else:
        st.dataframe(readings_table(cell.readings, names), hide_index=True, alt="What readers said of this cell")
    if cell.settled:
        class_id, how = cell.settled
        st.markdown(f"Settled as **{names.get(class_id, class_id)}**: {how}.")


def readings_table(readings: Sequence["Said"], names: Mapping[str, str]) -> pd.DataFrame:
    """One row a reading, in the order in which they entered the ledger."""
    rows = [
        {
            "Reader": one.reader,
            "As": DUTIES.get(one.duty, one.duty),
            "Said": names.get(one.label.removeprefix("new:"), one.label),
            "Confidence": one.confidence,
            "When": when(one.at),
        }
        for one in readings
    ]
    return pd.DataFrame(rows)


def _show_origin(workspace: Workspace, trace: "Trace", cell: "TracedCell") -> None:
    """Where the cell lies, and the hashes by which anybody can check it."""
    st.markdown("**Where it comes from**")
    place = "place not known"
    if cell.frame is not None:
        at = "" if cell.x_px is None or cell.y_px is None else f", at ({cell.x_px:.0f}, {cell.y_px:.0f}) px"
        place = f"frame {cell.frame}{at}"
    st.markdown(f"Object {cell.object_index} of the sample, {place}.")
    if cell.cluster_name:
        novelty = novelty_of(workspace, cell.cell_uid)
        told = "" if novelty is None else f", novelty {novelty:.2f}"
        st.markdown(f"Cluster {cell.cluster} (`{cell.cluster_name}`){told}.")
    st.code(
        f"pixels {cell.content_sha256}\n"
        f"shard {cell.shard_sha256}\n"
        f"model {trace.model.version}, weights {trace.model.weights_sha256}\n"
        f"data {trace.data_version}\n"
        f"code {trace.code_commit}",
        language=None,
        wrap_lines=True,
    )
    st.caption(
        "SHA-256 of the pixels, of the file that holds them, and of the weights; all of them were checked for this page."
    )


def novelty_of(workspace: Workspace, cell_uid: str) -> float | None:
    """The novelty score of a cell that discovery looked at and no reader has named."""
    table = records.table_of(workspace.cell_discovery, "DISCOVERY")
    if table is None:
        return None
    found = table.loc[table["cell_uid"] == cell_uid, "novelty"].dropna()
    return float(found.iloc[0]) if len(found) else None
