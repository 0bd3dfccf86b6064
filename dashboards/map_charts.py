"""The latent map as a picture to look around in: places and colours only, no statistics."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboards.atlas import Outline
from dashboards.palette import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    SLATE,
    VERMILION,
    class_colours,
    dressed,
    faded,
)

WAYS = {
    "settled": "settled class",
    "predicted": "predicted class",
    "cancer_type": "cancer type",
    "cluster": "cluster",
    "novelty": "novelty",
    "instrument": "instrument",
    "flagged": "flagged clusters",
}
GROUP_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, BLACK)
REST = faded(GREY, 0.35)
MAP_CONFIG = {
    "displaylogo": False,
    "displayModeBar": True,
    "scrollZoom": True,
    "modeBarButtons": [["lasso2d", "select2d", "zoom2d", "pan2d", "resetScale2d"]],
}

Part = tuple[str, str, "pd.Series[bool]"]  # name, colour, which cells


def map_chart(
    cells: pd.DataFrame,
    *,
    method: str,
    colour_by: str,
    names: Mapping[str, str],
    simulated: bool,
    ringed: int | None = None,
    outlines: Sequence[Outline] = (),
) -> go.Figure:
    """The cells of an atlas at their places by `method`, coloured in one of the `WAYS`; grey ones lie below the others.

    The cells of cluster `ringed` stand out; `outlines` are drawn as if somebody had just selected them.
    """
    figure = go.Figure()
    if colour_by == "novelty":
        scored = cells["novelty"].notna()
        figure.add_trace(_dots(cells[~scored], method, "not scored", REST))
        figure.add_trace(_by_novelty(cells[scored].sort_values("novelty"), method))
    else:
        for name, colour, which in _parts(cells, colour_by, names):
            figure.add_trace(_dots(cells[which], method, name, colour))
    if ringed is not None:
        figure.add_trace(_rings(cells[cells["cluster"] == ringed], method, f"cluster {ringed}"))
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    dressed(figure, height=620, simulated=simulated)
    figure.update_annotations(x=0, xanchor="left")  # the tools stand on the right
    return figure.update_layout(
        legend={
            "itemsizing": "constant", "y": -0.01, "yanchor": "top", "itemclick": False, "itemdoubleclick": False,
        },  # an entry that hides its dots would leave them in a selection; filters do that
        margin={"l": 10, "r": 10, "t": 30, "b": 60},
        dragmode="lasso",
        newselection={"line": {"color": BLACK, "width": 2}},
        selections=[
            {"type": "path", "path": "M" + "L".join(f"{x},{y}" for x, y in one) + "Z", "line": {"color": BLACK, "width": 2}}
            for one in outlines
        ],
    )  # fmt: skip


def _parts(cells: pd.DataFrame, colour_by: str, names: Mapping[str, str]) -> Iterator[Part]:
    """What is drawn in one colour each, the grey rest first."""
    found = cells[colour_by]
    if colour_by == "flagged":
        yield "not flagged", REST, ~found
        yield "in a flagged cluster", VERMILION, found
    elif colour_by == "cluster":
        largest = found[found >= 0].value_counts().index[: len(GROUP_COLOURS)]
        yield "in no cluster", REST, found < 0
        yield "smaller clusters", faded(SLATE, 0.6), (found >= 0) & ~found.isin(largest)
        for number, colour in zip(sorted(largest), GROUP_COLOURS, strict=False):
            yield f"cluster {number}", colour, found == number
    elif colour_by in ("predicted", "settled"):
        yield "no settled label" if colour_by == "settled" else "not predicted", REST, found.isna()
        present = set(found.dropna().unique())
        ids = [*(one for one in names if one in present), *sorted(present - set(names))]
        for class_id, colour in class_colours(ids).items():
            yield names.get(class_id, class_id), colour, found == class_id
    else:
        largest = found.value_counts().index[: len(GROUP_COLOURS)]
        yield "not stated", REST, found.isna()
        yield "further ones", faded(SLATE, 0.6), found.notna() & ~found.isin(largest)
        for name, colour in zip(sorted(largest), GROUP_COLOURS, strict=False):
            yield str(name), colour, found == name


def _places(cells: pd.DataFrame, method: str) -> dict[str, "np.ndarray[tuple[int], np.dtype[np.float32]]"]:
    """As float32, which Plotly sends in half the bytes and draws as finely."""
    return {axis: cells[f"{method}_{axis}"].to_numpy(np.float32) for axis in "xy"}


def _size(cells: int) -> float:
    return 5 if cells < 5000 else 4 if cells < 30_000 else 3


def _dots(cells: pd.DataFrame, method: str, name: str, colour: str) -> go.Scattergl:
    in_cluster = bool((cells["cluster"] >= 0).any())
    return go.Scattergl(
        **_places(cells, method),
        mode="markers",
        name=name,
        showlegend=len(cells) > 0,
        marker={"size": _size(len(cells)), "color": colour, "opacity": 0.75},
        customdata=cells["cluster"].to_numpy() if in_cluster else None,
        hovertemplate=name + ("<br>cluster %{customdata}" if in_cluster else "") + "<extra></extra>",
    )


def _by_novelty(cells: pd.DataFrame, method: str) -> go.Scattergl:
    """The bar ends at the 1st and 99th percentile, so that a single odd cell does not take all the colours."""
    low, high = np.percentile(cells["novelty"], [1, 99]) if len(cells) else (0.0, 1.0)
    return go.Scattergl(
        **_places(cells, method),
        mode="markers",
        name="novelty",
        showlegend=False,
        marker={
            "size": _size(len(cells)),
            "color": cells["novelty"].to_numpy(np.float32),
            "cmin": float(low),
            "cmax": float(high),
            "colorscale": "Viridis",
            "reversescale": True,  # what is novel is dark on white; on a dark page `on_dark` turns it round
            "colorbar": {"title": "novelty", "thickness": 12, "outlinewidth": 0},
            "opacity": 0.8,
        },
        customdata=cells["cluster"].to_numpy(),
        hovertemplate="novelty %{marker.color:.2f}<br>cluster %{customdata}<extra></extra>",
    )


def _rings(cells: pd.DataFrame, method: str, name: str) -> go.Scattergl:
    return go.Scattergl(
        **_places(cells, method),
        mode="markers",
        name=name,
        hoverinfo="skip",
        marker={"size": 8, "color": "rgba(0,0,0,0)", "line": {"color": faded(BLACK, 0.6), "width": 0.8}},
    )
