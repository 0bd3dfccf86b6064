"""Figures of the model, its latent space and its readers: coordinates and colours only, no statistics."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboards.palette import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, class_colours, dressed, faded


def latent_chart(
    cells: pd.DataFrame, *, colour_by: str, names: Mapping[str, str], simulated: bool, ringed: int | None = None
) -> go.Figure:
    """The latent map, coloured by predicted class, by novelty or by flag; the cells of cluster `ringed` stand out."""
    figure = go.Figure()
    if colour_by == "novelty":
        scored = cells["novelty"].notna()
        figure.add_trace(_dots(cells[~scored], GREY, "not scored", names, opacity=0.25))
        figure.add_trace(
            _dots(
                cells[scored].sort_values("novelty"),
                cells[scored].sort_values("novelty")["novelty"],
                "novelty",
                names,
                scale=True,
            )
        )
    elif colour_by == "flagged":
        flagged = cells["flagged"].fillna(False).astype(bool)
        figure.add_trace(_dots(cells[~flagged], GREY, "not flagged", names, opacity=0.35))
        figure.add_trace(_dots(cells[flagged], VERMILION, "in a flagged cluster", names))
    else:
        known = [class_id for class_id in names if (cells["predicted"] == class_id).any()]
        others = sorted(set(cells["predicted"].dropna()) - set(known))
        for class_id, colour in class_colours([*known, *others]).items():
            figure.add_trace(_dots(cells[cells["predicted"] == class_id], colour, names.get(class_id, class_id), names))
    if ringed is not None and "cluster" in cells:
        chosen = cells[cells["cluster"] == ringed]
        figure.add_trace(
            go.Scattergl(
                x=chosen["x"],
                y=chosen["y"],
                mode="markers",
                name=f"cluster {ringed}",
                hoverinfo="skip",
                marker={"size": 8, "color": "rgba(0,0,0,0)", "line": {"color": faded(BLACK, 0.6), "width": 0.8}},
            )
        )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    dressed(figure, height=620, simulated=simulated)
    figure.update_layout(
        legend={"itemsizing": "constant", "y": -0.01, "yanchor": "top"}, margin={"l": 10, "r": 10, "t": 30, "b": 60}
    )
    return figure


def _dots(
    cells: pd.DataFrame, colour: Any, name: str, names: Mapping[str, str], *, opacity: float = 0.75, scale: bool = False
) -> go.Scattergl:
    marker: dict[str, Any] = {"size": 5, "color": colour, "opacity": opacity}
    if scale:
        marker |= {"colorscale": "Viridis", "colorbar": {"title": "novelty", "thickness": 12}}
    cluster = cells["cluster"].fillna(-1).astype(int) if "cluster" in cells else pd.Series(-1, index=cells.index)
    said = [
        f"{names.get(label, label)}" + (f", cluster {number}" if number >= 0 else "")
        for label, number in zip(cells["predicted"], cluster, strict=True)
    ]
    return go.Scattergl(
        showlegend=not scale,
        x=cells["x"],
        y=cells["y"],
        mode="markers",
        name=name,
        marker=marker,
        text=said,
        hovertemplate="%{text}<extra></extra>",
    )


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


def comparison_chart(
    before: Mapping[str, tuple[float, float, float]] | None,
    after: Mapping[str, tuple[float, float, float]],
    *,
    simulated: bool,
) -> go.Figure:
    """Figures of champion and challenger one beside the other, each (value, low, high)."""
    figure = go.Figure()
    for name, scores, colour, symbol, shift in (
        ("champion", before, GREY, "circle-open", 0.18),
        ("challenger", after, BLUE, "diamond", -0.18),
    ):
        if not scores:
            continue
        places = [len(after) - 1 - list(after).index(label) + shift for label in scores if label in after]
        shown = [scores[label] for label in scores if label in after]
        figure.add_trace(
            go.Scatter(
                x=[value for value, _, _ in shown],
                y=places,
                mode="markers",
                name=name,
                marker={"size": 10, "color": colour, "symbol": symbol},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [high - value for value, _, high in shown],
                    "arrayminus": [value - low for value, low, _ in shown],
                    "thickness": 2,
                    "width": 4,
                },
                text=[label for label in scores if label in after],
                hovertemplate="%{text}: %{x:.1%}<extra>" + name + "</extra>",
            )
        )
    figure.update_xaxes(range=[-0.03, 1.03], tickformat=".0%", zeroline=False)
    figure.update_yaxes(
        tickvals=list(range(len(after))), ticktext=list(after)[::-1], zeroline=False, range=[-0.6, len(after) - 0.4]
    )
    dressed(figure, height=90 + 46 * len(after), simulated=simulated)
    return figure.update_layout(margin={"l": 170})


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
