"""A challenger that learnt one class from shuffled labels does not pass the gate, and the gate says which class it was."""

import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ctcml.appearance import appearance
from ctcml.drawn_cells import draw_cells
from ctcml.images import Picture, to_inputs
from ctcml.params import load_params
from ctcml.promotion import judge
from ctcml.records import Verdict
from ctcml.requirements import Predictions
from ctcml.subgroups import _alike
from ctcml.train import train
from ctcml.trials import SETS, _held_out, _probabilities

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
CLASSES = SETS[5]

pytestmark = pytest.mark.usefixtures("one_thread")


class Cohort:
    """SIMULATED patients: cells to learn from, and settled cells of others to be judged on."""

    def __init__(self, seed: int, patients: int) -> None:
        cells = [one for one in draw_cells(seed, patients=patients, objects=30) if one.kind in CLASSES]
        self.images: Picture = to_inputs([one.restored for one in cells], **PARAMS.image.model_dump())
        self.names = np.array([one.kind for one in cells], dtype=object)
        self.patients = np.array([str(one.patient) for one in cells])
        self.sealed = _held_out(cells, np.random.default_rng(seed))
        self.seed = seed

    def learn(self, names: NDArray[np.object_]) -> Predictions:
        """What a network that learnt these names says of the sealed cells."""
        rows = np.flatnonzero(~self.sealed)
        numbers = PARAMS.train.numbers() | {"network": "standard", "epochs": (1, 1, 4, 1)}
        with tempfile.TemporaryDirectory() as checkpoints:
            trained = train(
                self.images[rows], np.array([CLASSES.index(name) for name in names[rows]]), classes=CLASSES,
                seed=self.seed, recipe="asinh", start=None, checkpoints=Path(checkpoints), jitter=None, **numbers,
            )  # fmt: skip
        return Predictions(classes=CLASSES, probabilities=_probabilities(trained.model, self.images[self.sealed]))


@lru_cache(maxsize=2)
def champion_of(seed: int, patients: int) -> tuple[Cohort, Predictions]:
    cohort = Cohort(seed, patients)
    return cohort, cohort.learn(cohort.names)


def verdict_on_shuffled(seed: int, class_id: str, *, patients: int) -> tuple[Verdict, list[str]]:
    """The gate on a challenger for whom every training label of one class was drawn from the other classes."""
    cohort, champion = champion_of(seed, patients)
    rng, names = np.random.default_rng([seed, 1]), cohort.names.copy()
    others = [name for name in CLASSES if name != class_id]
    names[cohort.names == class_id] = rng.choice(others, int((cohort.names == class_id).sum()))
    # One cell keeps the label, as no class may be without a training image.
    names[np.flatnonzero((cohort.names == class_id) & ~cohort.sealed)[0]] = class_id
    groups = _alike(appearance(cohort.images[~cohort.sealed]), appearance(cohort.images[cohort.sealed]))
    judged = judge(
        cohort.learn(names), champion, None, cohort.names[cohort.sealed], cohort.patients[cohort.sealed], groups,
        drift=None, rng=np.random.default_rng([seed, 2]), **PARAMS.gate.rule(),
    )  # fmt: skip
    failed = [one.reason for one in judged.requirements if one.outcome is Verdict.REFUSE]
    return judged.verdict, [reason for reason in failed if f"recall of {class_id}" in reason]


def test_a_challenger_trained_on_shuffled_labels_of_tdevs_is_refused_and_tdev_is_named() -> None:
    verdict, naming = verdict_on_shuffled(0, "tdev", patients=12)
    assert verdict is Verdict.REFUSE
    assert len(naming) == 1


@pytest.mark.trial
@pytest.mark.timeout(3600)
def test_of_ten_challengers_with_shuffled_labels_of_one_class_all_are_refused_with_the_class_named(
    figure: Callable[[str, str], None],
) -> None:
    cases = [(seed, class_id) for seed in (0, 1) for class_id in CLASSES]
    found = [verdict_on_shuffled(*case, patients=60) for case in cases]
    refused = sum(verdict is Verdict.REFUSE and bool(naming) for verdict, naming in found)
    figure("challengers trained on shuffled labels of one class", f"{refused} of {len(cases)} refused, the class named")
    assert refused == len(cases) == 10
