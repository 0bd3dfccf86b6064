"""The rule: what is asked of a challenger, against the champion and against the anchor, and what the reasons say."""

import json
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ctcml.errors import BadInput
from ctcml.noninferiority import ctc_needed
from ctcml.promotion import Judgement, judge
from ctcml.records import Verdict
from ctcml.requirements import Predictions, Requirement

FIVE = ("ctc", "tdev", "wbc", "bare_nucleus", "other")
SIX = (*FIVE, "cd45ev")


def says(predicted: NDArray[np.str_], classes: tuple[str, ...]) -> Predictions:
    calls = (predicted[:, None] == np.array(classes)).astype(float)
    return Predictions(classes=classes, probabilities=calls)


def sealed(
    cells: int = 1000, classes: tuple[str, ...] = FIVE, seed: int = 0
) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    rng = np.random.default_rng(seed)
    return rng.choice(classes, cells), rng.choice([f"p{number}" for number in range(30)], cells)


def wrong(truth: NDArray[np.str_], asked: NDArray[np.bool_], many: int, call: str, seed: int = 1) -> NDArray[np.str_]:
    """The truth, but `many` of the asked cells called `call`."""
    predicted = truth.astype("<U20")
    predicted[np.random.default_rng(seed).choice(np.flatnonzero(asked), many, replace=False)] = call
    return predicted


def known(truth: NDArray[np.str_]) -> NDArray[np.str_]:
    """What a faultless five-class model says: it calls the class that it does not know `other`."""
    return np.where(np.isin(truth, FIVE), truth, "other")


def verdict(
    challenger: Predictions,
    champion: Predictions,
    truth: NDArray[np.str_],
    patients: NDArray[np.str_],
    *,
    anchor: Predictions | None = None,
    clusters: NDArray[np.str_] | None = None,
    drift: tuple[float, float] | None = (0.1, 0.1),
    sensitivity_margin: float = 0.05,
    retired: Collection[str] = (),
    bootstrap: int = 500,
) -> Judgement:
    return judge(
        challenger,
        champion,
        anchor,
        truth,
        patients,
        np.full(len(truth), "appearance 01") if clusters is None else clusters,
        drift=drift,
        ctc_sensitivity_margin=sensitivity_margin,
        ctc_specificity_margin=0.02,
        cluster_f1_margin=0.1,
        count_error_margin=0.15,
        anchor_margin=0.03,
        anchor_confidence=0.99,
        recall_margin=0.15,
        calibration_margin=0.03,
        drift_margin=0.1,
        cluster_min_cells=40,
        class_min_cells=10,
        new_class_floor=0.8,
        min_ctc=30,
        bootstrap=bootstrap,
        rng=np.random.default_rng(0),
        retired=retired,
    )


def named(found: Judgement, name: str, against: str = "champion") -> Requirement:
    (one,) = [one for one in found.requirements if one.name == name and one.against == against]
    return one


def test_a_challenger_that_learnt_a_new_class_and_lost_nothing_is_promoted() -> None:
    truth, patients = sealed(classes=SIX)
    found = verdict(says(truth, SIX), says(known(truth), FIVE), truth, patients)
    assert found.verdict is Verdict.PROMOTE
    assert all(reason.endswith(": met") for reason in found.reasons)
    assert found.reasons[-1].startswith("recall of the new class cd45ev: 100.0% of")


def test_a_challenger_that_misses_ctcs_is_refused_and_the_reason_says_how_many_points() -> None:
    truth, patients = sealed()
    predicted = wrong(truth, truth == "ctc", int((truth == "ctc").sum()) // 5, "tdev")
    found = verdict(says(predicted, FIVE), says(truth, FIVE), truth, patients)
    assert found.verdict is Verdict.REFUSE
    assert "difference -20" in found.reasons[0] or "difference -19" in found.reasons[0]


def test_a_challenger_that_calls_debris_ctc_is_refused_for_its_specificity() -> None:
    truth, patients = sealed()
    predicted = wrong(truth, truth == "other", 60, "ctc")
    found = verdict(says(predicted, FIVE), says(truth, FIVE), truth, patients)
    assert found.verdict is Verdict.REFUSE
    assert found.reasons[1].startswith("CTC specificity")
    assert found.reasons[1].endswith("not met")


def test_a_new_class_is_no_excuse_for_losing_an_old_one() -> None:
    truth, patients = sealed(classes=SIX)
    predicted = wrong(truth, truth == "wbc", 60, "cd45ev")
    found = verdict(says(predicted, SIX), says(known(truth), FIVE), truth, patients)
    assert found.verdict is Verdict.REFUSE
    assert named(found, "recall of wbc").outcome is Verdict.REFUSE


def test_cells_of_the_new_class_do_not_count_for_or_against_the_champion() -> None:
    truth, patients = sealed(classes=SIX)
    found = verdict(says(truth, SIX), says(known(truth), FIVE), truth, patients)
    shared = named(found, "F1 in the worst cluster")
    assert shared.cells == int((truth != "cd45ev").sum())
    assert shared.champion == 1
    assert named(found, "calibration error").cells == shared.cells


def test_a_new_class_below_its_floor_is_refused() -> None:
    truth, patients = sealed(classes=SIX)
    predicted = wrong(truth, truth == "cd45ev", int((truth == "cd45ev").sum()) // 2, "wbc")
    assert verdict(says(predicted, SIX), says(known(truth), FIVE), truth, patients).verdict is Verdict.REFUSE


def test_a_new_class_with_a_handful_of_cells_cannot_be_decided() -> None:
    truth, patients = sealed()
    truth = truth.astype("<U20")
    truth[:5] = "cd45ev"
    found = verdict(says(truth, SIX), says(known(truth), FIVE), truth, patients)
    assert found.verdict is Verdict.CANNOT_DECIDE
    assert "5 cells" in found.reasons[-1]


def test_a_new_class_without_a_sealed_cell_cannot_be_decided() -> None:
    truth, patients = sealed()
    found = verdict(says(truth, SIX), says(truth, FIVE), truth, patients)
    assert found.verdict is Verdict.CANNOT_DECIDE
    assert "no settled cell" in found.reasons[-1]


def test_too_few_ctcs_cannot_be_decided_and_the_reason_says_how_many_are_needed() -> None:
    truth, patients = sealed()
    keep = (truth != "ctc") | (np.cumsum(truth == "ctc") <= 12)
    truth, patients = truth[keep], patients[keep]
    found = verdict(says(truth, FIVE), says(truth, FIVE), truth, patients)
    assert found.verdict is Verdict.CANNOT_DECIDE
    assert "12 settled CTCs; at least 30 are needed, have 18 more read" in found.reasons[0]
    assert named(found, "error of patients' CTC counts").outcome is Verdict.CANNOT_DECIDE


def test_fifty_faultless_ctcs_cannot_exclude_a_loss_of_five_points() -> None:
    """The exact rule of three: 1 − 0.05^(1/50) = 5.8 %."""
    truth, patients = sealed()
    keep = (truth != "ctc") | (np.cumsum(truth == "ctc") <= 50)
    truth, patients = truth[keep], patients[keep]
    found = verdict(says(truth, FIVE), says(truth, FIVE), truth, patients)
    assert found.verdict is Verdict.CANNOT_DECIDE
    assert "lower 95 % limit -5.8" in found.reasons[0]
    assert "about 59 CTCs are needed" in found.reasons[0]
    assert ctc_needed(0.05) == 59
    assert (
        verdict(says(truth, FIVE), says(truth, FIVE), truth, patients, sensitivity_margin=0.1).verdict
        is Verdict.PROMOTE
    )


def test_a_wide_interval_around_a_fine_estimate_asks_for_more_readings_instead_of_refusing() -> None:
    truth, patients = sealed()
    ctc = truth == "ctc"
    keep = ~ctc | (np.cumsum(ctc) <= 80)
    truth, patients = truth[keep], patients[keep]
    challenger, champion = (wrong(truth, truth == "ctc", 6, "tdev", seed=seed) for seed in (1, 2))
    found = verdict(says(challenger, FIVE), says(champion, FIVE), truth, patients)
    assert found.verdict is Verdict.CANNOT_DECIDE
    assert "undecided" in found.reasons[0]
    assert "more read" in found.reasons[0]


def test_a_class_may_only_vanish_when_it_is_retired() -> None:
    truth, patients = sealed(classes=FIVE[:4])
    challenger, champion = says(truth, FIVE[:4]), says(truth, FIVE)
    assert verdict(challenger, champion, truth, patients).verdict is Verdict.REFUSE
    assert verdict(challenger, champion, truth, patients, retired=["other"]).verdict is Verdict.PROMOTE


def test_a_model_with_exactly_the_forbidden_loss_is_promoted_about_one_time_in_twenty() -> None:
    """What the gate claims: at a true loss equal to the margin about 5 % of sealed sets let the challenger pass."""
    passed = 0
    for seed in range(120):
        truth = np.array(["ctc"] * 200 + ["wbc"] * 200)
        rng = np.random.default_rng(seed)
        patients = rng.choice([f"p{number}" for number in range(40)], 400)
        flips = (rng.random((2, 400)) < np.array([[0.13], [0.03]])) & (truth == "ctc")
        challenger, champion = (says(np.where(flip, "other", truth), FIVE) for flip in flips)
        found = verdict(challenger, champion, truth, patients, sensitivity_margin=0.1, bootstrap=200)
        passed += found.requirements[0].outcome is Verdict.PROMOTE
    assert 1 <= passed <= 12  # binomial(120, 0.05): 1 to 12 with 99 %


def test_the_verdict_and_its_figures_survive_json() -> None:
    truth, patients = sealed(classes=SIX)
    found = verdict(says(truth, SIX), says(known(truth), FIVE), truth, patients).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["figures"]["ctc"] == int((truth == "ctc").sum())


def test_predictions_of_other_cells_are_refused() -> None:
    truth, patients = sealed(100)
    with pytest.raises(BadInput, match="99 cells of the champion"):
        verdict(says(truth, FIVE), says(truth[:-1], FIVE), truth, patients)
    with pytest.raises(BadInput, match="no settled cell"):
        verdict(says(truth[:0], FIVE), says(truth[:0], FIVE), truth[:0], patients[:0])
    with pytest.raises(BadInput, match="no class 'ctc'"):
        verdict(says(truth, FIVE[1:]), says(truth, FIVE), truth, patients)
    with pytest.raises(BadInput, match=r"shape \(3, 2\)"):
        Predictions(classes=FIVE, probabilities=np.ones((3, 2)))
    with pytest.raises(BadInput, match="temperature 0"):
        Predictions(classes=FIVE, probabilities=np.ones((3, 5)), temperature=0)


def losing(truth: NDArray[np.str_], points: float, seed: int = 3) -> Predictions:
    """A model that misses this many points of the CTCs."""
    return says(wrong(truth, truth == "ctc", round((truth == "ctc").sum() * points / 100), "other", seed), FIVE)


def test_a_small_step_from_the_champion_is_refused_where_the_steps_before_it_add_up() -> None:
    truth, patients = sealed(4000)
    anchor, champion, challenger = (losing(truth, points) for points in (1, 3.5, 5))
    step = verdict(challenger, champion, truth, patients)
    assert named(step, "CTC sensitivity").outcome is Verdict.PROMOTE
    found = verdict(challenger, champion, truth, patients, anchor=anchor)
    assert found.verdict is Verdict.REFUSE
    assert named(found, "CTC sensitivity").outcome is Verdict.PROMOTE
    assert named(found, "CTC sensitivity", "anchor").outcome is Verdict.REFUSE
    assert "against the anchor's 99.0%" in named(found, "CTC sensitivity", "anchor").reason
    assert "lower 99 % limit" in named(found, "CTC sensitivity", "anchor").reason


def test_an_anchor_that_is_the_champion_is_judged_once_and_by_the_stricter_numbers() -> None:
    truth, patients = sealed(2000)
    champion = losing(truth, 1)
    found = verdict(losing(truth, 3), champion, truth, patients, anchor=replace(champion))
    (one,) = [one for one in found.requirements if one.name == "CTC sensitivity"]
    assert (one.against, one.limit, one.outcome) == ("champion and anchor", -0.03, Verdict.CANNOT_DECIDE)
    assert "against the champion's and anchor's 99.0%" in one.reason
    assert "lower 99 % limit" in one.reason


def test_a_loss_that_one_cluster_hides_is_seen_and_the_cluster_is_named() -> None:
    truth, patients = sealed(2000)
    clusters = np.random.default_rng(5).choice(
        ["appearance 01", "appearance 02", "appearance 03", "rare"], 2000, p=[0.6, 0.28, 0.11, 0.01]
    )
    here = (clusters == "appearance 03") & (truth != "ctc")
    predicted = wrong(truth, here, round(0.5 * here.sum()), "other")
    found = verdict(says(predicted, FIVE), says(truth, FIVE), truth, patients, clusters=clusters)
    one = named(found, "F1 in the worst cluster")
    assert one.outcome is Verdict.REFUSE
    assert "(appearance 03) against the champion's 100.0% (appearance 01)" in one.reason
    everything = np.full(len(truth), "all")
    whole = named(
        verdict(says(predicted, FIVE), says(truth, FIVE), truth, patients, clusters=everything),
        "F1 in the worst cluster",
    )
    assert whole.outcome is Verdict.PROMOTE
    rare = wrong(truth, clusters == "rare", 10, "other")  # too few cells to be a cluster of its own
    assert (
        named(verdict(says(rare, FIVE), says(truth, FIVE), truth, patients, clusters=clusters), one.name).challenger
        == 1
    )


def test_the_worst_clusters_f1_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score

    truth, patients = sealed(1200, seed=4)
    clusters = np.random.default_rng(6).choice(["a", "b", "c"], 1200)
    predicted = wrong(truth, np.ones(1200, dtype=bool), 200, "tdev")
    one = named(
        verdict(says(predicted, FIVE), says(truth, FIVE), truth, patients, clusters=clusters), "F1 in the worst cluster"
    )
    by_hand = [f1_score(truth[clusters == name], predicted[clusters == name], average="macro") for name in "abc"]
    assert one.challenger == pytest.approx(min(by_hand))


def test_counts_that_err_in_both_directions_do_not_cancel_between_patients() -> None:
    truth, patients = sealed()
    few, many = np.isin(patients, ["p1", "p2", "p3", "p4"]), np.isin(patients, ["p5", "p6", "p7", "p8"])
    predicted = np.where(few & (truth == "ctc"), "other", np.where(many & (truth == "other"), "ctc", truth))
    one = named(verdict(says(predicted, FIVE), says(truth, FIVE), truth, patients), "error of patients' CTC counts")
    off = int((few & (truth == "ctc")).sum() + (many & (truth == "other")).sum())
    assert one.challenger == pytest.approx(off / (truth == "ctc").sum())
    assert (one.champion, one.limit, one.lower_is_better, one.outcome) == (0, 0.15, True, Verdict.REFUSE)
    swapped = truth.astype("<U20")  # right in number, though not the right cells
    for name in np.unique(patients):
        mine = np.flatnonzero((patients == name) & np.isin(truth, ["ctc", "other"]))
        ctcs = [at for at in mine if truth[at] == "ctc"]
        others = [at for at in mine if truth[at] == "other"]
        for one_ctc, one_other in zip(ctcs[:1], others[:1], strict=False):
            swapped[one_ctc], swapped[one_other] = "other", "ctc"
    assert named(verdict(says(swapped, FIVE), says(truth, FIVE), truth, patients), one.name).challenger == 0


@pytest.mark.parametrize("class_id", FIVE)
def test_a_class_that_was_learnt_from_shuffled_labels_is_named_in_the_reasons(class_id: str) -> None:
    truth, patients = sealed()
    mixed = np.where(truth == class_id, np.random.default_rng(1).choice(FIVE, len(truth)), truth)
    found = verdict(says(mixed, FIVE), says(truth, FIVE), truth, patients, bootstrap=200)
    assert found.verdict is Verdict.REFUSE
    refused = {
        one.name for one in found.requirements if one.outcome is Verdict.REFUSE and one.name.startswith("recall")
    }
    assert refused == {f"recall of {class_id}"}


def test_a_class_with_a_handful_of_cells_neither_refuses_by_chance_nor_keeps_the_case_open() -> None:
    truth, patients = sealed()
    keep = (truth != "tdev") | (np.cumsum(truth == "tdev") <= 5)
    truth, patients = truth[keep], patients[keep]
    assert verdict(says(truth, FIVE), says(truth, FIVE), truth, patients).verdict is Verdict.PROMOTE
    one_lost = wrong(truth, truth == "tdev", 1, "other")
    assert (
        named(verdict(says(one_lost, FIVE), says(truth, FIVE), truth, patients), "recall of tdev").outcome
        is Verdict.CANNOT_DECIDE
    )
    none = truth != "tdev"
    found = verdict(says(truth[none], FIVE), says(truth[none], FIVE), truth[none], patients[none])
    assert found.verdict is Verdict.PROMOTE
    assert named(found, "recall of tdev").reason == "recall of tdev: not judged, no settled cell is of this class"


def test_a_challenger_that_is_surer_than_right_is_refused_unless_its_temperature_mends_it() -> None:
    truth, patients = sealed(2000)
    predicted = wrong(truth, np.ones(2000, dtype=bool), 200, "other")
    honest = says(predicted, FIVE).probabilities * 0.875 + 0.025  # 90 % sure and right
    boast = honest**3 / (honest**3).sum(axis=1, keepdims=True)  # 100 % sure
    champion = Predictions(classes=FIVE, probabilities=honest)
    name, found = (
        "calibration error",
        verdict(Predictions(classes=FIVE, probabilities=boast), champion, truth, patients),
    )
    assert named(found, name).outcome is Verdict.REFUSE
    assert named(found, name).challenger == pytest.approx(float((predicted != truth).mean()), abs=0.001)
    mended = Predictions(classes=FIVE, probabilities=boast, temperature=3.0)
    assert named(verdict(mended, champion, truth, patients), name).outcome is Verdict.PROMOTE


def test_more_samples_that_drift_refuse_and_a_drift_that_was_not_measured_is_said() -> None:
    truth, patients = sealed()
    model = says(truth, FIVE)
    assert verdict(model, model, truth, patients, drift=(0.19, 0.1)).verdict is Verdict.PROMOTE
    found = verdict(model, model, truth, patients, drift=(0.35, 0.1))
    assert (found.verdict, named(found, "samples that drift").outcome) == (Verdict.REFUSE, Verdict.REFUSE)
    unknown = verdict(model, model, truth, patients, drift=None)
    assert unknown.verdict is Verdict.PROMOTE
    assert "samples that drift: not judged" in "; ".join(unknown.reasons)
