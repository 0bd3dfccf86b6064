"""Figures of the training and the readers: coordinates and colours only, no statistics."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dashboards.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, dressed, faded


def learning_chart(
    history: pd.DataFrame, *, column: str, title: str, simulated: bool, percent: bool = False
) -> go.Figure:
    """One figure of the training over all epochs; the phases of the schedule are marked."""
    figure = go.Figure()
    for place, ((_, beta), rows) in enumerate(history.groupby(["phase", "beta"], sort=False)):
        start, end = rows["step"].min() - 0.5, rows["step"].max() + 0.5
        figure.add_vrect(
            x0=start, x1=end, fillcolor=faded(SKY, 0.15) if place % 2 else "rgba(0,0,0,0)", line_width=0, layer="below"
        )
        figure.add_annotation(
            x=(start + end) / 2,
            y=1,
            yref="paper",
            yanchor="bottom",
            text=f"β={beta:g}",
            showarrow=False,
            font={"size": 12},
        )
    figure.add_trace(
        go.Scatter(
            x=history["step"], y=history[column], mode="lines+markers", name=title, line={"color": BLUE, "width": 2}
        )
    )
    figure.update_xaxes(
        title="Epoch", range=[0.5, len(history) + 0.5], dtick=1 if len(history) <= 30 else None, showgrid=False
    )
    figure.update_yaxes(rangemode="tozero", tickformat=".0%" if percent else None)
    dressed(figure, height=310, simulated=False)
    told = title + (" · simulated data" if simulated else "")
    return figure.update_layout(
        title={"text": told, "font": {"size": 15}, "x": 0, "xref": "paper", "y": 0.96},
        showlegend=False,
        margin={"t": 70},
    )


def agreement_chart(
    figures: Mapping[str, Mapping[str, tuple[float, float, float]]], *, simulated: bool, places: int = 170
) -> go.Figure:
    """Cohen's kappa and Gwet's AC1, each (value, low, high), in a row for each name; `places` is the room for names [px]."""
    figure = go.Figure()
    for key, name, colour, symbol, shift in (
        ("kappa", "Cohen's κ", BLUE, "circle", 0.17),
        ("ac1", "Gwet's AC1", ORANGE, "diamond", -0.17),
    ):
        shown = {label: one[key] for label, one in figures.items() if key in one}
        if shown:
            figure.add_trace(whiskers(shown, list(figures), name, colour, symbol, shift, ".2f"))
    lows = [low for one in figures.values() for _, low, _ in one.values()]
    figure.update_xaxes(range=[min([-0.03, *lows]) - 0.02, 1.03], zeroline=True, zerolinecolor=GREY, tickformat=".1f")
    return in_rows(figure, list(figures), simulated=simulated).update_layout(margin={"l": places})


def agreement_over_time(
    occasions: Sequence[str],
    each: Sequence[tuple[float, float, float] | None],
    so_far: Sequence[tuple[float, float, float] | None],
    *,
    simulated: bool,
) -> go.Figure:
    """Cohen's kappa of each occasion with its interval, and of all occasions up to it with its band, in order of time."""
    figure = go.Figure()
    at = [place for place, one in enumerate(so_far) if one]
    band = [so_far[place] for place in at]
    figure.add_trace(
        go.Scatter(
            x=[*at, *reversed(at)],
            y=[*(one[2] for one in band if one), *(one[1] for one in reversed(band) if one)],
            mode="lines",
            fill="toself",
            fillcolor=faded(SKY, 0.25),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    figure.add_trace(
        go.Scatter(
            x=at,
            y=[one[0] for one in band if one],
            mode="lines",
            name="all up to then",
            line={"color": BLUE, "width": 2},
        )
    )
    own = {place: one for place, one in enumerate(each) if one}
    figure.add_trace(
        go.Scatter(
            x=list(own),
            y=[value for value, _, _ in own.values()],
            mode="markers",
            name="this occasion",
            marker={"size": 10, "color": VERMILION},
            error_y=error_bars(list(own.values())),
            text=[occasions[place] for place in own],
            hovertemplate="%{text}: κ %{y:.2f}<extra></extra>",
        )
    )
    figure.update_xaxes(
        tickvals=list(range(len(occasions))),
        ticktext=list(occasions),
        range=[-0.5, len(occasions) - 0.5],
        showgrid=False,
        zeroline=False,
    )
    lows = [one[1] for one in (*each, *so_far) if one]
    figure.update_yaxes(title="Cohen's κ", range=[min([0.0, *lows]) - 0.02, 1.03], zeroline=False)
    return dressed(figure, height=340, simulated=simulated)


def whiskers(
    scores: Mapping[str, tuple[float, float, float]],
    rows: Sequence[str],
    name: str,
    colour: str,
    symbol: str,
    shift: float,
    told: str,
) -> go.Scatter:
    """A dot with its interval for each score, in the row of its label, a little above or below the middle."""
    shown = {label: scores[label] for label in scores if label in rows}
    return go.Scatter(
        x=[value for value, _, _ in shown.values()],
        y=[len(rows) - 1 - rows.index(label) + shift for label in shown],
        mode="markers",
        name=name,
        marker={"size": 10, "color": colour, "symbol": symbol},
        error_x=error_bars(list(shown.values())),
        text=list(shown),
        hovertemplate="%{text}: %{x:" + told + "}<extra>" + name + "</extra>",
    )


def error_bars(scores: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    """Whiskers for (value, low, high), as Plotly wants them."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - value for value, _, high in scores],
        "arrayminus": [value - low for value, low, _ in scores],
        "thickness": 2,
        "width": 4,
    }


def in_rows(figure: go.Figure, rows: Sequence[str], *, simulated: bool) -> go.Figure:
    """Names the rows of a figure, the first on top."""
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=list(rows)[::-1], zeroline=False, range=[-0.6, len(rows) - 0.4]
    )
    return dressed(figure, height=90 + 46 * len(rows), simulated=simulated)


def bars(
    labels: Sequence[str], values: Sequence[int], *, simulated: bool, groups: Sequence[str] | None = None
) -> go.Figure:
    """Horizontal bars, longest label readable, coloured by group."""
    figure = go.Figure()
    told = list(groups) if groups is not None else [""] * len(labels)
    for colour, group in zip((BLUE, ORANGE, GREEN, PURPLE), dict.fromkeys(told), strict=False):
        chosen = [place for place, name in enumerate(told) if name == group]
        figure.add_trace(
            go.Bar(
                x=[values[place] for place in chosen],
                y=[labels[place] for place in chosen],
                orientation="h",
                name=group,
                width=0.6,
                marker_color=colour,
                text=[values[place] for place in chosen],
                textposition="inside" if group else "outside",
                textangle=0,
                cliponaxis=False,
                showlegend=bool(group),
            )
        )
    figure.update_yaxes(autorange="reversed", automargin=True)
    dressed(figure, height=110 + 34 * len(labels), simulated=simulated)
    return figure.update_layout(bargap=0.3, barmode="stack")
