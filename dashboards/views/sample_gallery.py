"""The cells of one count as bins of thumbnails, the surest first, and a first look at the other classes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pandas as pd
import streamlit as st

from ctcml.calibration import probabilities_of
from ctcml.workspace import Workspace
from dashboards import session
from dashboards.addresses import sample_address, sample_query
from dashboards.tiles import CHANNELS, OVERLAY, tiles_html
from dashboards.views.cohort_filters import Counted

BINS = (0.95, 0.9, 0.75, 0.5, 0.0)  # lower ends of the probability
MOST = {"60": 60, "240": 240, "every cell": None}  # tiles that a bin shows
FIRST_LOOK = 14  # tiles of another class: one row of a wide page
TOLD = {OVERLAY: "red CD45, green CK, blue DAPI"}


def counted_of(cells: pd.DataFrame, sample_uid: str, classes: Sequence[str], counted: Counted) -> pd.DataFrame:
    """The very cells behind a count, the surest first, each with its `probability` of being of that class."""
    from ctcml.counts import counted_cells

    if counted.class_id not in classes:
        return cells.head(0).assign(probability=[])
    uids = counted_cells(
        cells,
        sample_uid,
        classes=list(classes),
        class_id=counted.class_id,
        denominator=counted.denominator,
        threshold=counted.threshold,
    )
    said = probabilities_of(cells, list(classes))[:, list(classes).index(counted.class_id)]
    return cells.assign(probability=said).set_index("cell_uid", drop=False).loc[uids].reset_index(drop=True)


def bins_of(found: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The counted cells by probability, each bin with its heading; empty bins are left out.

    >>> [(name, len(rows)) for name, rows in bins_of(pd.DataFrame({"probability": [0.97, 0.95, 0.6]}))]
    [('probability 0.95 to 1', 2), ('probability 0.5 to 0.75', 1)]
    """
    bins, upper = [], 1.0
    for lower in BINS:
        within = (found["probability"] >= lower) & ((found["probability"] < upper) | (upper == 1.0))
        if within.any():
            bins.append((f"probability {lower:g} to {upper:g}", found[within]))
        upper = lower
    return bins


def show_gallery(
    workspace: Workspace, sample_uid: str, found: pd.DataFrame, counted: Counted, names: Mapping[str, str]
) -> None:
    """The cells of the count, bin by bin, and the signed file of the count."""
    if found.empty:
        st.info(f"No cell of this sample is counted as {names.get(counted.class_id, counted.class_id)} in this way.")
    else:
        channel, most = _choose_looks()
        show_bins(workspace, found, counted, names, channel=channel, most=most)
        _show_as_table(found)
    show_signed_file(workspace, sample_uid, counted)


def said_cells(number: int) -> str:
    """
    >>> said_cells(1), said_cells(2406)
    ('1 cell', '2,406 cells')
    """
    return "1 cell" if number == 1 else f"{number:,} cells"


def _choose_looks() -> tuple[str, int | None]:
    left, right = st.columns(2)
    with left:
        channel = st.segmented_control(
            "Shown as", CHANNELS, default=OVERLAY, required=True, key="channel", bind="query-params"
        )
    with right:
        most = st.segmented_control(
            "Thumbnails a bin", list(MOST), default=next(iter(MOST)), required=True, key="most", bind="query-params"
        )
    return channel, MOST[most]


def show_bins(
    workspace: Workspace,
    found: pd.DataFrame,
    counted: Counted,
    names: Mapping[str, str],
    *,
    channel: str,
    most: int | None,
) -> None:
    """One list of thumbnails a bin, each a link to its cell."""

    def to_cell(cell_uid: str, sample_uid: str) -> str:
        query = sample_query(
            sample_uid,
            names,
            class_id=counted.class_id,
            denominator=counted.denominator,
            threshold=counted.threshold,
            cell_uid=cell_uid,
        )
        return sample_address(query)

    for heading, rows in bins_of(found):
        shown = rows.head(most) if most else rows
        capped = f", the surest {len(shown)} shown" if len(shown) < len(rows) else ""
        st.markdown(f"**{heading.capitalize()}: {len(rows):,} of {said_cells(len(found))}{capped}**")
        st.html(
            tiles_html(
                workspace,
                shown,
                captions={
                    uid: f"{chance:.2f}" for uid, chance in zip(shown["cell_uid"], shown["probability"], strict=True)
                },
                link=to_cell,
                channel=channel,
                chosen=st.query_params.get("cell"),
            )
        )
    told = TOLD.get(channel, channel)
    st.caption(f"Each thumbnail is a link to its cell; {told}; all at one scale, 48 camera pixels (31 µm) wide.")


def _show_as_table(found: pd.DataFrame) -> None:
    """The same cells for the keyboard and the screen reader; a row that is chosen opens its cell."""

    def choose() -> None:
        rows = st.session_state["cells"].selection.rows
        if rows:
            st.query_params["cell"] = str(found["cell_uid"].iloc[rows[0]])

    with st.expander("The same cells as a table"):
        st.dataframe(
            found[["cell_uid", "object_index", "probability", "proposed", "assigned", "frame"]],
            hide_index=True,
            key="cells",
            on_select=choose,
            selection_mode="single-row",
            column_config={
                "cell_uid": "Cell",
                "object_index": st.column_config.NumberColumn("Object", help="its number in the sample"),
                "probability": st.column_config.NumberColumn("Probability", format="%.3f"),
                "proposed": st.column_config.CheckboxColumn("Proposed", help="CellSearch itself presented it"),
                "assigned": st.column_config.CheckboxColumn("By hand", help="the operator called it a CTC"),
                "frame": st.column_config.NumberColumn("Frame", help="of the cartridge"),
            },
            alt="The counted cells",
        )


def show_signed_file(workspace: Workspace, sample_uid: str, counted: Counted) -> None:
    """The whole trace as one file that anybody can check without this workspace."""

    def made() -> bytes:
        from ctcml.trace import trace_count
        from ctcml.trace_file import signed_trace

        trace = trace_count(
            workspace,
            sample_uid,
            class_id=counted.class_id,
            denominator=counted.denominator,
            threshold=counted.threshold,
        )
        return signed_trace(workspace, trace, now=datetime.now(UTC))

    session.export_button(
        workspace,
        "Signed file of this count",
        made,
        file_name=f"trace-{sample_uid}-{counted.class_id}.zip",
        mime="application/zip",
        what="trace",
        key="export-trace",
        sample_uid=sample_uid,
        class_id=counted.class_id,
        denominator=counted.denominator,
        threshold=counted.threshold,
    )


def show_other_classes(
    workspace: Workspace,
    cells: pd.DataFrame,
    sample_uid: str,
    classes: Sequence[str],
    counted: Counted,
    names: Mapping[str, str],
) -> None:
    """One row of thumbnails for each other class that has cells among these events."""
    others = [one for one in classes if one != counted.class_id]
    st.subheader("Other classes of this sample")
    for class_id in others:
        of_class = Counted(class_id=class_id, denominator=counted.denominator, threshold=counted.threshold)
        found = counted_of(cells, sample_uid, classes, of_class)
        name = names.get(class_id, class_id)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{name}: {said_cells(len(found))}**")
            if len(found):
                st.button("Show all", key=f"show-{class_id}", on_click=_choose_class, args=(class_id,), type="tertiary")
        if len(found):
            first = found.head(FIRST_LOOK)
            captions = {
                uid: f"{chance:.2f}" for uid, chance in zip(first["cell_uid"], first["probability"], strict=True)
            }
            st.html(tiles_html(workspace, first, captions=captions))


def _choose_class(class_id: str) -> None:
    st.session_state["class"] = class_id
    st.query_params.pop("cell", None)
