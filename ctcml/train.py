"""The loop over the paper's beta phases: arrays and parameters in, a model and its history out; a killed run continues.

The loss is that of `ctcml/loss.py`. The standard CNN has nothing to rebuild, so it skips the phases of beta 0.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.image import imsave
from numpy.typing import NDArray
from torch import Tensor

from ctcml.augment import Jitter, augment
from ctcml.augment import Kind as Augmentation
from ctcml.checkpoints import Course, resume, run_key, store
from ctcml.devices import fast_bf16
from ctcml.diagnosis import ailments
from ctcml.errors import CannotTrain
from ctcml.learning_pictures import learning_curves, rebuilt_sheet
from ctcml.loss import Loss, Reconstruction
from ctcml.model import (
    AECNN,
    ARCHITECTURE,
    INPUT,
    Hidden,
    Network,
    StandardCNN,
    grow_head,
    initialise,
    load_model,
    make_model,
    save_weights,
    set_output_bias,
)
from ctcml.optimizers import Kind, batch_size_of, make_optimizer, rates_of
from ctcml.steps import SUMS, Stepper, nothing_told
from ctcml.tables import atomic_path

Images = NDArray[np.uint8]  # (N, 80, 80, 3)
Labels = NDArray[np.integer[Any]]  # (N,), positions in the list of classes
Row = dict[str, float]  # one epoch of the history
Progress = Callable[[str], None]  # takes one line for a person, after each epoch
ClassWeights = Literal["sqrt", "none"]
OutputBias = Literal["mean_pixel", "zero"]
Device = Literal["auto", "cpu", "cuda", "mps"]
LOOK_EVERY = 50  # steps after which the sums are looked at: each look makes a GPU wait


@dataclass(frozen=True)
class Trained:
    """The model of the kept phase, the history of all phases, pictures of reconstructions by beta, the model's card."""

    model: StandardCNN
    history: list[Row]
    reconstructions: dict[float, Images]
    mean_pixel: tuple[float, ...]
    card: dict[str, Any]


@contextmanager
def _memory_of_gpu_named() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise CannotTrain(
            "the GPU ran out of memory, the last checkpoint is kept; set a smaller batch_size (or a larger double_every) in "
            "params.yaml, or train.device to cpu"
        ) from None


@_memory_of_gpu_named()
def train(
    images: Images,
    labels: Labels,
    *,
    classes: Sequence[str],
    network: Network,
    betas: Sequence[float],
    epochs: Sequence[int],
    keep_phase: int,
    batch_size: int,
    double_every: int,
    optimizer: Kind,
    learning_rate: float,
    weight_decay: float,
    latent_l2: float,
    reconstruction: Reconstruction,
    hidden: Hidden,
    output_bias: OutputBias,
    channel_weights: Sequence[float],
    class_weights: ClassWeights,
    augmentation: Augmentation,
    jitter: Jitter | None,
    seed: int,
    recipe: str,
    start: Path | None,
    checkpoints: Path,
    device: Device = "cpu",
    steering: tuple[Images, Labels] | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train a network on images (N, 80, 80, 3) uint8 and labels (N,), and return the model of phase `keep_phase`.

    With `start`, a folder of a former model, learning goes on from its weights and its head grows by the new classes.
    After each epoch `checkpoints` receives one file named by a hash of all inputs; a run that was killed finds it and
    ends with the very same bits (same machine, same number of threads, CPU). The caller empties that folder when it has
    stored the model. Raises `CannotTrain` for a training set or a run that allows no model.
    """
    _check(images, labels, classes)
    where = _device(device)
    counts = np.bincount(labels, minlength=len(classes))
    pixels = torch.from_numpy(np.require(images, requirements=["C", "W"])).permute(0, 3, 1, 2).to(where)
    targets = torch.from_numpy(labels.astype(np.int64)).to(where)
    mean_pixel = (images.mean((0, 1, 2), dtype=np.float64) / 255).tolist()
    model = make_model(network, len(classes), hidden=hidden)
    initialise(model, _generator(seed, 0, 0))
    if isinstance(model, AECNN) and output_bias == "mean_pixel":
        set_output_bias(model, torch.tensor(mean_pixel))
    model, former = _went_on(model, start, classes, recipe)
    model.to(where)
    numbers = {
        "classes": list(classes), "network": network, "betas": list(betas), "epochs": list(epochs),
        "keep_phase": keep_phase, "batch_size": batch_size, "double_every": double_every, "optimizer": optimizer,
        "learning_rate": learning_rate, "weight_decay": weight_decay, "latent_l2": latent_l2,
        "reconstruction": reconstruction, "hidden": model.hidden_activation, "output_bias": output_bias,
        "channel_weights": list(channel_weights), "class_weights": class_weights, "augmentation": augmentation,
        "jitter": None if jitter is None else vars(jitter), "seed": seed, "recipe": recipe, "start": former,
        "arithmetic": "bf16" if fast_bf16(where) else "fp32", "device": where.type,
        "threads": torch.get_num_threads(), "torch": torch.__version__,
    }  # fmt: skip
    plan = _plan(network, betas, epochs, keep_phase)
    checkpoint = checkpoints / f"{run_key(numbers, [images, labels, *(steering or ())])}.safetensors"

    def fresh_optimizer() -> torch.optim.Optimizer:
        return make_optimizer(optimizer, model.parameters(), learning_rate=learning_rate, weight_decay=weight_decay)

    course = Course(model, fresh_optimizer())
    resume(course, checkpoint)
    began, before = time.perf_counter(), len(course.history)
    stepper: Stepper | None = None
    for phase, epoch in plan[before:]:
        if epoch == 0:
            course.optimizer = fresh_optimizer()
        if epoch == 0 or stepper is None:
            loss = Loss(
                reconstruction=reconstruction, beta=betas[phase - 1], latent_l2=latent_l2,
                channel_weights=torch.tensor(channel_weights).to(where),
                class_weights=_class_weights(counts, class_weights).to(where),
            )  # fmt: skip
            stepper = Stepper(model, course.optimizer, loss, fast_bf16(where))
        sizes = [batch_size_of(one, first=batch_size, double_every=double_every) for one in range(epochs[phase - 1])]
        steps = [-(-len(pixels) // size) for size in sizes]
        rates = rates_of(optimizer, epoch, steps=steps, learning_rate=learning_rate)
        dice = _generator(seed, phase, epoch)
        batches = _batches(pixels, targets, sizes[epoch], augmentation, jitter, dice)
        row = {"phase": phase, "beta": betas[phase - 1], "epoch": epoch + 1} | _epoch(stepper, batches, rates)
        if steering is not None and len(steering[0]):
            row["steering_accuracy"] = _accuracy(model, *steering, where)
        course.history.append(row)
        lines = [_line(row, len(betas), epochs[phase - 1], _seconds_left(began, before, course.history, plan))]
        if epoch + 1 == epochs[phase - 1]:
            lines += [f"LOOK: {line}" for line in ailments([row])]
            if isinstance(model, AECNN):
                course.pictures[f"{phase}"] = rebuilt_sheet(model, pixels, targets, len(classes))
            if phase == keep_phase:
                course.kept = {name: value.detach().clone() for name, value in model.state_dict().items()}
        store(course, checkpoint)
        if progress is not None:
            for line in lines:
                progress(line)
    model.load_state_dict(course.kept)
    card = {
        "architecture": ARCHITECTURE[network], "input": INPUT, "mean_pixel": mean_pixel, **numbers,
        "n_train_per_class": dict(zip(classes, counts.tolist(), strict=True)), "ailments": ailments(course.history),
    }  # fmt: skip
    pictures = {betas[int(phase) - 1]: picture.numpy() for phase, picture in course.pictures.items()}
    return Trained(model.cpu(), course.history, pictures, tuple(mean_pixel), card)


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
        learning_curves(trained.history).savefig(unfinished, format="png", dpi=110)
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


def _device(wanted: Device) -> torch.device:
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if there[name]))
    if not there[wanted]:
        known = ", ".join(name for name, found in there.items() if found)
        raise CannotTrain(f"device {wanted!r} is not there, this machine has {known}; set train.device to auto")
    return torch.device(wanted)


def _plan(network: Network, betas: Sequence[float], epochs: Sequence[int], keep_phase: int) -> list[tuple[int, int]]:
    """The (phase from 1, epoch from 0) of a run, in order."""
    trained = [phase for phase, beta in enumerate(betas, 1) if network == "autoencoder" or beta > 0]
    if keep_phase not in trained:
        raise CannotTrain(
            f"keep_phase is {keep_phase}, but the {ARCHITECTURE[network]} trains {trained}; name one of these"
        )
    return [(phase, epoch) for phase in trained for epoch in range(epochs[phase - 1])]


def _went_on(
    model: StandardCNN, start: Path | None, classes: Sequence[str], recipe: str
) -> tuple[StandardCNN, str | None]:
    """The model before its first step with what a former one has learnt, and the hash of the weights of that one."""
    if start is None:
        return model, None
    former, card = load_model(start)
    known = list(card["classes"])
    if card["recipe"] != recipe:
        raise CannotTrain(f"model {start} was trained on {card['recipe']!r}, images are {recipe!r}; train from scratch")
    if lost := [name for name in known if name not in classes]:
        raise CannotTrain(
            f"model {start} knows {', '.join(lost)}, which is none of {', '.join(classes)}; train from scratch"
        )
    grown = grow_head(former, known, classes)
    if type(grown) is not type(model):  # the encoder and the head are the same, a decoder starts anew
        grown_weights, model.hidden_activation = grown.state_dict(), grown.hidden_activation
        model.load_state_dict({name: grown_weights.get(name, value) for name, value in model.state_dict().items()})
        grown = model
    return grown, str(card["weights_sha256"])


def _epoch(stepper: Stepper, batches: Iterator[tuple[Tensor, Tensor]], rates: Sequence[float]) -> Row:
    """One pass over the training images; returns means over the images."""
    began, seen, model = time.perf_counter(), 0, stepper.model
    told = nothing_told(model.n_classes, model.output.weight.device)
    model.train()
    for number, (rate, (x, targets)) in enumerate(zip(rates, batches, strict=True), start=1):
        told.add(stepper.step(x, targets, rate))
        seen += len(x)
        if (number % LOOK_EVERY == 0 or number == len(rates)) and not bool(told.sums.isfinite().all()):
            raise CannotTrain(
                f"the loss is not finite at beta {stepper.loss.beta:g}; set a smaller learning_rate in params.yaml"
            )
    means = dict(zip(SUMS, (told.sums / seen).tolist(), strict=True))
    classifying, sse, energy = (means.pop(name) for name in ("classifying", "sse", "energy"))
    of_decoder = {}
    if isinstance(model, AECNN):
        of_decoder = {
            "sse_ratio": sse / max(energy, 1e-9),  # 1.00 is as good as a black picture
            # of the two parts of the loss that beta weighs against each other
            "classifier_share": classifying / max(classifying + means["reconstruction"], 1e-9),
        }
    else:
        del means["reconstruction"]
    # neurons before the output that never moved in the epoch; at beta = 0 nothing moves them
    dead = int((told.highest - told.lowest < 1e-6).sum()) if stepper.loss.beta > 0 else 0
    return means | of_decoder | {"dead_units": dead, "seconds": round(time.perf_counter() - began, 2)}


def _batches(
    pixels: Tensor,
    targets: Tensor,
    size: int,
    augmentation: Augmentation,
    jitter: Jitter | None,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(pixels), generator=generator).to(pixels.device)
    for first in range(0, len(order), size):
        chosen = order[first : first + size]
        x = augment(pixels[chosen], kind=augmentation, generator=generator).float().div(255)
        if jitter is not None:
            x = jitter.apply(x, generator)
        yield x.contiguous(memory_format=torch.channels_last), targets[chosen]


def _class_weights(counts: NDArray[np.int64], kind: ClassWeights) -> Tensor:
    """Weight of each class in the cross-entropy: 1 / sqrt(images of the class), with mean 1 over all images."""
    weights = 1 / np.sqrt(counts) if kind == "sqrt" else np.ones(len(counts))
    return torch.from_numpy(weights * counts.sum() / (weights * counts).sum()).float()


def _generator(seed: int, phase: int, epoch: int) -> torch.Generator:
    """Dice of one epoch, made from its number, so that a resumed run throws what the killed one would have thrown."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence((seed, phase, epoch)).generate_state(1)[0]))


@torch.inference_mode()
def _accuracy(model: StandardCNN, images: Images, labels: Labels, device: torch.device) -> float:
    model.eval()
    right = 0
    for first in range(0, len(images), 64):
        x = torch.from_numpy(images[first : first + 64]).to(device).permute(0, 3, 1, 2).float() / 255
        right += int((model.encode(x)[0].argmax(1).cpu().numpy() == labels[first : first + 64]).sum())
    return right / len(images)


def _seconds_left(began: float, before: int, history: Sequence[Row], plan: Sequence[tuple[int, int]]) -> float:
    return (time.perf_counter() - began) / (len(history) - before) * (len(plan) - len(history))


def _line(row: Row, phases: int, epochs: int, seconds_left: float) -> str:
    balance = (
        f"reconstruction {row['reconstruction']:.1f}, classifier's share of the loss {row['classifier_share']:.0%}, "
        if "reconstruction" in row
        else ""
    )
    return (
        f"beta {row['beta']:g} (phase {row['phase']:g} of {phases}), epoch {row['epoch']:g} of {epochs}: "
        f"{balance}accuracy {row['accuracy']:.1%}, about {seconds_left:.0f} s left"
    )


def _write_json(content: Any, path: Path) -> None:
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
