import numpy as np
import pandas as pd
import pytest

from ctcml.landmark import DAYS_PER_MONTH, from_landmark, last_samples

DRAWN = pd.DataFrame(
    {
        "patient_uid": ["a", "a", "a", "a", "b", "c", "c"],
        "sample_uid": ["a0", "a1", "a2", "a3", "b1", "c0", "c9"],
        "draw_day": [0.0, 14, 35, 60, 20, np.nan, 90],
    }
)
ROWS = pd.DataFrame(
    {"duration": [0.5, 1.0, 42 / DAYS_PER_MONTH, 8.0, np.nan], "event": [1.0, 0, 1, 1, np.nan], "count": 3.0}
)


def test_before_therapy_each_patient_s_last_sample_counts_and_none_of_later() -> None:
    assert last_samples(DRAWN, None)["sample_uid"].tolist() == ["c0", "a0"]
    earlier = DRAWN.assign(draw_day=[-10.0, -3, 0, 5, -1, -2, 9])
    assert sorted(last_samples(earlier, None)["sample_uid"]) == ["a2", "b1", "c0"]


def test_at_a_landmark_each_patient_s_last_sample_up_to_it_counts() -> None:
    assert sorted(last_samples(DRAWN, 42)["sample_uid"]) == ["a2", "b1"]
    assert sorted(last_samples(DRAWN, 20)["sample_uid"]) == ["a1", "b1"]


def test_time_begins_at_the_landmark_and_who_did_not_reach_it_is_left_out_and_counted() -> None:
    """Anderson et al. 1983, J Clin Oncol 1:710."""
    found = from_landmark(ROWS, 42)
    assert found.rows["duration"].tolist()[0] == pytest.approx(8 - 42 / DAYS_PER_MONTH)
    assert found.notes[0] == "landmark on day 42: 1 patients reached it and gave blood by then"
    assert found.notes[1] == "2 who had their event before the landmark and 1 whose observation ended are left out"


def test_blood_that_was_drawn_after_the_landmark_is_not_known_there() -> None:
    found = from_landmark(ROWS.assign(draw_day=[0.0, 0, 0, 60, 0]), 42)
    assert 8.0 - 42 / DAYS_PER_MONTH not in found.rows["duration"].tolist()
    assert found.notes[-1] == "1 whose blood was drawn after the landmark are left out"


def test_durations_may_be_in_another_unit() -> None:
    days = from_landmark(ROWS.assign(duration=ROWS["duration"] * DAYS_PER_MONTH), 42, days_per_unit=1)
    assert days.rows["duration"].iloc[0] == pytest.approx(8 * DAYS_PER_MONTH - 42)
