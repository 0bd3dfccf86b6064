"""The paper's Figs 2 to 6 and Supplementary Fig. 1, drawn from a laboratory's own cells; a figure that cannot be says why.

Every picture is written as SVG and PNG. What is drawn was computed elsewhere, but for the choice of the cells that are shown.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from ctcml.map_pictures import beside_plot, frequency_plot, map_plot
from ctcml.model import AECNN, StandardCNN
from ctcml.paper_drawings import rebuilt_plot, two_thresholds_plot, types_plot
from ctcml.pictures import confusion_plot, gallery, mistakes_plot
from ctcml.survival_pictures import km_plot

NAMES = {"standard": "standard CNN", "autoencoder": "AE-CNN"}
PLACES, A_PLACE = 4, 5  # paper: "four locations […] For all four groups, we randomly chose five different points"
NINE = 9  # paper: "nine cells that belong to data points that we randomly chose from the point cloud"
MISTAKES_SHOWN = 40

Overlays = Callable[[pd.DataFrame], Mapping[str, NDArray[np.uint8]]]  # of cells (cell_uid, sample_uid), by cell_uid


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One picture of the report, or the reason why there is none (`missing`)."""

    number: str  # of the paper's figure: "2", "S1"
    stem: str  # file name without ending
    title: str
    caption: str = ""
    missing: str = ""
    wide: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Mapped:
    """What one network (its first seed) says of cells: their places on its t-SNE, and the class it calls."""

    places: NDArray[Any]  # (N, 2)
    predicted: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Easel:
    """Where pictures go, and whether all of them are stamped."""

    folder: Path
    simulated: bool

    def draw(self, about: Drawn, how: Callable[..., None]) -> Drawn:
        """`how` takes a path, `simulated` and `title`."""
        for ending in ("svg", "png"):
            how(self.folder / f"{about.stem}.{ending}", simulated=self.simulated, title=about.title)
        return about


def figure_2(easel: Easel, maps: Mapping[str, Mapped], cells: pd.DataFrame, taught: Sequence[str]) -> Drawn:
    """t-SNE of both two-class networks, coloured by the two classes that they were `taught` and by all classes."""
    kinds = (("two classes", list(taught)), ("all classes", cells["class_id"].tolist()))
    pairs = [(network, what, labels) for what, labels in kinds for network in NAMES]
    panels = [
        (f"{letter}  {NAMES[network]}, {what}", maps[network].places, labels)
        for letter, (network, what, labels) in zip("abcd", pairs, strict=True)
    ]
    about = Drawn(
        number="2",
        stem="fig2-maps",
        title="Fig. 2: latent spaces of the two-class networks",
        caption="t-SNE of the 50 latents of cells that neither network was trained on. Above coloured by the two classes that the networks "
        "were taught, below by the settled class, which they were not told. In the paper the AE-CNN's map has the more distinct groups.",
        wide=True,
    )
    return easel.draw(about, partial(beside_plot, panels))


def figure_2_rebuilt(easel: Easel, model: StandardCNN, images: NDArray[np.uint8], class_ids: Sequence[str]) -> Drawn:
    """Thumbnails of each class above what the two-class AE-CNN rebuilds."""
    assert isinstance(model, AECNN)
    about = Drawn(
        number="2",
        stem="fig2-rebuilt",
        title="Fig. 2: cells above what the AE-CNN rebuilds of them",
        caption="Held-out cells of each class, each above its reconstruction. The two-class AE-CNN was told only which are CTCs; what it "
        "can rebuild shows what its latents still know.",
    )
    return easel.draw(about, partial(rebuilt_plot, model, images, class_ids))


def figure_3(
    easel: Easel, mapped: Mapped, cells: pd.DataFrame, newest: str, overlays: Overlays, rng: np.random.Generator
) -> list[Drawn]:
    """t-SNE of the AE-CNN that was never shown the newest class, with cells of that class added; nine of them."""
    panels = [
        ("a  coloured by the class that it calls", mapped.places, list(mapped.predicted)),
        (f"b  by settled class, {newest} ringed", mapped.places, cells["class_id"].tolist()),
    ]
    of_newest = cells[cells["class_id"] == newest]
    called = pd.Series(list(mapped.predicted), index=cells.index)[of_newest.index]
    told = ", ".join(f"{name} ({n})" for name, n in called.value_counts().items())
    about = Drawn(
        number="3",
        stem="fig3-map",
        title=f"Fig. 3: {newest} is shown to a network that never learnt it",
        caption=f"t-SNE of the AE-CNN that was trained without {newest}; {len(of_newest)} held-out cells of it are among the others. It calls "
        f"them {told}. Mixed calls within one group of points are the paper's sign of an unknown class.",
        wide=True,
    )
    maps = easel.draw(about, partial(beside_plot, panels, highlight=newest))
    shown = of_newest.iloc[np.sort(rng.permutation(len(of_newest))[:NINE])]
    about = Drawn(
        number="3",
        stem="fig3-cells",
        title=f"Fig. 3: {len(shown)} cells of {newest}, chosen at random",
        caption="Their thumbnails, with the class that the network calls them.",
    )
    captions = [f"called {name}" for name in called[shown.index]]
    return [maps, easel.draw(about, _sheet(shown, captions, overlays, columns=3))]


def figure_4(
    easel: Easel, cards: Mapping[str, Any], mapped: Mapped, cells: pd.DataFrame, thresholds: Mapping[str, Any]
) -> list[Drawn]:
    """Both networks of all classes on the judged cells: confusion, the AE-CNN's map, and what a threshold costs."""
    found = []
    for letter, (network, name) in zip("ab", NAMES.items(), strict=True):
        told = f"Settled labels (rows) against what the {name} calls (columns); shares of the row."
        about = Drawn(number="4", stem=f"fig4-confusion-{network}", title=f"Fig. 4{letter}: {name}", caption=told)
        found.append(easel.draw(about, partial(confusion_plot, cards[network])))
    about = Drawn(
        number="4",
        stem="fig4-map",
        title="Fig. 4c: latent space of the AE-CNN with all classes",
        caption="t-SNE of the latents of cells that the network was not trained on, coloured by settled class.",
    )
    found.append(easel.draw(about, partial(map_plot, mapped.places, cells["class_id"].tolist())))
    about = Drawn(
        number="4",
        stem="fig4-thresholds",
        title="Fig. 4d: what a probability threshold costs",
        caption="A decision counts only from a probability on. The paper (Supplementary Fig. 1a) counts how many of the missed and false "
        "CTCs were decided with more than 75 % and 90 %.",
    )
    found.append(easel.draw(about, partial(two_thresholds_plot, thresholds)))
    return found


def figure_5(
    easel: Easel, mapped: Mapped, cells: pd.DataFrame, overlays: Overlays, rng: np.random.Generator
) -> list[Drawn]:
    """The CTCs of the map of Fig. 4: by cancer type, thumbnails of four places, and how often which type lies where."""
    is_ctc = (cells["class_id"] == "ctc").to_numpy()
    ctc, xy = cells[is_ctc].reset_index(drop=True), mapped.places[is_ctc]
    about = Drawn(
        number="5",
        stem="fig5-map",
        title="Fig. 5a: CTCs by cancer type",
        caption="The CTCs of the map of Fig. 4c, coloured by cancer type; cells of four places are ringed and shown in b.",
    )
    if len(ctc) < PLACES * A_PLACE:
        why = f"{len(ctc)} settled CTCs are among the judged cells, and {PLACES * A_PLACE} are needed to show groups of them"
        return [Drawn(number="5", stem=about.stem, title=about.title, missing=why)]
    types, near = ctc["cancer_type"].tolist(), _four_places(xy.astype(np.float64), rng)
    found = [easel.draw(about, partial(types_plot, xy, types, [xy[one] for one in near]))]
    about = Drawn(
        number="5",
        stem="fig5-cells",
        title="Fig. 5b: CTCs at the four places",
        caption="A row a place of a, each cell with the number of its place and its cancer type.",
    )
    captions = [f"{place} · {types[row]}" for place, rows in enumerate(near, start=1) for row in rows]
    found.append(easel.draw(about, _sheet(ctc.iloc[np.concatenate(near)], captions, overlays, columns=A_PLACE)))
    about = Drawn(
        number="5",
        stem="fig5-frequency",
        title="Fig. 5c: how often CTCs of a type lie where",
        caption="A panel a cancer type over the same axes; a type with fewer than 50 CTCs is drawn as dots.",
        wide=True,
    )
    found.append(easel.draw(about, partial(frequency_plot, xy, types, ctc["patient_uid"].tolist())))
    return found


def _four_places(xy: NDArray[np.float64], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Rows of the five cells nearest to the middles of four parts of the cloud, strays left out; no cell is there twice."""
    low, high = np.percentile(xy, [4, 96], axis=0)
    inside = np.flatnonzero(((xy >= low) & (xy <= high)).all(axis=1))
    if len(inside) < PLACES * A_PLACE:
        inside = np.arange(len(xy))
    middles, _ = kmeans2(xy[inside], PLACES, minit="++", seed=rng)
    left, found = inside, []
    for middle in middles:
        nearest = left[np.argsort(((xy[left] - middle) ** 2).sum(axis=1), kind="stable")][:A_PLACE]
        left = np.setdiff1d(left, nearest)
        found.append(nearest)
    return found


def supplementary_1(easel: Easel, report: Mapping[str, Any], mistakes: pd.DataFrame, overlays: Overlays) -> list[Drawn]:
    """Mistakes of the AE-CNN by cancer type and probability, and the thumbnails of missed and false CTCs."""
    about = Drawn(
        number="S1",
        stem="figS1-mistakes",
        title="Suppl. Fig. 1: mistakes of the AE-CNN",
        caption="By cancer type and by the probability of being a CTC; the paper tells its 36 missed and 91 false CTCs so.",
        wide=True,
    )
    found = [easel.draw(about, partial(mistakes_plot, report))]
    for kind, what in (("missed", "CTCs that were missed"), ("false", "other cells called CTC")):
        mine = mistakes[mistakes["kind"] == kind]
        stem, title = f"figS1-{kind}", f"Suppl. Fig. 1: {what}"
        if mine.empty:
            why = "the AE-CNN made no such mistake on the judged cells"
            found.append(Drawn(number="S1", stem=stem, title=title, missing=why))
            continue
        shown = mine.loc[mine["p_predicted"].nlargest(MISTAKES_SHOWN).index.sort_values()]
        other, told = (
            ("predicted", "the class it was called") if kind == "missed" else ("true_class", "its settled class")
        )
        captions = [f"{one[other]} · {one['p_ctc']:.2f} · {one['cancer_type']}" for one in shown.to_dict("records")]
        some = "" if len(shown) == len(mine) else f" The {len(shown)} surest of {len(mine)}."
        caption = f"Below each: {told}, p(CTC), cancer type.{some}"
        about = Drawn(number="S1", stem=stem, title=title, caption=caption)
        found.append(easel.draw(about, _sheet(shown, captions, overlays, columns=6)))
    return found


def figure_6(easel: Easel, reports: Sequence[Mapping[str, Any]]) -> list[Drawn]:
    """Kaplan-Meier curves by the three counts, for all patients and, where arms are large enough, for breast cancer as in the paper."""
    found = []
    for group in ("all", "breast"):
        of_group = [one for one in reports if one["group"] == group]
        if group != "all" and any(one["refusals"] for one in of_group):
            continue
        for letter, report in zip("abc" if group == "all" else "def", of_group, strict=False):
            told = "; ".join([*report["refusals"], *report["notes"]])
            about = Drawn(
                number="6",
                stem=f"fig6-{group}-{report['source']}",
                title=f"Fig. 6{letter}: {report['label']}",
                caption=f"{letter}  {told[:1].upper()}{told[1:]}" if told else f"{letter}  First samples of patients.",
            )
            found.append(easel.draw(about, partial(_km, report)))
    return found


def _km(report: Mapping[str, Any], path: Path, *, simulated: bool, title: str) -> None:
    km_plot({**report, "label": title}, path, simulated=simulated)


def _sheet(cells: pd.DataFrame, captions: Sequence[str], overlays: Overlays, *, columns: int) -> Callable[..., None]:
    """How to draw a contact sheet of cells."""
    tiles = overlays(cells)
    return partial(gallery, [tiles[uid] for uid in cells["cell_uid"]], captions, columns=columns)
