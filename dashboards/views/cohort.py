"""The default page: who is in the workspace, how many cells were counted, and how long patients lived."""

from importlib import import_module

import streamlit as st

from ctcml.workspace import Workspace
from dashboards import records, session
from dashboards.addresses import ALL
from dashboards.records import NotMade
from dashboards.views.cohort_filters import choose_cancer_type

SECTIONS = {  # name in the address: name on the page, and who draws it
    "counts": ("Counts", "cohort_counts"),
    "survival": ("Survival", "cohort_survival"),
    "by-hand": ("By hand and by model", "comparison"),
    "subclasses": ("Subclasses", "subclasses"),
}


def show(workspace: Workspace) -> None:
    """Draw the page; a section's module is imported when somebody first opens it."""
    st.title("Cohort")
    show_cards(records.cards(workspace))
    people = records.clinical(workspace)
    types = [] if isinstance(people, NotMade) else sorted(people["cancer_type"].dropna().unique())
    left, right = st.columns(2, vertical_alignment="bottom")
    with left:
        section = choose_section()
    with right:
        group = choose_cancer_type(types) if types else ALL
    if types:
        session.viewed(workspace, "cohort", section=section, cancer_type=group)
    import_module(f"dashboards.views.{SECTIONS[section][1]}").show(workspace, group)


def choose_section() -> str:
    """What of the cohort is shown, kept in the address."""
    named = {name: section for section, (name, _) in SECTIONS.items()}
    shown = st.segmented_control(
        "Show", list(named), default=next(iter(named)), required=True, key="show", bind="query-params"
    )
    return named[shown]


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
