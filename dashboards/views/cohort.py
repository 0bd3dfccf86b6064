"""The default page: who is in the workspace, how many cells were counted, and how long patients lived."""

from typing import Any

import pandas as pd
import streamlit as st

from ctcml.workspace import Workspace
from dashboards import records
from dashboards.patient_charts import counts_chart, survival_chart
from dashboards.records import NotMade
from dashboards.views.pieces import chart, empty

ALL = "all"
DENOMINATORS = {"proposed": "events that CellSearch proposed", "all": "all objects"}
SOURCES = {"model": "the model", "manual": "hand, at the time"}


def show(workspace: Workspace) -> None:
    """Draw the page."""
    st.title("Cohort")
    show_cards(records.cards(workspace))
    simulated = records.is_simulated(workspace)
    people = records.clinical(workspace)
    types = [] if isinstance(people, NotMade) else sorted(people["cancer_type"].dropna().unique())
    group = choose_cancer_type(types) if types else ALL
    st.subheader("Cells per patient")
    found = records.counts(workspace)
    if isinstance(found, NotMade):
        empty(found)
    else:
        show_counts(found, group, records.class_names(workspace), simulated=simulated)
    st.subheader("Survival")
    analyses = records.survival(workspace)
    if isinstance(analyses, NotMade):
        empty(analyses)
    else:
        show_survival(analyses, group)


def choose_cancer_type(types: list[str]) -> str:
    """One cancer type or all of them, kept in the address; it holds for counts and survival."""
    return st.segmented_control(
        "Cancer type",
        [ALL, *types],
        default=ALL,
        required=True,
        key="cancer",
        bind="query-params",
        format_func=str.capitalize,
    )


def show_cards(figures: records.Cards) -> None:
    """Four figures, or a dash where the record is not made yet."""
    said = {
        "Patients": figures.patients,
        "Thumbnails": figures.thumbnails,
        "Champion model": figures.champion,
        "Classes": figures.classes,
    }
    for column, (name, value) in zip(st.columns(len(said)), said.items(), strict=True):
        column.metric(
            name, "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value), border=True
        )


def show_counts(counts: pd.DataFrame, group: str, names: dict[str, str], *, simulated: bool) -> None:
    """The chart of the class, events and threshold that the address names."""
    class_ids, thresholds = list(dict.fromkeys(counts["class_id"])), sorted(counts["threshold"].unique())
    denominators = [name for name in DENOMINATORS if name in set(counts["denominator"])]
    left, middle, right = st.columns(3)
    class_id = left.selectbox(
        "Class",
        class_ids,
        key="class",
        bind="query-params",
        format_func=lambda one: names.get(one, one),
        index=class_ids.index("ctc") if "ctc" in class_ids else 0,
    )
    denominator = middle.selectbox(
        "Counted among", denominators, key="among", bind="query-params", format_func=lambda one: DENOMINATORS[one]
    )
    threshold = right.selectbox(
        "Counted when", thresholds, key="when", bind="query-params", format_func=_threshold_name
    )
    rows = counts[
        (counts["class_id"] == class_id) & (counts["denominator"] == denominator) & (counts["threshold"] == threshold)
    ]
    rows = rows if group == ALL else rows[rows["cancer_type"] == group]
    if rows.empty:
        st.info("No sample has this combination of cancer type, class, events and threshold.")
        return
    name = names.get(class_id, class_id)
    chart(
        counts_chart(rows, name_of_class=name, simulated=simulated),
        key="counts",
        alt=f"{name} per sample with intervals, by cancer type",
    )
    warned = (
        " A cut-off marked exploratory is not clinically validated for these samples, events or threshold."
        if rows["exploratory"].any()
        else ""
    )
    st.caption(
        "Bars: interval of the patient's concentration, from what the network is unsure of and from drawing one tube."
        + warned
    )


def _threshold_name(threshold: float) -> str:
    return "it is the most probable class" if threshold == 0 else f"its probability is ≥ {threshold:.2f}"


def show_survival(analyses: dict[str, Any], group: str) -> None:
    """Counts by the model, or by hand as at the time, against the cut-off."""
    of_group = {report["source"]: report for report in analyses["reports"] if report["group"] == group}
    if not of_group:
        st.info(f"No survival analysis of {group} patients.")
        return
    source = st.segmented_control(
        "CTCs counted by",
        list(of_group),
        default=next(iter(of_group)),
        required=True,
        key="counted",
        bind="query-params",
        format_func=lambda one: SOURCES.get(one, one),
    )
    report = of_group[source]
    drawing, figures = st.columns([3, 1])
    with drawing:
        alt = f"Kaplan-Meier curves, {report['label']}: " + ", ".join(
            f"{arm['name']} with {arm['n']} patients" for arm in report["arms"]
        )
        chart(
            survival_chart(report, endpoint=analyses["endpoint"], simulated=analyses["simulated"]),
            key="survival",
            alt=alt,
        )
    with figures:
        show_tests(report)
    show_medians(report)


def show_tests(report: dict[str, Any]) -> None:
    """Log-rank test and hazard ratio, or the reason why one is not given."""
    if report["logrank"]:
        st.metric("Log-rank p", said_p(report["logrank"]["p"]), border=True)
    if report["cox"]:
        hazard = report["cox"]
        st.metric("Hazard ratio", f"{hazard['hr']:.2f}", border=True)
        st.caption(
            f"95 % interval {hazard['low']:.2f} to {hazard['high']:.2f}, p {said_p(hazard['p'])}; {hazard['per']}."
        )
    if report["exploratory"]:
        st.badge("exploratory", color="orange")
        st.caption("Not every cut-off used here is clinically validated.")
    for refusal in report["refusals"]:
        st.warning(refusal)
    for note in report["notes"]:
        st.caption(note)


def show_medians(report: dict[str, Any]) -> None:
    """The arms in figures."""
    rows = [
        {
            "CTC": arm["name"],
            "Patients": arm["n"],
            "Events": arm["events"],
            "Median, months": said_months(arm["median"]) if arm["times"] else "–",
            "95 % interval": f"{said_months(arm['median_low'])} to {said_months(arm['median_high'])}"
            if arm["times"]
            else "–",
        }
        for arm in report["arms"]
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True)


def said_months(months: float | None) -> str:
    """A time, or that the curve never falls that far.

    >>> said_months(21.258), said_months(None)
    ('21.3', 'not reached')
    """
    return "not reached" if months is None else f"{months:.1f}"


def said_p(p: float) -> str:
    """A p-value as a paper prints it.

    >>> said_p(0.0421), said_p(1.75e-06)
    ('0.042', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
