import numpy as np
from scipy.stats import binomtest

from ctcml.bootstrap import patient_sums, patient_weights, ratio, share_interval


def test_every_draw_holds_as_many_patients_as_the_set() -> None:
    weights = patient_weights(7, draws=100, rng=np.random.default_rng(0))
    assert weights.shape == (100, 7)
    assert (weights.sum(axis=1) == 7).all()


def test_sums_follow_the_sorted_names_of_the_patients() -> None:
    sums = patient_sums(np.array([[1, 0], [0, 1], [1, 1]]), np.array(["z", "a", "z"]))
    assert sums.tolist() == [[0, 1], [2, 1]]


def test_nothing_divided_by_nothing_is_not_a_number_and_not_a_warning() -> None:
    assert np.isnan(ratio(np.array([0.0, 1.0]), np.array([0.0, 2.0]))).tolist() == [True, False]


def test_a_perfect_score_keeps_the_exact_binomial_limit() -> None:
    wanted = binomtest(30, 30).proportion_ci(0.95, "exact")
    low, high = share_interval(30, 30, np.ones(50), confidence=0.95)
    assert abs(low - wanted.low) < 5e-4
    assert high == 1


def test_a_score_of_zero_keeps_the_exact_binomial_limit() -> None:
    assert share_interval(0, 10, np.zeros(50), confidence=0.95) == (0.0, 0.308)


def test_cells_that_go_together_within_patients_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    weights = patient_weights(20, draws=2000, rng=rng)
    all_or_none = np.repeat([[10.0, 0.0]], 10, axis=0).ravel()  # ten patients all right, ten all wrong
    together = share_interval(100, 200, weights @ all_or_none / 200, confidence=0.95)
    alike = share_interval(100, 200, weights @ (np.arange(20) % 3 + 4.05) / 200, confidence=0.95)
    assert together[1] - together[0] > 5 * (alike[1] - alike[0])
