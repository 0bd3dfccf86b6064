"""Networks, profiles and instruments compared in pairs, seed by seed, on SIMULATED cells; the tables that say what was found.

The tables say no more than their intervals do.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctcml.augment import Jitter
from ctcml.errors import BadInput
from ctcml.images import Recipe
from ctcml.instruments_in_silico import FIRST, INSTRUMENTS, JITTERED, JITTERED_TOGETHER
from ctcml.model import ARCHITECTURE
from ctcml.paired import paired
from ctcml.trials import Judged, Say, Trial, run_all

TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "ctc_sensitivity": "CTC sensitivity",
    "ctc_specificity": "CTC specificity",
}
WITHOUT, WITH = "without jitter", "with jitter"

Floats = NDArray[np.float64]


def compare_networks(
    seeds: Sequence[int],
    *,
    numbers: Mapping[str, Any],
    sets: Sequence[int] = (2, 5, 6),
    noise: Sequence[float] = (0.0, 0.05),
    recipe: Recipe = "asinh",
    patients: int,
    objects: int,
    n_train: int = 4000,
    folder: Path,
    workers: int,
    say: Say,
) -> list[Judged]:
    """Train the standard CNN and the AE-CNN alike for each seed, set and share of wrong training labels.

    `numbers` are arguments of `train`; phases of beta = 0 are the AE-CNN's alone, so both see the labels equally often.
    """
    trials = [
        Trial(
            name=name, seed=seed, patients=patients, objects=objects, n_train=n_train, classes=classes, noise=wrong,
            recipe=recipe, numbers=_kept_phases({**numbers, "network": network}),
        )
        for seed, classes, wrong, (network, name) in product(seeds, sets, noise, ARCHITECTURE.items())
    ]  # fmt: skip
    return run_all(trials, folder=folder, workers=workers, say=say)


def compare_profiles(
    seeds: Sequence[int],
    *,
    profiles: Mapping[str, Mapping[str, Any]],
    recipes: Mapping[str, Recipe],
    epochs: Sequence[int],
    patients: int,
    objects: int,
    n_train: int = 4000,
    folder: Path,
    workers: int,
    say: Say,
) -> list[Judged]:
    """Train each profile, with its recipe, and each with the other reconstruction error, all for the same `epochs`.

    Raises `BadInput` when a profile has another number of phases than `epochs`.
    """
    for name, numbers in profiles.items():
        if len(numbers["betas"]) != len(epochs):
            raise BadInput(
                f"profile {name!r} has {len(numbers['betas'])} phases, epochs are given for {len(epochs)}; give one number"
                " a phase"
            )
    other = {"bce": "sse", "sse": "bce"}
    variants = [
        (name if error == numbers["reconstruction"] else f"{name}, {error}", name, {"reconstruction": error})
        for name, numbers in profiles.items()
        for error in (numbers["reconstruction"], other[numbers["reconstruction"]])
    ]
    trials = [
        Trial(
            name=name, seed=seed, patients=patients, objects=objects, n_train=n_train, classes=6, noise=0.0,
            recipe=recipes[profile], numbers=_kept_phases({**profiles[profile], **changed, "epochs": tuple(epochs)}),
        )
        for seed, (name, profile, changed) in product(seeds, variants)
    ]  # fmt: skip
    return run_all(trials, folder=folder, workers=workers, say=say)


def compare_instruments(
    seeds: Sequence[int],
    *,
    numbers: Mapping[str, Any],
    jitter: Jitter,
    recipe: Recipe = "asinh",
    patients: int,
    objects: int,
    n_train: int = 4000,
    folder: Path,
    workers: int,
    say: Say,
) -> list[Judged]:
    """Train on the first instrument alone, without and with jitter, and judge held-out patients as each one sees them."""
    trials = [
        Trial(
            name=name, seed=seed, patients=patients, objects=objects, n_train=n_train, classes=6, noise=0.0,
            recipe=recipe, numbers=_kept_phases({**numbers, "jitter": strength}), instruments=tuple(INSTRUMENTS),
        )
        for seed, (name, strength) in product(seeds, {WITHOUT: None, WITH: jitter}.items())
    ]  # fmt: skip
    return run_all(trials, folder=folder, workers=workers, say=say)


def _kept_phases(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of `train` without the phases after the kept one, which cost time and change nothing."""
    keep = numbers["keep_phase"]
    return {
        "network": "autoencoder", "jitter": None, **numbers,
        "betas": tuple(numbers["betas"][:keep]), "epochs": tuple(numbers["epochs"][:keep]),
    }  # fmt: skip


def _values(judged: Iterable[Judged], figure: str, *, instrument: str = FIRST, **wanted: Any) -> Floats:
    """One figure of the runs that have these attributes, in the order of their seeds."""
    of_seed = {
        one.seed: one.shares[instrument][figure][0]
        for one in judged
        if all(getattr(one, name) == value for name, value in wanted.items())
    }
    return np.array([of_seed[seed] for seed in sorted(of_seed)])


def comparison_table(judged: Sequence[Judged]) -> str:
    """The AE-CNN beside the standard CNN, one row a set and share of wrong labels, and what wrong labels cost each.

    The verdict is "no difference shown" unless the 95 % interval of the paired difference excludes 0.
    """
    autoencoder, standard = (ARCHITECTURE[network] for network in ("autoencoder", "standard"))
    settings = list(dict.fromkeys((one.classes, one.noise) for one in judged))
    lines, intervals = [_about(judged)], 0
    for figure, title in TITLES.items():
        lines += ["", f"{title:30}{standard:>14}{autoencoder:>10}  {_PAIRED}"]
        pairs = {}
        for classes, noise in settings:
            pairs[classes, noise] = [
                _values(judged, figure, name=name, classes=classes, noise=noise) for name in (standard, autoencoder)
            ]
        rows = {f"{classes} classes, {noise:.0%} wrong labels": pair for (classes, noise), pair in pairs.items()}
        for classes, noise in settings:
            if noise > 0 and (classes, 0.0) in pairs:
                change = [
                    noisy - clean for noisy, clean in zip(pairs[classes, noise], pairs[classes, 0.0], strict=True)
                ]
                rows[f"{classes} classes, change by {noise:.0%}"] = change
        for name, (ours, theirs) in ((name, (pair[1], pair[0])) for name, pair in rows.items()):
            intervals += 1
            lines.append(f"{name:30}{100 * theirs.mean():12.2f} %{100 * ours.mean():8.2f} %  {_beside(ours - theirs)}")
    first = [one for one in judged if one.seed == judged[0].seed and one.classes == 6 and one.noise == 0]
    lines += [""] + [_patients_say(one) for one in first]
    n_seeds = len({one.seed for one in judged})
    lines += [
        f"{intervals} intervals: of so many, about {intervals / 20:.0f} would exclude 0 by chance alone.",
        f"With {n_seeds} seeds the sign-flip p cannot be below {2 / 2**n_seeds:.3f}.",
    ]
    return "\n".join(lines)


def profile_table(judged: Sequence[Judged]) -> str:
    """Profiles beside the first one: accuracy, CTC sensitivity, reconstruction, dead neurons, cost, and their ailments."""
    names = list(dict.fromkeys(one.name for one in judged))
    betas, epochs = (", ".join(f"{value:g}" for value in values) for values in (judged[0].betas, judged[0].epochs))
    width = max(len(name) for name in names)
    lines = [
        _about(judged),
        f"SHORTENED: {epochs} epochs at beta {betas} for every profile; the paper trains 75 a phase.",
        "",
        f"{'profile':{width}}  accuracy  CTC found  SSE/black at beta 0  dead  CPU-s  accuracy against {names[0]}: {_PAIRED}",
    ]
    for name in names:
        mine = [one for one in judged if one.name == name]
        accuracy, found = (_values(mine, figure) for figure in ("accuracy", "ctc_sensitivity"))
        rebuilt = [one.sse_ratio for one in mine if one.sse_ratio is not None]
        error = f"{np.mean(rebuilt):.2f}" if rebuilt else "-"
        beside = "" if name == names[0] else _beside(accuracy - _values(judged, "accuracy", name=names[0]))
        lines.append(
            f"{name:{width}}  {100 * accuracy.mean():6.2f} %{100 * found.mean():9.2f} %{error:>21}"
            f"{max(one.dead_units for one in mine):6d}{np.mean([one.cpu_s for one in mine]):7.0f}  {beside}"
        )
    lines += [f"{one.name}, seed {one.seed}: {line}" for one in judged for line in one.ailments]
    return "\n".join(line.rstrip() for line in lines)


def instrument_table(judged: Sequence[Judged]) -> str:
    """Accuracy and CTC sensitivity as each instrument sees the cells, means over the seeds, without and with jitter."""
    width = max(len(name) for name in INSTRUMENTS)
    lines = [
        _about(judged),
        "",
        f"{'':{width}}  {WITHOUT:^29}  {WITH:^29}",
        f"{'seen by':{width}}" + 2 * "  accuracy (points)  CTC found",
    ]
    for instrument in INSTRUMENTS:
        cells = []
        for name in (WITHOUT, WITH):
            accuracy, found = (
                _values(judged, figure, name=name, instrument=instrument) for figure in ("accuracy", "ctc_sensitivity")
            )
            lost = 100 * (accuracy.mean() - _values(judged, "accuracy", name=name).mean())
            cells.append(f"  {100 * accuracy.mean():6.2f} % ({lost:+6.2f}) {100 * found.mean():8.2f} %")
        kind = (
            "made by the jitter (asked: 3 points at most)"
            if instrument in (*JITTERED, JITTERED_TOGETHER)
            else "not made by the jitter"
        )
        lines.append(f"{instrument:{width}}{''.join(cells)}" + ("" if instrument == FIRST else f"  {kind}"))
    return "\n".join(lines)


_PAIRED = "difference (95 % interval)   t-test  sign flips"


def _beside(differences: Floats) -> str:
    one = paired(differences)
    verdict = ("higher" if one.mean > 0 else "lower") if one.shown else "no difference shown"
    interval = f"({100 * one.low:+.2f} to {100 * one.high:+.2f})" if np.isfinite(one.low) else "(no interval)"
    return f"{100 * one.mean:+6.2f} {interval:20}  {one.p_t:6.3f}  {one.p_flips:10.3f}  {verdict}"


def _about(judged: Sequence[Judged]) -> str:
    sizes = [[getattr(one, name) for one in judged] for name in ("n_train", "n_held_out", "n_ctc")]
    train, held_out, ctc = (f"{min(size)}" if min(size) == max(size) else f"{min(size)}-{max(size)}" for size in sizes)
    seeds = sorted({one.seed for one in judged})
    return (
        f"SIMULATED cells, seeds {', '.join(map(str, seeds))}, each with its own patients: {train} cells to train,"
        f" {held_out} of held-out patients, {ctc} of them CTCs. Means over the seeds; differences in points."
    )


def _patients_say(one: Judged) -> str:
    told = ", ".join(
        f"{title} {100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        for title, (value, low, high) in zip(TITLES.values(), one.shares[FIRST].values(), strict=True)
    )
    return f"{one.name}, six classes, seed {one.seed} alone, intervals over its patients: {told}"
