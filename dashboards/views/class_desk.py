"""The new-class desk: what readers propose, the evidence for it, and the form on which two experts sign.

The page changes nothing: it appends one signed request, which the next run of the flow executes or refuses.
"""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from ctcml.workspace import Workspace
from dashboards import records
from dashboards.records import NotMade
from dashboards.views.pieces import (
    ask_name,
    ask_reason_and_password,
    empty,
    filled,
    may_sign,
    picture,
    show_requests,
    show_told,
    sign_request,
    when,
)

VOTES_NEEDED = 2
STATUSES = {"open": "orange", "accepted": "green", "rejected": "gray"}
ACTIONS = {"accept_class": "Accept", "reject_class": "Reject"}


def show_desk(workspace: Workspace) -> None:
    """Proposals that wait for experts, the requests that wait for the flow, and what was decided before."""
    st.subheader("New classes")
    found = records.proposals(workspace)
    if isinstance(found, NotMade):
        empty(found)
        return
    st.caption(
        "A name that both readers of a cell gave, on enough cells, or that two readers gave to a flagged cluster. "
        f"{VOTES_NEEDED} named experts accept or reject it; nothing becomes a class without them."
    )
    show_requests(workspace, ACTIONS, about="class_id")
    waiting = [one for one in found if one["status"] == "open"]
    if not waiting:
        st.write("No proposal is open.")
    for one in waiting:
        with st.container(border=True):
            show_proposal(workspace, one)
            show_form(workspace, one)
    decided = [one for one in found if one["status"] != "open"]
    if decided:
        with st.expander(f"Decided before: {len(decided)}"):
            for one in decided:
                show_proposal(workspace, one)


def show_proposal(workspace: Workspace, one: Mapping[str, Any]) -> None:
    """Its pictures beside its figures and votes."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{one['name']}**")
        st.badge(one["status"], color=STATUSES.get(one["status"], "gray"))
    left, right = st.columns([3, 2])
    with left:
        sheet = records.gallery(workspace, one)
        if sheet:
            picture(sheet, caption="Cells that were named so. Red: CD45, green: cytokeratin, blue: DAPI.")
        else:
            st.write("No gallery was drawn.")
    with right:
        for told, value in facts(one, records.class_names(workspace)).items():
            st.markdown(f"{told}: **{value}**")
        for vote in one["votes"]:
            st.markdown(said_of_vote(vote))
        if not one["votes"]:
            st.markdown("Votes: **none yet**")


def facts(one: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """What is known of a proposal, as the page tells it."""
    nearest, blank, more = str(one["nearest_class"] or "").partition(" (")
    told = {
        "Cells": f"{one['cells']:,}",
        "Named by": ", ".join(one["readers"]),
        "Because": one.get("why"),
        "Also called": ", ".join(one.get("aliases") or []),
        "Markers": one["marker_profile"],
        "Cluster": one["cluster"],
        "The model calls them": names.get(nearest, nearest) + blank + more,
        "Class id": one["class_id"],
    }
    return {name: str(value) for name, value in told.items() if value}


def said_of_vote(vote: Mapping[str, Any]) -> str:
    """One vote as the page tells it.

    >>> said_of_vote({"by": "anna", "vote": "reject", "at": "2026-03-02T12:00:00+00:00", "definition": "", "reason": "dust"})
    '**anna rejects**, 2 March 2026, 12:00 UTC: dust'
    """
    words = [str(vote[name]) for name in ("definition", "reason") if vote[name]]
    return f"**{vote['by']} {vote['vote']}s**, {when(vote['at'])}" + (f": {'; '.join(words)}" if words else "")


def show_form(workspace: Workspace, one: Mapping[str, Any]) -> None:
    """Who has not voted yet signs here."""
    if not may_sign(workspace, "accept_class"):
        return
    class_id = str(one["class_id"])
    signed = {request.by for request in records.requests(workspace) if request.body.get("class_id") == class_id}
    names = [name for name in records.experts(workspace) if name not in signed | {vote["by"] for vote in one["votes"]}]
    show_told(class_id)
    if not names:
        st.write("Nobody is registered who could vote and has not; add a person with `ctcml readers add NAME`.")
        return
    accepted = [str(vote["definition"]) for vote in one["votes"] if vote["vote"] == "accept"]
    with st.form(f"vote-{class_id}"):
        st.markdown("**Your vote**")
        left, right = st.columns(2)
        ask_name(left, "Expert", names, key=class_id)
        right.segmented_control(
            "Decision", list(ACTIONS), key=f"action-{class_id}", format_func=lambda action: ACTIONS[action]
        )
        st.text_area(
            "Definition (to accept): what makes an object one of this kind",
            value=accepted[-1] if accepted else "",
            key=f"definition-{class_id}",
        )
        ask_reason_and_password(key=class_id)
        st.form_submit_button("Sign", on_click=sign, args=(workspace, class_id))


def sign(workspace: Workspace, class_id: str) -> None:
    """Append the vote that the form holds."""
    action, definition, reason = filled(class_id, "action", "definition", "reason")
    missing = [] if action else ["decision"]
    if action == "accept_class" and not definition:
        missing.append("definition")
    body = {"class_id": class_id, "definition": definition if action == "accept_class" else "", "reason": reason}
    sign_request(workspace, class_id, action=action, body=body, missing=missing)
