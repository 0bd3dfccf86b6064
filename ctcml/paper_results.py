"""What the trained networks of the paper's experiment say: the tables of each class set, survival by their counts, all pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.embed import score
from ctcml.errors import CannotTrain, CtcmlError
from ctcml.latentmap import choose_cells, fit_map
from ctcml.paper_figures import (
    Drawn,
    Easel,
    Mapped,
    figure_2,
    figure_2_rebuilt,
    figure_3,
    figure_4,
    figure_5,
    figure_6,
    supplementary_1,
)
from ctcml.paper_networks import NETWORKS, ClassSet, Kept, newest_class
from ctcml.paper_survival import counted_patients, survival_reports
from ctcml.paper_tables import cards, mistake_tables, set_tables, threshold_tables
from ctcml.shards import read_inputs, read_overlays
from ctcml.telling import estimated
from ctcml.workspace import Workspace

Say = Callable[[str], None]
Images = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All numbers of the experiment."""

    profile: str
    numbers: Mapping[str, Any]  # of `train.train`, phases after the kept one left out
    image: Mapping[str, Any]
    seed: int
    seeds: int
    device: str
    bootstrap: int
    thresholds: Sequence[float]
    map_cells: int
    endpoint: str
    min_events: int
    cutoffs: Mapping[str, int]  # cleared ones alone: the analysis is at prespecified cut-offs
    blocks: Sequence[int]  # patients per block of training, steering and sealed
    settlement: str  # what becomes of cells on which two readers differ

    def dice(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, number])


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """The networks of one class set, a list of seeds for each kind, and what they say of the cells to judge on.

    `cells` are those that belong to the set: cell_uid, sample_uid, patient_uid, class_id, cancer_type, their `label` in the set.
    """

    chosen: ClassSet
    kept: Mapping[str, list[Kept]]
    cells: pd.DataFrame
    probabilities: Mapping[str, list[NDArray[Any]]]

    @property
    def said(self) -> tuple[NDArray[Any], NDArray[Any], Sequence[str], Mapping[str, list[NDArray[Any]]]]:
        """Truth, patients, classes and probabilities, as the tables take them."""
        truth, patients = (self.cells[name].to_numpy(dtype=object) for name in ("label", "patient_uid"))
        return truth, patients.astype(str), self.chosen.classes, self.probabilities


def judge(chosen: ClassSet, kept: Mapping[str, list[Kept]], cells: pd.DataFrame, images: Images) -> Judged:
    """Score the cells of a class set; raises `CannotTrain` where there is no CTC among them."""
    named = chosen.labels(cells["class_id"])
    there = named.notna().to_numpy()
    mine = cells.assign(label=named)[there].reset_index(drop=True)
    if not (mine["label"] == "ctc").any():
        raise CannotTrain(
            f"{chosen.name}: no CTC among {len(mine)} cells to judge on; have cells of more patients read"
        )
    said = {kind: [score(one.scorer, images[there]).probabilities for one in ones] for kind, ones in kept.items()}
    return Judged(chosen=chosen, kept=kept, cells=mine, probabilities=said)


def with_images(ws: Workspace, cells: pd.DataFrame, image: Mapping[str, Any]) -> tuple[pd.DataFrame, Images]:
    """Cells with a new index, and their network inputs in the same order."""
    samples = sorted(set(cells["sample_uid"]))
    uids, images = read_inputs(ws.shards, samples, cell_uids=set(cells["cell_uid"]), **image)
    place = pd.Series(np.arange(len(uids)), index=uids)
    return cells.reset_index(drop=True), images[place[cells["cell_uid"]].to_numpy()]


def results_of(
    ws: Workspace,
    figures: Path,
    sets: Sequence[Judged],
    cells: pd.DataFrame,
    images: Images,
    plan: Plan,
    *,
    trained_on: set[str],
    simulated: bool,
    say: Say,
) -> tuple[dict[str, Any], list[Drawn]]:
    """All tables, and the pictures in the folder `figures`; `cells` are those to judge on, of all classes, with their images."""
    found: list[dict[str, Any]] = []
    for one in sets:
        tables = set_tables(*one.said, bootstrap=plan.bootstrap, rng=plan.dice(22))
        card = cards(*one.said, bootstrap=plan.bootstrap, seed=plan.seed)
        found.append({"name": one.chosen.name, "left_out": list(one.chosen.left_out), "tables": tables, "cards": card})
        say(in_short(one.chosen.name, tables))
    last = sets[-1]
    numbers: dict[str, Any] = {"thresholds": plan.thresholds, "bootstrap": plan.bootstrap}
    thresholds = threshold_tables(*last.said, rng=plan.dice(23), **numbers)
    mistakes, wrong = mistake_tables(
        last.cells.assign(class_id=last.cells["label"]),
        last.chosen.classes,
        last.probabilities["autoencoder"][0],
        rng=plan.dice(24),
        **numbers,
    )
    survival = _survival(ws, last, plan, trained_on, say)
    say("maps and figures")
    easel = Easel(folder=figures, simulated=simulated)
    drawn = [
        *_maps(ws, easel, sets, cells, images, plan, found[-1]["cards"], thresholds),
        *supplementary_1(easel, mistakes, wrong, lambda chosen: read_overlays(ws.shards, chosen)),
        *(figure_6(easel, survival["reports"]) or [_no_survival(survival)]),
    ]
    told = [in_short(one["name"], one["tables"]) for one in found]
    results = {"sets": found, "thresholds": thresholds, "mistakes": mistakes, "survival": survival, "in_short": told}
    return results, drawn


def _maps(
    ws: Workspace,
    easel: Easel,
    sets: Sequence[Judged],
    cells: pd.DataFrame,
    images: Images,
    plan: Plan,
    card: Mapping[str, Any],
    thresholds: Mapping[str, Any],
) -> list[Drawn]:
    """Figs 2 to 5: what is seen on t-SNE maps of the latents of cells to judge on, and what goes with them."""
    some = choose_cells(cells["class_id"].tolist(), most=plan.map_cells, rng=plan.dice(25))
    shown, pictures = cells.iloc[some].reset_index(drop=True), images[some]

    def mapped(one: Judged, kind: str, chosen: Images) -> Mapped:
        said = score(one.kept[kind][0].scorer, chosen)
        return Mapped(places=fit_map(said.latents, method="tsne", seed=plan.seed), predicted=said.predicted)

    def overlays(chosen: pd.DataFrame) -> Mapping[str, Images]:
        return read_overlays(ws.shards, chosen)

    two, last = sets[0], sets[-1]
    in_two = two.chosen.labels(shown["class_id"]).notna().to_numpy()
    of_two, pictures_of_two = shown[in_two].reset_index(drop=True), pictures[in_two]
    maps: dict[str, Mapped] = {kind: mapped(two, kind, pictures_of_two) for kind in NETWORKS}
    drawn = [
        figure_2(easel, maps, of_two, two.chosen.labels(of_two["class_id"]).tolist()),
        figure_2_rebuilt(easel, two.kept["autoencoder"][0].scorer.model, pictures_of_two, of_two["class_id"].tolist()),
    ]
    newest = newest_class(last.chosen.classes)
    without = next((one for one in sets if newest is not None and newest in one.chosen.left_out), None)
    about = Drawn(number="3", stem="fig3-map", title="Fig. 3: a class that the network never learnt")
    if newest is None or without is None:
        why = "the laboratory has found no class beyond those that it began with"
        drawn.append(Drawn(**{**vars(about), "missing": why}))
    elif not (of_two["class_id"] == newest).any():
        drawn.append(Drawn(**{**vars(about), "missing": f"there is no judged cell of {newest}"}))
    else:
        of_newest = mapped(without, "autoencoder", pictures_of_two)
        drawn += figure_3(easel, of_newest, of_two, newest, overlays, plan.dice(26))
    # All classes of the last set are those of the first, whose cells are the same.
    whole = mapped(last, "autoencoder", pictures_of_two)
    drawn += figure_4(easel, card, whole, of_two, thresholds)
    return drawn + figure_5(easel, whole, of_two, overlays, plan.dice(27))


def _survival(ws: Workspace, last: Judged, plan: Plan, trained_on: set[str], say: Say) -> dict[str, Any]:
    """Counts by three methods and what survival says of them; where that cannot be, the reason."""
    nothing = {"reports": [], "agreement": [], "denominator": "proposed", "patients": 0, "trained_on": 0, "missing": ""}
    if not plan.cutoffs:
        return nothing | {"missing": "params.yaml sets no cut-off (survival.cutoffs)"}
    try:
        table, about = counted_patients(
            ws,
            {kind: last.kept[kind][0].scorer for kind in NETWORKS},
            plan.image,
            endpoint=plan.endpoint,
            cutoffs=plan.cutoffs,
            trained_on=trained_on,
            progress=estimated("samples scored for the analysis of survival", to=say),
        )
        followed = table[table["duration"].notna() & table["event"].notna()]
        about |= {"patients": len(followed), "trained_on": int(followed["trained_on"].sum())}
        if followed.empty:
            columns = f"{plan.endpoint}_months and {plan.endpoint}_event"
            return nothing | about | {"missing": f"no patient with a cut-off has {columns} in the clinical table"}
        reports = survival_reports(
            followed, min_events=plan.min_events, endpoint=plan.endpoint, denominator=about["denominator"]
        )
    except CtcmlError as error:  # a clinical table that allows no analysis takes no other figure with it
        return nothing | {"missing": str(error)}
    return nothing | about | {"reports": reports}


def _no_survival(survival: Mapping[str, Any]) -> Drawn:
    return Drawn(number="6", stem="fig6-all", title="Fig. 6: survival by counts", missing=survival["missing"])


def in_short(name: str, tables: Mapping[str, Any]) -> str:
    """The accuracy of both networks on one class set, and their difference, in a sentence."""
    accuracy = next(one for one in tables["figures"] if one["figure"] == "accuracy")
    apart = accuracy["difference"]
    interval, verdict = "", ""
    if apart["low"] is not None:
        interval = f" ({100 * apart['low']:+.1f} to {100 * apart['high']:+.1f})"
        shown = apart["low"] > 0 or apart["high"] < 0
        verdict = f", {'a' if shown else 'no'} difference between these networks is shown"
    return (
        f"{name}: accuracy {accuracy['standard']['value']:.1%} by the standard CNN and {accuracy['autoencoder']['value']:.1%} by the AE-CNN, "
        f"{100 * apart['value']:+.1f} points{interval}{verdict}; {tables['cells']:,} cells of {tables['patients']} patients"
    )
