"""What the gate found of one challenger: verdict, reasons, the look at the sealed set, and whose counts change."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from ctcml.workspace import Workspace
from dashboards import records
from dashboards.records import NotMade
from dashboards.scorecard_charts import requirements_chart
from dashboards.views.pieces import chart, empty, picture

COLOURS = {"promote": "green", "refuse": "red", "cannot decide": "orange"}
Card = Mapping[str, Any]


def show_verdict(report: Card, *, simulated: bool) -> None:
    """The verdict, what speaks against the challenger, every requirement, and what the sealed set has left."""
    promoted = "Promoted." if report.get("promoted") else "Not promoted."
    signed = f"Signed: {report['signed_by']}." if report.get("signed_by") else "Nobody has signed."
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(f"VERDICT: {report['verdict'].upper()}", color=COLOURS.get(report["verdict"], "gray"))
        st.caption(f"{promoted} {signed}")
    if report.get("set") == "steering":
        st.markdown("**Judged on steering patients only; the sealed set stayed closed.**")
    requirements = report.get("requirements") or []
    for reason in open_reasons(report):
        st.markdown(f"- {reason}")
    if requirements:
        with st.expander(f"All {len(requirements)} requirements"):
            figures = [one for one in requirements if one["figure"] is not None and one["against"] != "floor"]
            if figures:
                chart(
                    requirements_chart(figures, simulated=simulated),
                    key="requirements",
                    alt="What the challenger gains or loses in each requirement, with its interval and the limit",
                )
            for one in requirements:
                st.markdown(f"- {one['reason']}")
    show_budget(report.get("budget"))


def open_reasons(report: Card) -> list[str]:
    """Sentences on what is not met or not decided and those that belong to no requirement; all of an older report."""
    met = {one["reason"] for one in report.get("requirements") or [] if one["outcome"] == "promote"}
    return [reason for reason in report["reasons"] if reason not in met] or [
        f"All {len(met)} requirements are met on {report['challenger']['n']} settled cells."
    ]


def show_budget(budget: Card | None) -> None:
    """How often the sealed set was opened; loud when it stays closed."""
    if not budget:
        return
    told = said_of_budget(budget)
    if budget["spent"]:
        st.warning(told)
    else:
        st.caption(told)


def said_of_budget(budget: Card) -> str:
    """One sentence and the gate's advice.

    >>> said_of_budget({"used": 3, "allowed": 20, "patients": 41, "advice": "17 of 20 looks are left"})
    'Sealed set, then: 41 patients, opened 3 of 20 times; 17 of 20 looks are left.'
    """
    return (
        f"Sealed set, then: {budget['patients']} patients, opened {budget['used']} of {budget['allowed']} times; "
        f"{budget['advice'].rstrip('.')}."
    )


def show_changes(workspace: Workspace, report: Card) -> None:
    """Every count with the champion and with the challenger, those first that change the side of their cut-off."""
    version = str(report["version"])
    found = records.changes(workspace, version)
    if isinstance(found, NotMade):
        if report.get("changes"):
            empty(found)
        return
    st.markdown("**What would change for patients**")
    if not records.are_the_judged_changes(workspace, report):
        st.error(f"changes-{version}.csv is not the table that the gate reported; have it judged again before signing.")
        return
    st.markdown(said_of_changes(found))
    drawing = records.changes_picture(workspace, version)
    left, right = st.columns([3, 2]) if drawing else (st.container(), st.container())
    with left:
        st.dataframe(
            change_table(found),
            hide_index=True,
            width="stretch",
            height="content" if len(found) <= 12 else 460,
            column_config={
                "": st.column_config.TextColumn(width=70),
                "Patient": st.column_config.TextColumn(width=80),
                "Sample": st.column_config.TextColumn(width=80),
                "Cancer type": st.column_config.TextColumn(width=90),
                "Cut-off": st.column_config.TextColumn(width=110),
            },
        )
        st.caption("CTCs per 7.5 ml with 95 % intervals. The whole table lies in reports/ of the workspace.")
    if drawing:
        with right:
            picture(drawing)


def said_of_changes(found: pd.DataFrame) -> str:
    """How many counts cross their cut-off, and how many more only come to lie within reach of it or out of it."""
    flips, sides = int(found["flips"].sum()), int((found["side_changes"] & ~found["flips"]).sum())
    more = f" {sides:,} more change between decided and undecided." if sides else ""
    if not flips:
        return f"None of {len(found):,} CTC counts crosses its cut-off.{more}"
    return f"**{flips:,} of {len(found):,} CTC counts cross their cut-off**; they come first.{more}"


def change_table(found: pd.DataFrame) -> pd.DataFrame:
    """One row a sample, as the page tells it."""
    return pd.DataFrame(
        {
            "": ["crosses" if one else "" for one in found["flips"]],
            "Patient": found["patient_uid"].astype(str).str[:8],
            "Sample": found["sample_uid"].astype(str).str[:8],
            "Cancer type": found["cancer_type"],
            "Cut-off": [
                "–" if pd.isna(one) else f"{one:g}" + (" (exploratory)" if exploratory else "")
                for one, exploratory in zip(found["cutoff"], found["exploratory"], strict=True)
            ],
            "Champion": [count_of(one, "before") for one in found.to_dict("records")],
            "Challenger": [count_of(one, "after") for one in found.to_dict("records")],
        }
    )


def count_of(one: Card, when: str) -> str:
    """CTCs per 7.5 ml with interval and side; a dash where one of the two has no such sample.

    >>> count_of({"per_7_5_ml_after": 6.0, "low_after": 2.4, "high_after": 11.7, "side_after": "undecided"}, "after")
    '6 (2.4 to 12), undecided'
    """
    value, low, high = (one[f"{name}_{when}"] for name in ("per_7_5_ml", "low", "high"))
    if pd.isna(value):
        return "–"
    side = one[f"side_{when}"]
    told = f"{number(value)} ({number(low)} to {number(high)})"
    return told if pd.isna(side) or side == "none" else f"{told}, {side}"


def number(count: float) -> str:
    """A count as people write it.

    >>> number(2.44), number(116.7)
    ('2.4', '117')
    """
    return f"{count:.0f}" if count >= 10 else f"{count:.2g}"
