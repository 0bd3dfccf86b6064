"""Loose linear gates over ACCEPT's features: which cells may be of a class, in random sets for review, and the pool for "other".

The paper (Zeune et al. 2020, Methods, "Labelling of cells") found candidates of its four cell classes so, looked through
random sets of 150, and searched what was rejected, and the background artefacts of benign samples, for its fifth class.
Callers pass cells of training patients only.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.params import Bound

OTHER = "other"

Gate = Sequence[Bound]


def inside(features: pd.DataFrame, gate: Gate) -> NDArray[np.bool_]:
    """Return which rows of `features` (one column a feature) lie within every bound: above `lower`, at most at `upper`.

    A shape that an empty channel does not have (NaN) lies within no bound.

    >>> rows = pd.DataFrame({"ch_3_MaxIntensity": [60.0, 61.0, np.nan]})
    >>> inside(rows, [Bound(feature="ch_3_MaxIntensity", lower=60)]).tolist()
    [False, True, False]
    """
    within = np.ones(len(features), dtype=np.bool_)
    for bound in gate:
        values = features[bound.feature].to_numpy(dtype=np.float64)
        if bound.lower is not None:
            within &= values > bound.lower
        if bound.upper is not None:
            within &= values <= bound.upper
    return within


def candidates(features: pd.DataFrame, gates: Mapping[str, Mapping[str, Gate]]) -> pd.DataFrame:
    """Return a row (cell_uid, class_id, reason) for each class that a cell may be of: one of its gates holds.

    `gates` is class_id -> name -> gate; the reason names the gates. Gates are loose, so a cell may be a candidate of
    several classes, and of none.
    """
    rows = [
        (cell_uid, class_id, f"gate {', '.join(names)}")
        for class_id, of_class in gates.items()
        for cell_uid, names in _gates_of_cells(features, of_class)
        if names
    ]
    return pd.DataFrame(rows, columns=["cell_uid", "class_id", "reason"], dtype=str)


def _gates_of_cells(features: pd.DataFrame, gates: Mapping[str, Gate]) -> list[tuple[str, list[str]]]:
    held = {name: inside(features, gate) for name, gate in gates.items()}
    return [(cell_uid, [name for name in held if held[name][row]]) for row, cell_uid in enumerate(features["cell_uid"])]


def pool_for_other(found: pd.DataFrame, settled: Mapping[str, str], benign: Collection[str]) -> pd.DataFrame:
    """Return the cells among which artefacts are looked for, as rows (cell_uid, class_id "other", reason).

    Rejected candidates: cells of `found` (see `candidates`) that readers `settled` (cell_uid -> class_id) as a class
    whose gates they do not fall into. Artefacts: objects of `benign` samples that fall into no gate and have no label.
    """
    classes_of = found.groupby("cell_uid", sort=True)["class_id"].agg(list)
    rows = [
        (cell_uid, OTHER, f"rejected: gate of {', '.join(classes)}, settled as {settled[cell_uid]}")
        for cell_uid, classes in classes_of.items()
        if settled.get(cell_uid, classes[0]) not in classes
    ]
    known = set(classes_of.index) | set(settled)
    rows += [
        (cell_uid, OTHER, "artefact: object of a benign sample in no gate") for cell_uid in sorted(set(benign) - known)
    ]
    return pd.DataFrame(rows, columns=["cell_uid", "class_id", "reason"], dtype=str)


def review_sets(found: pd.DataFrame, size: int, rng: np.random.Generator) -> pd.DataFrame:
    """Deal the cells of each class_id into random sets of at most `size`: `found` with `review_set` and `place` from 1 on.

    The order is the same for the same cells, however the rows come.
    """
    dealt = []
    for _, of_class in found.groupby("class_id", sort=True):
        in_order = of_class.sort_values("cell_uid", ignore_index=True)
        shuffled = in_order.iloc[rng.permutation(len(in_order))].reset_index(drop=True)
        number, place = np.divmod(np.arange(len(shuffled)), size)
        dealt.append(shuffled.assign(review_set=number + 1, place=place + 1))
    return pd.concat([found.iloc[:0].assign(review_set=0, place=0), *dealt], ignore_index=True)
