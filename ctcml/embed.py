"""Thumbnails through a model: probabilities, latents and reconstruction errors, in full precision."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctcml.appearance import appearance
from ctcml.errors import BadInput
from ctcml.model import AECNN, StandardCNN, load_model
from ctcml.novelty import Seen

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scorer:
    """A model ready to score: its ordered classes, the image recipe it was trained on, the hash of its weights."""

    model: StandardCNN
    classes: list[str]
    recipe: str
    weights_sha256: str


@dataclass(frozen=True)
class Scores:
    """What a model says of N thumbnails, in the order in which they came."""

    probabilities: Floats  # (N, classes), in the order of the model's classes
    latents: Floats  # (N, 50)
    energy: Floats  # (N,): minus the log of the summed exponentials of the outputs before softmax
    # (N, 3): sum of squared errors of each plane / sum of squares of the input; NaN from the standard CNN, which draws none
    reconstruction_error: Floats
    predicted: list[str]


def load_scorer(folder: Path) -> Scorer:
    """Open a model's folder for scoring; `BrokenRecord` if its weights are not those that its card describes."""
    model, card = load_model(folder)
    model.eval().requires_grad_(False)
    return Scorer(model, list(card["classes"]), str(card["recipe"]), str(card["weights_sha256"]))


def score(
    scorer: Scorer,
    images: NDArray[np.uint8],
    *,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Score images (N, 80, 80, 3) uint8 that were made with the recipe `scorer.recipe`; N may be 0.

    The same images in the same batches give the same bits; in other batches they differ by rounding, 1e-6 or so.
    The error of a plane without any signal is measured against one fully bright pixel.
    """
    if images.dtype != np.uint8 or images.shape[1:] != (80, 80, 3):
        raise BadInput(
            f"images are {images.dtype} {images.shape}, expected uint8 (N, 80, 80, 3); apply {scorer.recipe!r} first"
        )
    n, width = len(images), len(scorer.classes)
    probabilities, latents, errors = (np.empty((n, columns), np.float32) for columns in (width, 50, 3))
    energy = np.empty(n, np.float32)
    for first in range(0, n, batch_size):
        part = slice(first, first + batch_size)
        batch = torch.from_numpy(np.require(images[part], requirements=["C", "W"]))  # read-only arrays are copied
        probabilities[part], latents[part], errors[part], energy[part] = _score_batch(scorer.model, batch)
        if progress is not None:
            progress(min(first + batch_size, n), n)
    return Scores(probabilities, latents, energy, errors, [scorer.classes[k] for k in probabilities.argmax(1)])


@torch.inference_mode()
def _score_batch(model: StandardCNN, batch: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = batch.permute(0, 3, 1, 2).float() / 255  # channels last in memory, as it came
    logits, latent = model.encode(x)
    energy = -logits.logsumexp(1)
    if not isinstance(model, AECNN):
        return logits.softmax(1), latent, torch.full((len(x), 3), torch.nan), energy
    error = (model.decode(latent) - x).square().sum((2, 3)) / x.square().sum((2, 3)).clamp(min=1.0)
    return logits.softmax(1), latent, error, energy


def look(scorer: Scorer, images: NDArray[np.uint8], *, progress: Callable[[int, int], None] | None = None) -> Seen:
    """All that novelty asks of images (N, 80, 80, 3): what the model says of them, and their appearance without any class."""
    said = score(scorer, images, progress=progress)
    return Seen(
        latents=said.latents,
        probabilities=said.probabilities,
        energy=said.energy,
        reconstruction_error=said.reconstruction_error,
        appearance=appearance(images),
    )
