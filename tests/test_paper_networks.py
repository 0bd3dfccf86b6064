"""Who is trained on and who is judged on, which classes the networks get, and that a trained network is kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ctcml import paper_networks
from ctcml.errors import CannotTrain, ProtocolBreach
from ctcml.paper_networks import (
    JUDGED_CELLS,
    ClassSet,
    Split,
    Task,
    class_sets,
    data_name,
    estimated_seconds,
    forget_networks,
    kept_network,
    labels_of,
    place_of,
    split_cells,
)
from ctcml.tables import TRUTH

PAPER = ["ctc", "tdev", "wbc", "bare_nucleus", "other", "cd45ev"]
NUMBERS: dict[str, Any] = {
    "betas": (0.0, 100.0), "epochs": (1, 1), "keep_phase": 2, "batch_size": 8, "double_every": 0, "optimizer": "adamw",
    "learning_rate": 0.002, "weight_decay": 0.01, "latent_l2": 0.0001, "reconstruction": "sse", "hidden": "linear",
    "output_bias": "mean_pixel", "channel_weights": (1.0, 1.0, 1.0), "class_weights": "sqrt", "augmentation": "mild",
}  # fmt: skip


def cells(*groups: tuple[str, str, str, int]) -> pd.DataFrame:
    """Settled cells from (patient, role, class, how many)."""
    rows = [
        (f"{patient}-{class_id}-{at}", f"s-{patient}", patient, class_id, role, "training" if role == "train" else "evaluation", "agreed")
        for patient, role, class_id, number in groups
        for at in range(number)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(TRUTH))


def types(truth: pd.DataFrame, cancer: str = "breast") -> dict[str, str]:
    return dict.fromkeys(truth["sample_uid"], cancer)


def split(truth: pd.DataFrame, cancer_type: dict[str, str] | None = None) -> Split:
    return split_cells(truth, cancer_type or types(truth), np.random.default_rng(1))


def labelled(**numbers: int) -> "pd.Series[str]":
    return pd.Series([name for name, number in numbers.items() for _ in range(number)])


def test_the_papers_six_classes_give_its_three_sets() -> None:
    sets, notes = class_sets(PAPER, labelled(**dict.fromkeys(PAPER, 10)))
    assert [len(one.classes) for one in sets] == [2, 5, 6]
    assert sets[1].left_out == ("cd45ev",)
    assert notes == []


def test_a_laboratory_with_the_first_five_classes_is_told_that_no_sixth_was_found() -> None:
    sets, notes = class_sets(PAPER[:5], labelled(**dict.fromkeys(PAPER[:5], 10)))
    assert [len(one.classes) for one in sets] == [2, 5]
    assert "step from five classes to six was not run" in notes[0]


def test_with_a_seventh_class_the_papers_own_is_still_the_one_that_is_left_out() -> None:
    seven = [*PAPER, "platelet"]
    sets, notes = class_sets(seven, labelled(**dict.fromkeys(seven, 10)))
    assert [len(one.classes) for one in sets] == [2, 6, 7]
    assert sets[1].left_out == ("cd45ev",)
    assert "here they are 2, 6 and 7" in notes[0]


def test_a_class_with_too_few_cells_is_left_out_of_every_set_and_named() -> None:
    sets, notes = class_sets(PAPER, labelled(**{**dict.fromkeys(PAPER, 10), "other": 9}))
    assert all("other" in one.left_out for one in sets)
    assert notes[0].startswith("other: 9 training cells, fewer than 10")


def test_two_classes_are_ctc_and_everything_else_that_is_not_left_out() -> None:
    two = ClassSet(name="2", classes=("ctc", "no_ctc"), left_out=("other",))
    assert two.labels(pd.Series(["ctc", "wbc", "other"])).tolist()[:2] == ["ctc", "no_ctc"]
    assert two.labels(pd.Series(["ctc", "wbc", "other"])).isna().tolist() == [False, False, True]


def test_without_ctcs_nothing_can_be_run_and_the_numbers_are_named() -> None:
    with pytest.raises(CannotTrain, match=r"12 wbc, 3 ctc; expected at least 10 of ctc"):
        class_sets(PAPER, labelled(wbc=12, ctc=3))


def test_steering_patients_are_judged_on_when_they_have_enough_settled_cells() -> None:
    truth = cells(("a", "train", "ctc", 40), ("b", "steering", "ctc", 30), ("c", "steering", "wbc", JUDGED_CELLS))
    found = split(truth)
    assert set(found.training["patient_uid"]) == {"a"}
    assert set(found.judged["patient_uid"]) == {"b", "c"}
    assert "steering patients, drawn at random" in found.judged_on


def test_with_few_steering_cells_every_fifth_training_patient_of_a_cancer_type_is_held_out_whole_and_that_is_said() -> (
    None
):
    people = [f"p{at}" for at in range(20)]
    truth = cells(*((one, "train", name, 3) for one in people for name in ("ctc", "wbc")), ("s", "steering", "ctc", 5))
    cancer = {f"s-{one}": "breast" if at < 10 else "lung" for at, one in enumerate(people)} | {"s-s": "breast"}
    found = split(truth, cancer)
    held_out = set(found.judged["patient_uid"])
    assert len(held_out) == 4
    assert sorted(cancer[f"s-{one}"] for one in held_out) == ["breast", "breast", "lung", "lung"]
    assert not held_out & set(found.training["patient_uid"])
    assert len(found.judged) == 4 * 6
    assert "4 of 20 training patients" in found.judged_on
    assert "steering patients have 5 settled cells with 5 CTCs" in found.judged_on
    assert "not drawn at random" in found.judged_on


def test_four_patients_are_too_few_to_hold_one_in_five_out() -> None:
    truth = cells(*((one, "train", "ctc", 3) for one in "abcd"))
    with pytest.raises(CannotTrain, match="4 training patients with labels, expected at least 5"):
        split(truth)


def test_no_label_of_a_training_patient_is_said() -> None:
    with pytest.raises(CannotTrain, match="no label of a training patient"):
        split(cells(("s", "steering", "ctc", 5)))


def test_a_patient_on_both_sides_stops_everything() -> None:
    one = cells(("a", "train", "ctc", 3))
    with pytest.raises(ProtocolBreach, match="trained on and judged on"):
        paper_networks._apart(Split(training=one, judged=one, judged_on=""))


def test_the_standard_cnn_skips_the_phase_in_which_there_is_nothing_for_it() -> None:
    tasks = [a_task(network) for network in paper_networks.NETWORKS]
    assert [one.epochs for one in tasks] == [1, 2]


def test_the_estimate_is_longer_for_more_images_and_for_the_larger_network() -> None:
    small, large = (a_task(network) for network in paper_networks.NETWORKS)
    rng = np.random.default_rng(1)
    few, many, other = estimated_seconds([small, small, large], [100, 1000, 1000], device="cpu", rng=rng)
    assert 0 < few < many < other


def a_task(network: Any, *, seed: int = 1) -> Task:
    return Task(network=network, classes=("ctc", "no_ctc"), seed=seed, recipe="asinh", numbers=NUMBERS)


def train_or_find(folder: Path, *, seed: int = 1, data: str = "d", images: Any = None) -> tuple[Any, list[str]]:
    rng, said = np.random.default_rng(4), list[str]()
    pictures = rng.integers(0, 255, (12, 80, 80, 3), dtype=np.uint8) if images is None else images
    labels = labels_of(pd.Series(["ctc", "no_ctc"] * 6), ("ctc", "no_ctc"))
    task = a_task("standard", seed=seed)
    place = place_of(task, pictures, labels, folder=folder, device="cpu")
    return kept_network(task, pictures, labels, place=place, device="cpu", data=data, say=said.append), said


@pytest.mark.usefixtures("one_thread")
def test_a_network_is_trained_once_and_another_seed_or_image_makes_another(tmp_path: Path) -> None:
    first, _ = train_or_find(tmp_path)
    again, _ = train_or_find(tmp_path)
    assert (first.was_there, again.was_there) == (False, True)
    assert first.scorer.weights_sha256 == again.scorer.weights_sha256
    other, _ = train_or_find(tmp_path, seed=2)
    assert not other.was_there
    changed, _ = train_or_find(tmp_path, images=np.zeros((12, 80, 80, 3), np.uint8))
    assert not changed.was_there
    assert not (tmp_path / "checkpoints").exists()
    assert not list(tmp_path.rglob("reconstructions*")), "pictures of cells were kept"


@pytest.mark.usefixtures("one_thread")
def test_networks_of_other_cells_are_forgotten_and_those_of_these_stay(tmp_path: Path) -> None:
    train_or_find(tmp_path, data="former")
    train_or_find(tmp_path, seed=2, data="now")
    forget_networks(tmp_path, data="now")
    assert train_or_find(tmp_path, seed=2, data="now")[0].was_there
    assert not train_or_find(tmp_path, data="now")[0].was_there


def test_data_are_named_by_cells_and_labels_and_not_by_their_order() -> None:
    truth = cells(("a", "train", "ctc", 3))
    assert data_name(truth) == data_name(truth[::-1])
    assert data_name(truth) != data_name(truth.assign(class_id="wbc"))
    assert data_name(truth) != data_name(truth[:2])
