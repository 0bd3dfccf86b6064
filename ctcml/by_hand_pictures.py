"""Pictures of counts by hand beside counts by the model: tubes as the paper's Supplementary Fig. 3, their ratios after Bland
and Altman, and sheets of the cells that only one of the two calls a CTC."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ctcml.by_hand import EVALUATION, HAND, MODEL, OPERATOR, TRAINING
from ctcml.pictures import STYLE, gallery, put_head, save_figure, stamps
from ctcml.shards import read_overlays

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#1B1B1B")  # Okabe and Ito
SIGNS = ("o", "s", "^", "D", "v", "P", "X")  # so that cancer types differ without colour too
TICKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100)
LINE = "#444444"
COLUMNS = 10
TITLES = {
    (OPERATOR, MODEL): "Called CTC by the model, not by the operator",
    (OPERATOR, HAND): "Called CTC by the operator, not by the model",
    (EVALUATION, MODEL): "Steering patients: called CTC by the model, settled as something else by readers",
    (EVALUATION, HAND): "Steering patients: settled as CTC by readers, called something else by the model",
    (TRAINING, MODEL): "Training cells: called CTC by the model, labelled as something else",
    (TRAINING, HAND): "Training cells: labelled CTC, called something else by the model",
}


def tubes_plot(compared: pd.DataFrame, report: Mapping[str, Any], path: Path, *, simulated: bool) -> None:
    """Draw `tables.BY_HAND_SAMPLES` twice: manual against model with the cut-offs, and ratio against mean with the limits."""
    figures = report["tubes"][0]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.0, 5.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        marks = _points(left, right, compared)
        _counts(left, compared)
        _limits(right, compared, figures)
        if compared["changes_side"].any():
            marks.append(_mark("none", "o", "changes side of the cut-off", edge="black", size=9))
        figure.legend(handles=marks, loc="outside lower left", ncols=6, fontsize=8, handletextpad=0.2)
        exploratory = bool((compared["exploratory"] & compared["cutoff"].notna()).any())
        told = [*stamps(simulated, exploratory=exploratory), _in_words(figures)]
        put_head(figure, "CTCs per 7.5 ml by hand and by the model", told)
        save_figure(figure, path)


def _points(left: Axes, right: Axes, compared: pd.DataFrame) -> list[Line2D]:
    manual, model = np.log1p(compared["manual"]), np.log1p(compared["model"])
    # Counts are whole numbers, so that points would hide each other; half a character to the side hides nothing.
    shift = np.random.default_rng(0).uniform(-0.045, 0.045, (2, len(compared)))
    across, up = manual + shift[0], model + shift[1]
    marks = []
    for place, (name, rows) in enumerate(compared.groupby("cancer_type", sort=True)):
        colour, sign = COLOURS[place % len(COLOURS)], SIGNS[place % len(SIGNS)]
        style: dict[str, Any] = {"ls": "", "marker": sign, "ms": 4.5, "mfc": colour, "mec": "white", "mew": 0.4}
        left.plot(across[rows.index], up[rows.index], alpha=0.85, **style)
        right.plot(((manual + model) / 2)[rows.index], (up - across)[rows.index], alpha=0.85, **style)
        marks.append(_mark(colour, sign, f"{name} ({len(rows)})"))
    flips = compared.index[compared["changes_side"]]
    ring: dict[str, Any] = {"ls": "", "marker": "o", "ms": 9, "mfc": "none", "mec": "black", "mew": 0.9}
    left.plot(across[flips], up[flips], **ring)
    right.plot(((manual + model) / 2)[flips], (up - across)[flips], **ring)
    return marks


def _mark(face: str, sign: str, label: str, *, edge: str = "white", size: float = 6) -> Line2D:
    return Line2D([], [], ls="", marker=sign, mfc=face, mec=edge, ms=size, label=label)


def _counts(axes: Axes, compared: pd.DataFrame) -> None:
    highest = float(np.log1p(compared[["manual", "model"]].max().max())) if len(compared) else 2.0
    ends = (-0.25, max(highest, 2.0) * 1.06)
    axes.plot(ends, ends, color=LINE, lw=0.9, zorder=0)
    for (cutoff, exploratory), rows in compared[compared["cutoff"].notna()].groupby(["cutoff", "exploratory"]):
        at = float(np.log1p(cutoff))
        for line in (axes.axvline, axes.axhline):
            line(at, color=LINE, lw=0.8, ls=":" if exploratory else "--", zorder=0)
        whose = ", ".join(sorted(set(rows["cancer_type"]))) + ("; exploratory" if exploratory else "")
        # Two kinds of cut-off may be the same number: one is named on either side of the line.
        aside: dict[str, Any] = {"va": "bottom", "rotation": 90, "ha": "left" if exploratory else "right"}
        axes.annotate(f" {cutoff:g} ({whose})", (at, ends[0]), fontsize=7, color=LINE, **aside)
    places = [(np.log1p(tick), f"{tick:,}") for tick in TICKS if np.log1p(tick) <= ends[1]]
    axes.set_xticks([at for at, _ in places], [name for _, name in places])
    axes.set_yticks([at for at, _ in places], [name for _, name in places])
    axes.set(xlim=ends, ylim=ends, xlabel="By hand, at the time", ylabel="By the model", aspect="equal")
    axes.set_title("Each tube (line: equal counts; dashed: cut-offs)", fontsize=9, loc="left")


def _limits(axes: Axes, compared: pd.DataFrame, figures: Mapping[str, Any]) -> None:
    """Ratios on a log scale over the mean of the two counts, with the bias and limits of first tubes and their intervals."""
    axes.axhline(0, color="#B0B0B0", lw=0.8, zorder=0)
    reached = [np.log(2.2)]
    for name, label in (("bias", "typical ratio"), ("lower", "lower limit"), ("upper", "upper limit")):
        one = figures[name]
        if one["value"] is None:
            continue
        at, low, high = (float(np.log(one[part])) for part in ("value", "low", "high"))
        axes.axhspan(low, high, color=COLOURS[0], alpha=0.13, lw=0)
        axes.axhline(at, color=COLOURS[0], lw=1.2, ls="-" if name == "bias" else "--")
        told = f"{label} {one['value']:.2f} ({one['low']:.2f} to {one['high']:.2f})"
        where: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
        axes.annotate(told, (1, high), fontsize=8, color=COLOURS[0], **where)
        reached += [abs(low), abs(high)]
    apart = np.log1p(compared["model"]) - np.log1p(compared["manual"])
    furthest = max([*reached, *apart.abs()])
    shown = [one for one in RATIOS if abs(np.log(one)) <= furthest * 1.1]
    axes.set_yticks([float(np.log(one)) for one in shown], [f"{one:g}" for one in shown])
    highest = float(np.log1p(compared[["manual", "model"]].max().max())) if len(compared) else 2.0
    places = [(np.log1p(tick), f"{tick:,}") for tick in TICKS if np.log1p(tick) <= highest * 1.06]
    axes.set_xticks([at for at, _ in places], [name for _, name in places])
    axes.set(ylim=(-furthest * 1.1, furthest * 1.1), xlabel="Mean of the two counts (on the log scale)")
    axes.set_ylabel("Ratio (1 + model) / (1 + by hand)")
    axes.set_title("Bland–Altman: 95 % of ratios between the limits (bands: 95 % CI)", fontsize=9, loc="left")


def _in_words(figures: Mapping[str, Any]) -> str:
    lin = figures["concordance"]
    between = "" if lin["low"] is None else f" (95% CI {lin['low']:.2f} to {lin['high']:.2f})"
    told = "" if lin["value"] is None else f"; Lin's concordance {lin['value']:.2f}{between}"
    return f"{figures['changes']} of {figures['with_cutoff']} patients change side{told}"


def draw_galleries(
    cells: pd.DataFrame, shards: Path, folder: Path, *, most: int, simulated: bool
) -> list[dict[str, Any]]:
    """Draw what only one of the two calls a CTC, at most so many cells a sheet; says of each sheet what it shows.

    The model's own come with the surest first; those that it does not call a CTC with the clearest disagreement first.
    """
    chosen = {}
    for (hand, called_by), title in TITLES.items():
        rows = cells[(cells["hand"] == hand) & (cells["called_by"] == called_by)]
        rows = rows.sort_values(["p_ctc", "cell_uid"], ascending=[called_by == HAND, True])
        if len(rows):
            chosen[hand, called_by] = title, rows.head(most), len(rows)
    if not chosen:
        return []
    shown = pd.concat([rows for _, rows, _ in chosen.values()])
    tiles = read_overlays(shards, shown.drop_duplicates("cell_uid"))
    told = []
    for (hand, called_by), (title, rows, total) in chosen.items():
        name = f"{hand}-{called_by}-only.png"
        order = "clearest" if called_by == HAND else "surest"
        gallery(
            [tiles[uid] for uid in rows["cell_uid"]],
            [_caption(one, called_by) for one in rows.to_dict("records")],
            folder / name,
            columns=COLUMNS,
            title=f"{title}: {len(rows)} of {total:,} cells, {order} first",
            simulated=simulated,
        )
        told.append({"hand": hand, "called_by": called_by, "picture": name, "title": title, "shown": len(rows), "total": total})  # fmt: skip
    return told


def _caption(one: Mapping[str, Any], called_by: str) -> str:
    """What the other one says it is, and the model's probability that it is a CTC."""
    other = one["predicted"] if called_by == HAND else one["read_as"] or "not CTC"
    return f"p(CTC) {one['p_ctc']:.2f} · {other}"
