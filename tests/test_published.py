"""The paper's own figures are what its text says, and no others."""

import pytest

from ctcml.published import FIGURES, MISTAKES, SIX, WRONG_BY_CANCER_TYPE, published

FIVE = SIX - {"cd45ev"}


def test_the_paper_states_five_figures_and_all_are_of_six_classes() -> None:
    # "from 95.47% accuracy to 96.43% accuracy"; "97.3% with a specificity of 98.8%"; "dropped to 96.2%"
    assert sorted(FIGURES.values()) == [0.9547, 0.962, 0.9643, 0.973, 0.988]
    assert published(SIX, "ctc_sensitivity", "standard") == 0.962
    assert published(SIX, "ctc_specificity", "standard") is None  # the text does not say it


@pytest.mark.parametrize("classes", [FIVE, {"ctc", "no_ctc"}, (SIX - {"cd45ev"}) | {"platelet"}])
def test_other_classes_than_the_papers_six_have_nothing_to_stand_beside(classes: set[str]) -> None:
    assert published(classes, "accuracy", "autoencoder") is None


def test_missed_ctcs_fit_the_sensitivity_that_the_paper_gives() -> None:
    # 6,505 CTCs, 5,171 of them in the training set
    assert 1 - MISTAKES["missed"][0.0] / (6505 - 5171) == pytest.approx(0.973, abs=0.0005)
    assert WRONG_BY_CANCER_TYPE["lung"] == (0.02, 892)
