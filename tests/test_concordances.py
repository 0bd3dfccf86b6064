"""Harrell's C; its equality with R's `concordance` is in test_survival_against_r.py."""

import numpy as np
import pytest
from lifelines.utils import concordance_index
from survival_cohorts import gbsg2, rossi

from ctcml.concordances import compare_concordances, concordance


def test_a_concordance_is_that_of_lifelines_with_many_ties() -> None:
    for table in (rossi(), gbsg2()):
        durations, events, counts = (table[name].to_numpy(float) for name in ("duration", "event", "count"))
        assert concordance(durations, events, counts).value == pytest.approx(
            concordance_index(durations, -counts, events), rel=1e-12
        )


def test_a_count_that_says_nothing_is_a_half_and_one_that_knows_all_is_one() -> None:
    durations = np.arange(1.0, 11)
    assert concordance(durations, np.ones(10), np.zeros(10)).value == 0.5
    assert concordance(durations, np.ones(10), -durations).value == 1.0


def test_when_nobody_died_no_order_is_known() -> None:
    assert np.isnan(concordance(np.arange(5.0), np.zeros(5), np.arange(5.0)).value)


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says() -> None:
    """Both counts see the same patients with errors of one size, so they are equally good on average."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        burden = rng.normal(size=120)
        durations = rng.exponential(np.exp(-burden))
        events = (rng.random(120) < 0.8).astype(float)
        found = compare_concordances(durations, events, burden + rng.normal(size=120), burden + rng.normal(size=120))
        held += found.low <= 0 <= found.high
    assert held >= 181  # 190 expected; fewer once in a thousand


def test_the_same_count_twice_differs_by_nothing() -> None:
    table = rossi()
    durations, events, counts = (table[name].to_numpy(float) for name in ("duration", "event", "count"))
    found = compare_concordances(durations, events, counts, counts)
    assert (found.difference, found.low, found.high, found.n) == (0.0, 0.0, 0.0, len(table))
    assert found.model == found.manual
