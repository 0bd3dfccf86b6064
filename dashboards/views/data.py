"""What the workspace holds and where it came from: versions, intakes, findings, refusals, drift, and who looked at it."""

import pandas as pd
import streamlit as st

from ctcml.access import Role
from ctcml.errors import CtcmlError
from ctcml.workspace import Workspace
from dashboards import data_records, records
from dashboards.records import NotMade
from dashboards.session import may, viewed
from dashboards.views.drift import show_drift
from dashboards.views.pieces import empty, when

BY = {"instrument": "instrument", "site": "site", "set": "set", "cancer_type": "cancer type"}
SETS = {"train": "training", "steering": "steering", "sealed": "sealed"}


def show(workspace: Workspace) -> None:
    """Draw the page."""
    st.title("Data")
    viewed(workspace, "data")
    show_holdings(workspace)
    show_versions(workspace)
    show_intakes(workspace)
    show_findings(workspace)
    show_quarantine(workspace)
    show_drift(workspace)
    show_withdrawals(workspace)
    show_ledger(workspace)
    show_audit(workspace)


@st.fragment
def show_holdings(workspace: Workspace) -> None:
    """Patients, samples and cells, counted by what the address says."""
    st.subheader("What is here")
    by = st.segmented_control(
        "By",
        list(BY),
        default="instrument",
        required=True,
        key="by",
        bind="query-params",
        format_func=lambda one: BY[one],
    )
    found = data_records.holdings(workspace, by)
    if isinstance(found, NotMade):
        empty(found)
        return
    if by == "set":
        found[by] = found[by].map(lambda one: SETS.get(one, one))
    total = {by: "all", **{name: found[name].sum() for name in ("patients", "samples", "cells")}}
    several = found["patients"].sum() > records.cards(workspace).patients if by != "set" else False
    table(pd.concat([found, pd.DataFrame([total])], ignore_index=True), {by: BY[by].capitalize()})
    if several:
        st.caption("A patient with samples in several rows is counted in each of them.")


def table(rows: pd.DataFrame, names: dict[str, str] | None = None) -> None:
    """A table with headings as people write them; moments in the column `when` as well."""
    shown = rows.copy()
    if "when" in shown:
        shown["when"] = [when(one) if one else "–" for one in shown["when"]]
    heads = {one: (names or {}).get(one, one.replace("_", " ").capitalize()) for one in shown.columns}
    st.dataframe(shown.rename(columns=heads), hide_index=True, height="content" if len(shown) <= 12 else 460)


def show_versions(workspace: Workspace) -> None:
    """Every frozen state of the data, the newest first."""
    st.subheader("Data versions")
    found = data_records.versions(workspace)
    if isinstance(found, NotMade):
        empty(found)
        return
    table(found, {"commit": "Commit", "dvc": "DVC hash"})
    st.caption("`ctcml checkout VERSION` brings one back; the ledger stays whole.")


def show_intakes(workspace: Workspace) -> None:
    """What each intake brought."""
    st.subheader("Intakes")
    found = data_records.intakes(workspace)
    if isinstance(found, NotMade):
        empty(found)
        return
    names = {"samples": "New samples", "samples_known": "Known", "samples_grown": "Grown", "patients": "New patients"}
    table(found, names | {"historic_labels": "Labels from before"})


def show_findings(workspace: Workspace) -> None:
    """What the checkup found in the samples as they were taken in, by kind, with one example of each."""
    st.subheader("Findings at intake")
    found = data_records.findings(workspace)
    if isinstance(found, NotMade):
        empty(found)
        return
    looked_at, rows = found
    st.caption(f"{looked_at} samples were looked at when they were taken in.")
    if rows.empty:
        st.markdown("Nothing was found.")
        return
    table(rows, {"message": "For example", "advice": "What to do"})
    st.caption("`ctcml doctor EXPORT` says more before anything is taken in, also what shows only between samples.")


def show_quarantine(workspace: Workspace) -> None:
    """What was refused and why; the laboratory's own names only for those who sign."""
    st.subheader("Quarantine")
    found = data_records.quarantined(workspace)
    if found.empty:
        st.markdown("Nothing was refused.")
        return
    if not may(workspace, Role.SIGN):
        found = found[["at", "reason"]]
        st.caption("Sources and files are shown to people who may sign.")
    table(found.rename(columns={"at": "when"}))


def show_withdrawals(workspace: Workspace) -> None:
    """Which withdrawals there were, without a name, and what still holds the data."""
    st.subheader("Withdrawals")
    found = data_records.withdrawals(workspace)
    if found.empty:
        st.markdown("Nobody has withdrawn.")
    else:
        table(found, {"models": "Models trained with them", "data_versions": "Versions that still hold them"})


@st.fragment
def show_ledger(workspace: Workspace) -> None:
    """The ledger's head; walking it takes a while, so a person asks for that."""
    st.subheader("Ledger")
    found = data_records.ledger_head(workspace)
    if isinstance(found, NotMade):
        empty(found)
        return
    length, digest, anchored = found
    st.markdown(f"**{length:,}** events, the last with hash `{digest[:16]}…`; anchored in git at {anchored:,} events")
    if st.button("Verify ledger and audit log", key="verify"):
        with st.spinner("Walking every line …"):
            try:
                st.success(data_records.verified(workspace))
            except CtcmlError as error:
                st.error(str(error))


def show_audit(workspace: Workspace) -> None:
    """Who looked at patients' data and took it away, for people who may sign."""
    if not may(workspace, Role.SIGN):
        return
    st.subheader("Audit log")
    found = data_records.audit(workspace)
    if found.empty:
        st.markdown("Nobody has looked at anything yet.")
        return
    table(found.rename(columns={"at": "when"}))
    st.caption(f"The latest {len(found)} lines, newest first; `ledger/audit.jsonl` has all of them.")
