"""Trials are judged on patients they were not trained on, survive being killed, and share what they must share."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ctcml.augment import Jitter
from ctcml.cells_in_silico import KINDS
from ctcml.drawn_cells import DrawnCell, draw_cells
from ctcml.errors import BadInput, CannotTrain
from ctcml.instruments_in_silico import FIRST
from ctcml.model import AECNN, StandardCNN, initialise
from ctcml.trials import (
    FIGURES,
    SETS,
    Judged,
    Trial,
    _held_out,
    judge_trial,
    run_all,
    with_wrong_labels,
)

NUMBERS: dict[str, Any] = {
    "network": "autoencoder", "betas": (0.0, 100.0), "epochs": (1, 1), "keep_phase": 2, "batch_size": 16,
    "double_every": 0, "optimizer": "adamw", "learning_rate": 0.002, "weight_decay": 0.01, "latent_l2": 1e-4,
    "reconstruction": "bce", "hidden": "linear", "output_bias": "mean_pixel", "channel_weights": (1.0, 1.0, 1.0),
    "class_weights": "sqrt", "augmentation": "mild", "jitter": None,
}  # fmt: skip
TRIAL = Trial(
    name="AE-CNN", seed=0, patients=12, objects=15, n_train=80, classes=6, noise=0.0, recipe="asinh", numbers=NUMBERS
)

pytestmark = pytest.mark.usefixtures("one_thread")


def judged(trial: Trial, *, n_train: int = 0) -> Judged:
    shares = {name: dict.fromkeys(FIGURES, (0.9, 0.8, 1.0)) for name in trial.instruments}
    return Judged(
        name=trial.name, seed=trial.seed, classes=trial.classes, noise=trial.noise, shares=shares, sse_ratio=None,
        dead_units=0, ailments=(), betas=(), epochs=(), n_train=n_train, n_held_out=20, n_ctc=5, cpu_s=1.0,
    )  # fmt: skip


def note(trial: Trial) -> Judged:
    """Stands for a training: leaves a mark, fails or dies when the trial's name asks for it; tells its threads."""
    with Path(trial.numbers["marks"]).open("a") as marks:
        marks.write(f"{trial.seed}\n")
    if trial.name == "diverges":
        raise CannotTrain("the loss is not finite")
    if trial.name == "is killed":
        os._exit(9)
    return judged(trial, n_train=torch.get_num_threads())


def marked(folder: Path, seeds: range, **changed: Any) -> list[Trial]:
    jitter = Jitter(share=0.5, gain=0.4, noise_counts=12.0, blur_px=1.0, asinh_scale=60.0)
    return [
        replace(TRIAL, seed=seed, numbers={"marks": f"{folder}/marks", "jitter": jitter}, **changed) for seed in seeds
    ]


def marks(folder: Path) -> list[int]:
    return sorted(int(line) for line in (folder / "marks").read_text().split())


def test_a_killed_bench_goes_on_where_it_stopped_and_does_nothing_twice(tmp_path: Path) -> None:
    said: list[str] = []
    first = run_all(marked(tmp_path, range(3)), folder=tmp_path / "bench", workers=1, say=said.append, judge=note)
    assert [one.seed for one in first] == [0, 1, 2]
    assert [one.n_train for one in first] == [1, 1, 1], "a trial runs on one thread"
    assert said[0].startswith("3 trials to do, 0 are in ")
    assert said[-1].startswith("3/3 seed 2, ")
    assert said[-1].endswith("accuracy 90.0%, CTC sensitivity 90.0%, 1 CPU-s; about 0 min left")

    book = tmp_path / "bench" / "trials.jsonl"
    book.write_bytes(book.read_bytes()[:-40])  # killed in the middle of writing the third
    other_numbers = marked(tmp_path, range(1), noise=0.05)
    again = run_all(
        [*other_numbers, *marked(tmp_path, range(3))], folder=tmp_path / "bench", workers=1, say=said.append, judge=note
    )
    assert [(one.noise, one.seed) for one in again] == [(0.05, 0), (0.0, 0), (0.0, 1), (0.0, 2)]
    assert marks(tmp_path) == [0, 0, 1, 2, 2]
    assert len([json.loads(line) for line in book.read_text().splitlines()]) == 4


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        pytest.param("diverges", "the loss is not finite", marks=pytest.mark.trial),
        ("is killed", "set fewer workers than 1"),
    ],
)
def test_a_trial_that_fails_is_told_in_one_line_and_what_had_ended_is_kept(
    tmp_path: Path, name: str, complaint: str
) -> None:
    trials = [*marked(tmp_path, range(1)), *marked(tmp_path, range(1, 5), name=name)]
    with pytest.raises(CannotTrain, match=complaint):
        run_all(trials, folder=tmp_path / "bench", workers=1, say=lambda _: None, judge=note)
    assert json.loads((tmp_path / "bench" / "trials.jsonl").read_text())["seed"] == 0


@pytest.fixture(scope="module")
def real() -> dict[str, Judged]:
    trials = {
        "AE-CNN": replace(TRIAL, instruments=(FIRST, "gain", "smaller pixels")),
        "standard CNN": replace(TRIAL, name="standard CNN", numbers=NUMBERS | {"network": "standard"}),
        "two classes": replace(TRIAL, classes=2, noise=0.05, recipe="paper", n_train=40),
        "five classes": replace(TRIAL, classes=5),
    }
    return {name: judge_trial(trial) for name, trial in trials.items()}


def test_a_trial_tells_every_share_with_its_limits_on_each_instrument(real: dict[str, Judged]) -> None:
    assert list(real["AE-CNN"].shares) == [FIRST, "gain", "smaller pixels"]
    for one in real.values():
        for figures in one.shares.values():
            assert list(figures) == list(FIGURES)
            assert all(
                0 <= low <= value + 5e-4 and value <= high + 5e-4 <= 1.001 for value, low, high in figures.values()
            )
    assert json.loads(json.dumps(asdict(real["AE-CNN"])))["shares"]["gain"]


def test_only_the_autoencoder_is_judged_on_its_reconstruction(real: dict[str, Judged]) -> None:
    ratio = real["AE-CNN"].sse_ratio
    assert ratio is not None
    assert 0 < ratio < 1.5
    assert real["standard CNN"].sse_ratio is None


def test_both_networks_are_judged_on_the_same_cells(real: dict[str, Judged]) -> None:
    ours, theirs = real["AE-CNN"], real["standard CNN"]
    assert (ours.n_train, ours.n_held_out, ours.n_ctc) == (theirs.n_train, theirs.n_held_out, theirs.n_ctc)
    assert ours.n_train == 80
    assert real["two classes"].n_held_out == ours.n_held_out
    assert real["five classes"].n_held_out < ours.n_held_out, "without the CD45EVs"
    assert real["two classes"].n_ctc == real["five classes"].n_ctc == ours.n_ctc > 0


def test_the_same_trial_twice_ends_with_the_same_figures(real: dict[str, Judged]) -> None:
    again = judge_trial(replace(TRIAL, name="standard CNN", numbers=NUMBERS | {"network": "standard"}))
    assert replace(again, cpu_s=0) == replace(real["standard CNN"], cpu_s=0)


def test_a_cohort_without_a_held_out_ctc_is_refused() -> None:
    with pytest.raises(BadInput, match=r"seed 0: no CTC among \d+ held-out cells; raise patients above 4"):
        judge_trial(replace(TRIAL, patients=4))


def test_the_sets_are_those_of_the_paper() -> None:
    # Zeune et al. 2020, Results: 2 classes, 5 classes without the CD45EVs, 6 classes; Fig. 1: 43,065 "no CTCs" are the
    # 11,633 + 14,722 + 9,021 + 4,059 + 3,630 other objects, so the two-class set does hold the CD45EVs
    assert 11_633 + 14_722 + 9_021 + 4_059 + 3_630 == 43_065
    assert SETS[2] == ("ctc", "other")
    assert set(KINDS) - set(SETS[5]) == {"cd45ev"}
    assert SETS[6] == KINDS


@pytest.fixture(scope="module")
def cells() -> list[DrawnCell]:
    return draw_cells(1, patients=40, objects=10)


def test_a_fifth_of_the_patients_is_held_out_whole_and_over_all_common_cancer_types(cells: list[DrawnCell]) -> None:
    held_out = _held_out(cells, np.random.default_rng(0))
    out, kept = (
        {one.patient for one, is_out in zip(cells, held_out, strict=True) if is_out == side} for side in (True, False)
    )
    assert not out & kept
    assert len(out) == 8
    assert {one.cancer_type for one in cells if one.patient in out} >= {"breast", "colorectal"}
    assert out != {
        one.patient for one, is_out in zip(cells, _held_out(cells, np.random.default_rng(1)), strict=True) if is_out
    }


def test_wrong_labels_are_of_every_other_class_alike_and_never_right_by_chance() -> None:
    labels = np.arange(60_000) % 6
    noisy = with_wrong_labels(labels, 6, 0.05, np.random.default_rng(0))
    wrong = noisy != labels
    assert wrong.sum() == 3000
    moves = np.bincount((noisy[wrong] - labels[wrong]) % 6, minlength=6)
    assert moves[0] == 0
    assert moves[1:].min() > 500
    assert np.array_equal(with_wrong_labels(labels, 6, 0.0, np.random.default_rng(0)), labels)


def test_both_networks_start_from_the_same_encoder_and_classifier() -> None:
    networks = [StandardCNN(6), AECNN(6)]
    for one in networks:
        initialise(one, torch.Generator().manual_seed(3))
    theirs, ours = (one.state_dict() for one in networks)
    assert all(torch.equal(ours[name], weights) for name, weights in theirs.items())
