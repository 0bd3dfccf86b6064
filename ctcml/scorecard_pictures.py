"""Pictures of a score card: what probabilities are worth, what a threshold costs, and where the model is weak.

Everything drawn was computed in `scorecard`; every interval is drawn with its figure, and simulated data is stamped.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ctcml.pictures import STYLE, put_head, save_figure, stamps

# Okabe and Ito's palette, with a mark and a line of its own for each, so that no colour is needed to tell them apart.
BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6E6E6E"
OF_THRESHOLD = {
    "sensitivity": ("CTC sensitivity", VERMILION, "o", "-"),
    "precision": ("CTC precision", BLUE, "s", "--"),
    "specificity": ("CTC specificity", GREEN, "^", "-."),
    "kept": ("cells decided", GREY, "D", ":"),
}
OF_GROUP = {
    "accuracy": "Accuracy",
    "macro_f1": "Mean F1 of the classes",
    "ctc_sensitivity": "CTC sensitivity",
    "ctc_specificity": "CTC specificity",
}
KINDS = {"cancer_type": "Cancer type", "instrument": "Instrument", "cluster": "Look-alikes"}
LETTERS = 12.0  # of the title to an inch, with some to spare
INTERVALS = "bars: 95 % intervals over patients"


class State(NamedTuple):
    """How the bins before or after the temperature are drawn."""

    name: str
    label: str
    error: Mapping[str, Any]
    colour: str
    mark: str
    face: str


def reliability_plot(card: Mapping[str, Any], path: Path, *, simulated: bool, title: str) -> None:
    """Draw how often the model is right against how sure it is, before and after its temperature, and how many cells that is."""
    calibration = card["calibration"]
    states = [State("before", "as the network says it", calibration["ece_before"], GREY, "D", "white")]
    if calibration["temperature"] != 1:
        label = f"at temperature {calibration['temperature']:.2f}"
        states.append(State("after", label, calibration["ece_after"], BLUE, "o", BLUE))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 6.6), layout="constrained")
        axes, below = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
        axes.plot([0, 1], [0, 1], color="#B0B0B0", linewidth=1, zorder=0)
        for number, one in enumerate(states):
            _reliability(axes, calibration["bins"], one)
            _sizes(below, calibration["bins"], one, number=number, of=len(states))
        axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="Right")
        below.set(xlabel="Probability of the class that was called", ylabel="Cells")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0))
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), fontsize=8, handlelength=1.2, borderaxespad=0.2)
        chance = calibration["expected_by_chance"]
        told = (
            "Line: as often right as it says. By chance alone, with as many cells, the error would be\n"
            f"{chance['mean']:.3f}, seldom above {chance['high']:.3f}"
        )
        figure.supxlabel(told, x=0.02, ha="left", fontsize=8)
        _head(figure, title, [*stamps(simulated), f"n = {card['n']:,}", INTERVALS])
        save_figure(figure, path)


def thresholds_plot(card: Mapping[str, Any], path: Path, *, simulated: bool, title: str) -> None:
    """Draw what is left of CTC sensitivity, precision and specificity when only decisions above a probability count."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 4.8), layout="constrained")
        axes = figure.subplots()
        for number, (name, style) in enumerate(OF_THRESHOLD.items()):
            _threshold_line(axes, card, name, style, shift=0.008 * (number - (len(OF_THRESHOLD) - 1) / 2))
        for one in card["thresholds"]:
            axes.axvline(one["threshold"], color="#E0E0E0", linewidth=0.8, zorder=0)
        every = [one[name] for one in [*card["threshold_curve"], *card["thresholds"]] for name in OF_THRESHOLD]
        axes.set(xlim=(0, 1), ylim=(_floor(every), 1.02), xlabel="Probability from which a decision counts")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), fontsize=8, handlelength=3, ncols=4, borderaxespad=0.2)
        _head(figure, title, [*stamps(simulated), f"n = {card['n']:,}", INTERVALS])
        save_figure(figure, path)


def subgroups_plot(card: Mapping[str, Any], path: Path, *, simulated: bool, title: str) -> None:
    """Draw each figure of each group of cells with its interval, beside the figure of all; the weakest cluster is marked."""
    rows = [(kind, one) for kind in KINDS for one in card["by"][kind]]
    worst = card["worst_cluster"]["name"] if card["worst_cluster"] else None
    places, names = _places(rows)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 1.6 + 0.23 * max(places)), layout="constrained")
        panels = figure.subplots(1, len(OF_GROUP), sharey=True)
        low = _floor([one[name] for _, one in rows for name in OF_GROUP])
        for axes, (name, heading) in zip(panels, OF_GROUP.items(), strict=True):
            whole = card.get(name, {}).get("value")
            if whole is not None:
                axes.axvline(whole, color="#909090", linewidth=1, zorder=0)
            weak = np.array([kind == "cluster" and one["name"] == worst for kind, one in rows], dtype=bool)
            for style, chosen in (((BLUE, "o"), ~weak), ((VERMILION, "s"), weak)):
                of_style = [
                    (place, one[name]) for place, (_, one), is_so in zip(places, rows, chosen, strict=True) if is_so
                ]
                _dots(axes, of_style, *style)
            for place, (_, one) in zip(places, rows, strict=True):
                if one[name]["value"] is None:
                    axes.text(low + 0.02 * (1 - low), place, "too few", fontsize=7, color=GREY, va="center")
            axes.set_title(heading, fontsize=9, loc="left")
            axes.set(xlim=(low, 1), ylim=(max(places) + 0.7, -0.4))
            axes.xaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 2.5, 5]))
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
            axes.grid(axis="x", color="#EEEEEE", linewidth=0.8)
            axes.set_axisbelow(True)
        panels[0].set_yticks(places, names)
        for kind, heading in KINDS.items():
            first = min((place for place, (of, _) in zip(places, rows, strict=True) if of == kind), default=1.0)
            panels[0].annotate(heading, (0, first - 1), xycoords=("axes fraction", "data"), xytext=(-5, 0),
                               textcoords="offset points", ha="right", va="center", weight="bold")  # fmt: skip
        told = ["line: all cells", *(["orange square: the weakest look-alikes"] if worst else [])]
        _head(figure, title, [*stamps(simulated), INTERVALS, *told])
        save_figure(figure, path)


def _head(figure: Figure, title: str, remarks: Sequence[str]) -> None:
    """Title and remarks, broken where the picture ends."""
    wide = int(LETTERS * figure.get_figwidth())
    below = textwrap.fill(" · ".join(remarks), wide, break_long_words=False)
    put_head(figure, textwrap.fill(title, wide), [below])


def _reliability(axes: Axes, bins: Sequence[Mapping[str, Any]], state: State) -> None:
    seen = [one[state.name] for one in bins if one[state.name]["said"] is not None]
    value, low, high = (np.array([one["right"][name] for one in seen]) for name in ("value", "low", "high"))
    axes.errorbar(
        [one["said"] for one in seen], value, yerr=np.maximum([value - low, high - value], 0), color=state.colour,
        marker=state.mark, markersize=5.5, markerfacecolor=state.face, linestyle="", elinewidth=1.3, capsize=2.5,
        label=f"{state.label}: error {_figure(state.error)}", clip_on=False, zorder=3,
    )  # fmt: skip


def _sizes(axes: Axes, bins: Sequence[Mapping[str, Any]], state: State, *, number: int, of: int) -> None:
    width = 0.08 / of
    middles = [(one["low"] + one["high"]) / 2 + (number - (of - 1) / 2) * width for one in bins]
    cells = [one[state.name]["right"]["cells"] for one in bins]
    axes.bar(middles, cells, width=width, facecolor=state.face, edgecolor=state.colour, linewidth=1)


def _threshold_line(
    axes: Axes, card: Mapping[str, Any], name: str, style: tuple[str, str, str, str], *, shift: float
) -> None:
    """The curve of one figure, and at each chosen threshold its interval, a little beside those of the others."""
    label, colour, mark, line = style
    curve = [one for one in card["threshold_curve"] if one[name]["value"] is not None]
    axes.plot([one["threshold"] for one in curve], [one[name]["value"] for one in curve], color=colour, linestyle=line,
              linewidth=1.5)  # fmt: skip
    chosen = [one for one in card["thresholds"] if one[name]["value"] is not None]
    value, low, high = (np.array([one[name][each] for one in chosen]) for each in ("value", "low", "high"))
    axes.errorbar(
        [one["threshold"] + shift for one in chosen], value, yerr=np.maximum([value - low, high - value], 0), color=colour,
        linestyle=line, marker=mark, markersize=5, elinewidth=1.3, capsize=2.5, linewidth=0, zorder=3,
    )  # fmt: skip
    axes.plot([], [], color=colour, linestyle=line, marker=mark, markersize=5, label=label)


def _floor(figures: Sequence[Mapping[str, Any]]) -> float:
    """The tenth below the lowest end of an interval, so that figures near 1 are told apart."""
    known = [one["low"] if one["low"] is not None else one["value"] for one in figures if one["value"] is not None]
    return max(0.0, math.floor(10 * min(known, default=0.0) - 0.01) / 10)


def _places(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[list[float], list[str]]:
    """The height of each group, with room for a heading above each kind, and its name with the number of its cells."""
    kinds = [kind for kind, _ in rows]
    begins = np.array([at == 0 or kind != kinds[at - 1] for at, kind in enumerate(kinds)])
    places = np.arange(len(rows)) + 1.5 * np.cumsum(begins) - 0.5
    return places.tolist(), [f"{one['name']} ({one['cells']:,})" for _, one in rows]


def _dots(axes: Axes, figures: Sequence[tuple[float, Mapping[str, Any]]], colour: str, mark: str) -> None:
    """Figures with their intervals at the heights given; those that are not known are left out."""
    known = [(place, one) for place, one in figures if one["value"] is not None]
    bars = [(place, one["low"], one["high"]) for place, one in known if one["low"] is not None]
    if not known:
        return  # the layout takes a line without a point for one without an end
    if bars:
        axes.hlines(*zip(*bars, strict=True), color=colour, linewidth=1.5)
    axes.plot([one["value"] for _, one in known], [place for place, _ in known], marker=mark, markersize=5.5, color=colour,
              linestyle="", clip_on=False, zorder=3)  # fmt: skip


def _figure(one: Mapping[str, Any]) -> str:
    interval = f" ({one['low']:.3f} to {one['high']:.3f})" if one["low"] is not None else ""
    return f"{one['value']:.3f}{interval}"
