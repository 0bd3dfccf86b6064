"""What a recount changes, as a picture: the count of each sample before and after, those that cross the cut-off named."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from ctcml.pictures import STYLE, put_head, save_figure, stamps

MOST = 40  # samples in the picture; the table has them all
BEFORE, AFTER, QUIET = "#0072B2", "#D55E00", "#9A9A9A"
TICKS = (0, 1, 2, 3, 5, 10, 20, 50, *(step * 10**power for power in (2, 3, 4) for step in (1, 3)))
NAMED = 10  # characters of a pseudonym, enough to find it in the table


def changes_plot(changes: pd.DataFrame, path: Path, *, simulated: bool, title: str = "Recount") -> None:
    """Draw a table of `recounting.changes`: flips first, then the samples that moved most, never one that did not move."""
    both = changes[changes["per_7_5_ml_before"].notna() & changes["per_7_5_ml_after"].notna()]
    moved = both[both["flips"] | (both["per_7_5_ml_before"] != both["per_7_5_ml_after"])]
    shown = moved.head(MOST)
    flips = int(both["flips"].sum())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.9 + 0.21 * max(len(shown), 3)), layout="constrained")
        axes = figure.subplots()
        for place, one in enumerate(shown.to_dict("records")):
            _sample(axes, place, one)
        axes.set_yticks(range(len(shown)), [_name(one) for one in shown.to_dict("records")], fontsize=7)
        for label, one in zip(axes.get_yticklabels(), shown["flips"], strict=True):
            label.set(color="black" if one else QUIET, fontweight="bold" if one else "normal")
        axes.set(ylim=(max(len(shown), 1) - 0.4, -0.6), xlabel="CTC per 7.5 ml, by the most probable class")
        axes.set_xscale("symlog", linthresh=10, linscale=1.2)
        highest = float(shown[["per_7_5_ml_before", "per_7_5_ml_after", "cutoff"]].max().max()) if len(shown) else 10.0
        axes.set_xlim(-0.3, highest * 1.1 + 0.5)
        ticks = [tick for tick in TICKS if tick <= highest]
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        if not len(shown):
            axes.text(0.5, 0.5, "no count differs", transform=axes.transAxes, ha="center", color=QUIET)
        figure.legend(handles=_signs(), loc="outside lower left", ncols=4, fontsize=8)
        exploratory = bool((shown["exploratory"] & shown["cutoff"].notna()).any())
        remarks = [*stamps(simulated, exploratory=exploratory), _in_words(len(both), len(moved), flips, len(shown))]
        put_head(figure, title, remarks)
        save_figure(figure, path)


def _sample(axes: Axes, place: int, one: dict[str, Any]) -> None:
    before, after = one["per_7_5_ml_before"], one["per_7_5_ml_after"]
    axes.plot(
        [before, after], [place, place], color="black" if one["flips"] else QUIET, lw=1.6 if one["flips"] else 0.9
    )
    axes.plot(before, place, "o", ms=5, mfc="white", mec=BEFORE)
    axes.plot(after, place, "o", ms=5, color=AFTER)
    if pd.notna(one["cutoff"]):
        axes.plot(one["cutoff"], place, "|", ms=11, color="black")


def _name(one: dict[str, Any]) -> str:
    flips = "FLIPS  " if one["flips"] else ""
    return f"{flips}{str(one['patient_uid'])[:NAMED]} · {str(one['sample_uid'])[:NAMED]} ({one['cancer_type']})"


def _signs() -> list[Line2D]:
    return [
        Line2D([], [], marker="o", ls="", mfc="white", mec=BEFORE, label="before"),
        Line2D([], [], marker="o", ls="", color=AFTER, label="after"),
        Line2D([], [], marker="|", ls="", ms=11, color="black", label="cut-off"),
        Line2D([], [], color="black", lw=1.6, label="crosses it"),
    ]


def _in_words(samples: int, moved: int, flips: int, shown: int) -> str:
    rest = f"; {shown} are shown, the table has all" if shown < moved else ""
    return f"{samples} samples: {flips} cross the cut-off, {moved - flips} change on their side{rest}"
