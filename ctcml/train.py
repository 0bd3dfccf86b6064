"""The loop over the paper's beta phases: arrays and parameters in, a model and its history out; a killed run continues.

Our reading of the loss, which the paper writes without naming its reduction: squared errors are SUMMED over the pixels
of an image, weighted a plane, beta times the cross-entropy and `latent_l2` times the sum of squared latents are added,
and the mean is taken over the batch. With the sum, beta = 10 to 100 balances both parts; with a mean over pixels the
reconstruction would be worth a thousandth and every beta above 0 would mean "classifier only".
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from ctcml.augment import Kind, augment
from ctcml.checkpoints import Course, resume, run_key, store
from ctcml.errors import CannotTrain
from ctcml.model import AECNN, Hidden, grow_head, initialise, load_model, save_weights, set_output_bias
from ctcml.tables import atomic_path

Images = NDArray[np.uint8]  # (N, 80, 80, 3)
Labels = NDArray[np.integer[Any]]  # (N,), positions in the list of classes
Row = dict[str, float]  # one epoch of the history
Progress = Callable[[str], None]  # takes one line for a person, after each epoch
ClassWeights = Literal["sqrt", "none"]
INPUT = "80x80x3 uint8 CD45,DAPI,CK"
PICTURED, MIDDLE = 3, slice(12, 68)  # thumbnails a class in a picture of reconstructions, and the pixels shown
UP = 0.3  # share of a phase in which the learning rate rises


@dataclass(frozen=True)
class Trained:
    """The model of the kept phase, the history of all phases, pictures of reconstructions by beta, the model's card."""

    model: AECNN
    history: list[Row]
    reconstructions: dict[float, Images]
    mean_pixel: tuple[float, ...]
    card: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Loss:
    """The numbers of the loss of one phase; see the head of this module."""

    beta: float
    latent_l2: float
    channel_weights: Tensor  # (3,)
    class_weights: Tensor  # (classes,)

    def of(self, errors: Tensor, latent: Tensor, entropy: Tensor, targets: Tensor) -> Tensor:
        """Errors (N, 3), latents (N, 50), cross-entropies (N,), targets (N,) -> the loss of each image, (N,)."""
        loss = errors @ self.channel_weights + self.latent_l2 * latent.square().sum(1)
        if self.beta > 0:  # at beta = 0 the classifier gets no gradient and stays as it is, as in the paper
            loss = loss + self.beta * self.class_weights[targets] * entropy
        return loss


def train(
    images: Images,
    labels: Labels,
    *,
    classes: Sequence[str],
    betas: Sequence[float],
    epochs: Sequence[int],
    keep_phase: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    latent_l2: float,
    channel_weights: Sequence[float],
    class_weights: ClassWeights,
    augmentation: Kind,
    seed: int,
    recipe: str,
    start: Path | None,
    checkpoints: Path,
    hidden: Hidden = "linear",
    steering: tuple[Images, Labels] | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train an AE-CNN on images (N, 80, 80, 3) uint8 and labels (N,), and return the model of phase `keep_phase`.

    With `start`, a folder of a former model, learning goes on from its weights and its head grows by the new classes.
    After each epoch `checkpoints` receives one file named by a hash of all inputs; a run that was killed finds it and
    ends with the very same bits (same machine, same number of threads). The caller empties that folder when it has
    stored the model. Raises `CannotTrain` for a training set or a run that allows no model.
    """
    _check(images, labels, classes)
    counts = np.bincount(labels, minlength=len(classes))
    pixels = torch.from_numpy(np.require(images, requirements=["C", "W"])).permute(0, 3, 1, 2)
    targets = torch.from_numpy(labels.astype(np.int64))
    mean_pixel = (images.mean((0, 1, 2), dtype=np.float64) / 255).tolist()
    model, former = _first_model(start, classes, hidden, recipe, _generator(seed, 0, 0), mean_pixel)
    numbers = {
        "classes": list(classes), "betas": list(betas), "epochs": list(epochs), "keep_phase": keep_phase,
        "batch_size": batch_size, "learning_rate": learning_rate, "weight_decay": weight_decay, "latent_l2": latent_l2,
        "channel_weights": list(channel_weights), "class_weights": class_weights, "augmentation": augmentation,
        "seed": seed, "recipe": recipe, "hidden": model.hidden_activation, "start": former,
        "arithmetic": "bf16" if _bf16_is_fast() else "fp32", "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }  # fmt: skip
    checkpoint = checkpoints / f"{run_key(numbers, [images, labels, *(steering or ())])}.safetensors"
    course = Course(model, _optimizer(model, learning_rate, weight_decay))
    resume(course, checkpoint)
    plan = [(phase, epoch) for phase, length in enumerate(epochs, 1) for epoch in range(length)]
    began, before = time.perf_counter(), len(course.history)
    for phase, epoch in plan[before:]:
        if epoch == 0:
            course.optimizer = _optimizer(model, learning_rate, weight_decay)
        loss = _Loss(
            beta=betas[phase - 1], latent_l2=latent_l2, channel_weights=torch.tensor(channel_weights),
            class_weights=_class_weights(counts, class_weights),
        )  # fmt: skip
        rates = _rates(epoch, epochs[phase - 1], math.ceil(len(pixels) / batch_size), learning_rate)
        batches = _batches(pixels, targets, batch_size, augmentation, _generator(seed, phase, epoch))
        row = {"phase": phase, "beta": loss.beta, "epoch": epoch + 1} | _epoch(
            model, course.optimizer, batches, rates, loss
        )
        if steering is not None and len(steering[0]):
            row["steering_accuracy"] = _accuracy(model, *steering)
        course.history.append(row)
        if epoch + 1 == epochs[phase - 1]:
            course.pictures[f"{phase}"] = _picture(model, pixels, targets, len(classes))
            if phase == keep_phase:
                course.kept = {name: value.detach().clone() for name, value in model.state_dict().items()}
        store(course, checkpoint)
        if progress is not None:
            done = len(course.history)
            left = (time.perf_counter() - began) / (done - before) * (len(plan) - done)
            progress(_line(row, len(betas), epochs[phase - 1], left))
    model.load_state_dict(course.kept)
    card = {
        "architecture": "AE-CNN", "input": INPUT, "mean_pixel": mean_pixel, **numbers,
        "n_train_per_class": dict(zip(classes, counts.tolist(), strict=True)),
    }  # fmt: skip
    pictures = {betas[int(phase) - 1]: picture.numpy() for phase, picture in course.pictures.items()}
    return Trained(model, course.history, pictures, tuple(mean_pixel), card)


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Learning rate of one step: up from peak / 25 to the peak, then down to nearly 0, both along a cosine.

    >>> [round(one_cycle(step, 10, 1.0), 3) for step in (0, 3, 9)]
    [0.04, 1.0, 0.0]
    """
    top = UP * steps
    if step < top:
        return peak * (1 + (1 / 25 - 1) * (1 + math.cos(math.pi * step / top)) / 2)
    return peak * (1 + math.cos(math.pi * (step - top) / max(steps - 1 - top, 1))) / 2


def write_model(trained: Trained, folder: Path, *, extra: dict[str, Any] | None = None) -> str:
    """Write weights, card, history and pictures into `folder`; return the SHA-256 of the weights.

    `extra` is added to the card. The card comes last: a folder with a card is whole.
    """
    digest = save_weights(trained.model, folder / "weights.safetensors")
    _write_json(trained.history, folder / "history.json")
    for beta, picture in trained.reconstructions.items():
        with atomic_path(folder / f"reconstructions-beta-{beta:g}.png") as unfinished:
            imsave(unfinished, picture, format="png")
    with atomic_path(folder / "learning.png") as unfinished:
        _learning_curve(trained.history).savefig(unfinished, format="png", dpi=110)
    _write_json({**trained.card, **(extra or {}), "weights_sha256": digest}, folder / "model.json")
    return digest


def _check(images: Images, labels: Labels, classes: Sequence[str]) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != (80, 80, 3):
        found = f"{images.dtype} {images.shape}"
        raise CannotTrain(f"images are {found}, expected uint8 (N, 80, 80, 3); apply an image recipe first")
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise CannotTrain(f"classes are {list(classes)}, expected at least two different ones; settle more readings")
    if labels.shape != (len(images),) or (len(labels) and not 0 <= labels.min() <= labels.max() < len(classes)):
        expected = f"one of {len(classes)} classes for each of {len(images)} images"
        raise CannotTrain(f"labels of shape {labels.shape} do not name {expected}; make the ground truth again")
    empty = [name for name, n in zip(classes, np.bincount(labels, minlength=len(classes)), strict=True) if n == 0]
    if empty:
        raise CannotTrain(
            f"no training image of {', '.join(empty)}: expected at least one a class; settle readings of it"
        )


def _first_model(
    start: Path | None,
    classes: Sequence[str],
    hidden: Hidden,
    recipe: str,
    dice: torch.Generator,
    mean_pixel: list[float],
) -> tuple[AECNN, str | None]:
    """The model before its first step, and the hash of the weights that it goes on from."""
    if start is None:
        model, former = AECNN(len(classes), hidden=hidden), None
        initialise(model, dice)
        set_output_bias(model, torch.tensor(mean_pixel))
    else:
        model, card = load_model(start)
        known, former = card["classes"], card["weights_sha256"]
        if card["recipe"] != recipe:
            raise CannotTrain(
                f"model {start} was trained on {card['recipe']!r}, images are {recipe!r}; train from scratch"
            )
        if list(classes[: len(known)]) != known:
            raise CannotTrain(f"model {start} knows {known}, expected the first of {list(classes)}; train from scratch")
        if len(classes) > len(known):
            model = grow_head(model, len(classes) - len(known))
    return model, former


def _epoch(
    model: AECNN,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[tuple[Tensor, Tensor]],
    rates: Sequence[float],
    loss: _Loss,
) -> Row:
    """One pass over the training images; returns means over the images."""
    began, seen, sums, outputs = time.perf_counter(), 0, torch.zeros(7, dtype=torch.float64), []
    model.train()
    for rate, (x, targets) in zip(rates, batches, strict=True):
        with torch.autocast("cpu", torch.bfloat16, enabled=_bf16_is_fast()):
            latent = model.to_latent(x)
            logits, hidden = model.classify(latent)
            rebuilt = model.decode(latent)
        latent, logits = latent.float(), logits.float()
        errors = (rebuilt.float() - x).square().sum((2, 3))  # (n, 3): of each image and plane
        entropy = cross_entropy(logits, targets, reduction="none")
        losses = loss.of(errors, latent, entropy, targets)
        if not bool(losses.isfinite().all()):
            raise CannotTrain(
                f"the loss is not finite at beta {loss.beta:g}; set a smaller learning_rate in params.yaml"
            )
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(losses.mean())
        optimizer.step()
        right = logits.argmax(1) == targets
        sizes = (losses, errors @ loss.channel_weights, entropy, latent.norm(dim=1), right, errors, x.square())
        sums += torch.stack([size.detach().sum().double() for size in sizes])
        outputs.append(hidden.detach().float())
        seen += len(x)
    means, swing = (sums / seen).tolist(), torch.cat(outputs).amax(0) - torch.cat(outputs).amin(0)
    names = ("loss", "reconstruction", "cross_entropy", "latent_norm", "accuracy")
    return dict(zip(names, means, strict=False)) | {
        "sse_ratio": means[5] / max(means[6], 1e-9),  # 1.00 is as good as a black picture
        # neurons before the output that never moved in the epoch; at beta = 0 nothing moves them
        "dead_units": int((swing < 1e-6).sum()) if loss.beta > 0 else 0,
        "seconds": round(time.perf_counter() - began, 2),
    }


def _batches(
    pixels: Tensor, targets: Tensor, size: int, augmentation: Kind, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(pixels), generator=generator)
    for first in range(0, len(order), size):
        chosen = order[first : first + size]
        moved = augment(pixels[chosen], kind=augmentation, generator=generator)
        yield moved.float().div(255).contiguous(memory_format=torch.channels_last), targets[chosen]


def _rates(epoch: int, epochs: int, steps: int, peak: float) -> list[float]:
    return [one_cycle(step, epochs * steps, peak) for step in range(epoch * steps, (epoch + 1) * steps)]


def _class_weights(counts: NDArray[np.int64], kind: ClassWeights) -> Tensor:
    """Weight of each class in the cross-entropy: 1 / sqrt(images of the class), with mean 1 over all images."""
    weights = 1 / np.sqrt(counts) if kind == "sqrt" else np.ones(len(counts))
    return torch.from_numpy(weights * counts.sum() / (weights * counts).sum()).float()


def _optimizer(model: AECNN, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)


def _generator(seed: int, phase: int, epoch: int) -> torch.Generator:
    """Dice of one epoch, made from its number, so that a resumed run throws what the killed one would have thrown."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence((seed, phase, epoch)).generate_state(1)[0]))


def _bf16_is_fast() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@torch.inference_mode()
def _accuracy(model: AECNN, images: Images, labels: Labels) -> float:
    model.eval()
    right = 0
    for first in range(0, len(images), 64):
        x = torch.from_numpy(images[first : first + 64]).permute(0, 3, 1, 2).float() / 255
        right += int((model.encode(x)[0].argmax(1).numpy() == labels[first : first + 64]).sum())
    return right / len(images)


@torch.inference_mode()
def _picture(model: AECNN, pixels: Tensor, targets: Tensor, n_classes: int) -> Tensor:
    """The first thumbnails of each class (upper row) above their reconstructions, twice enlarged overlays: uint8 (H, W, 3)."""
    model.eval()
    shown = torch.cat([torch.nonzero(targets == k).flatten()[:PICTURED] for k in range(n_classes)])
    x = pixels[shown].float() / 255
    rows = torch.stack([x, model(x)[2]])[:, :, [0, 2, 1], MIDDLE, MIDDLE]  # red CD45, green CK, blue DAPI
    sheet = torch.cat(list(torch.cat(list(rows.unbind(0)), 2).unbind(0)), 2).permute(1, 2, 0)
    return sheet.repeat_interleave(2, 0).repeat_interleave(2, 1).mul(255).round().to(torch.uint8)


def _line(row: Row, phases: int, epochs: int, seconds_left: float) -> str:
    return (
        f"beta {row['beta']:g} (phase {row['phase']} of {phases}), epoch {row['epoch']} of {epochs}: "
        f"reconstruction {row['reconstruction']:.1f}, accuracy {row['accuracy']:.1%}, about {seconds_left:.0f} s left"
    )


def _write_json(content: Any, path: Path) -> None:
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _learning_curve(history: list[Row]) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    epochs = range(1, len(history) + 1)
    titles = {"sse_ratio": "Error / that of a black picture", "cross_entropy": "Cross-entropy", "accuracy": "Accuracy"}
    for axes, (name, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        axes.plot(epochs, [row[name] for row in history], marker="o", color="#1f4e79", label="training")
        if name == "accuracy" and "steering_accuracy" in history[0]:
            steering = [row["steering_accuracy"] for row in history]
            axes.plot(epochs, steering, marker="o", color="#c55a11", label="steering")
            axes.legend(frameon=False)
        for first in (number for number, row in enumerate(history, 1) if row["epoch"] == 1):
            axes.axvline(first - 0.5, color="#bbbbbb", linewidth=0.8)
            label = f"β {history[first - 1]['beta']:g}"
            axes.annotate(label, (first - 0.4, 1), xycoords=("data", "axes fraction"), fontsize=7, va="bottom")
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(title, fontsize=9, y=1.06)
    return figure
