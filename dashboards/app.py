"""The entry of the dashboard: `streamlit run dashboards/app.py -- --workspace DIR` (or CTCML_WORKSPACE)."""

import os
import sys
from functools import partial
from pathlib import Path

import streamlit as st

if (
    source := str(Path(__file__).resolve().parents[1])
) not in sys.path:  # `streamlit run` puts this folder on the path, not the one above
    sys.path.append(source)

from ctcml.errors import CtcmlError
from dashboards import records
from dashboards.views import cohort, discovery, models, review


def main() -> None:
    """Draw the page that the address names, under the banner."""
    st.set_page_config(page_title="ctcml", page_icon="🔬", layout="wide")
    try:
        workspace = records.open_workspace(sys.argv[1:], os.environ)
        chosen = st.navigation(
            [
                st.Page(partial(cohort.show, workspace), title="Cohort", url_path="cohort", default=True),
                st.Page(partial(discovery.show, workspace), title="Discovery", url_path="discovery"),
                st.Page(partial(review.show, workspace), title="Review", url_path="review"),
                st.Page(partial(models.show, workspace), title="Models", url_path="models"),
            ],
            position="top",
        )
        banner(simulated=records.is_simulated(workspace), workspace_name=workspace.root.resolve().name)
        chosen.run()
    except CtcmlError as error:
        st.error(str(error))


def banner(*, simulated: bool, workspace_name: str) -> None:
    """Say on each page what this may be used for and whether the patients exist."""
    st.html(
        "<style>.stMainBlockContainer {padding-top: 4.5rem; padding-bottom: 3rem}</style>"
    )  # Streamlit leaves a hand's breadth
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge("RESEARCH USE ONLY", color="blue")
        if simulated:
            st.badge("SIMULATED DATA", color="orange")
        told = "Nothing here describes a real patient. " if simulated else ""
        st.caption(f"Not for diagnosis or treatment. {told}Workspace: {workspace_name}")


if __name__ == "__main__":
    main()
