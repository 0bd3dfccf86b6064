"""Pictures of flat maps: cells by class or group, by novelty, how often each cancer type lies where, two networks side by side.

Everything drawn was computed elsewhere. Points are pixels also inside an SVG, whose words stay sharp: tens of thousands
of vector dots open nowhere.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ctcml.errors import BadInput
from ctcml.pictures import CLASS_COLOURS, FURTHER_COLOURS, STYLE, class_colours, put_head, save_figure, stamps

REST_COLOUR = "#D0D0D0"
NO_UNIT = "The axes have no unit; only who lies near whom has a meaning"
GROUP_COLOURS = (*(CLASS_COLOURS[name] for name in ("wbc", "ctc", "cd45ev", "bare_nucleus", "tdev")), *FURTHER_COLOURS)
BINS, SMOOTHING = 48, 1.2  # of a frequency map: bins a side, and the width of the Gaussian over them in bins
FEWEST = 50  # cells of a cancer type below which its panel shows dots and no frequencies: ours

FREQUENCIES = "YlGnBu"
UNLABELLED, UNSTATED, FURTHER = "not labelled", "not stated", "further ones"
SPELT = {"tsne": "t-SNE", "umap": "UMAP"}

Places = NDArray[Any]  # (N, 2)


def map_plot(
    xy: Places,
    labels: Sequence[str],
    path: Path,
    *,
    simulated: bool,
    title: str = "Map of the latent space",
    rest: str = "",
    colours: Mapping[str, str] | None = None,
) -> None:
    """Draw cells at `xy` (N, 2), coloured by class, or by `colours`; cells labelled `rest` lie in grey below the others.

    Raises `BadInput` when there is not one label a cell.
    """
    names = _checked(xy, labels)
    palette = {**(colours or class_colours(set(names) - {rest})), rest: REST_COLOUR}
    with mpl.rc_context(STYLE):
        figure, axes = _canvas()
        _dots(axes, xy, names, palette, rest)
        _legend(axes, names, palette, rest)
        put_head(figure, title, stamps(simulated))
        save_figure(figure, path)


def novelty_plot(
    xy: Places,
    novelty: NDArray[Any],
    flagged: NDArray[np.bool_],
    path: Path,
    *,
    simulated: bool,
    title: str = "Novelty",
) -> None:
    """Draw cells coloured by novelty, the most novel on top, flagged ones ringed, those without a score (NaN) grey.

    The bar ends at the 1st and 99th percentile, so that a single odd cell does not take all the colours.
    """
    _checked(xy, novelty)
    scored = np.isfinite(novelty)
    order = np.flatnonzero(scored)[np.argsort(novelty[scored])]
    low, high = np.percentile(novelty[scored], [1, 99]) if scored.any() else (0.0, 1.0)
    size, ringed = _size(len(xy)), flagged[order]
    with mpl.rc_context(STYLE):
        figure, axes = _canvas()
        _scatter(axes, xy[~scored], s=size, color=REST_COLOUR)
        for cells in (order[~ringed], order[ringed]):
            # A ring is a black dot below the coloured ones: drawn above, the rings of a dense cluster hide its colours.
            _scatter(axes, xy[cells[flagged[cells]]], s=size * 3, color="black")
            drawn = _scatter(axes, xy[cells], s=size, c=novelty[cells], cmap="viridis", norm=Normalize(low, high))
        bar = figure.colorbar(drawn, ax=axes, shrink=0.6, extend="both")
        bar.set_label("novelty (larger: less like the labelled cells)")
        marks = [
            _mark("black", f"flagged ({flagged.sum():,})", fillstyle="none"),
            _mark(REST_COLOUR, f"no score: labelled, or of a held-out patient ({(~scored).sum():,})"),
        ]
        axes.legend(handles=marks, loc="upper center", bbox_to_anchor=(0.5, -0.05), ncols=2, handletextpad=0.2)
        put_head(figure, title, stamps(simulated))
        save_figure(figure, path)


def frequency_plot(
    xy: Places,
    groups: Sequence[str],
    patients: Sequence[str],
    path: Path,
    *,
    simulated: bool,
    title: str = "CTCs by cancer type",
) -> None:
    """Draw one panel a group over the same axes: how many of its cells lie where, over all cells in grey.

    The paper's Fig. 5c: "for each location the number of CTCs of that cancer type". Counts in 48 x 48 bins, smoothed by
    a Gaussian of 1.2 bins; each panel has its own scale, whose top its heading gives. A group of fewer than 50 cells is
    drawn as dots, for it allows no more. Raises `BadInput` without any cell.
    """
    names, people = _checked(xy, groups), np.asarray(patients)
    if not len(xy):
        raise BadInput(f"{title}: there is no cell to draw; make the map again when the model finds one")
    order = sorted(set(names), key=lambda name: (-(names == name).sum(), name))
    columns = int(np.ceil(np.sqrt(len(order))))
    rows = -(-len(order) // columns)
    edges = _edges(xy)
    outside = int(((xy < edges[:, 0]) | (xy > edges[:, -1])).any(axis=1).sum())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.9 * columns + 1.1, 3.1 * rows + 0.8), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, name in zip(panels, order, strict=False):
            there = names == name
            _scatter(axes, xy, s=4, color=REST_COLOUR)
            told = _frequencies(axes, xy[there], edges)
            heading = f"{name}\n{_counted(there.sum(), 'cell')} of {_counted(len(set(people[there])), 'patient')}"
            axes.set_title(f"{heading}{told}", fontsize=8, loc="left")
            axes.set(xlim=edges[0, [0, -1]], ylim=edges[1, [0, -1]], xticks=[], yticks=[], aspect="equal")
            axes.spines[:].set(visible=True, color="#B0B0B0")
        for axes in panels[len(order) :]:
            axes.set_axis_off()
        scale = mpl.cm.ScalarMappable(Normalize(0, 1), FREQUENCIES)
        bar = figure.colorbar(scale, ax=list(panels), shrink=0.5, aspect=25)
        bar.set_ticks([0, 1], labels=["none", "the panel's\npeak"])
        bar.set_label("cells of the type in a bin", labelpad=-34)
        remarks = [f"grey: all {len(xy):,} cells" + (f", {outside:,} of them outside the axes" if outside else "")]
        put_head(figure, title, [*stamps(simulated), *remarks])
        save_figure(figure, path)


def beside_plot(
    panels: Sequence[tuple[str, Places, Sequence[str]]],
    path: Path,
    *,
    simulated: bool,
    title: str = "Latent spaces side by side",
    highlight: str = "",
) -> None:
    """Draw maps (title, cells (N, 2), class of each) side by side, two a row, with one legend; the paper's Figs 2 and 3.

    Cells of the class `highlight` lie on top and are ringed, as a class that no training showed. Raises `BadInput`
    without any panel.
    """
    if not panels:
        raise BadInput(f"{title}: there is no map to draw; name at least one")
    classes = [_checked(xy, labels) for _, xy, labels in panels]
    colours = class_colours(np.concatenate(classes).tolist())
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.3 * columns, 4.2 * rows + 1), layout="constrained")
        places = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, (heading, xy, _), names in zip(places, panels, classes, strict=False):
            _dots(axes, xy, names, colours, highlight=highlight)
            _bare(axes)
            axes.set_title(f"{heading} ({_counted(len(xy), 'cell')})", fontsize=9, loc="left")
        for axes in places[len(panels) :]:
            axes.set_axis_off()
        ringed = {"markeredgecolor": "black", "markeredgewidth": 0.7}
        marks = [
            _mark(colour, f"{name}, highlighted" if name == highlight else name, **ringed if name == highlight else {})
            for name, colour in colours.items()
        ]
        figure.legend(handles=marks, loc="outside lower center", ncols=min(6, len(marks)), handletextpad=0.2)
        put_head(figure, title, [*stamps(simulated), NO_UNIT[0].lower() + NO_UNIT[1:]])
        save_figure(figure, path)


def draw_maps(cells: pd.DataFrame, folder: Path, *, name: str, simulated: bool) -> None:
    """Draw one map every way as `<way>-<name>.svg` and `.png`.

    `cells` has `x`, `y`, `predicted`, `true_class`, `cancer_type`, `instrument` (empty where nobody said), `novelty`
    (NaN where there is none), `flagged`, `patient_uid`; the frequencies are of cells that the model calls CTC.
    """
    xy, ctc = cells[["x", "y"]].to_numpy(), cells[cells["predicted"] == "ctc"]
    of_ctc = ctc[["x", "y"]].to_numpy()
    ways: dict[str, tuple[str, Callable[..., None]]] = {
        "true-class": (
            "settled labels of training patients",
            partial(map_plot, xy, _named(cells["true_class"], UNLABELLED), rest=UNLABELLED),
        ),
        "predicted-class": ("predicted class", partial(map_plot, xy, cells["predicted"].tolist())),
        "cancer-type": ("cancer type", grouped_plot(xy, cells["cancer_type"])),
        "instrument": ("instrument", grouped_plot(xy, cells["instrument"])),
        "novelty": ("novelty", partial(novelty_plot, xy, cells["novelty"].to_numpy(), cells["flagged"].to_numpy())),
    }
    if len(ctc):
        types = _named(ctc["cancer_type"], UNSTATED)
        ways["frequency"] = (
            "cells called CTC, by cancer type",
            partial(frequency_plot, of_ctc, types, ctc["patient_uid"].tolist()),
        )
    for way, (what, draw) in ways.items():
        for ending in ("svg", "png"):
            draw(folder / f"{way}-{name}.{ending}", simulated=simulated, title=f"{SPELT[name]} of the latents: {what}")


def _checked(xy: Places, labels: Any) -> NDArray[Any]:
    """The labels as an array, one a place."""
    found = np.asarray(labels)
    if xy.shape != (len(found), 2):
        raise BadInput(f"map: positions of shape {xy.shape} for {len(found)} cells; make the map again")
    return found


def _named(values: "pd.Series[str]", nothing: str) -> list[str]:
    return [str(name) if name else nothing for name in values.fillna("")]


def grouped_plot(xy: Places, values: "pd.Series[str]") -> Callable[..., None]:
    """`map_plot` by group: where there are more groups than colours, the smallest are put together."""
    names = _named(values, UNSTATED)
    largest = [name for name, _ in Counter(names).most_common() if name != UNSTATED][: len(GROUP_COLOURS)]
    colours = dict(zip(sorted(largest), GROUP_COLOURS, strict=False)) | {FURTHER: CLASS_COLOURS["other"]}
    labels = [name if name in (*largest, UNSTATED) else FURTHER for name in names]
    return partial(map_plot, xy, labels, colours=colours, rest=UNSTATED)


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 5.6), layout="constrained")
    axes = figure.subplots()
    _bare(axes)
    axes.set_xlabel(NO_UNIT)
    return figure, axes


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_aspect("equal", adjustable="datalim")


def _size(cells: int) -> float:
    return float(np.clip(24000 / max(cells, 1), 2.5, 18))


def _dots(
    axes: Axes, xy: Places, names: NDArray[Any], colours: Mapping[str, str], rest: str = "", highlight: str = ""
) -> None:
    """The rest below, a highlighted class on top; between them in an order by chance, so that no class hides another."""
    layer = np.where(names == rest, 0, np.where(names == highlight, 2, 1)) if len(names) else np.zeros(0, int)
    order = np.lexsort([np.random.default_rng(0).permutation(len(names)), layer])
    edges = np.where(layer == 2, "black", "none")
    colour = [colours[name] for name in names[order]]
    _scatter(axes, xy[order], s=_size(len(xy)), c=colour, edgecolors=edges[order].tolist(), linewidths=0.4)


def _scatter(axes: Axes, xy: Places, **look: Any) -> Any:
    return axes.scatter(xy[:, 0], xy[:, 1], **{"linewidths": 0, "rasterized": True} | look)


def _legend(axes: Axes, names: NDArray[Any], colours: Mapping[str, str], rest: str) -> None:
    """The largest class first, the rest last, each with its number of cells."""
    cells = Counter(names.tolist())
    order = sorted(cells, key=lambda name: (name == rest, -cells[name], name))
    marks = [_mark(colours[name], f"{name} ({cells[name]:,})") for name in order]
    axes.legend(handles=marks, loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.2)


def _mark(colour: str, label: str, **more: Any) -> Line2D:
    return Line2D([], [], marker="o", linestyle="", color=colour, label=label, **more)


def _edges(xy: Places) -> NDArray[np.float64]:
    """Edges of the bins (2, bins + 1) of a square around 96 % of the cells in x and y; strays would shrink the rest."""
    low, high = np.percentile(xy, [2, 98], axis=0)
    middle, half = (high + low) / 2, max(float((high - low).max()), 1e-6) * 0.7
    return np.linspace(middle - half, middle + half, BINS + 1, axis=1)


def _frequencies(axes: Axes, xy: Places, edges: NDArray[np.float64]) -> str:
    """Draw how many cells lie in each bin, or few cells as dots; returns what the panel's heading says of it."""
    if len(xy) < FEWEST:
        _scatter(axes, xy, s=14, color="#08306B")
        return ": too few for frequencies"
    counts, _, _ = np.histogram2d(xy[:, 0], xy[:, 1], bins=(edges[0], edges[1]))
    smooth = gaussian_filter(counts.T, SMOOTHING, mode="constant")  # a row a step of y
    top = float(smooth.max())
    fading = np.clip(smooth / (0.15 * top or 1), 0, 1)  # clear where there is next to nothing
    extent = (edges[0, 0], edges[0, -1], edges[1, 0], edges[1, -1])
    look: dict[str, Any] = {"cmap": FREQUENCIES, "vmin": 0, "vmax": top, "interpolation": "bilinear", "zorder": 2}
    axes.imshow(smooth, extent=extent, origin="lower", alpha=fading, **look)
    return f"; peak {top:.2g} cells a bin"


def _counted(number: int, noun: str) -> str:
    """
    >>> _counted(1, "cell"), _counted(1200, "cell")
    ('1 cell', '1,200 cells')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
