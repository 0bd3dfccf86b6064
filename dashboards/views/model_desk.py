"""The desk of the champion: who was champion when, and the forms on which a person signs a promotion or the way back.

The page changes nothing: it appends one signed request, which the next run of the flow executes or refuses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from ctcml.workspace import Workspace
from dashboards import records
from dashboards.views.pieces import (
    ask_name,
    ask_reason_and_password,
    filled,
    may_sign,
    show_requests,
    show_told,
    sign_request,
    when,
)

ACTIONS = {"promote": "Promote version", "rollback": "Roll back to version"}
DONE = {"promotion": "promoted", "rollback": "brought back"}
ROLLBACK = "rollback"  # key of its form
NOBODY = "Nobody is registered who could sign; add a person with `ctcml readers add NAME`."


def show_waiting(workspace: Workspace) -> None:
    """Promotions and rollbacks that were signed and wait, and those that were refused last."""
    show_requests(workspace, ACTIONS, about="version")


def show_promotion(workspace: Workspace, report: Mapping[str, Any]) -> None:
    """The form for a challenger that the gate found fit; nothing for any other."""
    version = str(report["version"])
    key = f"promote-{version}"
    show_told(key)
    present = records.former_champions(workspace)
    if not waits_for_a_signature(report, present) or is_asked(workspace, "promote"):
        return
    rival = report.get("champion_version")
    if rival and present and str(rival) != present[-1]:
        st.write(
            f"Not to be signed: it was judged against version {rival}, and version {present[-1]} is champion now. "
            "Have it judged again with `ctcml loop`."
        )
        return
    if not may_sign(workspace, "promote"):
        return
    names = records.experts(workspace)
    if not names:
        st.write(NOBODY)
        return
    with st.form(key):
        st.markdown(f"**Promote version {version}**: the gate found it fit; it counts when a person signs.")
        ask_name(st, "Signed by", names, key=key)
        ask_reason_and_password(key=key)
        st.form_submit_button("Sign the promotion", on_click=sign_promotion, args=(workspace, version))


def waits_for_a_signature(report: Mapping[str, Any], champions: Sequence[str]) -> bool:
    """Whether the gate found it fit and it is not among the champions.

    >>> waits_for_a_signature({"version": 4, "verdict": "promote"}, ["1", "2"])
    True
    >>> waits_for_a_signature({"version": 2, "verdict": "promote"}, ["1", "2"])
    False
    """
    return report["verdict"] == "promote" and not report.get("promoted") and str(report["version"]) not in champions


def sign_promotion(workspace: Workspace, version: str) -> None:
    """Append the request that the form of that version holds."""
    key = f"promote-{version}"
    (reason,) = filled(key, "reason")
    body = {"version": version, "reason": reason}
    sign_request(workspace, key, action="promote", body=body, missing=[] if reason else ["reason"])


def show_history(workspace: Workspace) -> None:
    """All promotions and rollbacks, and the form for the next rollback."""
    found = records.championships(workspace)
    if not found:
        st.write("No model was promoted yet.")
        return
    rows = [
        (when(one.at), one.body["version"], DONE[one.kind], one.body.get("before") or "–", one.by, one.why)
        for one in found
    ]
    st.dataframe(
        pd.DataFrame(rows, columns=["When", "Version", "was", "in place of", "Signed by", "Why"]).astype(str),
        hide_index=True,
        width="stretch",
        column_config={
            "When": st.column_config.TextColumn(width=190),
            "Version": st.column_config.TextColumn(width=60),
            "was": st.column_config.TextColumn(width=100),
            "in place of": st.column_config.TextColumn(width=80),
            "Signed by": st.column_config.TextColumn(width=170),
            "Why": st.column_config.TextColumn(width="large"),
        },
    )
    show_rollback(workspace)


def show_rollback(workspace: Workspace) -> None:
    """The form with which a former champion comes back, and with it its counts."""
    show_told(ROLLBACK)
    *former, present = records.former_champions(workspace)
    if not former:
        st.caption("There is no former champion to go back to.")
        return
    if is_asked(workspace, ROLLBACK) or not may_sign(workspace, ROLLBACK):
        return
    names = records.experts(workspace)
    if not names:
        st.write(NOBODY)
        return
    with st.expander(f"Roll back version {present}"), st.form(ROLLBACK, border=False):
        st.markdown("A former champion comes back with its counts of the archive; later ones stay in the registry.")
        left, right = st.columns(2)
        left.segmented_control("Back to version", former[::-1], key=f"version-{ROLLBACK}")
        ask_name(right, "Signed by", names, key=ROLLBACK)
        ask_reason_and_password(key=ROLLBACK)
        st.form_submit_button("Sign the rollback", on_click=sign_rollback, args=(workspace,))


def sign_rollback(workspace: Workspace) -> None:
    """Append the request that the form holds."""
    version, reason = filled(ROLLBACK, "version", "reason")
    missing = [name for name, value in (("version", version), ("reason", reason)) if not value]
    sign_request(workspace, ROLLBACK, action=ROLLBACK, body={"version": version, "reason": reason}, missing=missing)


def is_asked(workspace: Workspace, action: str) -> bool:
    """Whether somebody has signed such a request that still waits: a second one would be judged by what the first makes."""
    return any(one.action == action for one in records.requests(workspace))
