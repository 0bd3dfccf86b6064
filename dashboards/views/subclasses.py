"""Section of the cohort page: subclasses that the latent space holds, their counts and their survival; exploratory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from ctcml.workspace import Workspace
from dashboards import records, session
from dashboards.addresses import ALL
from dashboards.comparison_charts import hazards_chart, subclasses_chart
from dashboards.records import NotMade
from dashboards.views.pieces import chart, picture, show_missing

STABLE = 0.75  # Jaccard index from which a cluster is called stable (Hennig 2007)


def show(workspace: Workspace, group: str) -> None:
    """Each class that was divided: its subclasses, their counts in one cancer type or in all, and survival of all patients."""
    st.subheader("Subclasses")
    report, counts = records.subclass_report(workspace), records.subclasses(workspace)
    if isinstance(report, NotMade) or isinstance(counts, NotMade):
        show_missing(report, counts)
        return
    st.badge("exploratory", color="orange")
    st.caption(
        "Populations that k-means finds among the champion's latents; nobody has confirmed that one of them is a kind of cell. "
        "Their number is chosen in params.yaml, and what a number stands for changes with the champion. Counted among all "
        "objects: CellSearch presents hardly any object without a nucleus."
    )
    names = records.class_names(workspace)
    for one in report["classes"]:
        st.markdown(f"#### {names.get(one['class_id'], one['class_id'])}")
        if one["refusal"]:
            st.warning(f"{one['refusal'][:1].upper()}{one['refusal'][1:]}.")
            continue
        show_portraits(workspace, one)
        own = counts[(counts["class_id"] == one["class_id"]) & (counts["denominator"] == "all")]
        show_counts(
            workspace, own if group == ALL else own[own["cancer_type"] == group], one, simulated=report["simulated"]
        )
        show_survival(one, endpoint=report["endpoint"], simulated=report["simulated"])


def show_portraits(workspace: Workspace, one: Mapping[str, Any]) -> None:
    """What each subclass looks like, in words and in pictures."""
    st.dataframe(portraits_table(one), hide_index=True, alt="Subclasses in words")
    folder = workspace.pictures / "subclasses"
    with st.expander(f"Cells of each subclass ({len(one['sheets'])} contact sheets)", expanded=True):
        for name in one["sheets"].values():
            _show_picture(folder / name)
    if one["map"]:
        with st.expander("Where they lie on the latent map"):
            _show_picture(folder / one["map"])


def _show_picture(path: Path) -> None:
    if path.is_file():
        picture(path)
    else:
        st.caption(f"{path.name}: not there; `ctcml repro subclass` draws it.")


def portraits_table(one: Mapping[str, Any]) -> pd.DataFrame:
    """One row a subclass; what is not stable is said to be so."""
    return pd.DataFrame(
        [
            {
                "Subclass": each["name"],
                "Staining": each["profile"],
                "Beside the others": each["looks"] or "no visible difference",
                "Cells": each["cells"],
                "Patients": each["patients"],
                "Stability": said_of_stability(each["stability"]),
            }
            for each in one["subclasses"]
        ]
    )


def said_of_stability(index: float | None) -> str:
    """The bootstrap Jaccard index and what it means.

    >>> said_of_stability(0.82), said_of_stability(0.6), said_of_stability(None)
    ('0.82, stable', '0.60, not stable', 'unknown')
    """
    return "unknown" if index is None else f"{index:.2f}, {'stable' if index >= STABLE else 'not stable'}"


def show_counts(workspace: Workspace, counts: pd.DataFrame, one: Mapping[str, Any], *, simulated: bool) -> None:
    """Counts of each tube, as a chart and as a file."""
    if counts.empty:
        st.caption("No tube of this cancer type.")
        return
    names = [each["name"] for each in one["subclasses"]]
    chart(
        subclasses_chart(counts, names, simulated=simulated),
        key=f"subclasses-{one['class_id']}",
        alt=f"Cells per 7.5 ml of {len(names)} subclasses in {counts['sample_uid'].nunique()} tubes",
    )
    st.caption(
        "A point a tube; box: quartiles and median. The hover gives the interval that comes from drawing one tube."
    )
    session.export_button(
        workspace,
        "Subclass counts as CSV",
        lambda: counts.to_csv(index=False).encode(),
        file_name=f"subclasses-{one['class_id']}.csv",
        mime="text/csv",
        what="subclass counts",
        key=f"export-subclasses-{one['class_id']}",
        samples=int(counts["sample_uid"].nunique()),
    )


def show_survival(one: Mapping[str, Any], *, endpoint: str, simulated: bool) -> None:
    """Hazard ratios with the corrected p, of patients of all cancer types, or why there is none."""
    st.markdown(f"**Survival ({endpoint.upper()}, all cancer types)**")
    reports = one["survival"]
    if any(each["cox_log_count"] for each in reports):
        chart(
            hazards_chart(reports, simulated=simulated),
            key=f"hazards-{one['class_id']}",
            alt="Hazard ratio of each subclass with its interval; the table below holds the figures",
        )
    st.dataframe(survival_table(reports), hide_index=True, alt="Survival by subclass")
    for told in remarks(reports):
        st.caption(told)
    st.caption(
        f"Hazard ratio per unit of ln(1 + count), univariable; p corrected over {reports[0]['tests'] if reports else 0} subclasses "
        "(Holm). Arms are split at the median, which nobody prespecified: exploratory."
    )


def survival_table(reports: list[dict[str, Any]]) -> pd.DataFrame:
    """One row a subclass; a refusal stands where the figures would."""
    rows = []
    for one in reports:
        fit, test = one["cox_log_count"], one["logrank"]
        rows.append(
            {
                "Subclass": f"{one['class_id']}-{one['subclass']}",
                "Patients": one["n"],
                "Events": one["events"],
                "Split at": f"{one['cutoff']:g}",
                "Hazard ratio": f"{fit['hr']:.2f} ({fit['low']:.2f} to {fit['high']:.2f})" if fit else "–",
                "p": _p(fit["p"]) if fit else "–",
                "p, corrected": _p(one["p_corrected"]) if fit else "–",
                "p of proportional hazards": _p(fit["proportional_p"]) if fit else "–",
                "Log-rank p of the arms": _p(test["p"]) if test else "–",
            }
        )
    return pd.DataFrame(rows)


def remarks(reports: list[dict[str, Any]]) -> list[str]:
    """What was refused or has to be known, a sentence each with the subclass that it is about."""
    return [
        f"{one['class_id']}-{one['subclass']}: {told}." for one in reports for told in [*one["refusals"], *one["notes"]]
    ]


def _p(value: float) -> str:
    """
    >>> _p(0.0421), _p(1.75e-06)
    ('0.042', '< 0.001')
    """
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
