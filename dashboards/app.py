"""The entry of the dashboard: `streamlit run dashboards/app.py -- --workspace DIR` (or CTCML_WORKSPACE)."""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import streamlit as st

if (
    source := str(Path(__file__).resolve().parents[1])
) not in sys.path:  # `streamlit run` puts this folder on the path, not the one above
    sys.path.append(source)

from ctcml.errors import CtcmlError
from ctcml.workspace import Workspace
from dashboards import records, session
from dashboards.tiles import stay_in_session

PAGES = {  # title: address, which is also the name of the module except for the map
    "Cohort": "cohort",
    "Sample": "sample",
    "Latent map": "map",
    "Discovery": "discovery",
    "Review": "review",
    "Models": "models",
    "Data": "data",
}
MODULES = {"map": "latent_map"}


def main() -> None:
    """Draw the page that the address names, under the banner."""
    st.set_page_config(page_title="ctcml", page_icon="🔬", layout="wide")
    try:
        workspace = records.open_workspace(sys.argv[1:], os.environ)
        who = session.come_in(workspace)
        if who is None:
            return
        chosen = st.navigation(
            [
                st.Page(page(address, workspace), title=title, url_path=address, default=address == "cohort")
                for title, address in PAGES.items()
            ],
            position="top",
        )
        banner(simulated=records.is_simulated(workspace), workspace_name=workspace.root.resolve().name)
        session.show_visitor(workspace, who)
        stay_in_session()
        chosen.run()
    except CtcmlError as error:
        st.error(str(error))


def page(address: str, workspace: Workspace) -> Callable[[], None]:
    """What draws the page at that address; its module is imported when somebody first opens it."""

    def draw() -> None:
        import_module(f"dashboards.views.{MODULES.get(address, address)}").show(workspace)

    return draw


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
