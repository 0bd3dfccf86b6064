"""Figures of patients: counts and survival; coordinates and colours only, no statistics."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.palette import BLACK, BLUE, GREEN, GREY, PURPLE, SIDES, VERMILION, dressed, faded

COUNT_TICKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
ARM_COLOURS = (BLUE, VERMILION, GREEN, PURPLE)  # few cells first


def counts_chart(counts: pd.DataFrame, *, name_of_class: str, simulated: bool) -> go.Figure:
    """Samples sorted by count with intervals, one panel a cancer type, the cut-off as a line.

    `counts` holds one row a sample. The axis is log(1 + count), so that none and one can be told apart.
    """
    types = sorted(counts["cancer_type"].unique())
    widths = [max(int((counts["cancer_type"] == name).sum()), 4) for name in types]
    figure = make_subplots(
        cols=len(types),
        shared_yaxes=True,
        column_widths=widths,
        horizontal_spacing=0.02,
        subplot_titles=[name.capitalize() for name in types],
    )
    for column, name in enumerate(types, start=1):
        panel = counts[counts["cancer_type"] == name].sort_values(["per_7_5_ml", "sample_uid"], ignore_index=True)
        panel = panel.assign(rank=np.arange(1, len(panel) + 1))
        for side, rows in panel.groupby("side", sort=True):
            figure.add_trace(_count_points(str(side), rows), row=1, col=column)
        for cutoff, exploratory in sorted(set(zip(panel["cutoff"].dropna(), panel["exploratory"], strict=False))):
            figure.add_hline(
                y=float(np.log1p(cutoff)),
                line={"dash": "dot" if exploratory else "dash", "color": BLACK, "width": 1},
                annotation_text=f"cut-off {cutoff:g}" + (" (exploratory)" if exploratory else ""),
                annotation_position="top left",
                annotation_font_size=12,
                row=1,
                col=column,
            )
        figure.update_xaxes(range=[0, len(panel) + 1], row=1, col=column)
    figure.update_yaxes(
        tickvals=[float(np.log1p(tick)) for tick in COUNT_TICKS],
        ticktext=[str(tick) for tick in COUNT_TICKS],
        zeroline=False,
    )
    figure.update_yaxes(title=f"{name_of_class} per 7.5 ml", row=1, col=1)
    dressed(figure, height=420, simulated=False)
    figure.update_xaxes(showticklabels=False, ticks="", showgrid=False)
    named = {trace.name for trace in figure.data}
    for side, (colour, symbol) in SIDES.items():
        if side in named:  # one legend entry a side, whatever panel it lies in
            figure.add_trace(
                go.Scatter(
                    x=[None],
                    y=[None],
                    mode="markers",
                    name=_side_label(side),
                    showlegend=True,
                    marker={"color": colour, "symbol": symbol, "size": 10},
                ),
                row=1,
                col=1,
            )
    note = "Samples, sorted by count within each cancer type" + (" · simulated data" if simulated else "")
    figure.add_annotation(
        text=note, xref="paper", yref="paper", x=0, y=-0.1, xanchor="left", showarrow=False, font={"size": 12}
    )
    figure.update_layout(legend={"y": -0.06, "yanchor": "top", "x": 1, "xanchor": "right"})
    return figure


def _side_label(side: str) -> str:
    return {"none": "no cut-off", "undecided": "undecided: the interval holds the cut-off"}.get(
        side, f"{side} the cut-off"
    )


def _count_points(side: str, rows: pd.DataFrame) -> go.Scatter:
    colour, symbol = SIDES.get(side, (GREY, "circle"))
    drawn = np.log1p(rows["per_7_5_ml"])
    return go.Scatter(
        x=rows["rank"],
        y=drawn,
        mode="markers",
        name=side,
        showlegend=False,
        marker={"color": colour, "symbol": symbol, "size": 8},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": np.log1p(rows["high"]) - drawn,
            "arrayminus": drawn - np.log1p(rows["low"]),
            "color": faded(colour, 0.45),
            "thickness": 1.5,
            "width": 0,
        },
        customdata=np.column_stack(
            [
                rows["patient_uid"].str[:8],
                rows["per_7_5_ml"],
                rows["low"],
                rows["high"],
                rows["count"],
                rows["events"],
                rows["flip_risk"],
            ]
        ),
        hovertemplate="patient %{customdata[0]}<br>%{customdata[1]:.1f} per 7.5 ml "
        "(%{customdata[2]:.1f} to %{customdata[3]:.1f})"
        "<br>%{customdata[4]} of %{customdata[5]} events<br>chance of the other side %{customdata[6]:.0%}<extra>"
        + side
        + "</extra>",
    )


def survival_chart(report: Mapping[str, Any], *, endpoint: str, simulated: bool) -> go.Figure:
    """Kaplan-Meier arms with their confidence bands, and below them how many patients are still at risk."""
    arms = report["arms"]
    figure = make_subplots(rows=2, shared_xaxes=True, row_heights=[0.82, 0.18], vertical_spacing=0.03)
    for place, arm in enumerate(arms):
        colour = ARM_COLOURS[place % len(ARM_COLOURS)]
        name = f"{arm['name']} ({arm['n']} patients, {arm['events']} events)"
        if arm["times"]:
            _draw_arm(figure, arm, name, colour, dash="solid" if place % 2 == 0 else "dash")
        figure.add_trace(
            go.Scatter(
                x=report["risk_times"],
                y=[-place] * len(arm["at_risk"]),
                mode="text",
                text=[str(n) for n in arm["at_risk"]],
                textfont={"color": colour, "size": 13},
                hoverinfo="skip",
                showlegend=False,
            ),
            row=2,
            col=1,
        )
    figure.update_yaxes(
        range=[0, 1.02],
        tickformat=".0%",
        title={"os": "Overall survival", "pfs": "Progression-free survival"}.get(endpoint, endpoint),
        row=1,
        col=1,
    )
    figure.update_yaxes(
        range=[-len(arms) + 0.4, 0.6],
        tickvals=[-place for place in range(len(arms))],
        ticktext=[arm["name"] for arm in arms],
        showgrid=False,
        zeroline=False,
        row=2,
        col=1,
    )
    last = max([*report["risk_times"], *(time for arm in arms for time in arm["times"])])
    figure.update_xaxes(
        range=[-0.03 * last, 1.02 * last], tickvals=report["risk_times"], zeroline=False
    )  # room for the first number at risk
    figure.update_xaxes(ticks="", showticklabels=False, row=1, col=1)
    figure.update_xaxes(
        title="Months since the blood draw (numbers above: patients at risk)", showgrid=False, row=2, col=1
    )
    return dressed(figure, height=520, simulated=simulated)


def _draw_arm(figure: go.Figure, arm: Mapping[str, Any], name: str, colour: str, *, dash: str) -> None:
    """Band, steps and the marks of patients still under observation."""
    steps, low, high = (
        _stairs(arm["times"], arm["survival"]),
        _stairs(arm["times"], arm["low"]),
        _stairs(arm["times"], arm["high"]),
    )
    figure.add_trace(
        go.Scatter(
            x=[*high[0], *low[0][::-1]],
            y=[*high[1], *low[1][::-1]],
            fill="toself",
            fillcolor=faded(colour, 0.15),
            mode="lines",
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        ),
        row=1,
        col=1,
    )
    figure.add_trace(
        go.Scatter(
            x=steps[0],
            y=steps[1],
            mode="lines",
            name=name,
            line={"color": colour, "width": 2.5, "dash": dash},
            hovertemplate="%{x:.1f} months: %{y:.0%}<extra>" + arm["name"] + "</extra>",
        ),
        row=1,
        col=1,
    )
    heights = [arm["survival"][bisect_right(arm["times"], time) - 1] for time in arm["censored"]]
    figure.add_trace(
        go.Scatter(
            x=arm["censored"],
            y=heights,
            mode="markers",
            marker={"symbol": "line-ns-open", "size": 8, "color": colour},
            hoverinfo="skip",
            showlegend=False,
        ),
        row=1,
        col=1,
    )


def _stairs(times: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Corner points of a step curve that holds each value until the next time.

    >>> _stairs([0, 2], [1.0, 0.5])
    ([0, 2, 2], [1.0, 1.0, 0.5])
    """
    across = [time for place, time in enumerate(times) for _ in range(1 if place == 0 else 2)]
    down = [value for place, value in enumerate(values) for _ in range(1 if place == len(values) - 1 else 2)]
    return across, down
