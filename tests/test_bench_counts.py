"""The intervals on simulated tubes, small; `ctcml bench counts` has 2,000 a world."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ctcml.bench_counts import CLASSES, WORLDS, Judged, World, bench_counts, draw_tubes, judge_world, settle
from ctcml.params import load_params

NUMBERS = load_params(Path(__file__).parents[1] / "params.yaml").counts.model_dump()


@pytest.fixture(scope="module")
def judged() -> Judged:
    return judge_world(WORLDS[0], samples=250, numbers=NUMBERS, seed=17)


def test_the_intervals_hold_the_truth_as_often_as_asked(judged: Judged) -> None:
    assert judged.held["ours"] >= 0.93
    assert judged.held["tube"] >= 0.93
    assert 0.92 <= judged.pit <= 0.98  # of 250 samples; the standard error is 1.4 points
    assert 0.90 <= judged.tube_pit <= 0.98


def test_they_hold_it_near_the_cut_off_too(judged: Judged) -> None:
    assert judged.near["ours"] >= 0.90
    assert judged.near["tube"] >= 0.90


def test_events_that_err_alone_promise_too_much(judged: Judged) -> None:
    assert judged.held["tube_independent"] < judged.held["tube"]
    assert judged.width["tube_independent"] < judged.width["tube"]
    assert judged.width["poisson"] < judged.width["ours"] < 1.2 * judged.width["poisson"]


def test_flips_happen_about_as_often_as_they_are_said_to(judged: Judged) -> None:
    assert judged.flip_risk == pytest.approx(judged.flips, abs=0.04)
    assert judged.tube_flip_risk == pytest.approx(judged.tube_flips, abs=0.03)


def test_a_simulated_network_is_right_on_average_and_wrong_together_in_a_patient() -> None:
    events = draw_tubes(300, World(name="shifted", shift=0.4), np.random.default_rng(3)).events
    said = np.array(events["probabilities"].tolist())[:, 0]
    true = events["true"] == 0
    assert said.mean() == pytest.approx(true.mean(), rel=0.03)
    doubtful = events[(said > 0.2) & (said < 0.8)].assign(off=true - said)
    by_patient = doubtful.groupby("sample_uid")["off"].agg(["sum", "size"])
    alone = (said * (1 - said))[(said > 0.2) & (said < 0.8)].sum()
    assert (by_patient["sum"] ** 2).sum() > 1.15 * alone


def test_two_readings_and_an_adjudicator_settle_rightly_far_more_often_than_one_reads() -> None:
    true = np.repeat(np.arange(6), 5000)
    wrong = (settle(true, 6, 0.05, np.random.default_rng(4)) != true).mean()
    assert wrong == pytest.approx(0.05**2 * (2 * 0.95 + 1 / 5), abs=0.0015)
    assert (settle(true, 6, 0.0, np.random.default_rng(4)) == true).all()


def test_the_table_has_every_world_and_asks_only_of_the_first() -> None:
    worlds = [WORLDS[0], replace(WORLDS[1], name="another")]
    said: list[str] = []
    figures = bench_counts(samples=30, seed=1, numbers=NUMBERS, say=said.append, worlds=worlds)
    assert len(said) == 2
    assert {one.name.split(" | ")[0] for one in figures} == {one.name for one in worlds}
    assert all(one.name.startswith(WORLDS[0].name) for one in figures if one.asked)
    assert CLASSES[0] == "ctc"
