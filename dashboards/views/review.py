"""What the readers did, how well they agree, and what waits for them."""

from typing import Any

import streamlit as st

from ctcml.workspace import Workspace
from dashboards import records
from dashboards.model_charts import bars
from dashboards.records import NotMade
from dashboards.views.pieces import chart, empty

PURPOSES = {"training": "Training readings", "evaluation": "Evaluation readings (random cells of held-out patients)"}
STATES = {
    "settled": "Settled",
    "contested": "Contested",
    "waiting": "Waiting for a second reader",
    "adjudicated": "Decided by the adjudicator",
    "historic_unused": "Historic labels kept closed",
}


def show(workspace: Workspace) -> None:
    """Draw the page."""
    st.title("Review")
    st.caption(
        "Two readers read each thumbnail without seeing each other, the model or the patient; "
        "a third settles what they differ on."
    )
    simulated = records.is_simulated(workspace)
    found = records.agreement(workspace)
    if isinstance(found, NotMade):
        empty(found)
    else:
        show_agreement(found, simulated=simulated)
    st.subheader("Reading queue")
    queued = records.queue_composition(workspace)
    if isinstance(queued, NotMade):
        empty(queued)
    else:
        chart(
            bars(list(queued["reason"]), list(queued["cells"]), groups=list(queued["purpose"]), simulated=simulated),
            key="queue",
            alt="Queued thumbnails by reason and purpose",
        )


def show_agreement(found: dict[str, Any], *, simulated: bool) -> None:
    """Agreement per purpose, the state of the readings, who read how much, and the classes that readers added."""
    for purpose, figures in by_purpose(found).items():
        st.markdown(f"**{purpose}**")
        said = {
            "Exact agreement": _percent(figures["exact_share"]),
            "Cohen's κ": _two_digits(figures["kappa"]),
            "Read by two readers": f"{figures['n']:,}",
        }
        for column, (name, value) in zip(st.columns(3), said.items(), strict=True):
            column.metric(name, value, border=True)
    state = {told: found[name] for name, told in STATES.items() if name in found}
    if state:
        st.subheader("State of the readings")
        for column, (told, cells) in zip(st.columns(len(state)), state.items(), strict=True):
            column.metric(told, f"{cells:,}", border=True)
    left, right = st.columns(2)
    with left:
        st.subheader("Readings per reader")
        show_readers(found["readers"], simulated=simulated)
    with right:
        show_new_classes(found["new_classes"])


def by_purpose(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The agreement figures of each purpose that the record knows."""
    return {told: found["by_purpose"][name] for name, told in PURPOSES.items() if name in found["by_purpose"]}


def show_readers(readers: dict[str, Any], *, simulated: bool) -> None:
    """How many thumbnails each reader has read, and how long one takes."""
    if not readers:
        st.info("Nobody has read a thumbnail yet.")
        return
    read = {name: one["readings"] for name, one in readers.items()}
    chart(bars(list(read), list(read.values()), simulated=simulated), key="readers", alt="Readings per reader")
    paces = {name: one["median_lead_time_s"] for name, one in readers.items() if one["median_lead_time_s"] is not None}
    if paces:
        st.caption(
            "Median time per thumbnail: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in paces.items())
        )


def show_new_classes(names: list[str]) -> None:
    """Classes that both readers named alike without knowing of each other."""
    st.subheader("Classes that readers added")
    if not names:
        st.write("None so far.")
    for name in names:
        st.badge(name, color="green")


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _two_digits(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.2f}"
