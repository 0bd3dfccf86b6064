"""Colours that people with colour-blindness can tell apart (Okabe and Ito 2008), and the common look of the charts.

Charts are built in the colours of a white page; `on_dark` exchanges each of them for its counterpart on a dark one.
"""

import re
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

BLUE, SKY, GREEN, YELLOW = "#0072B2", "#56B4E9", "#009E73", "#F0E442"
ORANGE, VERMILION, PURPLE = "#E69F00", "#D55E00", "#CC79A7"
BLACK, SLATE, GREY = "#1B2733", "#55626E", "#8A949E"
RUST = "#B34700"  # vermilion for words: dark enough to be read on white

CLASS_COLOURS = {"ctc": VERMILION, "tdev": ORANGE, "wbc": BLUE, "bare_nucleus": SKY, "other": GREY, "cd45ev": GREEN}
SPARE_COLOURS = (PURPLE, BLACK, "#7A5C00", "#5E4FA2")  # classes that readers add
SIDES = {
    "above": (VERMILION, "triangle-up"),
    "undecided": (SLATE, "circle-open"),
    "below": (BLUE, "circle"),
    "none": (GREY, "circle"),
}
PAGE, DARK_PAGE = "#FFFFFF", "#10161D"  # as in .streamlit/config.toml
ON_DARK = {  # the same hues, lighter where they would drown
    BLUE: "#2F86D0",
    SKY: "#8FD3FF",
    GREEN: "#17B384",
    YELLOW: "#F7EE8A",
    ORANGE: "#FFC95C",
    VERMILION: "#E8621A",
    PURPLE: "#DE9CC2",
    BLACK: "#E6EBF0",
    SLATE: "#A9B4BF",
    GREY: "#9AA5B0",
    RUST: "#FF9A5C",
    "#7A5C00": "#C9A545",
    "#5E4FA2": "#A79BE8",
    "#000000": "#FFFFFF",
    "#FFFFFF": DARK_PAGE,
}
RGBA = re.compile(r"rgba\((\d+),\s*(\d+),\s*(\d+),\s*([\d.]+)\)")
MANY = 200  # numbers from which a list is not searched for colours
CHART_CONFIG = {"displaylogo": False, "displayModeBar": False}


def class_colours(class_ids: Sequence[str]) -> dict[str, str]:
    """A fixed colour for each known class, a spare one for each class that readers added.

    >>> class_colours(["ctc", "doublet"])
    {'ctc': '#D55E00', 'doublet': '#CC79A7'}
    """
    added = [class_id for class_id in class_ids if class_id not in CLASS_COLOURS]
    spare = {class_id: SPARE_COLOURS[place % len(SPARE_COLOURS)] for place, class_id in enumerate(added)}
    return {class_id: CLASS_COLOURS.get(class_id, spare.get(class_id, GREY)) for class_id in class_ids}


def faded(colour: str, opacity: float) -> str:
    """`#rrggbb` as an rgba() with that opacity.

    >>> faded("#0072B2", 0.5)
    'rgba(0,114,178,0.5)'
    """
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def dressed(figure: go.Figure, *, height: int, simulated: bool) -> go.Figure:
    """Give a figure the common look, and the word "simulated" inside the picture, so that a cut-out keeps it."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        font={"family": "Source Sans, sans-serif", "size": 14, "color": BLACK},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0, "title": None},
        hoverlabel={"font": {"family": "Source Sans, sans-serif"}},
    )
    figure.update_xaxes(showline=True, linecolor=GREY, ticks="outside", tickcolor=GREY)
    if simulated:
        figure.add_annotation(
            text="simulated data",
            xref="paper",
            yref="paper",
            x=1,
            y=1.02,
            xanchor="right",
            yanchor="bottom",
            showarrow=False,
            font={"size": 12, "color": RUST},
        )
    return figure


def on_dark(figure: go.Figure) -> go.Figure:
    """The same figure for a dark page; a colour that is not of this palette stays as it is."""
    drawn = _exchanged(figure.to_plotly_json())
    drawn["layout"].pop("template", None)
    darker = go.Figure(drawn)
    return darker.update_layout(template="plotly_dark", paper_bgcolor=DARK_PAGE, plot_bgcolor=DARK_PAGE)


def _exchanged(part: Any) -> Any:
    if isinstance(part, str):
        return dark_colour(part)
    if isinstance(part, dict):
        turned = {"reversescale": not part["reversescale"]} if "reversescale" in part else {}
        return {name: _exchanged(value) for name, value in part.items()} | turned
    if isinstance(part, (list, tuple)) and not (len(part) > MANY and not isinstance(part[0], str)):
        return [_exchanged(one) for one in part]
    return part


def dark_colour(text: str) -> str:
    """A colour's counterpart on a dark page, with the opacity that it had; any other text as it is.

    >>> dark_colour("#0072B2"), dark_colour("rgba(0,114,178,0.5)"), dark_colour("Epoch")
    ('#2F86D0', 'rgba(47,134,208,0.5)', 'Epoch')
    """
    if text.startswith("#"):
        return ON_DARK.get(text.upper(), text)
    if match := RGBA.fullmatch(text):
        red, green, blue, opacity = match.groups()
        known = ON_DARK.get(f"#{int(red):02X}{int(green):02X}{int(blue):02X}")
        return faded(known, float(opacity)) if known and float(opacity) > 0 else text
    return text
