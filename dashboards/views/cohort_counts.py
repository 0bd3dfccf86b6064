"""How many cells each sample holds, with all that is known of the uncertainty; each count leads to its cells."""

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from ctcml.workspace import Workspace
from dashboards import records, session
from dashboards.addresses import DENOMINATORS, sample_address, sample_query, threshold_name
from dashboards.patient_charts import counts_chart
from dashboards.records import NotMade
from dashboards.views.cohort_filters import DRAWS, Counted, choose_counted, choose_people, narrowed, rows_of
from dashboards.views.pieces import chart, empty, go_to

SIDES = {"above": "above their cut-off", "undecided": "undecided", "below": "below it", "none": "without a cut-off"}
NOT_VALIDATED = "A cut-off marked exploratory is not clinically validated for these samples, events or threshold."
COLUMNS = {  # of the table and the export: heading, help
    "address": ("Cells", "opens the thumbnails behind this count"),
    "sample_uid": ("Sample", "pseudonym"),
    "patient_uid": ("Patient", "pseudonym"),
    "cancer_type": ("Cancer type", ""),
    "site": ("Site", ""),
    "line_of_therapy": ("Line", "line of therapy"),
    "draw_day": ("Draw day", "days since the first blood draw"),
    "count": ("Count", "cells counted in this tube"),
    "events": ("Events", "among which they were counted"),
    "per_7_5_ml": ("Per 7.5 ml", ""),
    "low": ("Low", "limits of the patient's concentration: what the network is unsure of, and drawing one tube"),
    "high": ("High", "the same"),
    "side": ("Side", "undecided while the interval holds the cut-off"),
    "flip_risk": ("Flip risk", "chance that the patient's concentration lies on the other side of the cut-off"),
    "cutoff": ("Cut-off", ""),
    "tube_low": ("Tube, low", "limits of what experts would count in this very tube"),
    "tube_high": ("Tube, high", "the same"),
    "tube_flip_risk": ("Flip risk, tube", "chance that experts would count on the other side of it in this tube"),
    "exploratory": ("Exploratory", "the cut-off is not validated here"),
    "manual_ctc": ("CTC by hand", "by the instrument's operator at the time"),
}


def show(workspace: Workspace, group: str) -> None:
    """Chart and table of the counts that the address names."""
    st.subheader("Cells per sample")
    counts, clinical = records.counts(workspace), records.clinical(workspace)
    for one in (counts, clinical):
        if isinstance(one, NotMade):
            empty(one)
    if isinstance(counts, NotMade) or isinstance(clinical, NotMade):
        return
    names = records.class_names(workspace)
    counted = choose_counted(counts, names)
    left, right = st.columns([1, 2])
    with left:
        draws = _choose_draws(clinical)
    with right:
        people = choose_people(clinical, group)
    rows = narrowed(rows_of(counts, counted), clinical, people, draws=draws)
    if rows.empty:
        st.info("No sample has this combination of filters; take one of them away.")
        return
    show_sides(rows)
    show_chart(rows, counted, names, simulated=records.is_simulated(workspace))
    show_table(workspace, rows, counted, names)


def _choose_draws(clinical: pd.DataFrame) -> str:
    if not (clinical["draw_day"] > 0).any():
        return "every"
    named = {name: draws for draws, name in DRAWS.items()}
    shown = st.segmented_control(
        "Blood drawn", list(named), default=DRAWS["every"], required=True, key="draws", bind="query-params"
    )
    return named[shown]


def show_sides(rows: pd.DataFrame) -> None:
    """How many samples lie on which side of their cut-off, or nothing for a class without one."""
    sides = rows["side"].value_counts()
    if set(sides.index) == {"none"}:
        return
    told = [f"**{sides.get(side, 0):,}** {name}" for side, name in SIDES.items() if side in sides or side != "none"]
    st.markdown(f"Of {len(rows):,} samples: " + " · ".join(told))


def show_chart(rows: pd.DataFrame, counted: Counted, names: Mapping[str, str], *, simulated: bool) -> None:
    """Each sample with its interval; a click on one opens it."""
    name = names.get(counted.class_id, counted.class_id)
    told = f"{name} among {DENOMINATORS[counted.denominator]}, counted when {threshold_name(counted.threshold)}"
    picked = chart(
        counts_chart(rows, name_of_class=name, simulated=simulated),
        key="counts",
        alt=f"{told}: {len(rows)} samples with intervals, by cancer type; the table below holds the same figures",
        selects=True,
    )
    warned = f" {NOT_VALIDATED}" if rows["exploratory"].any() else ""
    st.caption(
        f"{told}. Bars: interval of the patient's concentration, from what the network is unsure of and from drawing "
        f"one tube. Click on a sample to see its cells.{warned}"
    )
    if picked:
        _open(str(picked[0]["customdata"][-1]), counted, names)


def show_table(workspace: Workspace, rows: pd.DataFrame, counted: Counted, names: Mapping[str, str]) -> None:
    """The same figures, most cells first; a row that is chosen, or its link, opens the sample."""
    table = counts_table(rows, counted, names)
    picked = st.dataframe(
        table,
        hide_index=True,
        height="content" if len(table) <= 12 else 460,
        key="counted",
        on_select="rerun",
        selection_mode="single-row",
        column_config=_columns(),
        alt="Counts per sample",
    )
    session.export_button(
        workspace,
        "Counts as CSV",
        lambda: table.drop(columns="address").to_csv(index=False).encode(),
        file_name=f"counts-{counted.class_id}-{counted.denominator}.csv",
        mime="text/csv",
        what="counts",
        key="export-counts",
        samples=len(table),
        class_id=counted.class_id,
        denominator=counted.denominator,
        threshold=counted.threshold,
    )
    if picked.selection.rows:
        _open(str(table["sample_uid"].iloc[picked.selection.rows[0]]), counted, names)


def counts_table(rows: pd.DataFrame, counted: Counted, names: Mapping[str, str]) -> pd.DataFrame:
    """What table and export hold, most cells first."""
    ordered = rows.sort_values(["per_7_5_ml", "sample_uid"], ascending=[False, True], ignore_index=True)
    addresses = [sample_address(_query(uid, counted, names)) for uid in ordered["sample_uid"]]
    return ordered.assign(address=addresses)[list(COLUMNS)]


def _query(sample_uid: str, counted: Counted, names: Mapping[str, str]) -> dict[str, str]:
    return sample_query(
        sample_uid,
        names,
        class_id=counted.class_id,
        denominator=counted.denominator,
        threshold=counted.threshold,
    )


def _open(sample_uid: str, counted: Counted, names: Mapping[str, str]) -> None:
    go_to("Sample", "sample", _query(sample_uid, counted, names))


def _columns() -> dict[str, object]:
    plain = {name: st.column_config.Column(heading, help=told or None) for name, (heading, told) in COLUMNS.items()}
    numbers = {
        name: st.column_config.NumberColumn(COLUMNS[name][0], help=COLUMNS[name][1] or None, format=form)
        for name, form in (
            ("per_7_5_ml", "%.1f"), ("low", "%.1f"), ("high", "%.1f"), ("tube_low", "%.1f"), ("tube_high", "%.1f"),
            ("cutoff", "%.0f"), ("draw_day", "%.0f"), ("manual_ctc", "%.0f"),
            ("flip_risk", "percent"), ("tube_flip_risk", "percent"),
        )
    }  # fmt: skip
    names = {name: st.column_config.TextColumn(COLUMNS[name][0], width=110) for name in ("sample_uid", "patient_uid")}
    link = st.column_config.LinkColumn(COLUMNS["address"][0], help=COLUMNS["address"][1], display_text="see cells")
    return plain | numbers | names | {"address": link}
