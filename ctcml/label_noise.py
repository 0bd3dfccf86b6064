"""Which settled labels are probably wrong: confident learning on probabilities of patients that the judge has not seen.

A judge is trained on the labels of some patients and asked about the cells of others, so no cell is judged by a model that
learnt its label by heart, nor by one that knows the patient. Confident learning (Northcutt et al., J Artif Intell Res 2021;
70:1373; the library cleanlab) then asks, class by class, how many labels must be wrong for labels and probabilities to fit
together, and names those that fit worst. A class that the judge is never sure of therefore has a lower bar than one that it
always recognises, which one cut-off for all classes cannot have.

The judge is a forest of extremely randomised trees (Geurts et al., Mach Learn 2006; 63:3): among logistic regression, boosted
trees and forests it lost least to features that say nothing, and it needs no tuning. What was measured stands in the changelog.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.errors import BadInput

COLUMNS = ["cell_uid", "patient_uid", "given", "suggested", "self_confidence"]
LEAST_PATIENTS = 5  # a class of fewer people is not judged: its cells would be told apart by person
TREES = 200

Floats = NDArray[np.float64]


def label_noise(
    labels: pd.DataFrame, features: NDArray[np.float32], *, folds: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Labels that are probably wrong, the most doubtful first (`COLUMNS`).

    `labels` has cell_uid, patient_uid and class_id, `features` a row each. `suggested` is the likeliest other class,
    `self_confidence` the probability of the label itself, by judges of `folds` parts of the patients. A class is judged if it
    has cells of at least `folds` and of at least `LEAST_PATIENTS` patients; cells of others are left out altogether, as are
    all cells when fewer than two classes remain. Raises `BadInput` when rows and features do not match.
    """
    if features.ndim != 2 or len(features) != len(labels):
        raise BadInput(
            f"features are {features.shape} for {len(labels)} labels; expected a row of features for each label"
        )
    order = np.argsort(labels["cell_uid"].to_numpy(dtype=object), kind="stable")  # files may come in any order
    listed, columns = labels.iloc[order], features[order]
    kept = listed["class_id"].isin(judged_classes(listed, folds=folds)).to_numpy()
    listed, columns = listed[kept], columns[kept]
    if listed["class_id"].nunique() < 2:
        return pd.DataFrame(columns=COLUMNS).astype({"self_confidence": np.float64})
    classes, given = np.unique(listed["class_id"].to_numpy(dtype=str), return_inverse=True)
    chance, seen = _out_of_patient(columns, given, listed["patient_uid"].to_numpy(), folds, rng)
    listed, given, chance = listed[seen], given[seen], chance[seen]
    flagged = _confident_learning(given, chance)
    others = chance.copy()
    others[np.arange(len(given)), given] = -1
    found = pd.DataFrame(
        {
            "cell_uid": listed["cell_uid"].to_numpy(),
            "patient_uid": listed["patient_uid"].to_numpy(),
            "given": classes[given].astype(object),
            "suggested": classes[others.argmax(axis=1)].astype(object),
            "self_confidence": chance[np.arange(len(given)), given],
        }
    )
    return found[flagged].sort_values("self_confidence", kind="stable", ignore_index=True)


def judged_classes(labels: pd.DataFrame, *, folds: int) -> list[str]:
    """Classes with cells of enough patients to be judged.

    >>> cells = pd.DataFrame({"class_id": ["ctc"] * 6 + ["tdev"] * 9, "patient_uid": [*"abcdef", *"aaaaabbbb"]})
    >>> judged_classes(cells, folds=5)
    ['ctc']
    """
    patients = labels.groupby("class_id")["patient_uid"].nunique()
    return sorted(patients[patients >= max(folds, LEAST_PATIENTS)].index)


def _out_of_patient(
    features: NDArray[np.float32], given: NDArray[Any], patients: NDArray[Any], folds: int, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.bool_]]:
    """Probabilities (cells, classes) by judges that saw no cell of the patient, and whether they knew the given class at all."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedGroupKFold

    seeds = [int(seed) for seed in rng.integers(0, 2**31, folds + 1)]
    chance, known = np.zeros((len(given), int(given.max()) + 1)), np.zeros(len(given), dtype=bool)
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seeds[0]).split(features, given, patients)
    for seed, (learnt, asked) in zip(seeds[1:], parts, strict=True):
        judge = ExtraTreesClassifier(TREES, random_state=seed).fit(features[learnt], given[learnt])
        chance[np.ix_(asked, judge.classes_)] = judge.predict_proba(features[asked])
        known[asked] = np.isin(given[asked], judge.classes_)
    return chance, known


def _confident_learning(given: NDArray[Any], chance: Floats) -> NDArray[np.bool_]:
    from cleanlab.filter import find_label_issues  # its import takes a second

    flagged: NDArray[np.bool_] = find_label_issues(given, chance, n_jobs=1, verbose=False)
    return flagged
