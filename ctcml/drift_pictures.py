"""Pictures of drift: each instrument's samples in order of time, what moved in the channels, and the random arm round by round."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ctcml.pictures import STYLE, put_head, save_figure, stamps

COLOURS = {"latents": "#0072B2", "appearance": "#E69F00", "intensity": "#009E73"}
PLANE_COLOURS = {"cd45_level": "#CC79A7", "dapi_level": "#56B4E9", "ck_level": "#D55E00"}
PLANE_NAMES = {"cd45_level": "CD45", "dapi_level": "DAPI", "ck_level": "CK"}
ALARM, LEARNT = "#D55E00", "#B0B0B0"
RUNNING = 7  # samples of the running median that is drawn through the levels


def draw_drift(table: pd.DataFrame, report: Mapping[str, Any], folder: Path) -> None:
    """Draw `samples`, and `random-arm` once a round of it is settled, each as SVG and PNG; without judged samples nothing."""
    drawn = {}
    with mpl.rc_context(STYLE):
        if table["departure"].notna().any():
            drawn["samples"] = samples_plot(table, report)
        if report["random_arm"]["rounds"]:
            drawn["random-arm"] = random_arm_plot(report)
        for name, figure in drawn.items():
            for ending in ("svg", "png"):
                save_figure(figure, folder / f"{name}.{ending}")


def samples_plot(table: pd.DataFrame, report: Mapping[str, Any]) -> Figure:
    """Draw a row an instrument: departures with the bound, the channels' levels, and the martingale on a log scale."""
    names = [
        name for name in report["instruments"] if table.loc[table["instrument"] == name, "departure"].notna().any()
    ]
    figure = Figure(figsize=(12.0, 0.9 + 2.7 * len(names)), layout="constrained")
    for axes, name in zip(figure.subplots(len(names), 3, squeeze=False), names, strict=True):
        rows = table[(table["instrument"] == name) & table["departure"].notna()].sort_values("place")
        told = report["instruments"][name]
        _departures(axes[0], rows, name, told)
        _levels(axes[1], rows)
        _martingale(axes[2], rows, told)
    for axes in figure.axes[-3:]:
        axes.set_xlabel(f"Sample, in order of {report['instruments'][names[-1]]['order']}")
    alarming = sum(one["alarm"] for one in report["instruments"].values())
    verdict = f"{alarming} of {len(names)} instruments alarm" if alarming else "no instrument alarms"
    remarks = [
        *stamps(report["simulated"]),
        f"bound for {report['rate']:.0%} of undrifted samples; {report['usual_from']}",
    ]
    put_head(figure, f"Samples beside the training cells: {verdict}", remarks)
    return figure


def _departures(axes: Axes, rows: pd.DataFrame, name: str, told: Mapping[str, Any]) -> None:
    for measure, colour in COLOURS.items():
        mine = rows[rows["strongest"] == measure]
        for drifts, of_kind in mine.groupby("drifts"):
            face = colour if drifts else "none"
            axes.scatter(of_kind["place"] + 1, of_kind["departure"], s=16, color=colour, facecolor=face, linewidth=0.9)
        axes.scatter([], [], s=16, color=colour, label=measure)
    axes.axhline(1, color=ALARM, linewidth=0.9)
    axes.annotate("bound", (1, 1), xycoords=("axes fraction", "data"), fontsize=7, va="bottom", ha="right", color=ALARM)
    axes.set(ylabel="Departure (0 usual, 1 bound)", ylim=(min(-1.5, rows["departure"].min()), None))
    alarm = " · ALARM" if told["alarm"] else ""
    beyond = f"{told['latest_drifting']} of the last {told['latest']} beyond, chance gives ≤ {told['most_by_chance']}"
    axes.set_title(f"{name}{alarm}\n{beyond}", fontsize=9, loc="left", color=ALARM if told["alarm"] else "black")
    axes.legend(
        fontsize=7,
        loc="lower left",
        ncols=3,
        handletextpad=0.1,
        title="strongest in (filled: beyond the bound)",
        title_fontsize=7,
        alignment="left",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _levels(axes: Axes, rows: pd.DataFrame) -> None:
    """The median rank of each tube's cells among the reference's, a dot a tube, and a running median."""
    for level, colour in PLANE_COLOURS.items():
        axes.scatter(rows["place"] + 1, rows[level], s=7, color=colour, alpha=0.5, linewidth=0)
        running = rows[level].rolling(RUNNING, min_periods=3, center=True).median()
        axes.plot(rows["place"] + 1, running, color=colour, linewidth=1.4, label=PLANE_NAMES[level])
    axes.axhline(0.5, color="#B0B0B0", linewidth=0.8)
    axes.set(ylim=(0, 1), ylabel="Median rank in its class")
    axes.set_title("Channel intensities: 0.5 is usual", fontsize=9, loc="left")
    axes.legend(fontsize=7, ncols=3, loc="lower left", handlelength=1.2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _martingale(axes: Axes, rows: pd.DataFrame, told: Mapping[str, Any]) -> None:
    axes.plot(rows["place"] + 1, rows["martingale"], color="#333333", linewidth=1.4)
    axes.axhline(told["bound"], color=ALARM, linewidth=0.9)
    axes.annotate(
        "bound",
        (1, told["bound"]),
        xycoords=("axes fraction", "data"),
        fontsize=7,
        va="bottom",
        ha="right",
        color=ALARM,
    )
    lowest, highest = float(rows["martingale"].min()), float(rows["martingale"].max())
    axes.set(
        yscale="log", ylim=(min(0.03, lowest / 2), max(3 * told["bound"], 3 * highest)), ylabel="Capital against it"
    )
    axes.set_title("Exchangeable over time?", fontsize=9, loc="left")
    axes.minorticks_off()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def random_arm_plot(report: Mapping[str, Any]) -> Figure:
    """Draw the champion's error on each round's random cells with its interval, and the band of that on steering cells."""
    arm = report["random_arm"]
    rounds, beside = arm["rounds"], arm["steering"]
    figure = Figure(figsize=(max(4.8, 1.8 + 0.8 * len(rounds)), 3.8), layout="constrained")
    axes = figure.subplots()
    if beside["cells"]:
        axes.axhspan(beside["low"], beside["high"], color="#0072B2", alpha=0.12, linewidth=0)
        axes.axhline(beside["error"], color="#0072B2", linewidth=0.9, label=f"steering, {beside['cells']} cells")
    for learnt, label, colour in ((True, "settled before its training", LEARNT), (False, "settled since", "black")):
        places = [at for at, one in enumerate(rounds) if one["learnt"] == learnt]
        if places:
            middle = np.array([rounds[at]["error"] for at in places])
            reach = [np.abs(np.array([rounds[at][end] for at in places]) - middle) for end in ("low", "high")]
            axes.errorbar(places, middle, reach, fmt="o", color=colour, capsize=3, label=label)
    names = [
        f"{one['occasion']}\n{one['wrong']} of {one['cells']}"
        + f"\n({one['unknown']} of a class\nit does not know)" * bool(one["unknown"])
        for one in rounds
    ]
    axes.set_xticks(range(len(rounds)), names)
    axes.set(xlim=(-0.6, len(rounds) - 0.4), ylim=(0, None), ylabel="Cells called wrongly")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(fontsize=8, loc="upper left")
    alarm = " · ALARM" if arm["alarm"] else ""
    put_head(
        figure,
        f"The champion on the standing random arm{alarm}",
        [*stamps(report["simulated"]), "95 % intervals over patients"],
    )
    return figure
