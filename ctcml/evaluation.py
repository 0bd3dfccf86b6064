"""How a model does on the settled cells of steering patients: figures, confusion, and each CTC that it got wrong.

The sealed set is not opened here; that is the gate's alone.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctcml.agreement import exact_agreement
from ctcml.calibration import reading_error
from ctcml.embed import load_scorer, score
from ctcml.mistakes import find_mistakes, judged_cells, mistakes_by_cancer_type, mistakes_by_probability
from ctcml.pictures import gallery, mistakes_plot
from ctcml.records import Purpose, Role
from ctcml.reliability import fitted_temperature
from ctcml.requirements import Predictions
from ctcml.scorecard import full_scorecard
from ctcml.scorecard_page import write_page
from ctcml.shards import read_inputs, read_overlays
from ctcml.subgroups import describe
from ctcml.tables import MISTAKES, OPINIONS, TRUTH, read_table, write_table
from ctcml.truth import evaluation_cells
from ctcml.workspace import Workspace

TILES = 96  # thumbnails on one gallery at the most, so that it can still be looked at
COLUMNS = 8
JUDGED_ON = "steering patients, cells drawn at random"
NOTHING_SETTLED = (
    "no cell of a steering patient is settled yet; let the readers finish the evaluation arm, then run again"
)


def evaluate_candidate(
    ws: Workspace,
    pictures: Path,
    *,
    thresholds: Sequence[float],
    temperature_sd: float,
    readers_differ: float,
    readers_differ_cells: float,
    bootstrap: int,
    seed: int,
    simulated: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Score the candidate, write its score card as a page, its mistakes (`tables.MISTAKES`) and pictures; returns the report, fit for JSON.

    The temperature is fitted to the very cells on which it is then judged: one number, with a prior as in `calibration`.
    `pictures` is an empty folder; a kind of mistake that was not made gets no gallery. Before any steering cell is
    settled the score card is None, the note says what to do, and there is no picture.
    """
    cells = evaluation_cells(read_table(ws.truth, TRUTH), Role.STEERING)
    report = {
        "simulated": simulated,
        "weights_sha256": json.loads((ws.candidate / "model.json").read_text())["weights_sha256"],
        "n": len(cells),
        "patients": cells["patient_uid"].nunique(),
        "thresholds": list(thresholds),
        "note": None,
    }
    if cells.empty:
        write_table(pd.DataFrame(columns=list(MISTAKES)), MISTAKES, ws.mistakes)
        say(NOTHING_SETTLED)
        return report | {"note": NOTHING_SETTLED, "scorecard": None, "by_cancer_type": [], "by_probability": []}
    cells = describe(ws, cells)
    said = predictions(ws, ws.candidate, cells)
    readers = read_table(ws.opinions, OPINIONS)
    same, read_twice = exact_agreement(readers, Purpose.EVALUATION)
    temperature = fitted_temperature(
        said.probabilities,
        said.classes,
        cells["class_id"].to_numpy(),
        prior_sd=temperature_sd,
        reading_error=reading_error(
            None if same is None else 1 - same, read_twice, prior=readers_differ, prior_cells=readers_differ_cells
        ),
    )
    card = full_scorecard(
        cells,
        said.probabilities,
        said.classes,
        temperature=temperature,
        thresholds=thresholds,
        bootstrap=bootstrap,
        rng=np.random.default_rng([seed, 9]),
        readers=readers,
    )
    judged = judged_cells(cells, list(cells["cancer_type"]), said.probabilities, said.classes)
    by_type = mistakes_by_cancer_type(
        judged, thresholds=thresholds, bootstrap=bootstrap, rng=np.random.default_rng([seed, 10])
    )
    report |= {
        "scorecard": card | {"judged_on": JUDGED_ON, "simulated": simulated},
        "by_cancer_type": [asdict(one) for one in by_type],
        "by_probability": [asdict(one) for one in mistakes_by_probability(judged)],
    }
    mistakes = find_mistakes(judged)
    write_table(mistakes, MISTAKES, ws.mistakes)
    _draw(ws, report, mistakes, pictures)
    missed, false = by_type[-1].missed, by_type[-1].false
    say(
        f"{card['n']} settled cells of {card['patients']} steering patients: {card['accuracy']['value']:.1%} right, "
        f"{missed.mistakes} of {missed.cells} CTCs missed, {false.mistakes} of {false.cells} other cells called CTC"
    )
    return report


def predictions(ws: Workspace, folder: Path, cells: pd.DataFrame) -> Predictions:
    """What the model of a folder says of the chosen cells (`cell_uid`, `sample_uid`), in their order."""
    scorer = load_scorer(folder)
    about = json.loads((folder / "model.json").read_text())
    uids, images = read_inputs(
        ws.shards, sorted(set(cells["sample_uid"])), cell_uids=set(cells["cell_uid"]), **about["image"]
    )
    place = {uid: number for number, uid in enumerate(uids)}
    order = [place[uid] for uid in cells["cell_uid"]]
    return Predictions(classes=tuple(about["classes"]), probabilities=score(scorer, images[order]).probabilities)


def _draw(ws: Workspace, report: dict[str, Any], mistakes: pd.DataFrame, pictures: Path) -> None:
    title, stamp = "Candidate on steering patients", report["simulated"]
    about = {"Model": f"weights {report['weights_sha256'][:12]}", "Cells": JUDGED_ON}
    write_page(report["scorecard"], pictures, title=title, simulated=stamp, about=about)
    mistakes_plot(report, pictures / "mistakes.png", simulated=stamp, title=f"{title}: missed and false CTCs")
    for kind, of_kind in mistakes.groupby("kind"):
        _show(ws, of_kind, str(kind), pictures / f"{kind}-ctc.png", simulated=stamp)


def _show(ws: Workspace, mistakes: pd.DataFrame, kind: str, path: Path, *, simulated: bool) -> None:
    """Draw the thumbnails of one kind of mistake, in order; of very many, the surest."""
    shown = mistakes.loc[mistakes["p_predicted"].nlargest(TILES).index.sort_values()]
    tiles = read_overlays(ws.shards, shown)
    other, what = ("predicted", "called") if kind == "missed" else ("true_class", "label")
    some = f"{len(mistakes)}" if len(shown) == len(mistakes) else f"the {len(shown)} surest of {len(mistakes)}"
    gallery(
        [tiles[uid] for uid in shown["cell_uid"]],
        # The cancer type stands last, where a long name may be cut short.
        [f"{one.p_ctc:.2f} · {getattr(one, other)} · {one.cancer_type}" for one in shown.itertuples()],
        path,
        columns=COLUMNS,
        title=f"{kind.capitalize()} CTCs: {some} · p(CTC), {what}, cancer type",
        simulated=simulated,
    )
