"""The cells, class sets and networks of the paper's experiment on a laboratory's own data.

Each network that was trained is kept, named by all that it is made from, so that a run that was killed trains none twice.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ctcml.checkpoints import run_key
from ctcml.embed import Scorer, load_scorer
from ctcml.errors import CannotTrain, ProtocolBreach
from ctcml.loss import Loss
from ctcml.model import ARCHITECTURE, Network, make_model
from ctcml.optimizers import make_optimizer
from ctcml.records import Role
from ctcml.steps import Stepper
from ctcml.train import Images, Labels, train, write_model
from ctcml.truth import evaluation_cells, training_cells

NETWORKS: tuple[Network, ...] = ("standard", "autoencoder")
CTC, NO_CTC = "ctc", "no_ctc"
NEWEST = (
    "cd45ev"  # paper: "we added 9,021 fluorescent images of these CD45EVs", the class that was found and not planned
)
PAPER_CLASSES = 5  # paper: the five-class set; a class beyond these was found later
HELD_OUT = 5  # paper: "a training set of 80% and a validation set of 20% of the samples", here every fifth patient
JUDGED_CELLS, JUDGED_CTC = 300, 30  # ours: with fewer settled steering cells an interval says nothing
FEWEST = 10  # ours: training cells of a class, and cells of it to be judged on at least one
SPEAK_EVERY_S = 10.0
# Modules that decide the weights: when one changes, networks are trained again.
CODE = ("augment", "images", "loss", "model", "optimizers", "steps", "train")

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ClassSet:
    """One composition of the classes: the outputs of its networks, and the classes whose cells are left out."""

    name: str
    classes: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def two(self) -> bool:
        return self.classes == (CTC, NO_CTC)

    def labels(self, class_ids: "pd.Series[str]") -> "pd.Series[str]":
        """The label of each cell in this set; cells of classes that are left out have none (NaN)."""
        named = class_ids.where(class_ids == CTC, NO_CTC) if self.two else class_ids
        return named.where(~class_ids.isin(self.left_out))


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Cells to train on and cells to judge on (`tables.TRUTH`), of different patients, and a sentence that says which."""

    training: pd.DataFrame
    judged: pd.DataFrame
    judged_on: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """One network to train: everything beside the images that decides its weights."""

    network: Network
    classes: tuple[str, ...]
    seed: int
    recipe: str
    numbers: Mapping[str, Any]  # of `train.train`, without the network

    @property
    def epochs(self) -> int:
        """How often it sees every image: the standard CNN skips the phases of beta 0, which have nothing for it."""
        pairs = zip(self.numbers["betas"], self.numbers["epochs"], strict=True)
        return sum(epochs for beta, epochs in pairs if self.network == "autoencoder" or beta > 0)

    @property
    def name(self) -> str:
        return f"{ARCHITECTURE[self.network]}, {len(self.classes)} classes, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A trained network, ready to score, and what its training took."""

    scorer: Scorer
    card: Mapping[str, Any]
    was_there: bool


def class_sets(registered: Sequence[str], cells: "pd.Series[str]") -> tuple[list[ClassSet], list[str]]:
    """The paper's two-, five- and six-class sets as far as the laboratory's classes allow, and sentences on what differs.

    `registered` is in order of registration; `cells` has the class of each training cell. Raises `CannotTrain` without CTCs
    or without any other class.
    """
    numbers = cells.value_counts()
    few = {name: int(numbers.get(name, 0)) for name in registered if numbers.get(name, 0) < FEWEST}
    usable = tuple(name for name in registered if name not in few)
    notes = [
        f"{name}: {n} training cells, fewer than {FEWEST}, so its cells are left out everywhere"
        for name, n in few.items()
    ]
    if CTC not in usable or len(usable) < 2:
        raise CannotTrain(
            f"labelled cells of training patients: {', '.join(f'{n} {name}' for name, n in numbers.items()) or 'none'}; expected at least "
            f"{FEWEST} of ctc and of one other class; have more cells read"
        )
    two = ClassSet(name="2 classes: CTC, no CTC", classes=(CTC, NO_CTC), left_out=tuple(few))
    every = ClassSet(name=f"all {len(usable)} classes", classes=usable, left_out=tuple(few))
    newest = newest_class(usable)
    if newest is None:
        notes.append(
            f"no class was found beyond the {len(usable)} that the laboratory began with, so the paper's step from five classes to six was "
            "not run"
        )
        return ([two, every] if len(usable) > 2 else [two]), notes
    known = tuple(name for name in usable if name != newest)
    without = ClassSet(name=f"{len(known)} classes: without {newest}", classes=known, left_out=(*few, newest))
    if (len(known), len(usable)) != (5, 6):
        notes.append(f"the paper has sets of 2, 5 and 6 classes; here they are 2, {len(known)} and {len(usable)}")
    return [two, *([without] if len(known) > 2 else []), every], notes


def newest_class(classes: Sequence[str]) -> str | None:
    """The class that was found last: the paper's own where the laboratory has it, else what came after the first five.

    >>> newest_class(("ctc", "cd45ev", "wbc")), newest_class(("ctc", "wbc")), newest_class(tuple("abcdef"))
    ('cd45ev', None, 'f')
    """
    if NEWEST in classes:
        return NEWEST
    return classes[-1] if len(classes) > PAPER_CLASSES else None


def split_cells(truth: pd.DataFrame, cancer_type: Mapping[str, str], rng: np.random.Generator) -> Split:
    """Train on training patients and judge on steering patients, or on every fifth training patient where those are too few.

    `truth` is `tables.TRUTH`, which holds no label of a sealed patient; `cancer_type` is by sample. Held-out patients are
    spread over the cancer types. Raises `CannotTrain` where there is too little, `ProtocolBreach` if a patient were on
    both sides.
    """
    training = training_cells(truth).reset_index(drop=True)
    if training.empty:
        raise CannotTrain(
            "no label of a training patient: take in historic labels or have cells read, then run `ctcml repro settle`"
        )
    steering = evaluation_cells(truth, Role.STEERING).reset_index(drop=True)
    ctc = int((steering["class_id"] == CTC).sum())
    if len(steering) >= JUDGED_CELLS and ctc >= JUDGED_CTC:
        told = f"{len(steering):,} settled cells of steering patients, drawn at random by the evaluation arm"
        return _apart(Split(training=training, judged=steering, judged_on=told))
    types = {
        str(uid): cancer_type[sample]
        for uid, sample in zip(training["patient_uid"], training["sample_uid"], strict=True)
    }
    patients = sorted(types)
    dice = dict(zip(patients, rng.random(len(patients)), strict=True))
    held_out = sorted(patients, key=lambda uid: (types[uid], dice[uid]))[HELD_OUT - 1 :: HELD_OUT]
    if not held_out:
        raise CannotTrain(
            f"{len(patients)} training patients with labels, expected at least {HELD_OUT}: one in {HELD_OUT} is held out to judge on; have "
            "cells of more patients read"
        )
    aside = training["patient_uid"].isin(held_out)
    told = (
        f"cells of {len(held_out)} of {len(patients)} training patients that were held out, one in {HELD_OUT} of each cancer type, because "
        f"steering patients have {len(steering):,} settled cells with {ctc:,} CTCs (fewer than {JUDGED_CELLS} or {JUDGED_CTC}); these cells "
        "were labelled by history and by discovery, not drawn at random"
    )
    return _apart(Split(training=training[~aside], judged=training[aside], judged_on=told))


def _apart(split: Split) -> Split:
    both = set(split.training["patient_uid"]) & set(split.judged["patient_uid"])
    if both:
        raise ProtocolBreach(f"{len(both)} patient(s) would be trained on and judged on; run `ctcml splits check`")
    return split


def place_of(task: Task, images: Images, labels: Labels, *, folder: Path, device: Any) -> Path:
    """Where the network of a task is kept; it is there when the folder has a card, which is written last."""
    about = {
        "network": task.network,
        "classes": list(task.classes),
        "seed": task.seed,
        "recipe": task.recipe,
        "numbers": {name: _plain(value) for name, value in task.numbers.items()},
        "device": str(device),
        "code": _code(),
    }
    return folder / "networks" / run_key(about, [images, labels])


def is_kept(place: Path) -> bool:
    return (place / "model.json").exists()


def kept_network(task: Task, images: Images, labels: Labels, *, place: Path, device: Any, data: str, say: Say) -> Kept:
    """The network of a task: from its `place` where it was trained before, else trained now and kept there.

    A run that was killed within the training goes on from its last epoch. `data` names the cells behind the images.
    """
    was_there = is_kept(place)
    if not was_there:
        begun, checkpoints = time.monotonic(), place.parent.parent / "checkpoints"
        trained = train(
            images, labels, classes=task.classes, network=task.network, seed=task.seed, recipe=task.recipe, start=None,
            jitter=None, device=device, checkpoints=checkpoints, progress=_now_and_then(task.name, say), **task.numbers,
        )  # fmt: skip
        # Pictures of reconstructions show patients' cells: what is kept for the machine alone has none.
        extra = {"seconds": round(time.monotonic() - begun, 1), "data": data}
        write_model(replace(trained, reconstructions={}), place, extra=extra)
        shutil.rmtree(checkpoints, ignore_errors=True)
    card = json.loads((place / "model.json").read_text(encoding="utf-8"))
    return Kept(scorer=load_scorer(place), card=card, was_there=was_there)


def forget_networks(folder: Path, *, data: str) -> None:
    """Remove networks that were trained on other cells, those of patients who withdrew among them."""
    for card in (folder / "networks").glob("*/model.json"):
        if json.loads(card.read_text(encoding="utf-8")).get("data") != data:
            shutil.rmtree(card.parent, ignore_errors=True)


def estimated_seconds(
    tasks: Sequence[Task], images: Sequence[int], *, device: Any, rng: np.random.Generator
) -> list[float]:
    """About how long each training takes here, from a few measured steps of each network on noise."""
    per_image = {network: _seconds_an_image(network, device, rng) for network in {task.network for task in tasks}}
    return [per_image[task.network] * n * task.epochs for task, n in zip(tasks, images, strict=True)]


def _seconds_an_image(network: Network, device: Any, rng: np.random.Generator) -> float:
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    where = torch.device(chosen)
    model = make_model(network, 6).to(where)
    optimizer = make_optimizer("adamw", model.parameters(), learning_rate=0.001, weight_decay=0.0)
    ones = torch.ones
    loss = Loss(
        reconstruction="sse",
        beta=100.0,
        latent_l2=0.0,
        channel_weights=ones(3).to(where),
        class_weights=ones(6).to(where),
    )
    stepper = Stepper(model, optimizer, loss, False)
    x = torch.from_numpy(rng.random((32, 3, 80, 80), dtype=np.float32)).to(where)
    x = x.contiguous(memory_format=torch.channels_last)
    targets = torch.zeros(32, dtype=torch.int64, device=where)
    stepper.step(x, targets, 0.001)
    begun = time.perf_counter()
    for _ in range(3):
        stepper.step(x, targets, 0.001)
    float(next(model.parameters()).detach().sum())  # a GPU has only then ended
    return (time.perf_counter() - begun) / 96 * 1.2  # measured: augmentation and reading take a sixth of an epoch


def _now_and_then(name: str, say: Say) -> Say:
    """Say of an epoch at most every ten seconds, so that 75 epochs a phase do not hide all else."""
    last = time.monotonic()

    def tell(line: str) -> None:
        nonlocal last
        if line.startswith("LOOK") or time.monotonic() - last >= SPEAK_EVERY_S:
            last = time.monotonic()
            say(f"  {name}: {line}")

    return tell


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _code() -> str:
    digest = hashlib.sha256(torch.__version__.encode())
    for name in CODE:
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()


def data_name(cells: pd.DataFrame) -> str:
    """A hash of labelled cells; networks of other profiles and recipes on the same cells share it."""
    rows = sorted(zip(cells["cell_uid"], cells["class_id"], strict=True))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def labels_of(named: "pd.Series[str]", classes: Sequence[str]) -> NDArray[np.int64]:
    """Places in the list of classes."""
    return np.array([list(classes).index(name) for name in named], dtype=np.int64)
