import numpy as np
import pandas as pd
import pytest

from ctcml.kaplan_meier import as_tied, crossing, follow_up, kaplan_meier, risk_table

TIMES = np.array([0.0, 2, 5, 9])


def test_a_curve_that_runs_at_exactly_one_half_has_its_median_in_the_middle_of_the_stretch() -> None:
    """R: quantile(survfit(Surv(c(1, 2, 3, 4), c(1, 1, 1, 1)) ~ 1), 0.5) is 2.5."""
    durations = np.array([1.0, 2, 3, 4])
    assert kaplan_meier(durations, np.ones(4)).median()[0] == 2.5
    assert crossing(TIMES, np.array([1.0, 0.5, 0.5, 0.2])) == 5.5


def test_a_curve_that_ends_at_one_half_has_its_median_between_there_and_the_last_time() -> None:
    """R: quantile(survfit(Surv(c(1, 2, 3, 4), c(1, 1, 0, 0)) ~ 1), 0.5) is 3."""
    assert kaplan_meier(np.array([1.0, 2, 3, 4]), np.array([1.0, 1, 0, 0])).median()[0] == 3.0


def test_one_half_but_for_rounding_is_one_half() -> None:
    assert crossing(TIMES, np.array([1.0, 0.5 + 1e-12, 0.5 + 1e-12, 0.2])) == 5.5


def test_limits_that_are_not_known_decide_nothing() -> None:
    assert crossing(TIMES, np.array([1.0, 0.8, 0.6, np.nan])) is None


def test_a_curve_begins_at_one_and_has_no_limits_where_it_has_fallen_to_nothing() -> None:
    curve = kaplan_meier(np.array([1.0, 2, 3]), np.ones(3))
    assert (curve.times[0], curve.survival[0], curve.low[0]) == (0.0, 1.0, 1.0)
    assert curve.survival[-1] == pytest.approx(0, abs=1e-12)
    assert np.isnan(curve.low[-1])


def test_follow_up_counts_the_dead_as_censored() -> None:
    """Schemper and Smith 1996: the same estimator with the meaning of the indicator reversed."""
    durations, events = np.array([2.0, 4, 6, 8, 10]), np.array([1.0, 0, 0, 0, 0])
    found = follow_up(durations, events)
    assert found is not None
    assert found.median == kaplan_meier(durations, 1 - events).median()[0] == 7.0
    assert follow_up(durations, np.ones(5)) is None


def test_at_every_time_all_patients_are_at_risk_or_had_their_event_or_were_lost() -> None:
    rng = np.random.default_rng(0)
    durations, events = rng.integers(0, 30, 90).astype(float), rng.integers(0, 2, 90).astype(float)
    table = risk_table(durations, events, (0, 6, 12, 18, 24, 30))
    sums = np.sum([table.at_risk, table.events_before, table.censored_before], axis=0)
    assert sums.tolist() == [90] * 6
    assert table.events_before[0] == table.censored_before[0] == 0


def test_who_dies_on_the_day_itself_is_still_at_risk() -> None:
    table = risk_table(np.array([6.0]), np.array([1.0]), (6.0,))
    assert (table.at_risk, table.events_before) == ((1,), (0,))


def test_times_that_differ_by_rounding_alone_are_tied_and_others_are_not() -> None:
    """R's `timefix` (vignette "Roundoff error and tied times")."""
    durations = pd.Series([0.1 + 0.2, 0.3, 0.3001, 12.0], index=[7, 8, 9, 10])
    tied = as_tied(durations)
    assert tied.tolist() == [0.3, 0.3, 0.3001, 12.0]
    assert tied.index.tolist() == [7, 8, 9, 10]
    assert as_tied(durations.iloc[:1]).tolist() == [0.1 + 0.2]


def test_a_curve_with_events_on_day_0_begins_at_one_all_the_same() -> None:
    curve = kaplan_meier(np.array([0.0, 0, 4, 6]), np.array([1.0, 0, 1, 0]))
    assert curve.times.tolist() == [0, 0, 4, 6]
    assert curve.survival.tolist() == pytest.approx([1, 0.75, 0.375, 0.375])
    assert kaplan_meier(np.zeros(3), np.ones(3)).median()[0] == 0
