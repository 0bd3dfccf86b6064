"""One tube of blood: what was counted in it, and the very cells behind each count."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from ctcml.workspace import Workspace
from dashboards import records, session
from dashboards.addresses import DENOMINATORS, threshold_name
from dashboards.records import NotMade
from dashboards.views.cohort_filters import Counted, choose_counted, rows_of
from dashboards.views.pieces import empty
from dashboards.views.sample_cell import show_cell
from dashboards.views.sample_gallery import counted_of, show_gallery, show_other_classes

LISTED = {  # of the list of samples: heading
    "sample_uid": "Sample",
    "patient_uid": "Patient",
    "cancer_type": "Cancer type",
    "site": "Site",
    "instrument": "Instrument",
    "draw_day": "Draw day",
    "count": "CTC",
    "events": "Events",
    "per_7_5_ml": "CTC per 7.5 ml",
    "side": "Side of the cut-off",
}


def show(workspace: Workspace) -> None:
    """Draw the page: the sample that the address names, or all samples to choose from."""
    st.title("Sample")
    counts, clinical = records.counts(workspace), records.clinical(workspace)
    for one in (clinical, counts):
        if isinstance(one, NotMade):
            empty(one)
    if isinstance(counts, NotMade) or isinstance(clinical, NotMade):
        return
    sample_uid = choose_sample(clinical)
    if sample_uid is None:
        session.viewed(workspace, "samples")
        show_list(counts, clinical)
        return
    session.viewed(workspace, "sample", sample_uid=sample_uid)
    about = clinical[clinical["sample_uid"] == sample_uid].iloc[0].to_dict()
    st.markdown(said_of(about, records.set_of(workspace, str(about["patient_uid"]))))
    of_sample = counts[counts["sample_uid"] == sample_uid]
    if of_sample.empty:
        st.info("This sample has no count: it has no thumbnails, which is not the same as no tumour cells.")
        return
    show_sample(workspace, sample_uid, of_sample)


def choose_sample(clinical: pd.DataFrame) -> str | None:
    """The sample of the address; typing any part of a pseudonym finds others."""
    known = sorted(clinical["sample_uid"])
    asked = st.query_params.get("sample")
    chosen = st.selectbox(
        "Sample",
        known,
        index=None,
        key="sample",
        bind="query-params",
        placeholder="type a part of its pseudonym, or choose it in the list",
    )
    if chosen is None and asked and asked not in known:
        st.warning(f"Sample {asked} is not in this workspace; choose another one.")
    return chosen


def show_list(counts: pd.DataFrame, clinical: pd.DataFrame) -> None:
    """All samples, most tumour cells first; a row that is chosen opens the sample."""
    table = samples_table(counts, clinical)
    st.caption(
        f"{len(table)} samples. Choose a row to see the cells; the loupe above the table searches in all columns."
    )
    st.dataframe(
        table,
        hide_index=True,
        height=620 if len(table) > 16 else "content",
        key="samples",
        on_select=lambda: _choose_row(table),
        selection_mode="single-row",
        column_config=LISTED | {"per_7_5_ml": st.column_config.NumberColumn(LISTED["per_7_5_ml"], format="%.1f")},
        alt="All samples",
    )


def samples_table(counts: pd.DataFrame, clinical: pd.DataFrame) -> pd.DataFrame:
    """One row a sample with the clinical count of tumour cells, where it has one."""
    offered = [name for name in DENOMINATORS if name in set(counts["denominator"])]
    ctc = rows_of(counts, Counted(class_id="ctc", denominator=offered[0], threshold=0.0))
    joined = clinical.merge(ctc[["sample_uid", "count", "events", "per_7_5_ml", "side"]], on="sample_uid", how="left")
    ordered = joined.sort_values(["per_7_5_ml", "sample_uid"], ascending=[False, True], ignore_index=True)
    return ordered[list(LISTED)]


def _choose_row(table: pd.DataFrame) -> None:
    rows = st.session_state["samples"].selection.rows
    if rows:
        st.session_state["sample"] = str(table["sample_uid"].iloc[rows[0]])


def said_of(about: Mapping[str, Any], role: str | None) -> str:
    """Which tube this is, in one line; what the clinical table does not know is left out.

    >>> said_of({"patient_uid": "ab12", "cancer_type": "breast", "blood_volume_ml": 7.5, "draw_day": 0.0}, "train")
    'Patient `ab12` · breast · drawn on day 0 · 7.5 ml of blood · training patient'
    >>> said_of({"site": "Site B"}, None), said_of({"site": "B"}, None)
    ('Site B', 'site B')
    """
    site = "{}" if str(about.get("site")).lower().startswith("site") else "site {}"  # as most tables name theirs
    forms = {
        "patient_uid": "Patient `{}`", "cancer_type": "{}", "sample_kind": "{}", "site": site,
        "instrument": "instrument {}", "line_of_therapy": "line of therapy {}", "draw_day": "drawn on day {:.0f}",
        "blood_volume_ml": "{} ml of blood", "manual_ctc": "{:.0f} CTC by hand at the time",
    }  # fmt: skip
    known = {name: about.get(name) for name in forms}
    if known["sample_kind"] == "patient":
        known["sample_kind"] = None
    parts = [forms[name].format(value) for name, value in known.items() if value is not None and not pd.isna(value)]
    sets = {"train": "training patient", "steering": "steering patient", "sealed": "sealed patient"}
    return " · ".join([*parts, *([sets.get(role, role)] if role else [])])


def show_sample(workspace: Workspace, sample_uid: str, counts: pd.DataFrame) -> None:
    """The chosen count, its cells, and the other classes."""
    names = records.class_names(workspace)
    counted = choose_counted(counts, names)
    rows = rows_of(counts, counted)
    if rows.empty:
        st.info("This sample has no count with this class, events and threshold.")
        return
    row = rows.iloc[0].to_dict()
    show_count(row, names.get(counted.class_id, counted.class_id), counted)
    with st.expander("All classes of this sample"):
        st.dataframe(classes_table(counts, counted, names), hide_index=True, alt="Counts of all classes of this sample")
    cells, model = records.cells_of_sample(workspace, sample_uid), records.champion(workspace)
    for one in (cells, model):
        if isinstance(one, NotMade):
            empty(one)
    if isinstance(cells, NotMade) or isinstance(model, NotMade):
        return
    found = counted_of(cells, sample_uid, model["classes"], counted)
    if len(found) != row["count"]:
        st.error(
            f"The count says {row['count']} cells, the embeddings name {len(found)}: the champion changed since they were "
            "counted. Run `ctcml repro count`."
        )
    with st.spinner("Reading the thumbnails…"):
        show_cell(workspace, sample_uid, cells, list(found["cell_uid"]), model["classes"], names)
        show_gallery(workspace, sample_uid, found, counted, names)
        show_other_classes(workspace, cells, sample_uid, model["classes"], counted, names)


def show_count(row: Mapping[str, Any], name: str, counted: Counted) -> None:
    """The chosen count with all that is known of its uncertainty, and which count it is."""
    st.subheader(f"{row['count']:,} {name} of {row['events']:,} events")
    st.caption(f"Counted among {DENOMINATORS[counted.denominator]}, when {threshold_name(counted.threshold)}.")
    has_cutoff = row["side"] != "none"
    shown = {
        "Per 7.5 ml": f"{row['per_7_5_ml']:.1f}",
        "In the patient's blood": f"{row['low']:.1f} to {row['high']:.1f}",
        "Experts would count here": f"{row['tube_low']:.0f} to {row['tube_high']:.0f}",
    }
    if has_cutoff:
        shown[f"Against the cut-off {row['cutoff']:g}"] = str(row["side"])
        shown["Chance of the other side"] = f"{row['flip_risk']:.0%}"
    for column, (label, value) in zip(st.columns(len(shown)), shown.items(), strict=True):
        column.metric(label, value, border=True)
    if row["exploratory"]:
        st.badge("exploratory", color="orange")
        st.caption("This cut-off is not clinically validated for these patients, events or threshold.")


def classes_table(counts: pd.DataFrame, counted: Counted, names: Mapping[str, str]) -> pd.DataFrame:
    """Every class over the chosen events and at the chosen threshold."""
    same = counts[
        (counts["denominator"] == counted.denominator) & (counts["threshold"].round(6) == round(counted.threshold, 6))
    ]
    return pd.DataFrame(
        {
            "Class": [names.get(one, one) for one in same["class_id"]],
            "Count": same["count"].to_numpy(),
            "Events": same["events"].to_numpy(),
            "Per 7.5 ml": same["per_7_5_ml"].round(1).to_numpy(),
            "In the blood": [_limits(*one) for one in zip(same["low"], same["high"], strict=True)],
            "Experts would count": [_limits(*one) for one in zip(same["tube_low"], same["tube_high"], strict=True)],
            "Side": same["side"].to_numpy(),
        }
    )


def _limits(low: float, high: float) -> str:
    """
    >>> _limits(0.04, 3.26)
    '0.0 to 3.3'
    """
    return f"{low:.1f} to {high:.1f}"
