"""Figures of survival: curves, table of risk, hazard ratios; coordinates and colours only, no statistics."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.palette import BLACK, BLUE, GREEN, GREY, PURPLE, VERMILION, dressed, faded

ARM_COLOURS = (BLUE, VERMILION, GREEN, PURPLE)  # few cells first
ENDPOINTS = {"os": "Overall survival", "pfs": "Progression-free survival"}
COUNTED_RISK = (("at_risk", "at risk"), ("censored_before", "censored"), ("events_before", "events"))
ROW_PX = 19  # of the table below the curves
RATIO_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
COUNT_TICKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def survival_chart(report: Mapping[str, Any], *, endpoint: str, simulated: bool) -> go.Figure:
    """Kaplan-Meier arms with their confidence bands; below them how many were at risk, censored and had the event at the
    start of each interval (Morris et al. 2019, BMJ Open 9:e030215, the KMunicate table)."""
    arms = report["arms"]
    table = [(arm, ARM_COLOURS[place % len(ARM_COLOURS)], *row) for place, arm in enumerate(arms) for row in _rows(arm)]
    below = ROW_PX * (len(table) + 1)
    height = 500 + below
    share = below / (height - 70)  # of what the margins leave
    figure = make_subplots(rows=2, shared_xaxes=True, row_heights=[1 - share, share], vertical_spacing=0.11)
    for place, arm in enumerate(arms):
        if arm["times"]:
            name = f"{arm['name']} ({arm['n']} patients, {arm['events']} events)"
            _draw_arm(
                figure, arm, name, ARM_COLOURS[place % len(ARM_COLOURS)], dash="solid" if place % 2 == 0 else "dash"
            )
    for place, (arm, colour, key, _) in enumerate(table):
        figure.add_trace(
            go.Scatter(
                x=report["risk_times"],
                y=[-place] * len(arm[key]),
                mode="text",
                text=[str(n) for n in arm[key]],
                textfont={"color": colour, "size": 13},
                hoverinfo="skip",
                showlegend=False,
            ),
            row=2,
            col=1,
        )
    title = ENDPOINTS.get(endpoint, endpoint)
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%", title=title, row=1, col=1)
    figure.update_yaxes(
        range=[0.6 - len(table), 0.6],
        tickvals=[-place for place in range(len(table))],
        ticktext=[f"<b>{arm['name']}</b>  {label}" if label == "at risk" else label for arm, _, _, label in table],
        tickfont={"size": 12},
        showgrid=False,
        zeroline=False,
        row=2,
        col=1,
    )
    last = max([*report["risk_times"], *(time for arm in arms for time in arm["times"])])
    figure.update_xaxes(  # room for the first number at risk
        range=[-0.03 * last, 1.02 * last], tickvals=report["risk_times"], zeroline=False
    )
    dressed(figure, height=height, simulated=simulated).update_layout(margin={"l": 170, "b": 30})
    figure.update_xaxes(ticks="", showticklabels=True, title=_since(report), title_standoff=4, row=1, col=1)
    figure.update_xaxes(showgrid=False, showline=False, ticks="", showticklabels=False, row=2, col=1)
    return figure


def _rows(arm: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Which rows of the table of risk an arm has: reports of older versions know the patients at risk alone."""
    return [(key, label) for key, label in COUNTED_RISK if arm.get(key) is not None]


def _since(report: Mapping[str, Any]) -> str:
    landmark = report.get("landmark_months")
    return f"Months since the landmark at {landmark:.1f} months" if landmark else "Months since the blood draw"


def spline_chart(spline: Mapping[str, Any], *, simulated: bool) -> go.Figure:
    """Hazard ratio over the count with its band, both axes logarithmic; 1 is the patient with the reference count."""
    places = [math.log1p(count) for count in spline["counts"]]
    figure = go.Figure(
        [
            go.Scatter(
                x=[*places, *places[::-1]],
                y=[*spline["high"], *spline["low"][::-1]],
                fill="toself",
                fillcolor=faded(BLUE, 0.18),
                mode="lines",
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
            ),
            go.Scatter(
                x=places,
                y=spline["hr"],
                mode="lines",
                line={"color": BLUE, "width": 2.5},
                customdata=spline["counts"],
                hovertemplate="%{customdata:.0f} per 7.5 ml: hazard ratio %{y:.2f}<extra></extra>",
                showlegend=False,
            ),
        ]
    )
    figure.add_hline(y=1, line={"color": GREY, "width": 1, "dash": "dash"})
    ticks = [tick for tick in COUNT_TICKS if math.log1p(tick) <= places[-1] * 1.02]
    figure.update_xaxes(
        title="Cells per 7.5 ml", tickvals=[math.log1p(tick) for tick in ticks], ticktext=[str(tick) for tick in ticks]
    )
    figure.update_yaxes(
        title=f"Hazard ratio against {spline['reference']:.0f}", type="log", tickvals=RATIO_TICKS, zeroline=False
    )
    return dressed(figure, height=340, simulated=simulated)


def ratios_chart(ratios: Sequence[tuple[str, float, float, float]], *, simulated: bool) -> go.Figure:
    """Hazard ratios with their limits, one a line, the first on top, on a logarithmic axis with a line at 1."""
    names = [name for name, *_ in ratios]
    figure = go.Figure(
        go.Scatter(
            x=[ratio for _, ratio, _, _ in ratios],
            y=names,
            mode="markers",
            marker={"color": BLUE, "size": 11, "symbol": "square"},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [high - ratio for _, ratio, _, high in ratios],
                "arrayminus": [ratio - low for _, ratio, low, _ in ratios],
                "color": BLUE,
                "thickness": 2,
                "width": 5,
            },
            customdata=[(low, high) for _, _, low, high in ratios],
            hovertemplate="%{y}: %{x:.2f} (%{customdata[0]:.2f} to %{customdata[1]:.2f})<extra></extra>",
            showlegend=False,
        )
    )
    figure.add_vline(x=1, line={"color": BLACK, "width": 1, "dash": "dash"})
    ends = [math.log10(end) for _, _, low, high in ratios for end in (low, high, 1.0)]
    figure.update_xaxes(
        type="log",
        title="Hazard ratio, 95 % interval",
        tickvals=RATIO_TICKS,
        range=[min(ends) - 0.1, max(ends) + 0.1],
        zeroline=False,
    )
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    height = 130 + 38 * len(ratios)
    return dressed(figure, height=height, simulated=simulated).update_layout(margin={"l": 240})


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
