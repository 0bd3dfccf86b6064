import numpy as np
import pytest
from lifelines.statistics import logrank_test
from survival_cohorts import freireich, gbsg2

from ctcml.cutpoint import Search, search_cutoff


def columns(table: object) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(table[name].to_numpy(float) for name in ("duration", "event", "count"))  # type: ignore[index]


def test_among_pure_noise_the_corrected_p_is_small_as_seldom_as_it_says_and_the_plain_one_far_too_often() -> None:
    """Altman et al. 1994, JNCI 86:829: the best of many cut-offs is "significant" in some 40 % of cohorts of noise."""
    rng = np.random.default_rng(4)
    corrected = plain = 0
    for at in range(120):
        durations, counts = rng.exponential(10, 80), rng.integers(0, 200, 80).astype(float)
        events = (rng.random(80) < 0.7).astype(float)
        found = search_cutoff(durations, events, counts, min_events=5, search=Search(permutations=199, seed=at))
        assert found is not None
        high = counts >= found.cutoff
        corrected += found.p_corrected <= 0.05
        plain += logrank_test(durations[high], durations[~high], events[high], events[~high]).p_value <= 0.05
    assert corrected <= 14  # 6 expected; more once in a thousand
    assert plain >= 30


def test_a_real_cut_is_found_where_it_was_made() -> None:
    rng = np.random.default_rng(9)
    counts = rng.integers(0, 40, 400).astype(float)
    durations = rng.exponential(np.where(counts >= 12, 4, 20))
    found = search_cutoff(durations, np.ones(400), counts, min_events=5, search=Search(permutations=99, seed=0))
    assert found is not None
    assert 10 <= found.cutoff <= 14
    assert found.p_corrected == 0.01  # no permutation was as good


def test_every_candidate_leaves_events_enough_on_either_side() -> None:
    durations, events, counts = columns(gbsg2())
    found = search_cutoff(durations, events, counts, min_events=40, search=Search(permutations=20, seed=0))
    assert found is not None
    high = counts >= found.cutoff
    assert min(events[high].sum(), events[~high].sum()) >= 40
    assert found.candidates < len(np.unique(counts)) - 1


def test_two_different_counts_are_one_candidate_and_its_p_is_that_of_a_permutation_test() -> None:
    durations, events, counts = columns(freireich())
    found = search_cutoff(durations, events, counts, min_events=5, search=Search(permutations=999, seed=1))
    assert found is not None
    assert (found.cutoff, found.candidates) == (10.0, 1)
    assert found.chi2 == pytest.approx(16.79, rel=0.1)  # R: survdiff; its variance is not that over permutations
    assert found.p_corrected < 0.01


def test_the_same_seed_gives_the_same_p() -> None:
    durations, events, counts = columns(gbsg2())
    first, second = (
        search_cutoff(durations, events, counts, min_events=5, search=Search(permutations=50, seed=7)) for _ in range(2)
    )
    assert first == second


def test_nothing_is_found_where_nothing_can_be() -> None:
    durations, events = np.arange(1.0, 13), np.ones(12)
    search = Search(permutations=10, seed=0)
    assert search_cutoff(durations, events, np.zeros(12), min_events=5, search=search) is None
    assert search_cutoff(durations, events, np.arange(12.0), min_events=7, search=search) is None
