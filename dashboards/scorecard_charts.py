"""Figures of a scorecard and of the gate: coordinates and colours only, no statistics."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboards.model_charts import error_bars, in_rows, whiskers
from dashboards.palette import BLUE, GREEN, GREY, ORANGE, SLATE, VERMILION, dressed, faded

Scores = Mapping[str, tuple[float, float, float]]
OUTCOMES = {  # of a requirement: how it is drawn and what the legend calls it
    "promote": (GREEN, "circle", "met"),
    "cannot decide": (ORANGE, "circle-open", "cannot decide"),
    "refuse": (VERMILION, "x", "not met"),
}
THRESHOLD_LINES = {  # key of a point of the curve: name, colour, dash
    "sensitivity": ("sensitivity", VERMILION, "solid"),
    "precision": ("precision", BLUE, "solid"),
    "specificity": ("specificity", GREEN, "dash"),
    "kept": ("decisions kept", GREY, "dot"),
}


def comparison_chart(
    before: Scores | None, after: Scores, *, simulated: bool, first: Scores | None = None
) -> go.Figure:
    """Figures of champion and challenger one beside the other, and of the anchor (`first`), each (value, low, high)."""
    figure = go.Figure()
    if first:
        figure.add_trace(whiskers(first, list(after), "anchor", GREY, "x-thin-open", 0.28, ".1%"))
    if before:
        figure.add_trace(
            whiskers(before, list(after), "champion", SLATE, "circle-open", 0.08 if first else 0.18, ".1%")
        )
    figure.add_trace(whiskers(after, list(after), "challenger", BLUE, "diamond", -0.18, ".1%"))
    figure.update_xaxes(range=[-0.03, 1.03], tickformat=".0%", zeroline=False)
    figure.update_yaxes(automargin=True)
    return in_rows(figure, list(after), simulated=simulated)


def confusion_chart(
    matrix: Sequence[Sequence[int]], rows: Sequence[str], columns: Sequence[str], *, simulated: bool
) -> go.Figure:
    """Numbers of cells by true class (rows) and predicted class (columns); the shade is the share of the row."""
    cells = np.asarray(matrix, dtype=float)
    shade = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    figure = go.Figure(
        go.Heatmap(
            z=shade,
            x=list(columns),
            y=list(rows),
            text=cells.astype(int),
            texttemplate="%{text}",
            colorscale="Blues",
            zmin=0,
            zmax=1,
            showscale=False,
            hovertemplate="true %{y}, predicted %{x}: %{text}<extra></extra>",
            xgap=2,
            ygap=2,
        )
    )
    figure.update_yaxes(autorange="reversed", title="Settled by readers")
    figure.update_xaxes(title="Predicted", side="bottom")
    dressed(figure, height=130 + 46 * len(rows), simulated=simulated)
    return figure.update_layout(margin={"l": 120})


def requirements_chart(requirements: Sequence[Mapping[str, Any]], *, simulated: bool) -> go.Figure:
    """What the challenger gains or loses, in points with its interval, and the limit (a bar) beyond which it may not lose.

    Each is drawn so that better is right, also where a lower figure is the better one.
    """
    figure = go.Figure()
    rows = [f"{one['name']}, {one['against']}" for one in requirements]
    turned = [(-100 if one["lower_is_better"] else 100) for one in requirements]
    for outcome, (colour, symbol, name) in OUTCOMES.items():
        drawn = {
            row: (sign * one["figure"], *sorted(sign * _or(one[side], one["figure"]) for side in ("low", "high")))
            for row, one, sign in zip(rows, requirements, turned, strict=True)
            if one["outcome"] == outcome
        }
        if drawn:
            figure.add_trace(whiskers(drawn, rows, name, colour, symbol, 0.0, "+.1f"))
    figure.add_trace(
        go.Scatter(
            x=[sign * one["limit"] for one, sign in zip(requirements, turned, strict=True)],
            y=[len(rows) - 1 - at for at in range(len(rows))],
            mode="markers",
            name="limit",
            marker={"symbol": "line-ns-open", "size": 18, "line": {"width": 3, "color": SLATE}, "color": SLATE},
            hovertemplate="limit %{x:+.1f} points<extra></extra>",
        )
    )
    figure.update_xaxes(title="points, better is right", tickformat="+d", zeroline=True, zerolinecolor=GREY)
    figure.update_yaxes(automargin=True)
    in_rows(figure, rows, simulated=simulated)
    return figure.update_layout(height=130 + 30 * len(rows))


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def calibration_chart(bins: Sequence[Mapping[str, Any]], *, simulated: bool) -> go.Figure:
    """How often the model was right where it was so sure, before and after its temperature; honest is on the diagonal."""
    figure = go.Figure(
        go.Scatter(
            x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dot"}, name="honest", hoverinfo="skip"
        )
    )
    for key, name, colour, symbol in (
        ("before", "before", faded(SLATE, 0.55), "circle-open"),
        ("after", "at its temperature", BLUE, "diamond"),
    ):
        drawn = [one[key] for one in bins if one[key]["said"] is not None]
        shares = [(one["right"]["value"], one["right"]["low"], one["right"]["high"]) for one in drawn]
        figure.add_trace(
            go.Scatter(
                x=[one["said"] for one in drawn],
                y=[value for value, _, _ in shares],
                mode="markers",
                name=name,
                marker={"size": 10, "color": colour, "symbol": symbol},
                error_y=error_bars(shares),
                text=[one["right"]["cells"] for one in drawn],
                hovertemplate="%{text} cells: says %{x:.1%}, right %{y:.1%}<extra>" + name + "</extra>",
            )
        )
    figure.update_xaxes(title="Probability of the class called", range=[0, 1.03], tickformat=".0%")
    figure.update_yaxes(title="Share that was right", range=[0, 1.05], tickformat=".0%")
    return dressed(figure, height=400, simulated=simulated)


def thresholds_chart(
    curve: Sequence[Mapping[str, Any]], marked: Sequence[Mapping[str, Any]], *, simulated: bool
) -> go.Figure:
    """What is left when only decisions with that probability or more count; the thresholds in use are `marked`."""
    figure = go.Figure()
    for key, (name, colour, dash) in THRESHOLD_LINES.items():
        points = [one for one in curve if one[key]["value"] is not None]
        figure.add_trace(
            go.Scatter(
                x=[one["threshold"] for one in points],
                y=[one[key]["value"] for one in points],
                mode="lines",
                name=name,
                line={"color": colour, "dash": dash, "width": 2},
                hovertemplate="from %{x:.0%} on: %{y:.1%}<extra>" + name + "</extra>",
            )
        )
    for one in marked:
        figure.add_vline(x=one["threshold"], line={"color": GREY, "width": 1, "dash": "dot"})
    figure.update_xaxes(title="Least probability of a decision that counts", range=[0, 1.01], tickformat=".0%")
    figure.update_yaxes(range=[0, 1.05], tickformat=".0%")
    return dressed(figure, height=400, simulated=simulated)
