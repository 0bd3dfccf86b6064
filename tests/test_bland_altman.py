"""Agreement of two ways of counting is that of the papers which introduced the figures."""

import numpy as np
import pytest

from ctcml.bland_altman import concordance, count_agreement, limits_of_agreement
from ctcml.errors import BadInput

# Bland & Altman 1986, Lancet i:307, table 1: peak expiratory flow by a large and by a mini Wright meter, first readings [l/min].
LARGE = np.array([494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427], dtype=float)
MINI = np.array([512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451], dtype=float)


def test_peak_flow_has_the_bias_and_limits_of_bland_and_altman_1986() -> None:
    """Mean -2.1, sd 38.8, interval of the mean -22.0 to 17.8; their limits at 2 sd, -79.7 to 75.5, are ours at 1.96 sd."""
    off = LARGE - MINI
    assert (off.mean(), off.std(ddof=1)) == pytest.approx((-2.1, 38.8), abs=0.05)
    found = limits_of_agreement(float(off.mean()), float(off.std(ddof=1)), len(off))
    bias = found["bias"]
    assert (bias["low"], bias["high"]) == pytest.approx((-22.0, 17.8), abs=0.06)
    assert (found["lower"]["value"], found["upper"]["value"]) == pytest.approx((-78.1, 73.9), abs=0.1)


def test_blood_pressure_has_the_limits_of_bland_and_altman_1999() -> None:
    """85 men, mean -16.29, sd 19.61 mmHg: limits -54.7 and 22.1 with a standard error of 1.71 sd / √n, 3.64."""
    found = limits_of_agreement(-16.29, 19.61, 85)
    assert (found["lower"]["value"], found["upper"]["value"]) == pytest.approx((-54.7, 22.1), abs=0.05)
    width = found["upper"]["high"] - found["upper"]["low"]  # type: ignore[operator]
    assert width / 2 == pytest.approx(
        1.989 * 1.71 * 19.61 / 85**0.5, rel=0.01
    )  # 1.989 is Student's t with 84 degrees of freedom


def test_concordance_is_the_correlation_times_how_near_the_best_line_is_to_identity() -> None:
    """Lin 1989: ρc = ρ Cb, with Cb = 2 / (v + 1/v + u²)."""
    found = concordance(LARGE, MINI)
    v = LARGE.std() / MINI.std()
    u = (LARGE.mean() - MINI.mean()) / (LARGE.std() * MINI.std()) ** 0.5
    assert found["value"] == pytest.approx(np.corrcoef(LARGE, MINI)[0, 1] * 2 / (v + 1 / v + u**2))
    assert (found["value"], found["low"], found["high"]) == pytest.approx((0.943, 0.850, 0.979), abs=6e-4)


def test_the_interval_of_concordance_holds_the_truth_about_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(8), 0
    for _ in range(400):
        shared = rng.normal(0, 1, 60)
        one, other = shared + rng.normal(0, 0.5, 60), shared + 0.3 + rng.normal(0, 0.5, 60)
        found = concordance(one, other)
        truth = 2 / (1.25 + 1.25 + 0.3**2)
        assert found["low"] is not None
        assert found["high"] is not None
        held += found["low"] < truth < found["high"]
    assert 0.92 <= held / 400 <= 0.98


def test_counts_that_differ_by_a_factor_have_that_factor_as_bias_and_no_spread() -> None:
    manual = np.array([0.0, 1.0, 4.0, 19.0, 99.0])
    found = count_agreement(2 * (1 + manual) - 1, manual)
    assert [found[name]["value"] for name in ("bias", "lower", "upper")] == pytest.approx([2.0, 2.0, 2.0])
    assert found["tubes"] == 5


def test_the_same_counts_agree_entirely_and_have_no_interval_of_concordance() -> None:
    found = count_agreement(np.array([0, 3, 10]), np.array([0, 3, 10]))
    assert found["bias"]["value"] == 1.0
    assert found["concordance"] == {"value": pytest.approx(1.0), "low": None, "high": None}


@pytest.mark.parametrize("counts", [[], [4.0], [1.0, 2.0]])
def test_fewer_than_three_tubes_tell_nothing(counts: list[float]) -> None:
    found = count_agreement(np.array(counts), np.array(counts))
    assert found["bias"] == found["concordance"] == {"value": None, "low": None, "high": None}


def test_counts_that_never_vary_have_no_concordance() -> None:
    found = count_agreement(np.array([1, 2, 3]), np.zeros(3))
    assert found["concordance"]["value"] is None
    assert found["bias"]["value"] > 1


@pytest.mark.parametrize("wrong", [[-1.0, 2, 3], [np.nan, 2, 3], [1.0, 2]])
def test_a_count_that_cannot_be_is_refused(wrong: list[float]) -> None:
    with pytest.raises(BadInput, match="two finite counts of 0 or more a tube"):
        count_agreement(np.array(wrong), np.array([1.0, 2, 3]))
