"""Restricted means; their equality with R's `print(survfit, rmean = …)` is in test_survival_against_r.py."""

import numpy as np
import pytest

from ctcml.restricted import compare_restricted, restricted_mean


def test_without_censoring_the_restricted_mean_is_the_mean_of_the_shortened_times() -> None:
    durations = np.random.default_rng(0).exponential(10, 200)
    mean, error = restricted_mean(durations, np.ones(200), 12.0)
    shortened = np.minimum(durations, 12)
    assert mean == pytest.approx(shortened.mean())
    assert error == pytest.approx(shortened.std() / np.sqrt(200), rel=1e-6)


def test_arms_are_compared_until_the_last_time_at_which_both_were_still_observed() -> None:
    first, last = (np.array([5.0, 20, 30]), np.ones(3)), (np.array([2.0, 4, 10]), np.array([1.0, 1, 0]))
    found = compare_restricted({"low": first, "high": last})
    assert found.horizon == 10
    assert [arm.name for arm in found.arms] == ["low", "high"]
    assert found.difference == pytest.approx(found.arms[1].mean - found.arms[0].mean)
    assert found.low < found.difference < found.high


def test_the_same_arm_twice_differs_by_nothing() -> None:
    arm = (np.arange(1.0, 30), np.tile([1.0, 0, 1], 10)[:29])
    found = compare_restricted({"a": arm, "b": arm})
    assert found.difference == 0
    assert found.p == 1
    assert found.low == pytest.approx(-found.high)
