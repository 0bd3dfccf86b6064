"""Plots and contact sheets as files: confusion and mistakes, galleries; and the style of all pictures.

Everything drawn was computed elsewhere; simulated data and exploratory cut-offs are stamped so in the picture itself.
PNG or SVG by the ending of the path; the same input gives the same bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ctcml.errors import BadInput
from ctcml.images import contact_sheet
from ctcml.tables import atomic_path

# Okabe and Ito's palette, told apart by colour-blind readers; a class keeps its colour for good.
CLASS_COLOURS = {
    "ctc": "#D55E00",
    "tdev": "#E69F00",
    "wbc": "#0072B2",
    "bare_nucleus": "#56B4E9",
    "other": "#7F7F7F",
    "cd45ev": "#009E73",
}
FURTHER_COLOURS = ("#CC79A7", "#B8A900", "#5E3C99", "#8C510A", "#1B1B1B")
ARM_COLOURS = ("#0072B2", "#D55E00")

STYLE: dict[Any, Any] = {  # Any: matplotlib spells out all its keys as the type
    "font.family": "DejaVu Sans", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "svg.hashsalt": "ctcml", "svg.fonttype": "path", "legend.frameon": False,
}  # fmt: skip


def confusion_plot(scorecard: Mapping[str, Any], path: Path, *, simulated: bool, title: str = "Confusion") -> None:
    """Draw the confusion of a score card (`Scorecard.to_dict`): a row a true class, counts and shares of the row."""
    cells = np.asarray(scorecard["confusion"], dtype=float)
    rows, columns = list(scorecard["true_classes"]), list(scorecard["predicted_classes"])
    totals = cells.sum(axis=1, keepdims=True)
    shares = np.divide(cells, totals, out=np.zeros_like(cells), where=totals > 0)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.9 + 0.95 * len(columns), 1.9 + 0.62 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
        for row, column in np.ndindex(*cells.shape):
            if cells[row, column]:
                ink = "white" if shares[row, column] > 0.6 else "black"
                text = f"{cells[row, column]:,.0f}\n{_percent(shares[row, column])}"
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
        axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_yticks(
            range(len(rows)), [_row_name(name, name in columns, n) for name, n in zip(rows, totals, strict=True)]
        )
        axes.set(xlabel="Called by the model", ylabel="Settled label (cells)")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        put_head(figure, title, [*stamps(simulated), _accuracy(scorecard)])
        save_figure(figure, path)


def mistakes_plot(
    evaluation: Mapping[str, Any], path: Path, *, simulated: bool, title: str = "Missed and false CTCs"
) -> None:
    """Draw the mistakes of an evaluation report as two tables: by cancer type, and by the probability of being a CTC."""
    above = "probability above\n" + " / ".join(f"{threshold:g}" for threshold in evaluation["thresholds"])
    detail = ["CTCs that were missed", above, "called", "other cells called CTC", above, "labelled"]
    of_types = [["cancer type", "patients", "cells called wrongly", *detail]] + [
        [
            one["cancer_type"],
            f"{one['patients']:,}",
            _share(one["wrong"]),
            *_detail(one["missed"]),
            *_detail(one["false"]),
        ]
        for one in evaluation["by_cancer_type"]
    ]
    of_bins = [["p(CTC)", "CTCs", "missed", "other cells", "called CTC"]] + [
        [
            f"{one['low']:.1f} to {one['high']:.1f}",
            *(f"{one[name]:,}" for name in ("ctc", "missed", "not_ctc", "false")),
        ]
        for one in evaluation["by_probability"]
    ]
    with mpl.rc_context(STYLE):
        figure = Figure(layout="constrained")
        axes = figure.subplots()
        right, middle = _table(axes, of_types, top=0)
        _, bottom = _table(axes, of_bins, top=middle + 2)
        axes.set(xlim=(-1, right), ylim=(bottom + 1, 0))
        axes.set_axis_off()
        figure.set_size_inches(0.072 * right, 0.17 * bottom + 0.8)
        put_head(
            figure, title, [*stamps(simulated), "intervals over patients; none where one patient alone has such cells"]
        )
        save_figure(figure, path)


def gallery(
    overlays: Sequence[NDArray[np.uint8]],
    captions: Sequence[str],
    path: Path,
    *,
    columns: int,
    title: str,
    simulated: bool,
) -> None:
    """Write a contact sheet of overlays (h, w, 3) with a caption each, under one title.

    Raises `BadInput` without any overlay or with another number of captions.
    """
    if not overlays:
        raise BadInput(f"gallery {title!r}: there is no thumbnail to show; choose cells first")
    sheet = contact_sheet(overlays, columns=min(columns, len(overlays)), captions=captions)
    height, width = sheet.shape[:2]
    dpi, head = 100, 54
    wide = max(width, 420)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(wide / dpi, (height + head) / dpi), dpi=dpi)
        figure.figimage(sheet, 0, 0)
        figure.text(8 / wide, 1 - 8 / (height + head), title, va="top", fontsize=11, weight="bold")
        below = "   ".join(["R CD45 · G cytokeratin · B DAPI", *stamps(simulated)])
        figure.text(8 / wide, 1 - 30 / (height + head), below, va="top", fontsize=8, color="#444444")
        save_figure(figure, path, dpi=dpi)


def class_colours(class_ids: Iterable[str]) -> dict[str, str]:
    """Give each class a colour: fixed for the known ones, from the further ones in order of name for new ones.

    >>> class_colours(["wbc", "ctc", "platelet"])
    {'ctc': '#D55E00', 'platelet': '#CC79A7', 'wbc': '#0072B2'}
    """
    names = sorted(set(class_ids))
    new = [name for name in names if name not in CLASS_COLOURS]
    further = {name: FURTHER_COLOURS[at % len(FURTHER_COLOURS)] for at, name in enumerate(new)}
    return {name: {**CLASS_COLOURS, **further}[name] for name in names}


def p_words(p: float) -> str:
    """Write a p value as journals do.

    >>> p_words(1.75e-06), p_words(0.0312), p_words(0.4)
    ('p < 0.001', 'p = 0.031', 'p = 0.40')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "< 1%"


def _row_name(name: str, known: bool, total: NDArray[Any]) -> str:
    return f"{name} ({total.item():,.0f})" if known else f"{name}, unknown to the model ({total.item():,.0f})"


def _accuracy(scorecard: Mapping[str, Any]) -> str:
    figure = scorecard["accuracy"]
    return (
        f"accuracy {figure['value']:.1%} (95% CI {figure['low']:.1%} to {figure['high']:.1%}), n = {scorecard['n']:,}"
    )


def _share(one: Mapping[str, Any]) -> str:
    """Mistakes and their share, on a second line its interval where there is one."""
    if one["cells"] == 0:
        return "none there"
    share = f"{one['mistakes']:,} of {one['cells']:,} ({one['mistakes'] / one['cells']:.1%})"
    return share if one["low"] is None else f"{share}\n95% CI {one['low']:.1%} to {one['high']:.1%}"


def _detail(one: Mapping[str, Any]) -> list[str]:
    if one["mistakes"] == 0:
        return [_share(one), "", ""]
    classes = "\n".join(f"{name} {number:,}" for name, number in one["classes"].items())
    return [_share(one), " / ".join(f"{number:,}" for number in one["above"]), classes]


def _table(axes: Axes, rows: Sequence[Sequence[str]], *, top: float) -> tuple[float, float]:
    """Write a table, its header first, into axes whose units are a character and a line; returns its right and bottom."""
    columns = list(zip(*rows, strict=True))
    widths = [max(len(line) for cell in column for line in cell.split("\n")) + 3 for column in columns]
    lefts = np.cumsum([0, *widths])
    for at, row in enumerate(rows):
        for cell, left in zip(row, lefts, strict=False):
            axes.text(left, top + 0.35, cell, va="top", fontsize=8, weight="bold" if at == 0 else "normal")
        top += max(cell.count("\n") + 1 for cell in row) + 0.6
        axes.plot([0, lefts[-1]], [top, top], color="#B0B0B0", linewidth=0.6)
    return float(lefts[-1]), top


def stamps(simulated: bool, *, exploratory: bool = False) -> list[str]:
    return ["SIMULATED DATA"] * simulated + ["EXPLORATORY, research only"] * exploratory


def put_head(figure: Figure, title: str, remarks: Sequence[str]) -> None:
    below = f"\n{' · '.join(remarks)}" if remarks else ""
    figure.suptitle(f"{title}{below}", x=0.02, ha="left", fontsize=10)


def save_figure(figure: Figure, path: Path, *, dpi: int = 150) -> None:
    """Write PNG or SVG by the ending of the path, without a date, atomically."""
    kind = path.suffix.lstrip(".").lower()
    if kind not in {"png", "svg"}:
        raise BadInput(f"{path.name}: pictures are written as .png or .svg, found {path.suffix!r}; rename it")
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with atomic_path(path) as unfinished:
        figure.savefig(unfinished, format=kind, dpi=dpi, metadata=metadata)
