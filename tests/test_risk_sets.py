import numpy as np
import pytest

from ctcml.risk_sets import hazards_of_many, risk_sets

RNG = np.random.default_rng(14)
DURATIONS, EVENTS = RNG.integers(1, 9, 50).astype(float), RNG.integers(0, 2, 50).astype(float)


def one_by_one(values: np.ndarray) -> list[float]:
    """Efron's sums as his paper writes them: of d tied events the k-th counts (d - k) / d of each."""
    found = []
    for time in np.unique(DURATIONS[EVENTS == 1]):
        at_risk = values[time <= DURATIONS].sum()
        tied = values[(time == DURATIONS) & (EVENTS == 1)]
        found += [at_risk - k / len(tied) * tied.sum() for k in range(len(tied))]
    return found


def test_sums_over_risk_sets_are_those_of_efron_event_by_event() -> None:
    """Efron 1977, JASA 72:557, eq. 7.1."""
    sets, values = risk_sets(DURATIONS, EVENTS), RNG.random(50)
    assert sets.sums(values[sets.order]) == pytest.approx(one_by_one(values))


def test_many_rows_are_summed_at_once() -> None:
    sets, values = risk_sets(DURATIONS, EVENTS), RNG.random((3, 2, 50))
    found = sets.sums(values[..., sets.order])
    assert found.shape == (3, 2, int(EVENTS.sum()))
    assert found[2, 1] == pytest.approx(one_by_one(values[2, 1]))


def test_the_order_in_which_patients_are_named_changes_nothing() -> None:
    mixed, x = RNG.permutation(50), (RNG.random(50) < 0.5).astype(float)
    first = hazards_of_many(DURATIONS, EVENTS, x[None])
    again = hazards_of_many(DURATIONS[mixed], EVENTS[mixed], x[mixed][None])
    assert again[0] == pytest.approx(first[0], rel=1e-9)
    assert again[1] == pytest.approx(first[1], rel=1e-9)


def test_the_mean_over_a_risk_set_without_any_effect_is_that_of_the_patients_still_there() -> None:
    sets, x = risk_sets(np.array([1.0, 2, 3]), np.ones(3)), np.array([[6.0], [3.0], [0.0]])
    mean, covariance, likelihood = sets.moments(x, np.zeros(1))
    assert mean[0].tolist() == pytest.approx([3, 1.5, 0])
    assert covariance[0, 0].tolist() == pytest.approx([6, 2.25, 0])
    assert likelihood == pytest.approx(-np.log(6))


def test_without_any_event_there_is_nothing_to_sum() -> None:
    assert risk_sets(DURATIONS, np.zeros(50)).sums(np.ones(50)).shape == (0,)
