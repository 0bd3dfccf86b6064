from typing import Any

import numpy as np
import pandas as pd
import pytest

from ctcml.calibration import probabilities_of, tempered
from ctcml.counts import ARG_MAX, Errors, chances_among, sample_counts
from ctcml.cox import CoxFit, fit_cox
from ctcml.hazard_spread import Spread, reader_changes, spread_of, tubes_of

CLASSES = ("ctc", "wbc")
CALIBRATION: dict[str, Any] = {
    "temperature": 1.2, "usual": {"ctc": 0.3, "wbc": 0.7}, "spread": {"ctc": 0.6, "wbc": 0.4}, "reading_error": 0.004,
}  # fmt: skip


def cohort(patients: int = 120) -> pd.DataFrame:
    """SIMULATED: the hazard doubles at the cut-off of 5."""
    rng = np.random.default_rng(2)
    counts = rng.negative_binomial(0.6, 0.08, patients).astype(float)
    months = rng.exponential(np.where(counts >= 5, 8, 16))
    seen = rng.uniform(6, 40, patients)
    return pd.DataFrame(
        {
            "patient_uid": [f"p{at}" for at in range(patients)],
            "sample_uid": [f"s{at}" for at in range(patients)],
            "blood_volume_ml": 7.5,
            "duration": np.minimum(months, seen),
            "event": (months <= seen).astype(float),
            "count": counts,
            "cutoff": 5.0,
        }
    )


def surely(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Tubes of which the number of cells is known."""
    return {uid: np.eye(int(count) + 1)[-1] for uid, count in zip(rows["sample_uid"], rows["count"], strict=True)}


def spread(rows: pd.DataFrame, tubes: dict[str, np.ndarray] | None = None, **more: Any) -> Spread:
    about: dict[str, Any] = {"min_events": 5, "draws": 200, "rng": np.random.default_rng(0)} | more
    manual, changes = about.pop("manual", rows.set_index("sample_uid")["count"]), about.pop("changes", {})
    return spread_of(rows, manual, changes, surely(rows) if tubes is None else tubes, **about)


def opinions(*rows: tuple[str, str, str, bool]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["cell_uid", "reader", "label", "repeat"])


CELLS = pd.DataFrame(
    {
        "cell_uid": ["c1", "c2", "c3", "c4"],
        "sample_uid": ["s0", "s0", "s0", "s1"],
        "predicted": ["ctc", "wbc", "wbc", "ctc"],
    }
)
SAMPLES = pd.DataFrame({"sample_uid": ["s0", "s1"], "blood_volume_ml": [7.5, 3.75]})


def test_masked_labels_of_sealed_patients_say_nothing_about_a_count() -> None:
    """`sealed_0` tells only which readings of a cell are alike; taken for a class it would strike a CTC out."""
    assert reader_changes(CELLS, opinions(("c1", "a", "sealed_0", False)), SAMPLES) == {}


def test_a_reader_s_own_labels_are_put_over_the_model_s_on_the_cells_that_she_read() -> None:
    said = opinions(
        ("c1", "a", "wbc", False), ("c2", "a", "ctc", False), ("c3", "a", "ctc", False), ("c4", "b", "wbc", False)
    )
    found = reader_changes(CELLS, said, SAMPLES)
    assert found["a"].loc["s0", ["read", "changed", "per_7_5_ml"]].tolist() == [3, 3, 1]
    assert found["b"].loc["s1", "per_7_5_ml"] == -2  # of half a tube
    assert list(found) == ["a", "b"]


def test_hidden_repeats_and_unreadable_cells_change_no_count_and_the_last_word_does() -> None:
    said = opinions(
        ("c2", "a", "wbc", False), ("c2", "a", "ctc", False), ("c3", "a", "ctc", True), ("c1", "a", "unreadable", False)
    )  # fmt: skip
    found = reader_changes(CELLS, said, SAMPLES)["a"]
    assert found.loc["s0", ["read", "changed", "per_7_5_ml"]].tolist() == [1, 1, 1]


def test_a_cell_that_is_not_among_the_counted_events_changes_nothing() -> None:
    assert reader_changes(CELLS.iloc[:1], opinions(("c2", "a", "ctc", False)), SAMPLES) == {}


def test_each_way_to_count_has_the_hazard_ratio_of_its_own_counts() -> None:
    rows = cohort()
    low = rows["sample_uid"][rows["count"] < 5].iloc[:12]
    changed = pd.DataFrame({"read": 4, "changed": 3, "per_7_5_ml": 6.0}, index=low)
    found = spread(rows, manual=rows.set_index("sample_uid")["count"].iloc[:100], changes={"anna": changed})
    by_name = {one.name: one for one in found.sources}
    assert list(by_name) == ["manual", "reader anna", "model"]
    assert by_name["manual"].n == 100
    anna = rows["count"] + rows["sample_uid"].isin(low) * 6
    fit = fit_cox(rows["duration"].to_numpy(), rows["event"].to_numpy(), pd.DataFrame({"x": (anna >= 5).astype(float)}))
    assert isinstance(fit, CoxFit)
    assert by_name["reader anna"].hr == pytest.approx(fit.hazard("x", "").hr)
    assert (by_name["reader anna"].cells_read, by_name["reader anna"].cells_changed) == (48, 36)
    assert by_name["reader anna"].patients_changed == 12
    assert by_name["model"].hr != by_name["reader anna"].hr
    assert all(one.proportional_p is not None for one in found.sources)


def test_where_the_counts_are_known_all_draws_are_the_model_s_hazard_ratio() -> None:
    found = spread(cohort())
    assert found.draws is not None
    model = found.sources[-1]
    assert (found.draws.low, found.draws.median, found.draws.high) == pytest.approx((model.hr,) * 3, rel=1e-8)
    assert (found.draws.pooled_low, found.draws.pooled_high) == pytest.approx((model.low, model.high), rel=1e-6)
    assert (found.draws.n, found.draws.refused) == (200, 0)


def test_doubtful_counts_spread_the_ratio_and_widen_its_limits() -> None:
    rows = cohort()
    doubtful = {uid: np.convolve(known, np.full(7, 1 / 7)) for uid, known in surely(rows).items()}
    found = spread(rows, doubtful)
    assert found.draws is not None
    assert found.draws.low < found.draws.median < found.draws.high
    reach = np.log(found.draws.pooled_high / found.draws.pooled_low)
    model = found.sources[-1]
    assert model.high is not None
    assert model.low is not None
    assert reach > np.log(model.high / model.low)
    assert found == spread(rows, doubtful)


def test_the_cut_off_is_per_7_5_ml_and_the_draws_are_of_the_tube() -> None:
    rows = cohort()
    halves = rows.assign(blood_volume_ml=3.75)
    tubes = {uid: np.eye(int(count / 2) + 1)[-1] for uid, count in zip(rows["sample_uid"], rows["count"], strict=True)}
    found = spread(halves, tubes).draws
    high = (rows["count"] // 2 >= 3).to_numpy()  # of 5 per 7.5 ml, 2.5 per tube, the next whole cell
    fit = fit_cox(rows["duration"].to_numpy(), rows["event"].to_numpy(), pd.DataFrame({"x": high.astype(float)}))
    assert isinstance(fit, CoxFit)
    assert found is not None
    assert found.median == pytest.approx(fit.hazard("x", "").hr)


def test_too_few_events_are_refused_by_name_and_without_draws() -> None:
    found = spread(cohort(), min_events=100)
    assert all(one.hr is None for one in found.sources)
    assert "events, at least 100 are needed" in str(found.sources[0].refusal)
    assert found.draws is None
    assert spread(cohort().iloc[:0]).draws is None


def test_arms_that_never_overlap_are_refused_and_not_drawn_as_infinite() -> None:
    rows = cohort(40).assign(duration=np.arange(1.0, 41), event=1.0, count=[9.0] * 20 + [0.0] * 20)
    found = spread(rows)
    assert "does not converge" in str(found.sources[-1].refusal)
    assert found.draws is None


def cells_of_two_samples() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    p = rng.beta(0.6, 0.9, 60).astype(np.float32)
    return pd.DataFrame(
        {
            "cell_uid": [f"c{at}" for at in range(60)],
            "sample_uid": ["s0"] * 40 + ["s1"] * 20,
            "predicted": np.where(p >= 0.5, "ctc", "wbc"),
            "probabilities": list(np.column_stack([p, 1 - p])),
            "proposed": rng.random(60) < 0.6,
        }
    )


@pytest.mark.parametrize("denominator", ["proposed", "all"])
def test_a_tube_holds_what_the_counts_say_of_it(denominator: str) -> None:
    cells = cells_of_two_samples()
    found = tubes_of(
        cells, ["s0", "s1"], classes=CLASSES, denominator=denominator, frequency_events=10, calibration=CALIBRATION
    )
    errors = Errors(usual=np.array([0.3, 0.7]), spread=np.array([0.6, 0.4]), reading_error=0.004)
    for uid, of_sample in cells.groupby("sample_uid"):
        said = probabilities_of(of_sample, CLASSES)
        chances = chances_among(of_sample, tempered(said, 1.2), errors.usual, 10)
        counts = sample_counts(of_sample, said, chances, CLASSES, ARG_MAX, errors)
        row = counts.denominators.index(denominator) * len(CLASSES)
        expected = np.trim_zeros(np.round(counts.tube.weights[row], 9), "b")
        assert found[str(uid)][: len(expected)] == pytest.approx(expected, abs=1e-8)
        assert found[str(uid)].sum() == pytest.approx(1)


def test_samples_that_do_not_say_what_was_presented_have_no_tube_of_it_and_an_empty_one_holds_nothing() -> None:
    cells = cells_of_two_samples()
    cells["proposed"] = cells["proposed"].astype(object)
    cells.loc[3, "proposed"] = None
    cells.loc[cells["sample_uid"] == "s1", "proposed"] = False
    about: dict[str, Any] = {"classes": CLASSES, "frequency_events": 10, "calibration": CALIBRATION}
    found = tubes_of(cells, ["s0", "s1"], denominator="proposed", **about)
    assert list(found) == ["s1"]
    assert found["s1"].tolist() == [1.0]
    assert set(tubes_of(cells, ["s0", "s1"], denominator="all", **about)) == {"s0", "s1"}
