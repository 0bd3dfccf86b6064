"""The replay on drawn shapes: a hidden kind is found, the choice leaves it out of sight, and reports say what was measured."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ctcml.cli import cli
from ctcml.errors import BadInput
from ctcml.hidden_classes import read_labelled, replay_file, replay_laboratory, write_report
from ctcml.params import load_params
from ctcml.replay import APPEARANCE, Case, Images, Mixture, Names, Outcome, Plan, choose, divide, interval, play

SOURCE = Path(__file__).parent.parent
PLAN = Plan(
    numbers=load_params(SOURCE / "params.yaml").train.shortened("modern", (1, 1)) | {"betas": (10.0, 100.0)},
    networks=("standard",), recipe="given", cells=150, prevalences=(0.3, 0.002), ratios=(2.0, 3.0), clusters=12, min_cells=5,
)  # fmt: skip
KINDS = {"disc": (0, 9), "dot": (1, 3), "ring": (2, 8), "pair": (1, 7)}  # plane and size


def shapes(each: int, *, groups: int = 10, seed: int = 0) -> tuple[Images, Names, Names]:
    """Bright round shapes on noise, `each` of every kind: kinds differ in plane and size, pairs show in two planes."""
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:80, :80]
    images, labels = [], []
    for kind, (plane, size) in KINDS.items():
        for _ in range(each):
            picture = rng.integers(0, 12, (80, 80, 3))
            far = np.hypot(y - 40 - rng.normal(0, 3), x - 40 - rng.normal(0, 3)) / (size * rng.uniform(0.8, 1.25))
            body = (far < 1) & ((far > 0.6) | (kind != "ring"))
            for shown in (plane, 2) if kind == "pair" else (plane,):
                picture[..., shown] += (body * rng.uniform(100, 200)).astype(int)
            images.append(picture.clip(0, 255).astype(np.uint8))
            labels.append(kind)
    order = rng.permutation(len(images))
    return (
        np.stack(images)[order],
        np.array(labels)[order],
        np.array([f"p{one}" for one in rng.integers(0, groups, len(order))]),
    )


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Outcome:
    folder = tmp_path_factory.mktemp("replay")
    images, labels, groups = shapes(60)
    np.save(folder / "images.npy", images)
    in_archive, by_group = divide(labels, groups, seed=1)
    return play(Case(seed=1, hidden="pair"), folder, labels, groups, in_archive, by_group, PLAN)


def test_a_hidden_kind_is_told_from_known_ones_and_its_cluster_is_pure(outcome: Outcome) -> None:
    natural = outcome.mixtures[0]
    assert natural.auroc["appearance_distance"] > 0.95
    assert natural.fpr95["appearance_distance"] < 0.2
    found = natural.flagged[APPEARANCE]["2"]
    assert found.purity > 0.9
    assert found.recall > 0.8
    assert outcome.false_flags[APPEARANCE]["3"] <= 1  # of twelve, from 74 cells


def test_no_network_of_the_replay_knows_the_hidden_class_or_an_archive_cell(outcome: Outcome) -> None:
    cells = outcome.of_cells
    assert set(outcome.shown["labels"]) == set(KINDS)
    _, labels, groups = shapes(60)
    in_archive, by_group = divide(labels, groups, seed=1)
    assert by_group
    assert set(cells["group"]) <= set(groups[in_archive]) | set(groups[labels == "pair"])
    assert len(set(groups[in_archive])) == 4  # of ten groups
    assert int((~cells["novel"]).sum()) == int((in_archive & (labels != "pair")).sum())


def test_mixtures_have_the_prevalence_they_name_and_too_few_cells_are_left_out(outcome: Outcome) -> None:
    assert [one.prevalence for one in outcome.mixtures] == ["natural", "0.3"]  # 0.2 % would be no cell at all
    mixture = outcome.mixtures[1]
    assert mixture.novel / (mixture.known + mixture.novel) == pytest.approx(0.3, abs=0.01)


def test_limits_of_a_score_hold_its_value_and_its_lead_over_itself_is_nothing(outcome: Outcome) -> None:
    rng = np.random.default_rng(0)
    low, high = interval(outcome, "standard.knn", rng=rng)
    assert low <= outcome.mixtures[0].auroc["standard.knn"] <= high
    assert interval(outcome, "standard.knn", rng=rng, against="standard.knn") == (0, 0)


def changed(outcome: Outcome, auroc: dict[str, float], alarms: dict[str, int], f1: dict[str, float]) -> Outcome:
    """The outcome with other figures, one ratio a space."""
    found = outcome.mixtures[0].flagged[APPEARANCE]["3"]
    flagged = {space: {"3": replace(found, size=9, purity=value, recall=value)} for space, value in f1.items()}
    mixture: Mixture = replace(outcome.mixtures[0], auroc=auroc, flagged=flagged)
    false_flags = {space: {"3": number} for space, number in alarms.items()}
    return replace(outcome, mixtures=(mixture,), false_flags=false_flags, thresholds=dict.fromkeys(auroc, 0.4))


def test_the_choice_is_the_best_on_average_among_what_the_laboratory_has(outcome: Outcome) -> None:
    quiet = {"standard": 0, "autoencoder": 0, APPEARANCE: 0}
    one = changed(outcome, {"standard.knn": 0.9, "autoencoder.knn": 0.99, "appearance_density": 0.7}, quiet, {"standard": 0.5, "autoencoder": 0.9, APPEARANCE: 0.6})  # fmt: skip
    two = changed(outcome, {"standard.knn": 0.6, "autoencoder.knn": 0.99, "appearance_density": 0.9}, quiet, {"standard": 0.5, "autoencoder": 0.9, APPEARANCE: 0.2})  # fmt: skip
    assert choose([one, two], spaces=("standard", "autoencoder", APPEARANCE)).score == "autoencoder.knn"
    found = choose([one, two], spaces=("standard", APPEARANCE))
    assert (found.score, found.representation, found.cases) == ("appearance_density", "standard", 2)
    assert found.mean_auroc == pytest.approx(0.8)
    assert found.threshold == 0.4


def test_a_rule_that_flags_clusters_where_nothing_is_new_is_not_chosen(outcome: Outcome) -> None:
    one = changed(outcome, {"appearance_density": 0.7}, {"standard": 1, APPEARANCE: 0}, {"standard": 0.9, APPEARANCE: 0.2})  # fmt: skip
    assert choose([one], spaces=("standard", APPEARANCE)).representation == APPEARANCE


def test_without_cases_the_usual_score_is_used_and_no_figure_claimed() -> None:
    found = choose([], spaces=("standard", APPEARANCE))
    assert (found.cases, found.threshold, found.mean_auroc, found.mean_f1) == (0, None, None, None)


@pytest.mark.parametrize(("groups", "labels", "whole"), [(12, ["a", "b"], True), (3, ["a", "b"], False)])
def test_cells_are_divided_by_group_where_there_are_enough(groups: int, labels: Sequence[str], whole: bool) -> None:
    rng = np.random.default_rng(0)
    named, of = rng.choice(labels, 600), np.array([f"g{one}" for one in rng.integers(0, groups, 600)])
    in_archive, by_group = divide(named, of, seed=0)
    assert by_group == whole
    assert in_archive.mean() == pytest.approx(0.4, abs=0.1)
    if whole:
        assert not set(of[in_archive]) & set(of[~in_archive])


def test_a_class_of_one_group_alone_makes_cells_be_divided_one_by_one() -> None:
    named, of = np.array(["a"] * 90 + ["b"] * 10), np.array([f"g{one % 9}" for one in range(90)] + ["g3"] * 10)
    assert not divide(named, of, seed=0)[1]


def test_the_laboratorys_report_judges_each_class_by_what_the_others_chose(one_thread: None) -> None:
    images, labels, groups = shapes(40)
    in_archive, _ = divide(labels, groups, seed=0)
    said: list[str] = []
    report, played = replay_laboratory(
        images, labels, groups, in_archive, seeds=[3], plan=replace(PLAN, cells=80, prevalences=()), spaces=("standard", APPEARANCE),
        workers=1, say=said.append,
    )  # fmt: skip
    assert [one["hidden"] for one in report["cases"]] == sorted(KINDS)
    assert all(one["chosen_on"] == sorted(set(KINDS) - {one["hidden"]}) for one in report["cases"])
    assert report["choice"]["cases"] == len(played) == 4
    assert report["choice"]["representation"] in ("standard", APPEARANCE)
    assert len(said) == 4
    json.dumps(report, allow_nan=False)


def an_npz(path: Path, each: int = 30, **more: object) -> Path:
    images, labels, groups = shapes(each)
    np.savez(path, images=images, labels=labels, groups=groups, **more)
    return path


def test_a_file_is_replayed_by_command_and_its_report_holds_what_was_promised(tmp_path: Path, one_thread: None) -> None:
    data, out, plot = an_npz(tmp_path / "cells.npz"), tmp_path / "out.json", tmp_path / "spaces.png"
    images, _, _ = read_labelled(data, say=print)
    assert images.shape == (120, 80, 80, 3)
    report, played = replay_file(
        data, hold_out="Ring", seeds=1, plan=replace(PLAN, cells=60, prevalences=()), workers=1, say=lambda _: None
    )
    write_report(report, played, out=out, plot=plot, simulated=True)
    found = json.loads(out.read_text())
    assert found["classes"] == dict.fromkeys(sorted(KINDS), 30)
    (seed,) = found["seeds"]
    assert set(seed["auroc"]) == set(seed["fpr95"])
    assert seed["chosen"] in seed["auroc"]
    assert seed["chosen_on"] == ["disc", "dot", "pair"]  # never the class that is hidden
    assert set(seed["flagged"]) == {"clusters", "size", "purity", "recall"}
    assert (seed["hidden"], found["held_out"]) == ("ring", "ring")
    assert plot.stat().st_size > 10_000


def test_a_class_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    data = an_npz(tmp_path / "cells.npz")
    with pytest.raises(BadInput, match="no cell of class 'Metaphase'; choose of disc, dot, pair, ring"):
        replay_file(data, hold_out="Metaphase", seeds=1, plan=PLAN, workers=1, say=print)
    with pytest.raises(BadInput, match=r"expected an \.npz with images, labels and groups"):
        read_labelled(tmp_path / "none.npz", say=print)


def test_the_command_asks_for_the_class_to_hide(tmp_path: Path) -> None:
    data = an_npz(tmp_path / "cells.npz", each=2)
    asked = CliRunner().invoke(cli, ["replay", str(data)])
    assert asked.exit_code == 2
    assert "--hold-out CLASS" in asked.output
    assert CliRunner().invoke(cli, ["replay", "--hold-out", "x"]).exit_code == 2
