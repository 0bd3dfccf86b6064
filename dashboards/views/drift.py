"""Whether the cartridges still look as those did that the champion was trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from ctcml.workspace import Workspace
from dashboards import records
from dashboards.records import NotMade
from dashboards.views.pieces import empty, picture, said

Report = Mapping[str, Any]
RANDOM_ARM = "random-arm"  # the picture that belongs to the table of rounds


def show_drift(workspace: Workspace) -> None:
    """The alarms, each instrument, the error on the standing random arm, and the stage's pictures."""
    st.subheader("Drift")
    found = records.drift(workspace)
    if isinstance(found, NotMade):
        empty(found)
        return
    show_alarms(found)
    pictures = records.drift_pictures(workspace)
    left, right = st.columns([3, 2])
    with left:
        st.markdown("**By instrument**")
        st.dataframe(instrument_table(found["instruments"]), hide_index=True, width="stretch")
    with right:
        st.markdown("**Error on cells that were read at random**")
        rounds = found["random_arm"]["rounds"]
        if rounds:
            st.dataframe(arm_table(rounds, found["random_arm"]["steering"]), hide_index=True, width="stretch")
        st.caption(f"{found['random_arm']['says']}.")
        for path in pictures:
            if path.stem == RANDOM_ARM:
                picture(path)
    for path in pictures:
        if path.stem != RANDOM_ARM:
            picture(path)


def show_alarms(found: Report) -> None:
    """Loud where an instrument or the random arm alarms; else how many samples were looked at."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge("DRIFT ALARM" if found["alarm"] else "NO DRIFT ALARM", color="red" if found["alarm"] else "green")
        st.caption(
            f"{found['drifting']} of {found['judged']} samples that could be judged lie beyond the bound; "
            f"{found['usual_from']}."
        )
    for sentence in found["alarms"]:
        st.warning(sentence)


def instrument_table(instruments: Mapping[str, Report]) -> pd.DataFrame:
    """One row an instrument."""
    rows = [
        (
            name,
            "ALARM" if one["alarm"] else "calm" if one["judged"] else "not judged",
            f"{one['drifting']} of {one['judged']}",
            f"{one['latest_drifting']} of {one['latest']}",
            one["most_by_chance"],
            f"{one['martingale']:.1f} (alarms at {one['bound']:g})",
        )
        for name, one in instruments.items()
    ]
    return pd.DataFrame(
        rows, columns=["Instrument", "State", "Samples beyond", "of the latest", "by chance at most", "Martingale"]
    )


def arm_table(rounds: Sequence[Report], steering: Report) -> pd.DataFrame:
    """The champion's error round by round, and on steering cells for comparison."""
    rows = [
        (one["occasion"] + (" (learnt from)" if one["learnt"] else ""), one["cells"], one["patients"], error_of(one))
        for one in rounds
    ]
    rows.append(("steering cells", steering["cells"], steering["patients"], error_of(steering)))
    return pd.DataFrame(rows, columns=["Round", "Cells", "Patients", "Error"])


def error_of(one: Report) -> str:
    """A share of wrong cells with its interval.

    >>> error_of({"error": 0.05, "low": 0.02, "high": 0.09})
    '5.0% (2.0% to 9.0%)'
    """
    return said({"value": one["error"], "low": one["low"], "high": one["high"]}, percent=True)
