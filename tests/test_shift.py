"""A batch that differs as a whole, and a new class that differs alone: told apart."""

import numpy as np
import numpy.typing as npt
import pytest

from ctcml.errors import BadInput
from ctcml.shift import Shift, batch_shift

NAMES = [f"feature {number}" for number in range(6)]
Floats = npt.NDArray[np.float64]


class Laboratory:
    """Four classes in tubes whose stain varies; the second half of the tubes is the batch."""

    def __init__(self, *, tubes: int = 24, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        per_tube = 60
        self.tube = np.repeat(np.arange(tubes), per_tube)
        self.kind = rng.integers(0, 4, len(self.tube))
        stain = rng.normal(0, 0.3, (tubes, len(NAMES)))
        self.features: Floats = (
            rng.normal(0, 3, (4, len(NAMES)))[self.kind]
            + stain[self.tube]
            + rng.normal(0, 1, (len(self.tube), len(NAMES)))
        )
        self.batch = self.tube >= tubes // 2

    def judged(self, features: Floats | None = None, kind: npt.NDArray[np.int64] | None = None) -> Shift:
        return batch_shift(
            self.features if features is None else features,
            NAMES,
            predicted=[f"class {one}" for one in (self.kind if kind is None else kind)],
            samples=[f"tube {one}" for one in self.tube],
            in_reference=~self.batch,
            rng=np.random.default_rng(9),
        )


@pytest.mark.parametrize("seed", range(5))
def test_tubes_of_the_same_instrument_are_not_called_shifted(seed: int) -> None:
    found = Laboratory(seed=seed).judged()
    assert found.judged
    assert not found.shifted
    assert found.effect < found.expected


@pytest.mark.parametrize("seed", range(3))
def test_an_instrument_that_moves_every_class_is_called_shifted_by_what_moved(seed: int) -> None:
    laboratory = Laboratory(seed=seed)
    features = laboratory.features.copy()
    features[laboratory.batch, 4] += 1.0
    found = laboratory.judged(features)
    assert found.shifted
    assert found.strongest == "feature 4"
    assert found.effect == pytest.approx(1.0, abs=0.35)
    assert set(found.moved) == {f"class {number}" for number in range(4)}


def test_a_new_class_taken_for_one_known_class_is_no_shift() -> None:
    laboratory = Laboratory()
    features = laboratory.features.copy()
    features[laboratory.batch & (laboratory.kind == 2)] += 6.0  # all that the model calls class 2 looks otherwise
    found = laboratory.judged(features)
    assert found.moved["class 2"] > 4
    assert not found.shifted


def test_a_single_tube_may_differ_as_much_as_tubes_do() -> None:
    laboratory = Laboratory()
    laboratory.batch = laboratory.tube == 23
    assert not laboratory.judged().shifted


def test_a_batch_of_which_no_class_has_enough_cells_is_not_judged() -> None:
    laboratory = Laboratory()
    laboratory.batch = np.arange(len(laboratory.tube)) >= len(laboratory.tube) - 8
    found = laboratory.judged()
    assert (found.judged, found.shifted, found.moved) == (False, False, {})


def test_with_too_few_reference_tubes_only_a_large_move_is_a_shift() -> None:
    laboratory = Laboratory(tubes=6)
    features = laboratory.features.copy()
    features[laboratory.batch] += 3.0
    assert laboratory.judged(features).shifted
    assert np.isnan(laboratory.judged().expected)


def test_the_test_refuses_columns_of_unequal_length() -> None:
    with pytest.raises(BadInput, match="one row a cell"):
        batch_shift(
            np.zeros((3, 1)), ["a"], predicted=["x"] * 3, samples=["s"] * 2, in_reference=np.ones(3, bool),
            rng=np.random.default_rng(0),
        )  # fmt: skip
