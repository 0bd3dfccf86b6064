"""What each step of the preprocessing is worth: the same SIMULATED cells, the same trainer, one step changed at a time."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctcml.cells_in_silico import KINDS
from ctcml.drawn_cells import DrawnCell, draw_cells
from ctcml.embed import Scorer, score
from ctcml.images import FULL_SCALE, SIZE, Counts, Picture, background, to_input
from ctcml.train import train

PERCENTILE, ASINH_SCALE = 10.0, 60.0  # as in params.yaml
# A shortened schedule of the paper's first three phases; the third network is the one that is kept,
# and the rest as in params.yaml.
NUMBERS: dict[str, Any] = {
    "network": "autoencoder", "betas": (0.0, 10.0, 100.0), "epochs": (1, 1, 4), "keep_phase": 3, "batch_size": 32,
    "double_every": 0, "optimizer": "adamw", "learning_rate": 0.002, "weight_decay": 0.01, "latent_l2": 0.0001,
    "reconstruction": "bce", "hidden": "linear", "output_bias": "mean_pixel", "channel_weights": (1.0, 1.0, 1.0),
    "class_weights": "sqrt", "augmentation": "mild", "jitter": None, "start": None,
}  # fmt: skip

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Ablated:
    """How a variant of the preprocessing did on cells of held-out patients, one figure a seed, shares of 1."""

    name: str
    accuracy: tuple[float, ...]
    ctc_sensitivity: tuple[float, ...]
    ctc_false_share: tuple[float, ...]


def ablate(seeds: Sequence[int], *, patients: int = 45, objects: int = 75, say: Say) -> list[Ablated]:
    """Train one model a variant and seed on two thirds of the simulated patients and judge it on the others.

    Cells, split, order of batches and first weights of a seed are the same for all variants, so differences are paired.
    Runs on one thread, as figures of one machine must not depend on its load. Raises nothing of its own.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        of_seed = [_one_seed(seed, patients, objects, say) for seed in seeds]
    finally:
        torch.set_num_threads(threads)
    return [
        Ablated(
            name=name,
            accuracy=tuple(found[name][0] for found in of_seed),
            ctc_sensitivity=tuple(found[name][1] for found in of_seed),
            ctc_false_share=tuple(found[name][2] for found in of_seed),
        )
        for name in VARIANTS
    ]


def _one_seed(seed: int, patients: int, objects: int, say: Say) -> Mapping[str, tuple[float, float, float]]:
    cells = draw_cells(seed, patients=patients, objects=objects)
    labels = np.array([KINDS.index(one.kind) for one in cells])
    held_out = np.array([one.patient for one in cells]) >= round(patients * 2 / 3)
    found = {}
    for name, variant in VARIANTS.items():
        images = np.stack([variant(one) for one in cells])
        with tempfile.TemporaryDirectory() as checkpoints:
            trained = train(
                images[~held_out], labels[~held_out], classes=KINDS, seed=seed, recipe=name,
                checkpoints=Path(checkpoints), **NUMBERS,
            )  # fmt: skip
        trained.model.eval()
        says = score(Scorer(trained.model, list(KINDS), name, ""), images[held_out]).probabilities.argmax(1)
        is_ctc, called = labels[held_out] == KINDS.index("ctc"), says == KINDS.index("ctc")
        found[name] = (
            float((says == labels[held_out]).mean()),
            float(called[is_ctc].mean()),
            float((~is_ctc & called).sum() / max(called.sum(), 1)),
        )
        say(
            f"seed {seed}, {name}: accuracy {found[name][0]:.1%}, CTC sensitivity {found[name][1]:.1%}"
            f" ({(~held_out).sum()} cells to train, {held_out.sum()} held out, {is_ctc.sum()} of them CTCs)"
        )
    return found


def _asinh(counts: NDArray[np.uint16]) -> Picture:
    bent = np.round(255 * np.arcsinh(counts / ASINH_SCALE) / np.arcsinh(FULL_SCALE / ASINH_SCALE))
    picture: Picture = bent.clip(0, 255).astype(np.uint8)
    return picture


def _paper(counts: NDArray[np.uint16]) -> Picture:
    return (counts >> 4).clip(0, 255).astype(np.uint8)


def _padded(planes: Picture) -> Picture:
    """Planes (3, h, w) in the middle of (80, 80, 3)."""
    for axis in (1, 2):
        spare = max(planes.shape[axis] - SIZE, 0)
        planes = planes.take(range(spare // 2, planes.shape[axis] - spare + spare // 2), axis=axis)
    before = [(SIZE - n) // 2 for n in planes.shape[1:]]
    edges = [(first, SIZE - n - first) for first, n in zip(before, planes.shape[1:], strict=True)]
    padded: Picture = np.pad(planes, [(0, 0), *edges]).transpose(1, 2, 0)
    return padded


def _as_published(pixels: Counts) -> Picture:
    """Cast, pad, and only then subtract the lowest 10 % of the values present, as Zeune et al. 2020 say it."""
    image = _padded(_paper(pixels))
    floor = background(image.transpose(2, 0, 1).astype(np.uint16), PERCENTILE).astype(np.uint8)
    subtracted: Picture = image - np.minimum(image, floor)
    return subtracted


def _shipped(pixels: Counts, recipe: str) -> Picture:
    return to_input(pixels, recipe=recipe, background_percentile=PERCENTILE, asinh_scale=ASINH_SCALE)  # type: ignore[arg-type]


VARIANTS: Mapping[str, Callable[[DrawnCell], Picture]] = {
    "asinh": lambda one: _shipped(one.restored, "asinh"),
    "asinh, no background step": lambda one: _padded(_asinh(one.restored)),
    "paper": lambda one: _shipped(one.restored, "paper"),
    "paper, background after padding": lambda one: _as_published(one.restored),
    "asinh, 8 bit without tags": lambda one: _shipped(one.unrestored, "asinh"),
    "paper, 8 bit without tags": lambda one: _shipped(one.unrestored, "paper"),
}


def ablation_table(rows: Sequence[Ablated]) -> str:
    """Means over the seeds in percent, the difference of accuracy to the first row with the range of its paired values.

    >>> one = dict(ctc_sensitivity=(0.9,), ctc_false_share=(0.1,))
    >>> print(ablation_table([Ablated(name="a", accuracy=(0.5,), **one), Ablated(name="b", accuracy=(0.4,), **one)]))
    recipe  accuracy  CTC found  of called CTC wrong  accuracy against a
    a         50.0 %     90.0 %               10.0 %
    b         40.0 %     90.0 %               10.0 %  -10.0 (-10.0 to -10.0)
    """
    width = max(len("recipe"), *(len(one.name) for one in rows))
    lines = [f"{'recipe':{width}}  accuracy  CTC found  of called CTC wrong  accuracy against {rows[0].name}"]
    for one in rows:
        apart = 100 * (np.array(one.accuracy) - np.array(rows[0].accuracy))
        beside = "" if one is rows[0] else f"  {apart.mean():+.1f} ({apart.min():+.1f} to {apart.max():+.1f})"
        means = [100 * float(np.mean(values)) for values in (one.accuracy, one.ctc_sensitivity, one.ctc_false_share)]
        lines.append(f"{one.name:{width}}  {means[0]:6.1f} %  {means[1]:7.1f} %  {means[2]:17.1f} %{beside}")
    return "\n".join(lines)
