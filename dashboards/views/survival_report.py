"""One comparison of survival on a page: curves, tests, medians, models, and each thing that was refused as a sentence."""

import json
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from ctcml.workspace import Workspace
from dashboards import session
from dashboards.survival_charts import ENDPOINTS, spline_chart, survival_chart
from dashboards.views.pieces import chart

Report = Mapping[str, Any]


def show_report(report: Report, *, endpoint: str, simulated: bool) -> None:
    """The whole of a report; parts that older versions of ctcml did not write are left out."""
    drawing, figures = st.columns([3, 1])
    with drawing:
        chart(
            survival_chart(report, endpoint=endpoint, simulated=simulated), key="survival", alt=said_of_curves(report)
        )
    with figures:
        show_tests(report)
    st.dataframe(medians_table(report), hide_index=True, alt="The arms in figures")
    show_notes(report)
    show_models(report, simulated=simulated)


def said_of_curves(report: Report) -> str:
    """The curves for people who cannot see them."""
    arms = "; ".join(
        f"{arm['name']}: {arm['n']} patients, {arm['events']} events, median {said_median(arm)}"
        for arm in report["arms"]
    )
    return f"Kaplan-Meier curves, {report['label']}. {arms}. The table below holds the figures."


def show_tests(report: Report) -> None:
    """Stamp, tests and hazard ratio, each with what belongs to it."""
    if report["exploratory"]:
        st.badge("exploratory", color="orange")
        st.caption(
            "Not validated for the clinic: the cut-off, the count or the patients are not the prespecified ones."
        )
    if report["logrank"]:
        corrected = ", corrected for the search" if report.get("searched") else ""
        st.metric(f"Log-rank p{corrected}", said_p(report["logrank"]["p"]), border=True)
    if report["cox"]:
        hazard = report["cox"]
        st.metric("Hazard ratio", f"{hazard['hr']:.2f}", border=True)
        st.caption(
            f"95 % interval {hazard['low']:.2f} to {hazard['high']:.2f}, p {said_p(hazard['p'])}; {hazard['per']}. "
            f"{said_of_proportion(hazard['proportional_p'])}"
        )
    if found := report.get("searched"):
        st.metric("Searched cut-off", f"{found['cutoff']:g}", border=True)
        st.caption(
            f"Best of {found['candidates']} candidates; p {said_p(found['p_corrected'])} after {found['permutations']:,} "
            "permutations that repeat the search."
        )
    if means := report.get("restricted"):
        st.metric("Restricted mean, difference", f"{means['difference']:+.1f} months", border=True)
        st.caption(
            f"95 % interval {means['low']:+.1f} to {means['high']:+.1f}, p {said_p(means['p'])}, over the first "
            f"{means['horizon']:.0f} months: "
            + ", ".join(f"{arm['name']} {arm['mean']:.1f}" for arm in means["arms"])
            + ". Given because the hazard ratio changes over time."
        )


def show_notes(report: Report) -> None:
    """What was refused, how long patients were followed, and what else belongs to the figures."""
    for refusal in report["refusals"]:
        st.warning(refusal)
    if followed := report.get("follow_up"):
        st.caption(
            f"Median follow-up {said_months(followed['median'])} months (95 % interval {said_months(followed['low'])} to "
            f"{said_months(followed['high'])}; reverse Kaplan-Meier). {report['n']} patients, {report['events']} events."
        )
    if report["notes"]:
        st.caption(" ".join(f"{note[:1].upper()}{note[1:]}." for note in report["notes"]))


def show_models(report: Report, *, simulated: bool) -> None:
    """The hazard over the count itself, and the model with the clinical table's covariates."""
    left, right = st.columns(2)
    trend, curve, several = (report.get(name) for name in ("cox_log_count", "spline", "multivariable"))
    with left:
        if curve:
            st.markdown("**Hazard ratio over the count**")
            nonlinear = f"Departure from a straight line: p {said_p(curve['nonlinear_p'])}. "
            chart(
                spline_chart(curve, simulated=simulated), key="spline", alt="Hazard ratio over the count with its band"
            )
        if trend:
            st.caption(
                f"{nonlinear if curve else ''}Per unit of ln(1 + count): hazard ratio {trend['hr']:.2f} ({trend['low']:.2f} to "
                f"{trend['high']:.2f}), p {said_p(trend['p'])}. {said_of_proportion(trend['proportional_p'])}"
            )
    with right:
        if several:
            st.markdown("**Adjusted for the clinical covariates**")
            st.dataframe(multivariable_table(several), hide_index=True, alt="Multivariable Cox model")
            left_out = f", {several['left_out']} left out for a missing covariate" if several["left_out"] else ""
            st.caption(
                f"Cox model of {several['n']} patients with {several['events']} events{left_out}. Proportional hazards, all "
                f"terms together: p {said_p(several['global_proportional_p'])}. C-index {several['concordance']:.2f}."
            )


def medians_table(report: Report) -> pd.DataFrame:
    """The arms in figures; an arm without a curve has no median."""
    rows = [
        {
            "Cells per 7.5 ml": arm["name"],
            "Patients": arm["n"],
            "Events": arm["events"],
            "Median, months": said_median(arm),
            "95 % interval": f"{said_months(arm['median_low'])} to {said_months(arm['median_high'])}"
            if arm["times"]
            else "–",
        }
        for arm in report["arms"]
    ]
    return pd.DataFrame(rows)


def multivariable_table(found: Report) -> pd.DataFrame:
    """Each term of the model with its interval and its check."""
    rows = [
        {
            "Term": term["name"],
            "Hazard ratio": f"{term['hr']:.2f}",
            "95 % interval": f"{term['low']:.2f} to {term['high']:.2f}",
            "p": said_p(term["p"]),
            "p of proportional hazards": said_p(term["proportional_p"]),
        }
        for term in found["terms"]
    ]
    return pd.DataFrame(rows)


def export_buttons(workspace: Workspace, report: Report, *, simulated: bool) -> None:
    """The curves as a picture in both forms, and all figures."""
    name = "survival-" + "-".join(str(report["label"]).replace(",", "").split())
    offered = {
        "Curves as SVG": ("svg", "image/svg+xml", partial(curves_file, report, ".svg", simulated=simulated)),
        "Curves as PNG": ("png", "image/png", partial(curves_file, report, ".png", simulated=simulated)),
        "Figures as JSON": ("json", "application/json", partial(figures_file, report, simulated=simulated)),
    }
    with st.container(horizontal=True):
        for label, (ending, mime, make) in offered.items():
            session.export_button(
                workspace,
                label,
                make,
                file_name=f"{name}.{ending}",
                mime=mime,
                what="survival",
                key=f"export-survival-{ending}",
                label_of_report=str(report["label"]),
                patients=int(report["n"]),
            )


def curves_file(report: Report, ending: str, *, simulated: bool) -> bytes:
    """The picture that `ctcml survival --plot` draws, as the bytes of a file."""
    from ctcml.survival_pictures import km_plot

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"curves{ending}"
        km_plot(report, path, simulated=simulated)
        return path.read_bytes()


def figures_file(report: Report, *, simulated: bool) -> bytes:
    """The report as JSON, with the word whether its patients exist."""
    return json.dumps({"simulated": simulated} | dict(report), indent=1, ensure_ascii=False).encode()


def said_median(arm: Report) -> str:
    return said_months(arm["median"]) if arm["times"] else "–"


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


def said_of_proportion(p: float) -> str:
    """What the check of proportional hazards says.

    >>> said_of_proportion(0.4)
    'Proportional hazards: p 0.400, no sign against it.'
    """
    told = "no sign against it" if p >= 0.05 else "the ratio changes over time"
    return f"Proportional hazards: p {said_p(p)}, {told}."


def endpoint_name(endpoint: str) -> str:
    return ENDPOINTS.get(endpoint, endpoint)
