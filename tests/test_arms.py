import numpy as np
import pandas as pd
import pytest
from survival_cohorts import freireich

from ctcml.arms import arm_of, log_rank, risk_times_of

TABLE = freireich()
DURATIONS, EVENTS = TABLE["duration"].to_numpy(float), TABLE["event"].to_numpy(float)
HIGH = TABLE["count"].to_numpy() > 0


def test_a_curve_that_has_fallen_to_nothing_keeps_its_last_limits_for_the_eye() -> None:
    arm = arm_of("≥ 5", DURATIONS[HIGH], EVENTS[HIGH], (0.0, 12.0), 5)
    assert arm.survival[-1] == pytest.approx(0, abs=1e-12)
    assert arm.low[-1] == arm.low[-2] > 0
    assert arm.high[-1] == arm.high[-2]
    assert not np.isnan([*arm.low, *arm.high]).any()


def test_an_arm_without_a_curve_still_says_who_is_in_it() -> None:
    for fewest in (None, 100):
        arm = arm_of("≥ 5", DURATIONS[HIGH], EVENTS[HIGH], (0.0, 12.0), fewest)
        assert (arm.n, arm.events, arm.times, arm.median) == (21, 21, (), None)
        assert arm.at_risk == (21, 6)  # both of week 12 are still at risk on its first day


def test_censored_patients_are_marked_at_their_last_day() -> None:
    arm = arm_of("< 5", DURATIONS[~HIGH], EVENTS[~HIGH], (0.0,), 5)
    assert arm.censored == tuple(sorted(DURATIONS[~HIGH][EVENTS[~HIGH] == 0]))
    assert len(arm.censored) == 12


def test_about_six_round_times_are_shown_however_long_patients_were_followed() -> None:
    for longest in (0.4, 3, 11, 37, 61, 130, 300):
        times = risk_times_of(pd.Series([0.1, longest]))
        assert times[0] == 0
        assert times[-1] <= longest
        assert len(times) <= 8
    assert risk_times_of(pd.Series([], dtype=float)) == (0.0,)


def test_the_log_rank_test_does_not_depend_on_which_arm_is_called_high() -> None:
    """R: survdiff on these data: chi-squared 16.8."""
    one, other = log_rank(DURATIONS, EVENTS, HIGH), log_rank(DURATIONS, EVENTS, ~HIGH)
    assert one is not None
    assert other is not None
    assert one.chi2 == pytest.approx(other.chi2, rel=1e-12)
    assert one.chi2 == pytest.approx(16.79, abs=5e-3)


def test_arms_that_were_never_at_risk_together_are_not_compared() -> None:
    """R's survdiff ends with "system is exactly singular"."""
    assert log_rank(np.full(10, 5.0), np.ones(10), np.arange(10) < 5) is None
    early = np.array([1.0, 2, 3, 8, 9])
    assert log_rank(early, np.array([0.0, 0, 0, 1, 1]), np.array([True, True, True, False, False])) is None
