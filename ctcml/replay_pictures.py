"""Pictures of a replay: which score finds which hidden class, and how each network lays out the hardest of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from ctcml.map_pictures import beside_plot
from ctcml.pictures import STYLE, put_head, save_figure, stamps
from ctcml.replay import APPEARANCE, NATURAL, Outcome

PERPLEXITY = 30.0  # as published
TITLES = {"standard": "Standard CNN", "autoencoder": "AE-CNN", APPEARANCE: "Appearance, no class"}


def draw_replay(report: Mapping[str, Any], played: Sequence[Outcome], folder: Path, *, simulated: bool) -> None:
    """Draw `scores` and, of the class that is hardest for the chosen score, `hardest-class`, each as SVG and PNG."""
    choice = report["choice"]["score"]
    hardest = min(played, key=lambda one: one.mixtures[0].auroc[choice])
    for ending in ("svg", "png"):
        scores_plot(played, folder / f"scores.{ending}", chosen=choice, simulated=simulated)
        spaces_plot(hardest, folder / f"hardest-class.{ending}", simulated=simulated)


def scores_plot(played: Sequence[Outcome], path: Path, *, chosen: str, simulated: bool) -> None:
    """Draw the AUROC of each score (rows, the best first) for each hidden class (columns), means over the seeds."""
    classes = list(dict.fromkeys(one.case.hidden for one in played))
    means = {
        name: [
            np.mean([one.mixtures[0].auroc[name] for one in played if one.case.hidden == hidden]) for hidden in classes
        ]
        for name in played[0].mixtures[0].auroc
    }
    rows = sorted(means, key=lambda name: -float(np.mean(means[name])))
    values = np.array([means[name] for name in rows])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 + 1.0 * len(classes), 1.6 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.imshow(values, cmap="Blues", vmin=0.4, vmax=1.15, aspect="auto")
        for row, column in np.ndindex(*values.shape):
            ink = "white" if values[row, column] > 0.9 else "black"
            axes.text(column, row, f"{values[row, column]:.3f}", ha="center", va="center", color=ink, fontsize=8)
        axes.set_xticks(range(len(classes)), classes, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), [f"{name}  ◂ chosen" if name == chosen else name for name in rows])
        axes.set(xlabel="Hidden class")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        seeds = len({one.case.seed for one in played})
        told = f"AUROC of hidden against known cells at their {NATURAL} share, {seeds} seed{'s' * (seeds > 1)}; 0.5 is chance"
        put_head(figure, "How well each score tells a hidden class", [*stamps(simulated), told])
        save_figure(figure, path)


def spaces_plot(one: Outcome, path: Path, *, simulated: bool) -> None:
    """Draw the archive as each network, which was trained without the hidden class, and the class-free eye lay it out."""
    labels = one.shown["labels"].tolist()
    panels = []
    for space, points in one.shown.items():
        if space != "labels":
            scaled = StandardScaler().fit_transform(points.astype(np.float64))
            perplexity = min(PERPLEXITY, (len(scaled) - 1) / 3)
            places = TSNE(perplexity=perplexity, init="pca", random_state=0, n_jobs=1).fit_transform(scaled)
            panels.append((TITLES.get(space, space), np.asarray(places), labels))
    beside_plot(
        sorted(panels, key=lambda panel: list(TITLES.values()).index(panel[0])),
        path,
        simulated=simulated,
        title=f"t-SNE of cells that no network was trained on; {one.case.hidden} was hidden from all",
        highlight=one.case.hidden,
    )
