"""Colours that people with colour-blindness can tell apart (Okabe and Ito 2008), and the common look of the charts."""

from collections.abc import Sequence

import plotly.graph_objects as go

BLUE, SKY, GREEN, YELLOW = "#0072B2", "#56B4E9", "#009E73", "#F0E442"
ORANGE, VERMILION, PURPLE = "#E69F00", "#D55E00", "#CC79A7"
BLACK, SLATE, GREY = "#1B2733", "#55626E", "#8A949E"

CLASS_COLOURS = {"ctc": VERMILION, "tdev": ORANGE, "wbc": BLUE, "bare_nucleus": SKY, "other": GREY, "cd45ev": GREEN}
SPARE_COLOURS = (PURPLE, BLACK, "#7A5C00", "#5E4FA2")  # classes that readers add
SIDES = {
    "above": (VERMILION, "triangle-up"),
    "undecided": (SLATE, "circle-open"),
    "below": (BLUE, "circle"),
    "none": (GREY, "circle"),
}
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
            font={"size": 12, "color": VERMILION},
        )
    return figure
