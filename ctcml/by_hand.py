"""CTCs by hand beside CTCs by the model: event by event, and tube by tube.

Two hands are kept apart. The instrument's *operator* called events CTCs when the tube was read (`assigned` in the
manifest); that is what the paper compares with (83.8 % of events, 65.8 % of manual CTCs), and many sources do not tell it.
*Readers* settled cells by this project's protocol; of those, steering patients' are a fair comparison, while the training
patients' labels were learnt. Labels of sealed patients are in neither.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.bland_altman import count_agreement
from ctcml.bootstrap import patient_sums, patient_weights
from ctcml.contingency import cohens_kappa
from ctcml.counts import ARG_MAX, CTC
from ctcml.records import Role
from ctcml.tables import BY_HAND_CELLS, BY_HAND_SAMPLES
from ctcml.tallies import CONFIDENCE, share_of
from ctcml.truth import evaluation_cells, training_cells

ALL = "all"
OPERATOR, EVALUATION, TRAINING = "operator", "evaluation", "training"  # the hands: readers' cells by purpose
BOTH, MODEL, HAND = "both", "model", "hand"
EVENTS = {"proposed": "events that CellSearch itself presented", "all": "all events"}
UNTOLD = (
    "the source does not say which events its operator called a CTC: ACCEPT's exports do not; the XML of a cartridge and"
    " the column `assigned` of a manifest.csv do"
)
SETTLED = "settled cells, whether CellSearch presented them or not"
LEARNT = "the model was trained with these labels, so they flatter it; most were chosen for being hard"
FAIR = "uniform random cells of patients that the model was not trained on"


@dataclass(frozen=True, kw_only=True)
class ByHand:
    """The report, fit for JSON, and `tables.BY_HAND_SAMPLES` and `BY_HAND_CELLS`."""

    report: dict[str, Any]
    samples: pd.DataFrame
    cells: pd.DataFrame


def compare_by_hand(
    cells: pd.DataFrame,
    samples: pd.DataFrame,
    counts: pd.DataFrame,
    truth: pd.DataFrame,
    *,
    denominator: str,
    bootstrap: int,
    rng: np.random.Generator,
) -> ByHand:
    """Compare the champion with the operator and with the readers.

    `cells` has cell_uid, sample_uid, patient_uid, proposed, assigned, predicted and p_ctc; `samples`, `counts` and `truth`
    have the columns of `tables.CLINICAL`, `COUNTS` and `TRUTH`. Only tubes of patients take part, not those of controls.
    """
    tubes = samples[samples["sample_kind"] == "patient"]
    cells = cells.merge(tubes[["sample_uid", "cancer_type"]], on="sample_uid")
    among, among_what = among_events(cells, denominator)
    by_operator = among[among["assigned"].notna()]
    by_operator = by_operator.assign(read_as=np.where(by_operator["assigned"].eq(True), CTC, ""))
    read = {
        EVALUATION: (FAIR, evaluation_cells(truth, Role.STEERING)),
        TRAINING: (LEARNT, training_cells(truth)),
    }
    by_readers = {
        name: cells.merge(labels[["cell_uid", "class_id"]].rename(columns={"class_id": "read_as"}), on="cell_uid")
        for name, (_, labels) in read.items()
    }
    compared = two_counts(tubes, counts, denominator)
    report = {
        "denominator": among_what,
        "events": EVENTS[among_what],
        "bootstrap": bootstrap,
        "operator": {
            "says": f"{len(by_operator):,} of {len(among):,} events carry the operator's call" if len(by_operator) else UNTOLD,
            "groups": _by_cancer_type(by_operator, bootstrap, rng),
        },
        "readers": [
            {"set": name, "events": SETTLED, "says": read[name][0], "groups": _by_cancer_type(rows, bootstrap, rng)}
            for name, rows in by_readers.items()
        ],
        "tubes": tube_figures(compared, first_tubes(tubes), bootstrap, rng),
    }  # fmt: skip
    either = pd.concat(
        [called_by_either(rows).assign(hand=hand) for hand, rows in {OPERATOR: by_operator, **by_readers}.items()]
    )
    return ByHand(report=report, samples=compared, cells=either[list(BY_HAND_CELLS)].reset_index(drop=True))


def told(report: Mapping[str, Any]) -> list[str]:
    """What a comparison found, one sentence each for the operator, the readers and the tubes."""
    sentences = []
    hands = [("the operator", report["operator"]), *((f"readers ({one['set']})", one) for one in report["readers"])]
    for hand, one in hands:
        if not one["groups"]:
            sentences.append(f"{hand}: {one['says'] if hand == 'the operator' else 'no settled cells'}")
            continue
        found = one["groups"][0]
        sentences.append(
            f"{hand} and model agree on {_percent(found['agreement'])} of {found['events']:,} events; the model calls "
            f"{_percent(found['hand_found'])} of {found['both'] + found['hand_only']:,} CTCs so too"
        )
    tubes = report["tubes"][0]
    sentences.append(f"{tubes['changes']} of {tubes['with_cutoff']} patients change side of the cut-off")
    return sentences


def _percent(figure: Mapping[str, float | None]) -> str:
    return "none" if figure["value"] is None else f"{figure['value']:.1%}"


def among_events(cells: pd.DataFrame, denominator: str) -> tuple[pd.DataFrame, str]:
    """The cells of a denominator and its name: all of them, and `all`, where no source says what CellSearch presented."""
    if denominator == ALL or cells["proposed"].isna().all():
        return cells, ALL
    return cells[cells["proposed"].eq(True)], denominator


def first_tubes(tubes: pd.DataFrame) -> set[str]:
    """The first tube of each patient: figures need tubes that do not resemble each other."""
    order = tubes.assign(day=tubes["draw_day"].fillna(0.0)).sort_values(["day", "sample_uid"])
    return set(order.drop_duplicates("patient_uid")["sample_uid"])


def called_by_either(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells that the hand (`read_as`) or the model (`predicted`) calls a CTC, the surest first, and by whom."""
    hand, model = cells["read_as"].eq(CTC), cells["predicted"].eq(CTC)
    named = cells.assign(called_by=np.select([hand & model, model, hand], [BOTH, MODEL, HAND], default=""))
    return named[named["called_by"].ne("")].sort_values(["p_ctc", "cell_uid"], ascending=[False, True])


def event_agreement(cells: pd.DataFrame, *, bootstrap: int, rng: np.random.Generator) -> dict[str, Any]:
    """How often hand (`read_as`) and model (`predicted`) agree that an event is a CTC, or that it is none.

    `agreement` is of all events; `hand_found` of the hand's CTCs, those that the model calls so too; `model_confirmed` the
    other way round; intervals resample the patients. `kappa` (Cohen 1960) has none where the draws do not differ.
    """
    patients = cells["patient_uid"].to_numpy(dtype=object)
    hand, model = (cells[name].eq(CTC).to_numpy(dtype=bool) for name in ("read_as", "predicted"))
    weights = patient_weights(max(len(set(patients)), 1), draws=bootstrap, rng=rng)
    every = np.ones(len(cells), dtype=bool)

    def share(hits: NDArray[np.bool_], of: NDArray[np.bool_]) -> dict[str, float | None]:
        found = vars(share_of(hits, of, patients, weights)) if of.any() else {}
        return {name: found.get(name) for name in ("value", "low", "high")}

    return {
        "events": len(cells),
        "patients": len(set(patients)),
        "both": int((hand & model).sum()),
        "model_only": int((model & ~hand).sum()),
        "hand_only": int((hand & ~model).sum()),
        "neither": int((~hand & ~model).sum()),
        "agreement": share(hand == model, every),
        "hand_found": share(model, hand),
        "model_confirmed": share(hand, model),
        "kappa": _kappa(hand, model, patients, weights),
    }


def _kappa(
    hand: NDArray[np.bool_], model: NDArray[np.bool_], patients: NDArray[Any], weights: NDArray[np.float64]
) -> dict[str, float | None]:
    one_hot = np.zeros((len(hand), 2, 2))
    one_hot[np.arange(len(hand)), hand.astype(int), model.astype(int)] = 1
    of_patient = patient_sums(one_hot, patients) if len(hand) else np.zeros((1, 2, 2))
    value, drawn = cohens_kappa(of_patient.sum(axis=0)), cohens_kappa(np.tensordot(weights, of_patient, axes=1))
    seen = drawn[np.isfinite(drawn)]
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None}
    if not len(seen) or np.ptp(seen) < 1e-12:
        return {"value": float(value), "low": None, "high": None}
    low, high = np.quantile(seen, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"value": float(value), "low": float(low), "high": float(high)}


def two_counts(tubes: pd.DataFrame, counts: pd.DataFrame, denominator: str) -> pd.DataFrame:
    """`tables.BY_HAND_SAMPLES`: tubes with a count by hand and one by the model, those that change side first.

    A side is that of the count itself, as a clinician would read it off; `low` and `high` tell whether the model's is
    undecided.
    """
    chosen = counts[(counts["class_id"] == CTC) & (counts["threshold"] == ARG_MAX)]
    wanted = chosen[chosen["denominator"] == denominator]
    others = chosen[(chosen["denominator"] == ALL) & ~chosen["sample_uid"].isin(wanted["sample_uid"])]
    by_model = pd.concat([wanted, others])[["sample_uid", "per_7_5_ml", "low", "high", "cutoff", "exploratory"]].rename(
        columns={"per_7_5_ml": "model"}
    )
    both = tubes[["sample_uid", "patient_uid", "cancer_type", "manual_ctc"]].rename(columns={"manual_ctc": "manual"})
    both = both[both["manual"].notna()].merge(by_model, on="sample_uid")
    both = both.assign(
        side_manual=_side(both["manual"], both["cutoff"]), side_model=_side(both["model"], both["cutoff"])
    )
    both["changes_side"] = both["side_manual"] != both["side_model"]
    both["apart"] = (np.log1p(both["model"]) - np.log1p(both["manual"])).abs()
    order = both.sort_values(["changes_side", "apart", "sample_uid"], ascending=[False, False, True], ignore_index=True)
    return order[list(BY_HAND_SAMPLES)]


def _side(count: pd.Series, cutoff: pd.Series) -> NDArray[Any]:
    known = np.where(count >= cutoff, "above", "below")
    return np.where(cutoff.isna(), "none", known)


def tube_figures(
    compared: pd.DataFrame, first: set[str], bootstrap: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Agreement of the two counts, of all patients and of each cancer type, by the first tube of each patient.

    `bias`, `lower` and `upper` are ratios (1 + model) / (1 + manual). `same_side` is the share of the tubes with a cut-off that
    both put on the same side of it; the paper has 25 of 164 on different sides.
    """

    def figures(rows: pd.DataFrame) -> dict[str, Any]:
        placed = rows[rows["cutoff"].notna()]
        side = placed["changes_side"].to_numpy(dtype=bool)
        weights = patient_weights(max(len(placed), 1), draws=bootstrap, rng=rng)
        patients = placed["patient_uid"].to_numpy(dtype=object)
        same = vars(share_of(~side, np.ones_like(side), patients, weights)) if len(placed) else {}
        up = (placed["side_model"] == "above").to_numpy(dtype=bool)
        return count_agreement(rows["model"].to_numpy(), rows["manual"].to_numpy()) | {
            "with_cutoff": len(placed),
            "changes": int(side.sum()),
            "model_above": int((side & up).sum()),
            "model_below": int((side & ~up).sum()),
            "same_side": {name: same.get(name) for name in ("value", "low", "high")},
            "exploratory": bool(placed["exploratory"].any()),
        }

    return [{"group": name, **figures(rows)} for name, rows in _groups(compared[compared["sample_uid"].isin(first)])]


def _by_cancer_type(cells: pd.DataFrame, bootstrap: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    if cells.empty:
        return []
    return [{"group": name, **event_agreement(rows, bootstrap=bootstrap, rng=rng)} for name, rows in _groups(cells)]


def _groups(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield ALL, table
    for name, rows in table.groupby("cancer_type", sort=True):
        yield str(name), rows
