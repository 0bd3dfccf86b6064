"""The pictures of the paper's experiment that nothing else draws: reconstructions, thresholds of two networks, CTCs by cancer type."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from ctcml.map_pictures import GROUP_COLOURS
from ctcml.model import AECNN
from ctcml.pictures import STYLE, class_colours, put_head, save_figure, stamps

OF_NETWORK = {"standard": ("standard CNN", "#0072B2", "s", "--"), "autoencoder": ("AE-CNN", "#D55E00", "o", "-")}
OF_THRESHOLD = {"sensitivity": "CTC sensitivity", "precision": "CTC precision", "kept": "Cells decided"}
PER_CLASS = 6  # reconstructions shown a class
MIDDLE = slice(12, 68)  # pixels shown of a thumbnail of 80

Places = NDArray[Any]  # (N, 2)


def rebuilt_plot(
    model: AECNN, images: NDArray[np.uint8], class_ids: Sequence[str], path: Path, *, simulated: bool, title: str
) -> None:
    """Draw thumbnails of each class above what the network rebuilds from their 50 latents."""
    names = np.asarray(class_ids)
    order = list(class_colours(set(class_ids)))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.3 + 0.75 * PER_CLASS, 0.7 + 1.75 * len(order)), layout="constrained")
        for axes, name in zip(figure.subplots(len(order), 1, squeeze=False)[:, 0], order, strict=True):
            axes.imshow(_rebuilt(model, images[np.flatnonzero(names == name)[:PER_CLASS]]))
            axes.set_title(name.replace("_", " "), fontsize=9, loc="left")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        put_head(figure, title, [*stamps(simulated), "R CD45 · G cytokeratin · B DAPI"])
        save_figure(figure, path)


@torch.inference_mode()
def _rebuilt(model: AECNN, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Overlays (2 H, PER_CLASS W, 3): inputs above reconstructions, white places where there are fewer."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    model.eval()
    both = torch.stack([x, model(x)[2]])[:, :, [0, 2, 1], MIDDLE, MIDDLE]  # red CD45, green CK, blue DAPI
    side = MIDDLE.stop - MIDDLE.start
    sheet = np.full((2 * side, PER_CLASS * side, 3), 255, np.uint8)
    for row, column in np.ndindex(2, len(images)):
        picture = both[row, column].permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()
        sheet[row * side : (row + 1) * side, column * side : (column + 1) * side] = picture
    return sheet


def two_thresholds_plot(thresholds: Mapping[str, Any], path: Path, *, simulated: bool, title: str) -> None:
    """Draw what is left of both networks' decisions from each probability on (`paper_tables.threshold_tables`)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        panels = figure.subplots(1, 3, sharex=True)
        for axes, (name, label) in zip(panels, OF_THRESHOLD.items(), strict=True):
            for number, network in enumerate(OF_NETWORK):
                _threshold_line(axes, thresholds[network], network, name, shift=0.012 * number - 0.006)
            axes.set(xlim=(-0.03, 1), xlabel="Decisions from this probability on")
            axes.set_title(label, fontsize=9)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        put_head(figure, title, [*stamps(simulated), "bars: 95 % intervals over patients"])
        save_figure(figure, path)


def _threshold_line(axes: Axes, of_network: Mapping[str, Any], network: str, name: str, *, shift: float) -> None:
    told, colour, mark, line = OF_NETWORK[network]
    curve = [one for one in of_network["curve"] if one[name]["value"] is not None]
    values = [one[name]["value"] for one in curve]
    axes.plot([one["threshold"] for one in curve], values, color=colour, linestyle=line, label=told)
    for one in of_network["thresholds"]:
        share = one[name]
        if share["value"] is not None and share["low"] is not None:
            reach = [[max(share["value"] - share["low"], 0)], [max(share["high"] - share["value"], 0)]]
            at = one["threshold"] + shift
            axes.errorbar([at], [share["value"]], reach, fmt=mark, color=colour, markersize=4, linewidth=0.9)


def types_plot(
    xy: Places, types: Sequence[str], marked: Sequence[Places], path: Path, *, simulated: bool, title: str
) -> None:
    """Draw cells coloured by cancer type, with numbered places: a ring around each cell of a place, its number beside."""
    names = np.asarray(types)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.8), layout="constrained")
        axes = figure.subplots()
        for at, name in enumerate(sorted(set(types))):
            there = xy[names == name]
            colour = GROUP_COLOURS[at % len(GROUP_COLOURS)]
            label = f"{name} ({len(there):,})"
            axes.scatter(there[:, 0], there[:, 1], s=16, color=colour, linewidths=0, label=label, rasterized=True)
        box: dict[str, Any] = {
            "boxstyle": "square,pad=0.25",
            "facecolor": "white",
            "edgecolor": "black",
            "linewidth": 0.8,
        }
        for number, cells in enumerate(marked, start=1):
            axes.scatter(cells[:, 0], cells[:, 1], s=38, facecolors="none", edgecolors="black", linewidths=0.8)
            look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9, "weight": "bold", "bbox": box}
            axes.annotate(f"{number}", cells.mean(axis=0), (14, 14), textcoords="offset points", **look)
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.spines[:].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.2)
        put_head(figure, title, stamps(simulated))
        save_figure(figure, path)
