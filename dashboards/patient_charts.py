"""The figure of the counts: coordinates and colours only, no statistics."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.palette import BLACK, GREY, SIDES, dressed, faded

COUNT_TICKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


def counts_chart(counts: pd.DataFrame, *, name_of_class: str, simulated: bool) -> go.Figure:
    """Samples sorted by count with intervals, one panel a cancer type, the cut-off as a line.

    `counts` holds one row a sample; its `sample_uid` is the last of a point's custom data. The axis is log(1 + count), so that none and one can be told apart.
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
                rows["flip_risk"].map(lambda risk: "–" if pd.isna(risk) else f"{risk:.0%}"),
                rows["sample_uid"].str[:8],
                rows["sample_uid"],
            ]
        ),
        hovertemplate="sample %{customdata[7]} of patient %{customdata[0]}<br>%{customdata[1]:.1f} per 7.5 ml "
        "(%{customdata[2]:.1f} to %{customdata[3]:.1f})"
        "<br>%{customdata[4]} of %{customdata[5]} events<br>chance of the other side %{customdata[6]}<br>click to see the cells<extra>"
        + side
        + "</extra>",
    )
