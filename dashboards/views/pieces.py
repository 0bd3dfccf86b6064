"""What several pages show in the same way."""

from pathlib import Path

import plotly.graph_objects as go
import streamlit as st

from dashboards.palette import CHART_CONFIG
from dashboards.records import NotMade


def empty(missing: NotMade) -> None:
    """Say what is missing and which command makes it."""
    st.info(f"{missing.what}: not made yet. Run `{missing.command}`.")


def chart(figure: go.Figure, *, key: str, alt: str) -> None:
    """Draw a figure; `alt` is read to people who cannot see it."""
    st.plotly_chart(figure, theme=None, config=CHART_CONFIG, key=key, alt=alt)


def picture(path: Path, *, caption: str | None = None) -> None:
    """Show a picture made by a stage, from its bytes, so that a picture made again is shown again."""
    st.image(path.read_bytes(), caption=caption)
