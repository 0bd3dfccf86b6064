from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, chi2, gamma

from ctcml.counts import CellsInTube, cells_in_tube, count_cells, counted_cells, number_of_cells
from ctcml.errors import BadInput
from ctcml.tables import CLINICAL, COUNTS, check

CLASSES = ["ctc", "wbc"]


def events(
    sample: str, ctc_probabilities: Sequence[float], proposed: Sequence[bool | None] | bool | None = True
) -> pd.DataFrame:
    flags = list(proposed) if isinstance(proposed, Sequence) else [proposed] * len(ctc_probabilities)
    return pd.DataFrame(
        {
            "cell_uid": [f"{sample}-{at}" for at in range(len(ctc_probabilities))],
            "sample_uid": sample,
            "proposed": pd.Series(flags, dtype=object),
            "predicted": ["ctc" if chance > 0.5 else "wbc" for chance in ctc_probabilities],
            "probabilities": [np.array([chance, 1 - chance], dtype=np.float32) for chance in ctc_probabilities],
        }
    )


def clinical(*samples: str, cancer_type: str = "breast", blood_volume_ml: float = 7.5) -> pd.DataFrame:
    table = pd.DataFrame({name: [None] * len(samples) for name in CLINICAL})
    table["sample_uid"] = samples
    table["patient_uid"] = [f"patient of {name}" for name in samples]
    return table.assign(sample_kind="patient", cancer_type=cancer_type, blood_volume_ml=blood_volume_ml)


EXACT: dict[str, Any] = {
    "temperature": 1.0, "usual": {"ctc": 0.5, "wbc": 0.5}, "spread": {"ctc": 0.0, "wbc": 0.0},
    "frequency_events": 1e12, "reading_error": 0.0,
}  # fmt: skip


def count(cells: pd.DataFrame, samples: pd.DataFrame | None = None, **errors: Any) -> pd.DataFrame:
    found = count_cells(
        cells,
        clinical(*sorted(set(cells["sample_uid"]))) if samples is None else samples,
        classes=CLASSES,
        thresholds=[0.75, 0.9],
        interval=0.95,
        cutoffs={"breast": 5},
        exploratory_cutoffs={"lung": 5},
        **EXACT | errors,
    )
    check(found, COUNTS, "counts")
    return found


def row(
    table: pd.DataFrame, class_id: str = "ctc", denominator: str = "proposed", threshold: float = 0.0
) -> dict[str, Any]:
    wanted = (table["class_id"] == class_id) & (table["denominator"] == denominator) & (table["threshold"] == threshold)
    (found,) = table[wanted].to_dict("records")
    return {str(name): value for name, value in found.items()}


def test_cells_are_counted_by_their_most_probable_class_and_at_each_threshold() -> None:
    found = count(events("s", [0.6, 0.8, 0.95, 0.1]))
    assert [row(found, threshold=threshold)["count"] for threshold in (0.0, 0.75, 0.9)] == [3, 2, 1]
    assert row(found, "wbc")["count"] == 1
    assert row(found)["events"] == 4


def test_the_two_denominators_are_kept_apart() -> None:
    found = count(events("s", [0.99, 0.99, 0.99], proposed=[True, False, True]))
    assert row(found, denominator="proposed")["count"] == 2
    assert row(found, denominator="all")["count"] == 3


def test_a_sample_whose_export_does_not_say_what_was_proposed_has_no_such_count() -> None:
    found = count(events("s", [0.99, 0.99], proposed=[True, None]))
    assert set(found["denominator"]) == {"all"}


def test_counts_are_given_per_tube_of_7_5_ml() -> None:
    found = row(count(events("s", [0.999] * 4), clinical("s", blood_volume_ml=15)))
    assert found["per_7_5_ml"] == 2
    assert found["low"] < 2 < found["high"] < 6


def sure_or_not(chances: Sequence[float] | np.ndarray, **errors: float) -> CellsInTube:
    """What is known of one count, all of whose events are at stake."""
    row = np.asarray(chances, dtype=float)[None]
    return cells_in_tube(row, np.ones_like(row, dtype=bool), **errors)


def test_sure_cells_have_the_poisson_interval_of_their_number() -> None:
    """Jeffreys limits of a Poisson mean, gamma(k + 1/2), lie inside the exact ones of Garwood (1936) but near them."""
    for cells in (1, 5, 40):
        known = sure_or_not(np.ones(cells))
        low, high = known.concentration_quantile(0.025)[0], known.concentration_quantile(0.975)[0]
        assert low == pytest.approx(gamma.ppf(0.025, cells + 0.5), abs=1e-6)
        assert high == pytest.approx(gamma.ppf(0.975, cells + 0.5), abs=1e-6)
        assert chi2.ppf(0.025, 2 * cells) / 2 < low < cells < high < chi2.ppf(0.975, 2 * cells + 2) / 2
        assert known.quantile(0.025) == known.quantile(0.975) == cells


def test_the_number_of_real_cells_follows_the_poisson_binomial_distribution() -> None:
    assert number_of_cells(np.full(30, 0.3)) == pytest.approx(binom.pmf(np.arange(31), 30, 0.3), abs=1e-12)
    # 300 events are cut into blocks and joined again.
    assert number_of_cells(np.full((2, 300), 0.3))[1] == pytest.approx(binom.pmf(np.arange(301), 300, 0.3), abs=1e-12)
    assert number_of_cells(np.empty((4, 0))).tolist() == [[1.0]] * 4


def test_many_events_cost_little_and_lose_no_mass() -> None:
    chances = np.random.default_rng(0).beta(0.05, 2, 5000)
    weights = sure_or_not(chances).weights[0]
    numbers = np.arange(len(weights))
    assert weights @ numbers == pytest.approx(chances.sum(), rel=1e-6)
    variance = weights @ numbers**2 - (weights @ numbers) ** 2
    assert variance == pytest.approx((chances * (1 - chances)).sum(), rel=1e-4)


def test_the_concentration_is_a_gamma_mixture_over_the_numbers_of_cells() -> None:
    known = sure_or_not(np.linspace(0.01, 0.99, 40), spread=0.7)
    at = np.array([18.0])
    expected = known.weights[0] @ gamma.cdf(at, np.arange(known.weights.shape[1]) + 0.5)
    assert known.concentration_below(at)[0] == pytest.approx(expected, abs=1e-12)
    assert known.concentration_below(known.concentration_quantile(0.3))[0] == pytest.approx(0.3, abs=1e-9)


def test_an_error_that_events_share_widens_what_independent_ones_average_out() -> None:
    chances = np.full(60, 0.3)
    alone, shared = sure_or_not(chances), sure_or_not(chances, spread=0.8)
    numbers = np.arange(alone.weights.shape[1])
    assert shared.quantile(0.975)[0] - shared.quantile(0.025)[0] > 2 * (
        alone.quantile(0.975)[0] - alone.quantile(0.025)[0]
    )
    # Its mean moves little: the error goes both ways.
    assert alone.weights[0] @ numbers == pytest.approx(18)
    assert shared.weights[0] @ np.arange(shared.weights.shape[1]) == pytest.approx(18, abs=0.5)


def test_no_event_is_surer_than_the_experts_are() -> None:
    certain = sure_or_not([1.0] * 5 + [0.0] * 60, usual=5 / 65, reading_error=0.01)
    numbers = np.arange(certain.weights.shape[1])
    assert certain.weights[0, 5] == pytest.approx(0.99**5 * (1 - 0.01 / 12) ** 60, abs=0.003)
    # What is lost on one side is gained on the other, and thousands of leucocytes make no CTCs.
    assert certain.weights[0] @ numbers == pytest.approx(5, abs=1e-6)
    leucocytes = sure_or_not([0.0] * 5000, usual=0.001, reading_error=0.01)
    assert leucocytes.weights[0] @ np.arange(leucocytes.weights.shape[1]) == pytest.approx(0.05, abs=1e-3)


def test_doubtful_cells_widen_the_interval() -> None:
    sure, doubtful = row(count(events("s", [0.999] * 8))), row(count(events("s", [0.6] * 8 + [0.4] * 8)))
    assert sure["count"] == doubtful["count"] == 8
    assert doubtful["high"] - doubtful["low"] > 1.1 * (sure["high"] - sure["low"])


def test_the_interval_holds_the_concentration_in_95_of_100_samples() -> None:
    """Patients with a known concentration, calibrated networks: coverage is what it claims to be."""
    rng, held = np.random.default_rng(5), 0
    for _ in range(400):
        truth = rng.lognormal(1.5, 1)
        tumour, others = rng.poisson(truth), rng.poisson(60)
        share = truth / (truth + 60)
        # A noisy score whose likelihood ratio is known makes probabilities that are calibrated by construction.
        score = np.concatenate([rng.normal(2.5, 1, tumour), rng.normal(-2.5, 1, others)])
        odds = share / (1 - share) * np.exp(5 * score)
        known = sure_or_not(odds / (1 + odds))
        held += known.concentration_quantile(0.025)[0] <= truth <= known.concentration_quantile(0.975)[0]
    assert 0.92 <= held / 400 <= 0.99


def test_an_interval_always_holds_the_count_on_the_page() -> None:
    found = count(events("s", [0.51] * 6))
    for low, high in (("low", "high"), ("tube_low", "tube_high")):
        assert ((found[low] <= found["per_7_5_ml"]) & (found["per_7_5_ml"] <= found[high])).all()


@pytest.mark.parametrize(("cells", "side"), [(0, "below"), (4, "undecided"), (5, "undecided"), (30, "above")])
def test_the_side_of_the_cut_off_is_undecided_while_the_interval_holds_it(cells: int, side: str) -> None:
    assert row(count(events("s", [0.999] * cells + [0.001] * 20)))["side"] == side


def test_the_flip_risk_is_largest_at_the_cut_off_and_vanishes_far_from_it() -> None:
    risks = {cells: row(count(events("s", [1.0] * cells + [0.0])))["flip_risk"] for cells in (0, 3, 4, 5, 7, 50)}
    assert risks[0] < risks[3] < risks[4] < 0.5
    assert 0.5 > risks[5] > risks[7] > risks[50]
    assert risks[50] < 1e-9
    assert risks[5] == pytest.approx(gamma.cdf(5, 5.5), abs=1e-6)


def test_the_tube_and_the_blood_are_two_questions() -> None:
    """Eight sure cells: reading them again changes nothing, drawing another tube may."""
    sure = row(count(events("s", [1.0] * 8 + [0.0] * 20)))
    assert (sure["tube_low"], sure["tube_high"]) == (8, 8)
    assert sure["tube_flip_risk"] < 1e-9
    assert sure["side"] == "undecided"
    assert sure["flip_risk"] == pytest.approx(gamma.cdf(5, 8.5), abs=1e-6)
    doubtful = row(count(events("s", [1.0] * 4 + [0.6] * 3 + [0.0] * 20)))
    assert doubtful["tube_low"] == 4
    assert doubtful["tube_high"] == 7
    assert doubtful["tube_flip_risk"] == pytest.approx(0.4**3, abs=1e-6)


def test_what_is_wrong_with_the_probabilities_widens_the_interval_and_leaves_the_count() -> None:
    cells = events("s", [0.97] * 6 + [0.3] * 8 + [0.01] * 30)
    plain = row(count(cells))
    for errors in ({"temperature": 2.0}, {"spread": {"ctc": 1.0, "wbc": 1.0}}, {"reading_error": 0.05}):
        wider = row(count(cells, **errors))
        assert wider["count"] == plain["count"] == 6
        assert wider["high"] - wider["low"] > plain["high"] - plain["low"]


def test_a_doubtful_cell_counts_for_less_in_a_sample_that_has_no_sure_one() -> None:
    usual = {"frequency_events": 10}
    with_sure = count(events("s", [0.999] * 20 + [0.4] * 2 + [0.001] * 20), **usual)
    without = count(events("s", [0.4] * 2 + [0.001] * 40), **usual)
    assert row(with_sure)["tube_high"] == 22
    assert row(without)["tube_high"] < 2


def test_a_class_whose_spread_was_never_fitted_is_named() -> None:
    with pytest.raises(BadInput, match="class 'wbc' is not in it"):
        count(events("s", [0.9]), spread={"ctc": 0.5})


def test_only_the_arg_max_among_proposed_events_meets_the_cleared_cut_off() -> None:
    found = count(events("s", [0.999] * 9))
    assert not row(found)["exploratory"]
    assert row(found, denominator="all")["exploratory"]
    assert row(found, threshold=0.9)["exploratory"]
    assert row(found, "wbc")["side"] == "none"
    assert not row(found, "wbc")["exploratory"]


def test_a_cut_off_that_no_one_cleared_is_exploratory_everywhere() -> None:
    found = count(events("s", [0.999] * 9), clinical("s", cancer_type="lung"))
    assert found.loc[found["class_id"] == "ctc", "exploratory"].all()


def test_a_cancer_type_without_a_cut_off_has_no_side() -> None:
    found = row(count(events("s", [0.999] * 9), clinical("s", cancer_type="bladder")))
    assert found["side"] == "none"
    assert np.isnan(found["flip_risk"])


def test_every_count_leads_back_to_exactly_its_cells() -> None:
    cells = pd.concat([events("a", [0.6, 0.95, 0.2], proposed=[True, True, False]), events("b", [0.9])])
    found = count(cells)
    for _, one in found.iterrows():
        uids = counted_cells(
            cells,
            one["sample_uid"],
            classes=CLASSES,
            class_id=one["class_id"],
            denominator=one["denominator"],
            threshold=one["threshold"],
        )
        assert len(uids) == one["count"]
    assert counted_cells(cells, "a", classes=CLASSES, class_id="ctc", denominator="all") == ["a-1", "a-0"]


def test_the_way_back_refuses_what_was_never_counted() -> None:
    with pytest.raises(BadInput, match="no count of 'ghost'"):
        counted_cells(events("a", [0.6]), "a", classes=CLASSES, class_id="ghost", denominator="all")
    with pytest.raises(BadInput, match="'proposed'"):
        counted_cells(events("a", [0.6], proposed=None), "a", classes=CLASSES, class_id="ctc", denominator="proposed")


def test_cells_without_a_clinical_row_are_refused_by_name() -> None:
    with pytest.raises(BadInput, match="sample b"):
        count(events("b", [0.5]), clinical("a"))
    with pytest.raises(BadInput, match="a is there twice"):
        count(events("a", [0.5]), clinical("a", "a"))
    with pytest.raises(BadInput, match="blood_volume_ml is 0"):
        count(events("a", [0.5]), clinical("a", blood_volume_ml=0))
    cells = events("a", [0.5])
    cells["probabilities"] = [np.ones(3)]
    with pytest.raises(BadInput, match=r"\[3\] probabilities a cell, expected 2"):
        count(cells, clinical("a"))


def test_no_thumbnails_are_not_the_same_as_no_tumour_cells() -> None:
    assert set(count(events("a", [0.1]), clinical("a", "empty"))["sample_uid"]) == {"a"}
