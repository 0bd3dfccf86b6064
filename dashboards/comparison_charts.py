"""Figures of counts by hand beside counts by the model, and of subclasses; coordinates and colours only, no statistics."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboards.palette import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, SLATE, VERMILION, dressed, faded
from dashboards.patient_charts import COUNT_TICKS

KIND_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE, SLATE)
KIND_SIGNS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")  # told apart without colour
RATIO_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100)
HOVER = (
    "patient %{customdata[0]}<br>by hand %{customdata[1]:.0f}, by the model %{customdata[2]:.1f} "
    "(%{customdata[3]:.1f} to %{customdata[4]:.1f})<br>%{customdata[5]}<extra>%{fullData.name}</extra>"
)


def tubes_chart(compared: pd.DataFrame, *, simulated: bool) -> go.Figure:
    """Manual against model on log(1 + count) axes with the line of equal counts and the cut-offs (Supplementary Fig. 3).

    The last of a point's `customdata` is its sample.
    """
    across, up = _beside_each_other(compared)
    figure = go.Figure()
    end = float(max(across.max(), up.max(), 2.0)) * 1.06
    figure.add_trace(
        go.Scatter(x=[-0.25, end], y=[-0.25, end], mode="lines", line={"color": GREY, "width": 1}, hoverinfo="skip", showlegend=False)
    )  # fmt: skip
    for cutoff, exploratory in sorted(set(zip(compared["cutoff"].dropna(), compared.loc[compared["cutoff"].notna(), "exploratory"], strict=True))):  # fmt: skip
        at, line = float(np.log1p(cutoff)), {"color": BLACK, "width": 1, "dash": "dot" if exploratory else "dash"}
        named = f"cut-off {cutoff:g}" + (" (exploratory)" if exploratory else "")
        figure.add_vline(x=at, line=line)
        figure.add_hline(
            y=at, line=line, annotation_text=named, annotation_font_size=12,
            annotation_position="top left" if exploratory else "top right",
        )  # fmt: skip
    _add_points(figure, compared, across, up)
    ticks = {"tickvals": [float(np.log1p(one)) for one in COUNT_TICKS], "ticktext": [str(one) for one in COUNT_TICKS]}
    figure.update_xaxes(title="CTC per 7.5 ml by hand, at the time", zeroline=False, range=[-0.25, end], **ticks)
    figure.update_yaxes(title="by the model", zeroline=False, range=[-0.25, end], **ticks)
    return dressed(figure, height=480, simulated=simulated)


def ratios_chart(compared: pd.DataFrame, figures: Mapping[str, Any], *, simulated: bool) -> go.Figure:
    """Bland and Altman's picture: ratio of the counts over their mean, with the typical ratio and the limits of agreement."""
    across, up = _beside_each_other(compared)
    figure = go.Figure()
    furthest = max(float(np.abs(up - across).max()) if len(compared) else 0.0, float(np.log(2.2)))
    for name, told in (("bias", "typical ratio"), ("lower", "lower limit"), ("upper", "upper limit")):
        one = figures[name]
        if one["value"] is None:
            continue
        at, low, high = (float(np.log(one[part])) for part in ("value", "low", "high"))
        furthest = max(furthest, abs(low), abs(high))
        figure.add_hrect(y0=low, y1=high, fillcolor=faded(BLUE, 0.14), line_width=0)
        figure.add_hline(
            y=at, line={"color": BLUE, "width": 1.5, "dash": "solid" if name == "bias" else "dash"},
            annotation_text=f"{told} {one['value']:.2f}", annotation_position="top right", annotation_font_size=12,
        )  # fmt: skip
    _add_points(figure, compared, (across + up) / 2, up - across)
    ticks = [float(np.log1p(one)) for one in COUNT_TICKS]
    figure.update_xaxes(
        title="mean of the two counts, on the log scale", zeroline=False, tickvals=ticks,
        ticktext=[str(one) for one in COUNT_TICKS],
    )  # fmt: skip
    figure.update_yaxes(
        title="(1 + model) / (1 + by hand)", range=[-1.1 * furthest, 1.1 * furthest],
        tickvals=[float(np.log(one)) for one in RATIO_TICKS], ticktext=[f"{one:g}" for one in RATIO_TICKS],
    )  # fmt: skip
    return dressed(figure, height=480, simulated=simulated)


def _beside_each_other(compared: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Log counts by hand and by the model, moved a little aside: whole numbers would hide each other."""
    shift = np.random.default_rng(0).uniform(-0.045, 0.045, (2, len(compared)))
    return np.log1p(compared["manual"].to_numpy()) + shift[0], np.log1p(compared["model"].to_numpy()) + shift[1]


def _add_points(figure: go.Figure, compared: pd.DataFrame, x: np.ndarray, y: np.ndarray) -> None:
    """One trace a cancer type; tubes that change side of the cut-off are ringed."""
    sides = np.where(compared["changes_side"], compared["side_manual"] + " → " + compared["side_model"], "same side")
    about = np.column_stack(
        [
            compared["patient_uid"].str[:8], compared["manual"], compared["model"], compared["low"], compared["high"],
            np.where(compared["side_manual"] == "none", "no cut-off", sides), compared["sample_uid"],
        ]
    )  # fmt: skip
    for place, name in enumerate(sorted(set(compared["cancer_type"]))):
        own = (compared["cancer_type"] == name).to_numpy()
        ringed = compared.loc[own, "changes_side"].to_numpy()
        figure.add_trace(
            go.Scatter(
                x=x[own],
                y=y[own],
                mode="markers",
                name=str(name),
                customdata=about[own],
                hovertemplate=HOVER,
                marker={
                    "color": KIND_COLOURS[place % len(KIND_COLOURS)],
                    "symbol": KIND_SIGNS[place % len(KIND_SIGNS)],
                    "size": np.where(ringed, 11, 8).tolist(),
                    "line": {"color": BLACK, "width": np.where(ringed, 2, 0).tolist()},
                },
            )
        )


def subclasses_chart(counts: pd.DataFrame, names: Sequence[str], *, simulated: bool) -> go.Figure:
    """Cells per 7.5 ml of each subclass, a dot a tube and a box of quartiles; `names` in order of the subclass's number."""
    figure = go.Figure()
    for place, name in enumerate(names):
        own = counts[counts["subclass"] == place + 1]
        colour = KIND_COLOURS[place % len(KIND_COLOURS)]
        figure.add_trace(
            go.Box(
                y=np.log1p(own["per_7_5_ml"]),
                name=name,
                boxpoints="all",
                jitter=0.6,
                pointpos=0,
                fillcolor=faded(colour, 0.15),
                line={"color": colour, "width": 1.5},
                marker={"color": faded(colour, 0.6), "size": 5},
                customdata=np.column_stack([own["patient_uid"].str[:8], own["per_7_5_ml"], own["low"], own["high"]]),
                hovertemplate="patient %{customdata[0]}<br>%{customdata[1]:.1f} per 7.5 ml "
                "(%{customdata[2]:.1f} to %{customdata[3]:.1f})<extra>" + name + "</extra>",
                showlegend=False,
            )
        )
    figure.update_yaxes(
        title="cells per 7.5 ml", zeroline=False, tickvals=[float(np.log1p(one)) for one in COUNT_TICKS],
        ticktext=[str(one) for one in COUNT_TICKS],
    )  # fmt: skip
    return dressed(figure, height=380, simulated=simulated)


def hazards_chart(reports: Sequence[Mapping[str, Any]], *, simulated: bool) -> go.Figure:
    """The hazard ratio per unit of ln(1 + count) of each subclass that has one, with its 95 % interval."""
    shown = [one for one in reports if one["cox_log_count"]]
    fits = [one["cox_log_count"] for one in shown]
    names = [f"{one['class_id']}-{one['subclass']}" for one in shown]
    ratios = np.array([fit["hr"] for fit in fits])
    figure = go.Figure(
        go.Scatter(
            x=ratios,
            y=names,
            mode="markers",
            marker={"symbol": "square", "size": 10, "color": BLUE},
            error_x={
                "type": "data", "symmetric": False, "array": np.array([fit["high"] for fit in fits]) - ratios,
                "arrayminus": ratios - np.array([fit["low"] for fit in fits]), "color": BLUE, "thickness": 2, "width": 0,
            },
            hovertemplate="%{y}: %{x:.2f}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_vline(x=1, line={"color": GREY, "width": 1})
    figure.update_xaxes(
        title="hazard ratio per unit of ln(1 + count)", type="log", tickvals=[0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5]
    )
    figure.update_yaxes(autorange="reversed")
    return dressed(figure, height=120 + 40 * max(len(shown), 2), simulated=simulated)
