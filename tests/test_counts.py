from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, chi2, gamma

from ctcml.counts import concentration, count_cells, counted_cells
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


def count(cells: pd.DataFrame, samples: pd.DataFrame | None = None) -> pd.DataFrame:
    found = count_cells(
        cells,
        clinical(*sorted(set(cells["sample_uid"]))) if samples is None else samples,
        classes=CLASSES,
        thresholds=[0.75, 0.9],
        interval=0.95,
        cutoffs={"breast": 5},
        exploratory_cutoffs={"lung": 5},
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


def test_sure_cells_have_the_poisson_interval_of_their_number() -> None:
    """Jeffreys limits of a Poisson mean, gamma(k + 1/2), lie inside the exact ones of Garwood (1936) but near them."""
    for cells in (1, 5, 40):
        known = concentration(np.ones(cells))
        low, high = known.quantile(0.025), known.quantile(0.975)
        assert low == pytest.approx(gamma.ppf(0.025, cells + 0.5), abs=1e-3)
        assert chi2.ppf(0.025, 2 * cells) / 2 < low < cells < high < chi2.ppf(0.975, 2 * cells + 2) / 2


def test_the_number_of_real_cells_follows_the_poisson_binomial_distribution() -> None:
    known = concentration(np.full(30, 0.3))
    assert known.weights == pytest.approx(binom.pmf(known.first + np.arange(len(known.weights)), 30, 0.3), abs=1e-9)


def test_many_events_cost_little_and_lose_no_mass() -> None:
    chances = np.random.default_rng(0).beta(0.05, 2, 5000)
    known = concentration(chances)
    numbers = known.first + np.arange(len(known.weights))
    assert known.weights @ numbers == pytest.approx(chances.sum(), rel=1e-6)
    variance = known.weights @ numbers**2 - (known.weights @ numbers) ** 2
    assert variance == pytest.approx((chances * (1 - chances)).sum(), rel=1e-4)


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
        known = concentration(odds / (1 + odds))
        held += known.quantile(0.025) <= truth <= known.quantile(0.975)
    assert 0.92 <= held / 400 <= 0.99


def test_an_interval_always_holds_the_count_on_the_page() -> None:
    found = count(events("s", [0.51] * 6))
    assert ((found["low"] <= found["per_7_5_ml"]) & (found["per_7_5_ml"] <= found["high"])).all()


@pytest.mark.parametrize(("cells", "side"), [(0, "below"), (4, "undecided"), (5, "undecided"), (30, "above")])
def test_the_side_of_the_cut_off_is_undecided_while_the_interval_holds_it(cells: int, side: str) -> None:
    assert row(count(events("s", [0.999] * cells + [0.001] * 20)))["side"] == side


def test_the_flip_risk_is_largest_at_the_cut_off_and_vanishes_far_from_it() -> None:
    risks = {cells: row(count(events("s", [1.0] * cells + [0.0])))["flip_risk"] for cells in (0, 3, 4, 5, 7, 50)}
    assert risks[0] < risks[3] < risks[4] < 0.5
    assert 0.5 > risks[5] > risks[7] > risks[50]
    assert risks[50] < 1e-9
    assert risks[5] == pytest.approx(gamma.cdf(5, 5.5), abs=1e-6)


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
