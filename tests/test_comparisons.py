"""What is compared differs in one thing only, and the tables claim what the intervals support and no more."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ctcml import comparisons
from ctcml.augment import Jitter
from ctcml.comparisons import (
    WITH,
    WITHOUT,
    compare_instruments,
    compare_networks,
    compare_profiles,
    comparison_table,
    instrument_table,
    profile_table,
)
from ctcml.errors import BadInput
from ctcml.instruments_in_silico import FIRST, INSTRUMENTS
from ctcml.trials import FIGURES, Judged, Trial

NUMBERS = {
    "betas": (0.0, 10.0, 100.0, 1000.0), "epochs": (2, 2, 8, 2), "keep_phase": 3, "reconstruction": "bce", "hidden": "linear",
}  # fmt: skip
PAPER = NUMBERS | {"epochs": (75, 75, 75, 75), "hidden": "relu"}
SIZE: dict[str, Any] = {"patients": 30, "objects": 40, "folder": Path(), "workers": 1, "say": print}


def judged(name: str, seed: int, accuracy: float, **changed: Any) -> Judged:
    shares: Mapping[str, Mapping[str, Sequence[float]]] = {
        FIRST: dict.fromkeys(FIGURES, (accuracy, accuracy - 0.01, accuracy + 0.01))
    }
    about: dict[str, Any] = {
        "classes": 6, "noise": 0.0, "shares": shares, "sse_ratio": None, "dead_units": 0, "ailments": (),
        "betas": (0.0, 100.0), "epochs": (2, 8), "n_train": 4000, "n_held_out": 2500 + seed, "n_ctc": 400, "cpu_s": 100.0,
    }  # fmt: skip
    return Judged(name=name, seed=seed, **about | changed)


def networks(standard: Sequence[float], autoencoder: Sequence[float], **changed: Any) -> list[Judged]:
    of_name = {"standard CNN": standard, "AE-CNN": autoencoder}
    return [judged(name, seed, one, **changed) for name, values in of_name.items() for seed, one in enumerate(values)]


def row(table: str, start: str) -> str:
    return next(line for line in table.splitlines() if line.startswith(start))


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """The trials that a comparison asks for, in place of the hour that they would take."""
    asked: list[Trial] = []

    def plan(trials: Sequence[Trial], *, folder: Path, workers: int, say: Callable[[str], None]) -> list[Judged]:
        asked.extend(trials)
        return []

    monkeypatch.setattr(comparisons, "run_all", plan)
    return asked


def test_both_networks_get_the_same_numbers_for_every_seed_set_and_share_of_wrong_labels(planned: list[Trial]) -> None:
    compare_networks(range(5), numbers=NUMBERS, **SIZE)
    assert len(planned) == 5 * 3 * 2 * 2
    ours, theirs = ([one for one in planned if one.name == name] for name in ("AE-CNN", "standard CNN"))
    for one, two in zip(ours, theirs, strict=True):
        assert {**vars(one), "name": "", "numbers": {}} == {**vars(two), "name": "", "numbers": {}}
        assert {**one.numbers, "network": "standard"} == two.numbers
    assert [one.seed for one in planned] == sorted(one.seed for one in planned), "a process draws each cohort once"


def test_phases_after_the_kept_one_are_not_trained_as_they_change_nothing(planned: list[Trial]) -> None:
    compare_networks([0], numbers=NUMBERS, **SIZE)
    assert {one.numbers["betas"] for one in planned} == {(0.0, 10.0, 100.0)}
    assert {one.numbers["epochs"] for one in planned} == {(2, 2, 8)}


def test_profiles_differ_from_their_variants_in_the_reconstruction_error_alone_and_share_the_epochs(
    planned: list[Trial],
) -> None:
    recipes: dict[str, Any] = {"paper": "paper", "modern": "asinh"}
    compare_profiles([0], profiles={"paper": PAPER, "modern": NUMBERS}, recipes=recipes, epochs=(1, 2, 3, 4), **SIZE)
    paper, paper_sse, modern, modern_sse = planned
    assert [one.name for one in planned] == ["paper", "paper, sse", "modern", "modern, sse"]
    assert {**paper.numbers, "reconstruction": "sse"} == paper_sse.numbers
    assert {**modern.numbers, "reconstruction": "sse"} == modern_sse.numbers
    assert {one.numbers["epochs"] for one in planned} == {(1, 2, 3)}
    assert (paper.numbers["hidden"], modern.numbers["hidden"]) == ("relu", "linear")
    assert [one.recipe for one in planned] == ["paper", "paper", "asinh", "asinh"]


def test_epochs_that_do_not_fit_the_phases_of_a_profile_are_refused(planned: list[Trial]) -> None:
    with pytest.raises(BadInput, match="profile 'paper' has 4 phases, epochs are given for 2"):
        compare_profiles([0], profiles={"paper": PAPER}, recipes={"paper": "paper"}, epochs=(1, 2), **SIZE)
    assert not planned


def test_training_for_other_instruments_differs_in_the_jitter_alone(planned: list[Trial]) -> None:
    jitter = Jitter(share=0.7, gain=0.4, noise_counts=12.0, blur_px=1.0, asinh_scale=60.0)
    compare_instruments([0, 1], numbers=NUMBERS, jitter=jitter, **SIZE)
    assert [(one.seed, one.name) for one in planned] == [(0, WITHOUT), (0, WITH), (1, WITHOUT), (1, WITH)]
    assert {**planned[0].numbers, "jitter": jitter} == planned[1].numbers
    assert planned[0].numbers["jitter"] is None
    assert all(tuple(one.instruments) == tuple(INSTRUMENTS) for one in planned)


def test_no_difference_is_claimed_while_the_interval_holds_zero() -> None:
    runs = networks([0.950, 0.955, 0.945, 0.952, 0.949], [0.960, 0.950, 0.949, 0.958, 0.948])
    found = row(comparison_table(runs), "6 classes, 0% wrong labels")
    assert found.endswith("no difference shown")
    assert "95.02 %" in found
    assert "95.30 %" in found
    assert "+0.28" in found


@pytest.mark.parametrize(("shift", "verdict"), [(0.02, "higher"), (-0.02, "lower")])
def test_a_difference_whose_interval_excludes_zero_is_named_with_its_direction(shift: float, verdict: str) -> None:
    standard = [0.950, 0.955, 0.945, 0.952, 0.949]
    autoencoder = [one + shift + 0.001 * at for at, one in enumerate(standard)]
    assert row(comparison_table(networks(standard, autoencoder)), "6 classes, 0%").endswith(f"  {verdict}")


def test_a_single_seed_shows_nothing_however_large_the_difference() -> None:
    found = row(comparison_table(networks([0.5], [0.9])), "6 classes, 0%")
    assert found.endswith("no difference shown")
    assert "+40.00 (no interval)" in found


def test_robustness_to_wrong_labels_is_compared_as_what_they_cost_each_network() -> None:
    clean = networks([0.95, 0.96, 0.94], [0.95, 0.96, 0.94])
    noisy = networks([0.93, 0.94, 0.92], [0.946, 0.955, 0.934], noise=0.05)
    found = row(comparison_table([*clean, *noisy]), "6 classes, change by 5%")
    assert "-2.00 %" in found
    assert "-0.50 %" in found
    assert found.endswith("  higher")


def test_the_table_says_how_many_intervals_it_holds_and_how_far_its_seeds_can_go() -> None:
    runs = [*networks([0.95] * 5, [0.95] * 5), *networks([0.95] * 5, [0.95] * 5, noise=0.05)]
    table = comparison_table(runs)
    assert "SIMULATED cells, seeds 0, 1, 2, 3, 4, each with its own patients" in table
    assert "2500-2504 of held-out patients" in table
    assert "12 intervals: of so many, about 1 would exclude 0 by chance alone." in table
    assert "With 5 seeds the sign-flip p cannot be below 0.062." in table
    assert (
        "standard CNN, six classes, seed 0 alone, intervals over its patients: accuracy 95.0 % (94.0 to 96.0)" in table
    )


def test_a_profile_that_fell_ill_is_told_with_its_reconstruction_and_the_shortened_epochs() -> None:
    ill = {"sse_ratio": 1.0, "dead_units": 2, "ailments": ("phase 1 (beta 0): the reconstruction collapsed",)}
    runs = [judged("paper", seed, 0.83, **ill) for seed in range(2)]
    runs += [judged("modern", seed, 0.95 + 0.001 * seed, sse_ratio=0.4) for seed in range(2)]
    table = profile_table(runs)
    assert "SHORTENED: 2, 8 epochs at beta 0, 100 for every profile; the paper trains 75 a phase." in table
    assert row(table, "paper").split()[1:] == ["83.00", "%", "83.00", "%", "1.00", "2", "100"]
    assert row(table, "modern").split()[1:9] == ["95.05", "%", "95.05", "%", "0.40", "0", "100", "+12.05"]
    assert row(table, "modern").endswith("  higher")
    assert "paper, seed 1: phase 1 (beta 0): the reconstruction collapsed" in table


def test_a_drop_on_another_instrument_is_told_against_the_first_one_without_and_with_jitter() -> None:
    def seen(name: str, lost: float) -> Judged:
        shares = {
            instrument: dict.fromkeys(FIGURES, (0.95 - lost * (instrument != FIRST), 0.0, 1.0))
            for instrument in INSTRUMENTS
        }
        return judged(name, 0, 0.0, shares=shares)

    table = instrument_table([seen(WITHOUT, 0.11), seen(WITH, 0.02)])
    drop, kind = row(table, "gain ").split("made by")
    assert " ".join(drop.split()) == "gain 84.00 % (-11.00) 84.00 % 93.00 % ( -2.00) 93.00 %"
    assert kind == " the jitter (asked: 3 points at most)"
    assert row(table, "bleed-through").endswith("not made by the jitter")
    assert "jitter" not in row(table, FIRST)
    assert [line.split("  ")[0] for line in table.splitlines()[4:]] == list(INSTRUMENTS)
