"""The tests of differences agree with those of scipy, and claim nothing that they cannot."""

import numpy as np
import pytest
from scipy import stats

from ctcml.paired import paired

SEEDS = np.random.default_rng(5).normal(0.004, 0.006, (6, 7))


@pytest.mark.parametrize("differences", SEEDS)
def test_interval_and_p_are_those_of_scipys_t_test(differences: np.ndarray) -> None:
    found, wanted = paired(differences), stats.ttest_1samp(differences, 0.0)
    assert found.p_t == pytest.approx(wanted.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval(0.95)))
    assert found.shown == (wanted.pvalue < 0.05)


@pytest.mark.parametrize("differences", SEEDS)
def test_the_sign_flips_are_those_of_scipys_exact_permutation_test(differences: np.ndarray) -> None:
    wanted = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert paired(differences).p_flips == pytest.approx(wanted.pvalue)


def test_five_seeds_that_all_agree_reach_one_sixteenth_by_sign_flips_and_no_less() -> None:
    assert paired([0.010, 0.011, 0.012, 0.013, 0.014]).p_flips == 2 / 32


@pytest.mark.parametrize("differences", [[0.02], [0.02, 0.02, 0.02], [0.0, 0.0]])
def test_a_single_seed_or_seeds_without_spread_show_nothing(differences: list[float]) -> None:
    found = paired(differences)
    assert not found.shown
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert found.mean == pytest.approx(differences[0])


def test_a_mirrored_difference_is_judged_the_same() -> None:
    there, back = paired(SEEDS[0]), paired(-SEEDS[0])
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low))
    assert (back.p_t, back.p_flips) == pytest.approx((there.p_t, there.p_flips))
