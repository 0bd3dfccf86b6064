"""Pictures of subclasses: a contact sheet of each, where they lie on the map (the paper's Fig. 2d), and their hazard ratios."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from ctcml.map_pictures import map_plot
from ctcml.pictures import STYLE, gallery, p_words, put_head, save_figure, stamps
from ctcml.shards import read_overlays
from ctcml.subclasses import Found, exemplars_of

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#1B1B1B",
    "#8C510A",
)  # Okabe and Ito, and two more
TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10)
FARTHEST = (0.05, 20.0)  # hazard ratios that are drawn; limits beyond are cut off
COLUMNS = 12


def draw_sheets(
    found: Found, shards: Path, folder: Path, *, most: int, simulated: bool, rng: np.random.Generator
) -> dict[int, str]:
    """Draw the contact sheet of each subclass; returns the names of the pictures."""
    chosen = {one["subclass"]: exemplars_of(found.cells, one["subclass"], most, rng) for one in found.subclasses}
    if not chosen:
        return {}
    tiles = read_overlays(shards, pd.concat([rows for kinds in chosen.values() for rows in kinds.values()]))
    names = {}
    for one in found.subclasses:
        number, kinds = one["subclass"], chosen[one["subclass"]]
        names[number] = f"{found.class_id}-{number}.png"
        gallery(
            [tiles[uid] for rows in kinds.values() for uid in rows["cell_uid"]],
            [f"{kind} · p {p:.2f}" for kind, rows in kinds.items() for p in rows["p_class"]],
            folder / names[number],
            columns=COLUMNS,
            title=f"{one['name']}: {one['cells']:,} cells of {one['patients']:,} patients · {in_words(one)} · exploratory",
            simulated=simulated,
        )
    return names


def in_words(one: Mapping[str, Any]) -> str:
    """Staining and looks of a subclass in one phrase.

    >>> in_words({"profile": "CD45 -, DAPI -, CK +", "looks": "larger"}), in_words({"profile": "CK +", "looks": ""})
    ('CD45 -, DAPI -, CK +; larger', 'CK +')
    """
    return f"{one['profile']}; {one['looks']}" if one["looks"] else str(one["profile"])


def draw_map(found: Found, places: pd.DataFrame, path: Path, *, kind: str, simulated: bool) -> None:
    """Draw the subclasses over all cells on a flat map; `places` is `tables.MAP`, `kind` tsne or umap."""
    of_cell = places["cell_uid"].map(found.cells.set_index("cell_uid")["subclass"])
    names = {
        one["subclass"]: f"{one['name']}: {one['looks'].split(', ')[0] or one['profile']}" for one in found.subclasses
    }
    map_plot(
        places[[f"{kind}_x", f"{kind}_y"]].to_numpy(),
        [names.get(number, "other classes") for number in of_cell],
        path,
        simulated=simulated,
        title=f"Subclasses of {found.class_id} on the latent map, exploratory",
        rest="other classes",
        colours={name: COLOURS[(number - 1) % len(COLOURS)] for number, name in names.items()},
    )


def hazards_plot(reports: Sequence[Mapping[str, Any]], path: Path, *, endpoint: str, simulated: bool) -> None:
    """Draw the hazard ratio per unit of ln(1 + count) of each subclass with its 95 % interval, or why there is none."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 1.9 + 0.36 * len(reports)), layout="constrained")
        axes = figure.subplots()
        reached = [1.0]
        for place, one in enumerate(reports):
            fit = one["cox_log_count"]
            if not fit:
                axes.annotate(
                    "no hazard ratio; the report says why", (1, place), fontsize=8, va="center", color="#777777"
                )
                continue
            low, high = np.clip([fit["low"], fit["high"]], *FARTHEST).tolist()
            axes.plot([low, high], [place, place], color="#0072B2", lw=1.4)
            axes.plot(fit["hr"], place, "s", color="#0072B2", ms=5)
            told = f"{fit['hr']:.2f} ({fit['low']:.2f} to {fit['high']:.2f}), {p_words(fit['p'])}, corrected {p_words(one['p_corrected'])}"
            axes.annotate(
                told, (1.02, place), xycoords=("axes fraction", "data"), fontsize=8, va="center", annotation_clip=False
            )
            reached += [low, high]
        axes.axvline(1, color="#B0B0B0", lw=0.8, zorder=0)
        axes.set_xscale("log")
        axes.set(xlim=(min(reached) / 1.15, max(reached) * 1.15), ylim=(len(reports) - 0.5, -0.5))
        shown = [tick for tick in TICKS if min(reached) / 1.15 <= tick <= max(reached) * 1.15]
        axes.xaxis.set_major_locator(FixedLocator(shown))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
        axes.set_yticks(
            range(len(reports)), [f"{one['class_id']}-{one['subclass']} (n = {one['n']})" for one in reports]
        )
        axes.set_xlabel("Hazard ratio per unit of ln(1 + count per 7.5 ml)")
        tests = reports[0]["tests"] if reports else 0
        remarks = [
            *stamps(simulated, exploratory=True),
            f"{endpoint.upper()}; p corrected over {tests} subclasses (Holm)",
        ]
        put_head(figure, "Subclasses and survival", remarks)
        save_figure(figure, path)
