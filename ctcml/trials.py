"""Trials: one training on SIMULATED cells and its judgement on held-out patients, many of them side by side.

A seed draws a cohort of its own, its split into training and held-out patients, the first weights and the order of the
images; trials of one seed share all of these. Differences within a seed are therefore paired, and seeds are independent
of each other, which a t-interval asks for and repeated splits of one cohort would not be.

A trial takes minutes, so each is written to `trials.jsonl` when it ends, and whoever was killed goes on where it stopped.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctcml.cells_in_silico import KINDS
from ctcml.drawn_cells import DrawnCell, draw_cells
from ctcml.errors import BadInput, CannotTrain
from ctcml.images import Picture, Recipe, to_inputs
from ctcml.instruments_in_silico import FIRST, INSTRUMENTS, seen_by
from ctcml.model import StandardCNN
from ctcml.scorecard import score_card
from ctcml.train import train

PERCENTILE, ASINH_SCALE = 10.0, 60.0  # as in params.yaml
BOOTSTRAP = 1000  # draws of patients for the intervals of one trial
HELD_OUT = 5  # every fifth patient of a cancer type, the paper's 80 : 20
# The paper's three sets: 6,505 CTCs and all 43,065 other objects; all but the CD45EVs; all (Results and Fig. 1).
SETS: Mapping[int, tuple[str, ...]] = {
    2: ("ctc", "other"),
    5: tuple(kind for kind in KINDS if kind != "cd45ev"),
    6: KINDS,
}
FIGURES = ("accuracy", "balanced_accuracy", "ctc_sensitivity", "ctc_specificity")  # of a scorecard
# Modules that decide the result of a trial: when one changes, trials that are done are done again.
CODE = (
    "augment", "cells_in_silico", "devices", "drawn_cells", "frames_in_silico", "images", "instruments_in_silico", "loss", "model",
    "optimizers", "scorecard", "steps", "tallies", "train", "trials",
)  # fmt: skip

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training and its judgement: everything that decides what comes out. `numbers` are arguments of `train`."""

    name: str
    seed: int
    patients: int
    objects: int
    n_train: int
    classes: int
    noise: float
    recipe: Recipe
    numbers: Mapping[str, Any]
    instruments: Sequence[str] = (FIRST,)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """How the model of a trial did on held-out patients, and what it cost.

    `shares` has, for each instrument and figure, the value and its 95 % limits over resampled patients. `sse_ratio` is the
    squared error after the phases of beta = 0 over that of a black picture; None where there was no such phase.
    """

    name: str
    seed: int
    classes: int
    noise: float
    shares: Mapping[str, Mapping[str, Sequence[float]]]
    sse_ratio: float | None
    dead_units: int
    ailments: Sequence[str]
    betas: Sequence[float]
    epochs: Sequence[int]
    n_train: int
    n_held_out: int
    n_ctc: int
    cpu_s: float


def judge_trial(trial: Trial) -> Judged:
    """Draw the seed's cohort, train on four fifths of its patients and judge the model on the others.

    Raises `BadInput` when no CTC is held out, `CannotTrain` when a class is missing from the training cells.
    """
    classes, cells = SETS[trial.classes], _cohort(trial.seed, trial.patients, trial.objects)
    rng = np.random.default_rng((trial.seed, 1))  # another stream than that of the cohort
    held_out = _held_out(cells, rng)
    members = np.array([one.kind in classes or trial.classes == 2 for one in cells])
    names = np.array([one.kind if one.kind in classes else "other" for one in cells])
    chosen = rng.permutation(np.flatnonzero(members & ~held_out))[: trial.n_train]
    judged = np.flatnonzero(members & held_out)
    if not (n_ctc := int((names[judged] == "ctc").sum())):
        raise BadInput(
            f"seed {trial.seed}: no CTC among {len(judged)} held-out cells; raise patients above {trial.patients}"
        )
    labels = np.array([classes.index(name) for name in names[chosen]])
    labels = with_wrong_labels(labels, len(classes), trial.noise, rng)
    with tempfile.TemporaryDirectory() as checkpoints:
        begun = time.process_time()
        trained = train(
            _inputs([cells[at] for at in chosen], trial.recipe, FIRST, trial.seed), labels, classes=classes, seed=trial.seed,
            recipe=trial.recipe, start=None, checkpoints=Path(checkpoints), **trial.numbers,
        )  # fmt: skip
        cpu_s = time.process_time() - begun
    whose = np.array([cells[at].patient for at in judged])
    shares = {}
    for name in trial.instruments:
        says = _probabilities(trained.model, _inputs([cells[at] for at in judged], trial.recipe, name, trial.seed))
        dice = np.random.default_rng((trial.seed, 2))
        card = score_card(names[judged], says, classes, whose, bootstrap=BOOTSTRAP, rng=dice)
        estimates = {figure: getattr(card, figure) for figure in FIGURES}
        shares[name] = {figure: (one.value, one.low, one.high) for figure, one in estimates.items()}
    rebuilt = [row["sse_ratio"] for row in trained.history if row["beta"] == 0]
    return Judged(
        name=trial.name, seed=trial.seed, classes=trial.classes, noise=trial.noise, shares=shares,
        sse_ratio=rebuilt[-1] if rebuilt else None, dead_units=int(trained.history[-1]["dead_units"]),
        ailments=trained.card["ailments"], betas=trial.numbers["betas"], epochs=trial.numbers["epochs"],
        n_train=len(chosen), n_held_out=len(judged), n_ctc=n_ctc, cpu_s=round(cpu_s, 1),
    )  # fmt: skip


@lru_cache(maxsize=1)
def _cohort(seed: int, patients: int, objects: int) -> list[DrawnCell]:
    """A seed's cells, kept while a process is at this seed."""
    return draw_cells(seed, patients=patients, objects=objects)


def _held_out(cells: Sequence[DrawnCell], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Whether a cell is of a held-out patient: a fifth of the patients, spread over the cancer types."""
    types = {one.patient: one.cancer_type for one in cells}
    dice = dict(zip(types, rng.random(len(types)), strict=True))
    chosen = set(sorted(types, key=lambda patient: (types[patient], dice[patient]))[HELD_OUT - 1 :: HELD_OUT])
    return np.array([one.patient in chosen for one in cells])


def with_wrong_labels(
    labels: NDArray[np.int64], classes: int, share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return labels of which a `share`, to the nearest cell, was moved to one of the other classes, all alike.

    >>> int((with_wrong_labels(np.zeros(100, int), 3, 0.05, np.random.default_rng(0)) != 0).sum())
    5
    """
    wrong = rng.permutation(len(labels))[: round(share * len(labels))]
    moved = labels.copy()
    moved[wrong] = (labels[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return moved


def _inputs(cells: Sequence[DrawnCell], recipe: Recipe, instrument: str, seed: int) -> Picture:
    rng = np.random.default_rng((seed, 3))
    seen = [seen_by(INSTRUMENTS[instrument], one.restored, rng) for one in cells]
    return to_inputs(seen, recipe=recipe, background_percentile=PERCENTILE, asinh_scale=ASINH_SCALE)


@torch.inference_mode()
def _probabilities(model: StandardCNN, images: Picture) -> NDArray[np.float32]:
    """Probabilities (N, classes) without the decoder, which takes most of an AE-CNN's time and says nothing here."""
    model.eval()
    parts = [
        torch.from_numpy(images[at : at + 64]).permute(0, 3, 1, 2).float() / 255 for at in range(0, len(images), 64)
    ]
    probabilities: NDArray[np.float32] = torch.cat([model.encode(x)[0].softmax(1) for x in parts]).numpy()
    return probabilities


def run_all(
    trials: Sequence[Trial], *, folder: Path, workers: int, say: Say, judge: Callable[[Trial], Judged] = judge_trial
) -> list[Judged]:
    """Judge every trial once, `workers` at a time on one thread each; what `folder` has already is not done again.

    A trial counts as done only when all that decides it is the same, the code of training included. Raises the error of a
    trial that fails, and `CannotTrain` when a process was killed; what had ended by then is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    book, code = folder / "trials.jsonl", _code()
    keys = [hashlib.sha256(json.dumps([code, asdict(trial)]).encode()).hexdigest() for trial in trials]
    found = _finished(book)
    todo = {key: trial for key, trial in zip(keys, trials, strict=True) if key not in found}
    say(f"{len(todo)} trials to do, {len(trials) - len(todo)} are in {book} already")
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    )
    begun = time.monotonic()
    try:
        futures = {pool.submit(_kept, judge, trial, key, book): key for key, trial in todo.items()}
        for done, future in enumerate(as_completed(futures), start=1):
            judged = future.result()
            found[futures[future]] = judged
            left = (time.monotonic() - begun) / done * (len(todo) - done)
            say(f"{done}/{len(todo)} {_line(judged)}; about {left / 60:.0f} min left")
    except BrokenProcessPool:
        raise CannotTrain(
            f"a training process was killed, perhaps for want of memory; set fewer workers than {workers} and run it"
            " again, what had ended is kept"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
    return [found[key] for key in keys]


def _code() -> list[str]:
    sources = [Path(__file__).with_name(f"{name}.py").read_bytes() for name in CODE]
    return [*(hashlib.sha256(source).hexdigest() for source in sources), torch.__version__]


def _finished(book: Path) -> dict[str, Judged]:
    """What was judged, by key; a last line that was being written when the bench was killed is cut off."""
    if not book.exists():
        return {}
    content = book.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(book, len(whole))
    rows = [json.loads(line) for line in whole.splitlines()]
    return {row.pop("key"): Judged(**row) for row in rows}


def _kept(judge: Callable[[Trial], Judged], trial: Trial, key: str, book: Path) -> Judged:
    """Judge a trial and add its line to the book, in the trial's own process: it is kept even if the bench is killed."""
    judged = judge(trial)
    with book.open("ab", buffering=0) as file:  # one write, so that lines of two processes do not mix
        file.write(json.dumps({"key": key, **asdict(judged)}).encode() + b"\n")
        os.fsync(file.fileno())
    return judged


def _line(judged: Judged) -> str:
    first = judged.shares[FIRST]
    return (
        f"seed {judged.seed}, {judged.name}, {judged.classes} classes, {judged.noise:.0%} noise: "
        f"accuracy {first['accuracy'][0]:.1%}, CTC sensitivity {first['ctc_sensitivity'][0]:.1%}, {judged.cpu_s:.0f} CPU-s"
    )
