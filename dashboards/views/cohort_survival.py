"""How long patients lived on either side of a cut-off: the prespecified question first, any other one stamped exploratory."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from ctcml.workspace import Workspace
from dashboards import records
from dashboards.addresses import ARG_MAX, DEFAULT_CLASS
from dashboards.records import NotMade, Stamp
from dashboards.survival_charts import ratios_chart
from dashboards.views.cohort_filters import Counted, choose_counted, choose_people
from dashboards.views.pieces import chart, empty
from dashboards.views.survival_report import endpoint_name, export_buttons, show_report

if TYPE_CHECKING:
    from ctcml.cohort import Choice  # brings lifelines with it

SOURCES = {"model": "the model", "manual": "hand, at the time"}
PLANNED, OTHER, SEARCHED = "prespecified", "another number", "searched"
FIRST, LANDMARK = "the first sample", "a landmark"
ENDPOINTS = ("os", "pfs")
PERMUTATIONS = 999  # with the data themselves 1000, so that p has three digits
COVARIATES = ("age", "ecog", "line_of_therapy", "site")  # beside those named covariate_<name>


def show(workspace: Workspace, group: str) -> None:
    """Ask what is compared, then show it, from the stage's file where that holds it."""
    st.subheader("Survival")
    analyses = records.survival(workspace)
    if isinstance(analyses, NotMade):
        empty(analyses)
        return
    counts, clinical = records.counts(workspace), records.clinical(workspace)
    simulated = bool(analyses["simulated"])
    if isinstance(counts, NotMade) or isinstance(clinical, NotMade):
        report, planned = _stored(analyses["reports"], group, "model"), True
    else:
        as_planned = Counted(class_id=DEFAULT_CLASS, denominator=analyses["denominator"], threshold=ARG_MAX)
        choice, planned = choose(
            workspace, counts, clinical, group, planned_endpoint=analyses["endpoint"], planned_count=as_planned
        )
        kept = analyses["reports"] if choice.landmark_days is None else analyses.get("landmarks", [])
        report = _stored(kept, group, choice.source) if planned else None
        report = report or _computed(workspace, choice)
    if report is None:
        st.info(f"No survival analysis of {group} patients.")
        return
    endpoint = str(report.get("endpoint", analyses["endpoint"]))
    show_report(report, endpoint=endpoint, simulated=simulated)
    export_buttons(workspace, report, simulated=simulated)
    if planned and not report.get("landmark_months"):
        show_spread(analyses, group)


def choose(
    workspace: Workspace,
    counts: pd.DataFrame,
    clinical: pd.DataFrame,
    group: str,
    *,
    planned_endpoint: str,
    planned_count: Counted,
) -> tuple["Choice", bool]:
    """What the address asks for, and whether it is the prespecified question, which the stage has answered already."""
    from ctcml.cohort import Choice

    with st.expander("What is counted, and whose samples", expanded=_narrowed_in_address()):
        counted = choose_counted(counts, records.class_names(workspace))
        people = choose_people(clinical, group)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        source = _one_of("CTCs counted by", SOURCES, key="counted")
        offered = [planned_endpoint, *(one for one in ENDPOINTS if one != planned_endpoint)]
        endpoint = _one_of("Endpoint", {one: endpoint_name(one) for one in offered}, key="endpoint")
        cut = _one_of("Cut-off", {one: one for one in (PLANNED, OTHER, SEARCHED)}, key="cut")
        begin = _one_of("Time begins at", {one: one for one in (FIRST, LANDMARK)}, key="from")
    rules = records.survival_rules(workspace)
    cutoff, landmark = _numbers(cut, begin, planned_landmark=rules.landmark_days)
    covariates, planned_covariates = choose_covariates(clinical, rules.covariates)
    choice = Choice(
        endpoint=endpoint,
        source=source,
        class_id=counted.class_id,
        denominator=counted.denominator,
        threshold=counted.threshold,
        cutoff=cutoff,
        cancer_types=people.cancer_types,
        sites=people.sites,
        lines=people.lines,
        landmark_days=landmark,
        covariates=covariates,
        searched=cut == SEARCHED,
    )
    planned = endpoint == planned_endpoint and cut == PLANNED and landmark in (None, rules.landmark_days)
    return choice, planned and planned_covariates and people.is_group and counted == planned_count


def _narrowed_in_address() -> bool:
    return any(name in st.query_params for name in ("class", "among", "when", "site", "line"))


def _one_of(label: str, named: Mapping[str, str], *, key: str) -> str:
    """One of a few, by its name on the page; the first is the default and stands in no address."""
    by_name = {name: one for one, name in named.items()}
    shown = st.segmented_control(
        label, list(by_name), default=next(iter(by_name)), required=True, key=key, bind="query-params"
    )
    return by_name[shown]


def _numbers(cut: str, begin: str, *, planned_landmark: float) -> tuple[float | None, float | None]:
    """The cut-off and the landmark where they are not the prespecified ones."""
    cutoff = landmark = None
    left, right = st.columns(2)
    if cut == OTHER:
        cutoff = left.number_input(
            "Cells per 7.5 ml from which on a count is high",
            min_value=0.5,
            value=5.0,
            step=1.0,
            format="%g",
            key="at",
            bind="query-params",
        )
    if begin == LANDMARK:
        landmark = right.number_input(
            "Days after the first draw: the last sample up to then counts, and time begins there",
            min_value=1.0, value=float(planned_landmark), step=7.0, format="%g", key="landmark", bind="query-params",
        )  # fmt: skip
    return cutoff, landmark


def choose_covariates(clinical: pd.DataFrame, planned: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """What the count's hazard ratio is adjusted for, and whether that is what params.yaml prespecifies."""
    further = [name for name in clinical.columns if name.startswith("covariate_") and name != "covariate_simulated"]
    offered = [name for name in (*COVARIATES, *further) if clinical[name].nunique() > 1]
    usual = [name for name in offered if name in planned]
    chosen = st.multiselect(
        "Adjusted for", offered, default=usual, key="adjust", bind="query-params", format_func=_covariate_name
    )
    return tuple(chosen), set(chosen) == set(usual)


def _covariate_name(name: str) -> str:
    """
    >>> _covariate_name("line_of_therapy"), _covariate_name("covariate_her2")
    ('line of therapy', 'her2')
    """
    return name.removeprefix("covariate_").replace("_", " ")


def _stored(reports: Sequence[Mapping[str, Any]], group: str, source: str) -> Mapping[str, Any] | None:
    found = [one for one in reports if one["group"] == group]
    return next((one for one in found if one["source"] == source), None) or next(iter(found), None)


def _computed(workspace: Workspace, choice: "Choice") -> Mapping[str, Any]:
    stamp = records.stamp_of(workspace.clinical, workspace.counts, workspace.params)
    with st.spinner("Computing this comparison…"):
        return _report(workspace, stamp, choice)


@lru_cache(maxsize=128)  # keyed by the stamp, so tables made again are compared again
def _report(workspace: Workspace, stamp: Stamp, choice: "Choice") -> Mapping[str, Any]:
    from ctcml.cohort import cohort_report

    counts, clinical = records.counts(workspace), records.clinical(workspace)
    assert isinstance(counts, pd.DataFrame)
    assert isinstance(clinical, pd.DataFrame)
    rules = records.survival_rules(workspace)
    return cohort_report(
        clinical,
        counts,
        choice,
        min_events=rules.min_events,
        cutoffs=rules.cutoffs,
        exploratory_cutoffs=rules.exploratory_cutoffs,
        permutations=PERMUTATIONS,
    ).to_dict()


def show_spread(analyses: Mapping[str, Any], group: str) -> None:
    """How the hazard ratio depends on who counted, and whether the model's count foretells more than the one by hand."""
    spread = next((one for one in analyses.get("spread", []) if one["group"] == group), None)
    if spread:
        st.markdown("**The prespecified hazard ratio under each way of counting**")
        ratios = spread_rows(spread)
        if ratios:
            chart(
                ratios_chart(ratios, simulated=bool(analyses["simulated"])),
                key="spread",
                alt="; ".join(f"{name}: {ratio:.2f} ({low:.2f} to {high:.2f})" for name, ratio, low, high in ratios),
            )
        for one in spread["sources"]:
            if one.get("refusal"):
                st.caption(f"{one['name']}: {one['refusal']}.")
    found = next((one for one in analyses.get("concordance", []) if one["group"] == group), None)
    if found:
        st.caption(said_of_concordance(found))


def spread_rows(spread: Mapping[str, Any]) -> list[tuple[str, float, float, float]]:
    """Name, hazard ratio and limits of each way of counting; the draws with their median and the limits between them."""
    rows = [
        (said_of_source(one), one["hr"], one["low"], one["high"])
        for one in spread["sources"]
        if one.get("hr") is not None
    ]
    if draws := spread.get("draws"):
        rows.append((f"{draws['n']} draws of what tubes may hold", draws["median"], draws["low"], draws["high"]))
        if draws.get("pooled") is not None:
            rows.append(("the draws, pooled", draws["pooled"], draws["pooled_low"], draws["pooled_high"]))
    return rows


def said_of_source(one: Mapping[str, Any]) -> str:
    """Who counted, and of how many patients; of a reader, how much of the model's count he or she changed.

    >>> said_of_source({"name": "manual", "n": 48}), said_of_source({"name": "model", "n": 48})
    ('by hand, 48 patients', 'by the model, 48 patients')
    >>> said_of_source({"name": "reader anna", "n": 48, "cells_read": 91, "cells_changed": 4})
    'reader anna, changed 4 of 91 cells'
    """
    name = {"manual": "by hand", "model": "by the model"}.get(one["name"], one["name"])
    if one.get("cells_read") is None:
        return f"{name}, {one['n']} patients"
    return f"{name}, changed {one['cells_changed']} of {one['cells_read']} cells"


def said_of_concordance(found: Mapping[str, Any]) -> str:
    """Which count foretells survival better.

    >>> said_of_concordance({"n": 48, "model": 0.71, "manual": 0.68, "difference": 0.03, "low": -0.02, "high": 0.08})
    'C-index of the count in 48 patients: 0.71 by the model, 0.68 by hand; difference +0.03 (-0.02 to +0.08).'
    """
    return (
        f"C-index of the count in {found['n']} patients: {found['model']:.2f} by the model, {found['manual']:.2f} by hand; "
        f"difference {found['difference']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})."
    )
