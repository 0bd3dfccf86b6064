"""Blood drawn during therapy: survival from a landmark on, among those who reached it.

Whoever gave blood on day 30 had lived for 30 days; counted from day 0 these days would be a gift to every such patient
(immortal time). So time begins at the landmark (Anderson et al. 1983, J Clin Oncol 1:710): each patient's last sample up
to it counts, and who had the event or left observation before it is left out.
"""

from dataclasses import dataclass

import pandas as pd

DAYS_PER_MONTH = 365.25 / 12


@dataclass(frozen=True, kw_only=True)
class AtLandmark:
    """Those who reached the landmark, `duration` from there on, and sentences about the others."""

    rows: pd.DataFrame
    notes: tuple[str, ...]


def last_samples(samples: pd.DataFrame, landmark_days: float | None) -> pd.DataFrame:
    """One sample a patient: the last before therapy (day 0 or earlier, or no day), or the last in (0, landmark].

    >>> drawn = pd.DataFrame({"patient_uid": ["a"] * 3, "sample_uid": ["x", "y", "z"], "draw_day": [0.0, 20.0, 60.0]})
    >>> last_samples(drawn, None)["sample_uid"].item(), last_samples(drawn, 42)["sample_uid"].item()
    ('x', 'y')
    """
    day = samples["draw_day"]
    wanted = ~(day > 0) if landmark_days is None else (day > 0) & (day <= landmark_days)
    in_order = samples[wanted].sort_values(["draw_day", "sample_uid"], na_position="first", kind="stable")
    return in_order.drop_duplicates("patient_uid", keep="last")


def from_landmark(rows: pd.DataFrame, landmark_days: float, *, days_per_unit: float = DAYS_PER_MONTH) -> AtLandmark:
    """Let the time of `rows` (`duration` in months unless told, `event`) begin at the landmark.

    Rows with a `draw_day` after the landmark are left out, too: the landmark does not know their count yet.
    """
    late = int((rows["draw_day"] > landmark_days).sum()) if "draw_day" in rows else 0
    rows = rows[~(rows["draw_day"] > landmark_days)] if late else rows
    months = landmark_days / days_per_unit
    gone = rows["duration"] <= months
    died, lost = int((gone & (rows["event"] == 1)).sum()), int((gone & (rows["event"] != 1)).sum())
    kept = rows[~gone]
    reached = int(kept["duration"].notna().sum())
    notes = [f"landmark on day {landmark_days:g}: {reached} patients reached it and gave blood by then"]
    if died or lost:
        notes.append(f"{died} who had their event before the landmark and {lost} whose observation ended are left out")
    if late:
        notes.append(f"{late} whose blood was drawn after the landmark are left out")
    return AtLandmark(rows=kept.assign(duration=kept["duration"] - months), notes=tuple(notes))
