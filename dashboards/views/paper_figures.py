"""The pictures that the stages made, beside the figures of Zeune et al. (2020) that they correspond to."""

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from ctcml.workspace import Workspace
from dashboards.atlas import METHODS
from dashboards.records import NotMade
from dashboards.session import viewed
from dashboards.views.pieces import empty, picture


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One figure of the paper: where its pictures lie below the workspace, `*` for the map, and what it shows there and here."""

    figure: str
    title: str
    here: str
    files: tuple[str, ...]
    command: str


PANELS = (
    Panel(
        figure="Fig. 2",
        title="Standard CNN beside AE-CNN",
        here="Maps of both networks' latents, trained on the same cells. Made by paper mode only.",
        files=("reports/paper/figures/fig2-*.png",),
        command="ctcml reproduce",
    ),
    Panel(
        figure="Fig. 2d",
        title="Settled classes in the latent space",
        here="The training cells of the champion, and all settled labels of training patients on the same map. "
        "Labels of held-out patients colour no dot.",
        files=("pictures/chart/training-cells-{method}.png", "pictures/map/true-class-{method}.png"),
        command="ctcml repro chart map",
    ),
    Panel(
        figure="Figs. 3 and 4",
        title="Predicted classes, and what is new",
        here="A cluster whose cells get mixed predictions and high novelty hints at a class that the network never saw.",
        files=("pictures/map/predicted-class-{method}.png", "pictures/map/novelty-{method}.png"),
        command="ctcml repro map",
    ),
    Panel(
        figure="Supplementary Fig. 1",
        title="CTCs that were missed, and false ones",
        here="Of steering patients, with the probability that the network gave.",
        files=("pictures/evaluation/*.png", "reports/paper/figures/figS1-mistakes.png"),
        command="ctcml repro evaluate",
    ),
    Panel(
        figure="Fig. 5a",
        title="Cancer types in the latent space",
        here="All cells; the paper shows its CTCs alone.",
        files=("pictures/map/cancer-type-{method}.png", "pictures/map/instrument-{method}.png"),
        command="ctcml repro map",
    ),
    Panel(
        figure="Fig. 5c",
        title="How often the CTCs of each cancer type lie where",
        here="Cells that the champion calls CTC; each panel has its own scale.",
        files=("pictures/map/frequency-{method}.png",),
        command="ctcml repro map",
    ),
)


def show_paper_figures(workspace: Workspace) -> None:
    """Every figure with its pictures, or the command that makes them."""
    st.caption(
        "Figures of L. L. Zeune et al., Nature Machine Intelligence 2, 124-133 (2020), as this workspace's data give them. "
        "Pictures stay on white, as in print."
    )
    method = st.segmented_control(
        "Map",
        list(METHODS),
        default="tsne",
        required=True,
        key="by",
        bind="query-params",
        format_func=lambda one: METHODS[one],
    )
    viewed(workspace, "pictures of the map")
    for panel in PANELS:
        st.subheader(f"{panel.title} ({panel.figure})")
        found = pictures_of(workspace, panel, method)
        if not found:
            empty(NotMade(what=panel.title, command=panel.command))
            continue
        st.caption(panel.here)
        columns = st.columns(2)
        for place, path in enumerate(found):
            with columns[place % 2]:
                picture(path)


def pictures_of(workspace: Workspace, panel: Panel, method: str) -> list[Path]:
    """The pictures of a figure on that map, in the order of the panel."""
    patterns = [one.format(method=method) for one in panel.files]
    return [path for pattern in patterns for path in sorted(workspace.root.glob(pattern))]
