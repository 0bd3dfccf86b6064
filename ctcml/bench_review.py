"""`ctcml bench review`: what is a reader's time worth when the queue chooses the cells, and what when chance does?

SIMULATED patients. A network starts with clean labels of five classes; the sixth, CD45EV, is in the pool but has no name.
In each round two simulated readers, who err, read cells that the discovery queue chose, or as many that were drawn blindly;
where both say the same, the cell is settled, else the reading is lost. Then a network is trained from scratch, as long as all
others, and judged on held-out patients. The first network, the readers' answers, and all dice but the choice are the same
for every way; a seed has patients of its own.

The arms of the queue that need patients' counts, or cells that were read before, are empty here, and their places go to border
cells, as in any round.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.model_selection import GroupShuffleSplit

from ctcml.cells_in_silico import KINDS
from ctcml.clusters import Representation, Rule, flag_clusters, place
from ctcml.drawn_cells import DrawnCell, draw_cells
from ctcml.embed import Scorer, look
from ctcml.errors import BadInput
from ctcml.grouping import group
from ctcml.images import Recipe, to_inputs
from ctcml.measuring import Figure
from ctcml.novelty import Seen, uncertainty
from ctcml.paired import paired
from ctcml.params import Params
from ctcml.pictures import ARM_COLOURS, FURTHER_COLOURS, STYLE, put_head, save_figure, stamps
from ctcml.queries import discovery_queue
from ctcml.readings import settle, unnamed
from ctcml.records import NEW_PREFIX, Purpose, Reading, Role
from ctcml.replay import USUAL_RATIO
from ctcml.train import train
from ctcml.trials import SETS, with_wrong_labels

ABSENT = "cd45ev"  # the paper's own discovery
KNOWN = SETS[5]
READERS = ("reader-a", "reader-b")
TESTED = 0.2  # of the patients, the paper's 80 : 20
RANDOM, QUEUE, QUEUE_ON_LATENTS = "random", "discovery queue", "queue on latents"
WAYS: Mapping[str, Representation | None] = {RANDOM: None, QUEUE: "appearance", QUEUE_ON_LATENTS: "latents"}
CLUSTERS, FEWEST = 12, 30  # of test cells; in a smaller cluster a single cell would weigh too much
WANTED_RECALL = 0.95
# Modules that decide what comes out: when one changes, reviews that are done are done again.
CODE = (
    "appearance", "augment", "bench_review", "cells_in_silico", "clusters", "drawn_cells", "embed", "frames_in_silico",
    "grouping", "images", "loss", "model", "novelty", "optimizers", "queries", "readings", "steps", "train",
    "trials",
)  # fmt: skip
FIGURES = {
    "recall_of_absent": "recall of CD45EV",
    "worst_cluster_f1": "F1 of the worst cluster",
    "accuracy": "accuracy",
    "ctc_recall": "recall of CTC",
}

Names = NDArray[np.str_]
Rows = NDArray[np.intp]
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All numbers of a review beside its seed and way; `numbers` are those of `train` for three phases, but for epochs.

    `presentations` is how many images each network sees, `pool` the cells that nobody has read at first, `absent_share` the
    share of the absent class among them (0 for as many as there are), `budget` the cells that both readers read in a round.
    """

    patients: int
    objects: int
    start: int
    pool: int
    absent_share: float
    rounds: int
    budget: int
    presentations: int
    reader_error: float
    new_class_min: int
    shares: Mapping[str, float]
    per_patient: int
    ratio: float
    clusters: int
    min_cells: int
    recipe: Recipe
    background_percentile: float
    asinh_scale: float
    numbers: Mapping[str, Any]


def standard_plan(
    params: Params, *, patients: int, objects: int, pool: int, rounds: int = 3, absent_share: float = 0.0
) -> Plan:
    """The size of the prototype's trial, with the laboratory's own queue, clusters, readers and training."""
    return Plan(
        patients=patients,
        objects=objects,
        start=500,
        pool=pool,
        absent_share=absent_share,
        rounds=rounds,
        budget=250,
        presentations=9000,
        reader_error=params.simulate.reader_error,
        new_class_min=params.settlement.new_class_min,
        shares=params.queue.shares.model_dump(),
        per_patient=params.queue.per_patient,
        ratio=USUAL_RATIO,
        clusters=params.discover.clusters,
        min_cells=params.discover.min_cells,
        recipe="asinh",
        background_percentile=params.image.background_percentile,
        asinh_scale=params.image.asinh_scale,
        numbers=params.train.shortened("modern", (1, 1, 1)),
    )


@dataclass(frozen=True, kw_only=True)
class Review:
    """One seed's rounds by one of `WAYS`."""

    seed: int
    way: str
    plan: Plan


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a review stands after `read` cells: what was settled, what the network makes of held-out patients.

    `absent_read` and `absent_settled` count cells of the class that was absent at the start. Of the cells that were flagged
    for the last choice, `flagged_absent` is the share of that class; 0 where none was flagged.
    """

    read: int
    labels: int
    absent_read: int
    absent_settled: int
    flagged: int
    flagged_absent: float
    recall_of_absent: float
    worst_cluster_f1: float
    accuracy: float
    ctc_recall: float


@dataclass(frozen=True, kw_only=True)
class Reviewed:
    """All standings of a review, the first before anything was read."""

    seed: int
    way: str
    standings: tuple[Standing, ...]
    tested: int
    cpu_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Laboratory:
    """A seed's cells: `given` (N,) has the class of those labelled at the start, and nothing for those in the pool."""

    images: NDArray[np.uint8]  # (N, 80, 80, 3)
    kinds: Names
    patients: Names
    given: NDArray[np.object_]
    test_images: NDArray[np.uint8]
    test_kinds: Names


def review(one: Review) -> Reviewed:
    """Read, train and judge round after round; cells go by their number in the seed's laboratory."""
    begun, plan, way = time.process_time(), one.plan, WAYS[one.way]
    lab = set_up(plan, one.seed)
    answers = _answers(lab, plan.reader_error, one.seed)
    rng = np.random.default_rng([one.seed, 10])
    readings: list[Reading] = []
    asked, flagged = np.zeros(0, dtype=np.intp), np.zeros(len(lab.kinds), dtype=bool)
    standings: list[Standing] = []
    for number in range(plan.rounds + 1):
        labels = labels_of(readings, lab.given, plan.new_class_min)
        scorer = _trained(lab, labels, one)
        tested = look(scorer, lab.test_images)
        if number == 0:
            parts = _frozen_clusters(tested, one.seed)
        standings.append(
            Standing(
                read=len(asked),
                labels=int((labels != "").sum()),
                absent_read=int((lab.kinds[asked] == ABSENT).sum()),
                absent_settled=int((labels == ABSENT).sum()),
                flagged=int(flagged.sum()),
                flagged_absent=float((lab.kinds[flagged] == ABSENT).mean()) if flagged.any() else 0.0,
                **judged(lab.test_kinds, np.array(scorer.classes)[tested.probabilities.argmax(axis=1)], parts),
            )
        )
        if number < plan.rounds:
            chosen, flagged = _choose(lab, labels, asked, scorer, way, plan, one.seed, rng)
            readings += _read(chosen, answers, known=set(labels))
            asked = np.concatenate([asked, chosen])
    return Reviewed(
        seed=one.seed, way=one.way, standings=tuple(standings), tested=len(lab.test_kinds),
        cpu_s=round(time.process_time() - begun, 1),
    )  # fmt: skip


def set_up(plan: Plan, seed: int) -> Laboratory:
    """Part the seed's cohort into cells labelled at the start, cells in the pool, and cells of held-out patients.

    Raises `BadInput` when it has too few cells, or lacks a class on one side.
    """
    cells = _cohort(seed, plan.patients, plan.objects)
    kinds, patients = (np.array([getattr(one, name) for one in cells]).astype(str) for name in ("kind", "patient"))
    parting = GroupShuffleSplit(n_splits=1, test_size=TESTED, random_state=seed)
    others, tested = next(parting.split(kinds, groups=patients))
    order = np.random.default_rng([seed, 9]).permutation(others)
    started = order[kinds[order] != ABSENT][: plan.start]
    pool = order[~np.isin(order, started)]
    if plan.absent_share:
        absent = kinds[pool] == ABSENT
        pool = pool[~absent | (np.cumsum(absent) <= round(plan.absent_share * plan.pool))]
    pool = pool[: plan.pool]
    if len(pool) < plan.pool or len(tested) < FEWEST or set(kinds[tested]) & set(kinds[pool]) != set(KINDS):
        raise BadInput(
            f"bench review: seed {seed} has {len(pool)} cells to read and {len(tested)} to judge by, expected {plan.pool} and"
            f" {FEWEST}, of all classes; raise patients above {plan.patients}"
        )
    rows = np.concatenate([started, pool])
    given = kinds[rows].astype(object)
    given[len(started) :] = ""
    images, test_images = (_images(cells, chosen, plan) for chosen in (rows, tested))
    return Laboratory(
        images=images, kinds=kinds[rows], patients=patients[rows], given=given, test_images=test_images,
        test_kinds=kinds[tested],
    )  # fmt: skip


@lru_cache(maxsize=1)
def _cohort(seed: int, patients: int, objects: int) -> list[DrawnCell]:
    """A seed's cells, kept while a process is at this seed."""
    return draw_cells(seed, patients=patients, objects=objects)


def _images(cells: Sequence[DrawnCell], rows: Rows, plan: Plan) -> NDArray[np.uint8]:
    return to_inputs(
        [cells[at].restored for at in rows], recipe=plan.recipe, background_percentile=plan.background_percentile,
        asinh_scale=plan.asinh_scale,
    )  # fmt: skip


def _answers(lab: Laboratory, error: float, seed: int) -> dict[str, Names]:
    """What each reader would say of each cell, whenever it comes: so all ways meet the same readers."""
    truth, rng = np.array([KINDS.index(kind) for kind in lab.kinds]), np.random.default_rng([seed, 11])
    return {reader: np.array(KINDS)[with_wrong_labels(truth, len(KINDS), error, rng)] for reader in READERS}


def _read(chosen: Rows, answers: Mapping[str, Names], *, known: set[str]) -> list[Reading]:
    """Both readers' answers; of a kind that is no class yet they say `new:`."""
    return [
        Reading(
            read_uid=f"{reader}-{row}",
            cell_uid=str(row),
            reader=reader,
            label=said[row] if said[row] in {*KNOWN, *known} else f"{NEW_PREFIX}{said[row]}",
            occasion="first",
            purpose=Purpose.TRAINING,
        )
        for reader, said in answers.items()
        for row in chosen
    ]


def labels_of(readings: Sequence[Reading], given: NDArray[np.object_], new_class_min: int) -> NDArray[np.object_]:
    """The class of each cell (N,), empty where nothing is settled; what differs is left out, as the paper does.

    A new name becomes a class when `new_class_min` cells are settled by it, and is left out until then.
    """
    settled = settle(readings, rule="paper").settled
    classes = {*KNOWN, *(class_id for class_id, cells in unnamed(settled).items() if len(cells) >= new_class_min)}
    labels = given.copy()
    for one in settled:
        if (label := one.label.removeprefix(NEW_PREFIX)) in classes:
            labels[int(one.cell_uid)] = label
    return labels


def _trained(lab: Laboratory, labels: NDArray[np.object_], one: Review) -> Scorer:
    """A standard CNN from scratch; the more labels, the fewer epochs."""
    rows = np.flatnonzero(labels != "")
    classes = [kind for kind in KINDS if kind in set(labels)]
    epochs = max(2, round(one.plan.presentations / len(rows)))  # the standard CNN skips the first phase
    with tempfile.TemporaryDirectory() as checkpoints:
        trained = train(
            lab.images[rows], np.array([classes.index(name) for name in labels[rows]]), classes=classes, network="standard",
            seed=one.seed, recipe=one.plan.recipe, start=None, checkpoints=Path(checkpoints), jitter=None,
            **{**one.plan.numbers, "epochs": (1, 1, epochs - 1)},
        )  # fmt: skip
    return Scorer(trained.model.eval().requires_grad_(False), classes, one.plan.recipe, "")


def _choose(
    lab: Laboratory, labels: NDArray[np.object_], asked: Rows, scorer: Scorer, representation: Representation | None,
    plan: Plan, seed: int, rng: np.random.Generator,
) -> tuple[Rows, NDArray[np.bool_]]:  # fmt: skip
    """The cells of the next round, none of them read before, and which cells were flagged."""
    cells = pd.DataFrame({"cell_uid": np.arange(len(labels)).astype(str), "patient_uid": lab.patients})
    unread = (lab.given == "") & ~np.isin(np.arange(len(labels)), asked)
    flagged = np.zeros(len(labels), dtype=bool)
    # Pure chance knows no cap a patient either.
    shares, per_patient = (plan.shares, plan.per_patient) if representation else ({"random": 1.0}, plan.budget)
    if representation:
        seen = look(scorer, lab.images)
        cluster, flagged = _flagged(seen, lab, labels != "", representation, plan, seed)
        predicted = np.array(scorer.classes)[seen.probabilities.argmax(axis=1)]
        cells = cells.assign(predicted=predicted, uncertainty=uncertainty(seen.probabilities), cluster=cluster)
    else:
        cells = cells.assign(predicted="", uncertainty=0.0, cluster=0)
    queue = discovery_queue(
        cells.assign(flagged=flagged)[unread], budget=plan.budget, shares=shares, per_patient=per_patient,
        roles=dict.fromkeys(lab.patients.tolist(), Role.TRAIN), rng=rng,
    )  # fmt: skip
    return queue["cell_uid"].to_numpy().astype(np.intp), flagged


def _flagged(
    seen: Seen, lab: Laboratory, labelled: NDArray[np.bool_], representation: Representation, plan: Plan, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The cluster of each cell, and whether it is an unlabelled one of a flagged cluster."""
    rule = Rule(representation=representation, ratio=plan.ratio, clusters=plan.clusters, min_cells=plan.min_cells)
    cells = pd.DataFrame(
        {"sample_uid": lab.patients, "patient_uid": lab.patients, "instrument": "one", "in_reference": labelled}
    )
    placed = place(seen, labelled, representation)
    made = group(placed, method=rule.method, clusters=rule.clusters, min_cells=rule.min_cells, seed=seed)
    flags = flag_clusters(cells, placed, made, rule)
    return flags.grouping.member, flags.of_cells(labelled)


def _frozen_clusters(first: Seen, seed: int) -> list[Rows]:
    """Rows of the test cells in each cluster of what the first network, which lacks a class, sees in them."""
    placed = place(first, np.ones(len(first), dtype=bool), "latents")
    member = group(placed, method="kmeans", clusters=CLUSTERS, min_cells=FEWEST, seed=seed).member
    parts = [np.flatnonzero(member == number) for number in range(int(member.max()) + 1)]
    return [rows for rows in parts if len(rows) >= FEWEST]


def judged(truth: Names, called: Names, parts: Sequence[Rows]) -> dict[str, float]:
    """The four `FIGURES` of cells (N,); the recall of a class that the network does not know is 0.

    F1 of a cluster, one of `parts`, is the mean F1 of its true classes among its cells, each weighed by its cells, so that a
    single stray cell of another class does not decide; calls of a wrong class cost that class's precision.
    """
    recalls = recall_score(truth, called, labels=[ABSENT, "ctc"], average=None, zero_division=0)
    f1 = [f1_score(truth[rows], called[rows], average="weighted", zero_division=0) for rows in parts]
    return {
        "recall_of_absent": float(recalls[0]),
        "worst_cluster_f1": float(min(f1)),
        "accuracy": float(accuracy_score(truth, called)),
        "ctc_recall": float(recalls[1]),
    }


def bench_review(
    seeds: Sequence[int],
    *,
    plan: Plan,
    folder: Path,
    workers: int,
    say: Say,
    ways: Sequence[str] = (RANDOM, QUEUE),
) -> list[Figure]:
    """Review by each way for each seed and say what came of it; `learning-curves` are drawn into `folder`, SVG and PNG."""
    reviews = [Review(seed=seed, way=way, plan=plan) for seed in seeds for way in ways]
    done = run_reviews(reviews, folder=folder, workers=workers, say=say)
    for ending in ("svg", "png"):
        learning_curves(done, folder / f"learning-curves.{ending}")
    return figures_of(done)


def run_reviews(reviews: Sequence[Review], *, folder: Path, workers: int, say: Say) -> list[Reviewed]:
    """Make every review once, `workers` at a time on one thread each; what `folder` has already is not done again.

    A review counts as done only when all that decides it is the same, code included.
    """
    folder.mkdir(parents=True, exist_ok=True)
    book = folder / "reviews.jsonl"
    keys = [key_of(one) for one in reviews]
    found = _finished(book)
    todo = {key: one for key, one in zip(keys, reviews, strict=True) if key not in found}
    say(f"{len(todo)} reviews to do, {len(reviews) - len(todo)} are in {book} already")
    begun = time.monotonic()
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    )
    try:
        futures = {pool.submit(review, one): key for key, one in todo.items()}
        for number, future in enumerate(as_completed(futures), start=1):
            key = futures[future]
            found[key] = future.result()
            with book.open("ab") as file:
                file.write(json.dumps({"key": key, **asdict(found[key])}).encode() + b"\n")
            left = (time.monotonic() - begun) / number * (len(todo) - number)
            say(f"{number}/{len(todo)} {_line(found[key])}; about {left / 60:.0f} min left")
    finally:
        pool.shutdown(cancel_futures=True)
    return [found[key] for key in keys]


def key_of(one: Review) -> str:
    """A name for all that decides a review: the same for the same review by the same code."""
    code = [hashlib.sha256(Path(__file__).with_name(f"{name}.py").read_bytes()).hexdigest() for name in CODE]
    return hashlib.sha256(json.dumps([code, torch.__version__, asdict(one)]).encode()).hexdigest()


def _finished(book: Path) -> dict[str, Reviewed]:
    """What is done, by key; a last line that was being written when the bench was killed is cut off."""
    if not book.exists():
        return {}
    content = book.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    os.truncate(book, len(whole))
    rows = [json.loads(line) for line in whole.splitlines()]
    return {
        row.pop("key"): Reviewed(**row | {"standings": tuple(Standing(**one) for one in row["standings"])})
        for row in rows
    }


def _line(one: Reviewed) -> str:
    recalls = ", ".join(f"{standing.recall_of_absent:.1%}" for standing in one.standings)
    return f"seed {one.seed}, {one.way}: recall of CD45EV {recalls}, {one.cpu_s:.0f} CPU-s"


def figures_of(done: Sequence[Reviewed]) -> list[Figure]:
    """Means over the seeds after each round, each way beside random with the 95 % interval of the paired difference."""
    ways = [way for way in WAYS if way != RANDOM and any(one.way == way for one in done)]
    readings = [one.read for one in done[0].standings]
    figures = [
        Figure(name="SIMULATED cells of held-out patients", value=f"{min(one.tested for one in done)} or more a seed")
    ]
    for at, read in enumerate(readings):
        for name, title in FIGURES.items():
            for way in ways[:1] if at == 0 else ways:
                asked = _asked(name) if at == 1 and way == QUEUE else ""
                figures.append(Figure(name=f"after {read} | {title}", value=_beside(done, way, name, at), asked=asked))
        for way in (RANDOM, *ways) if at else ():
            figures.append(Figure(name=f"after {read} | {way}", value=_yield(done, way, at)))
    for name in ("recall_of_absent", "accuracy"):
        for way in ways:
            title = f"cells random must have read for the {FIGURES[name]} of {way} after {readings[1]}"
            figures.append(Figure(name=title, value=readings_saved(done, way, name)))
    return figures


def _asked(name: str) -> str:
    wanted = {"recall_of_absent": f">= {WANTED_RECALL:.0%}, ahead of random", "accuracy": "not behind random"}
    return wanted.get(name, "reported")


def _values(done: Sequence[Reviewed], way: str, name: str) -> NDArray[np.float64]:
    """One figure of a way: a row a seed, a column a standing."""
    rows = {one.seed: [getattr(standing, name) for standing in one.standings] for one in done if one.way == way}
    return np.array([rows[seed] for seed in sorted(rows)], dtype=np.float64)


def _beside(done: Sequence[Reviewed], way: str, name: str, at: int) -> str:
    ours, chance = (_values(done, one, name)[:, at] for one in (way, RANDOM))
    if at == 0:
        return f"{ours.mean():.1%}, the same network for all"
    one = paired(ours - chance)
    verdict = ("ahead" if one.mean > 0 else "behind") if one.shown else "no difference shown"
    limits = f"{100 * one.low:+.1f} to {100 * one.high:+.1f}" if np.isfinite(one.low) else "no interval"
    return (
        f"{way} {ours.mean():.1%} (lowest {ours.min():.1%}), random {chance.mean():.1%}; "
        f"difference {100 * one.mean:+.1f} points ({limits}, {len(ours)} seeds): {verdict}"
    )


def _yield(done: Sequence[Reviewed], way: str, at: int) -> str:
    names = ("absent_read", "absent_settled", "labels", "flagged", "flagged_absent")
    read, settled, labels, flagged, share = (_values(done, way, name)[:, at].mean() for name in names)
    told = f"{read:.0f} CD45EV read, {settled:.0f} of them settled as such; {labels:.0f} labels in all"
    return told + (f"; {flagged:.0f} cells were flagged, {share:.0%} of them CD45EV" if way != RANDOM else "")


def readings_saved(done: Sequence[Reviewed], way: str, name: str) -> str:
    """How many cells random must have read for what `way` reached after its first round, on the mean curve and a seed each."""
    read = [one.read for one in done[0].standings]
    ours, chance = _values(done, way, name), _values(done, RANDOM, name)
    each = ", ".join(_needed(read, curve, goal) for curve, goal in zip(chance, ours[:, 1], strict=True))
    return f"{_needed(read, chance.mean(axis=0), ours[:, 1].mean())} (by seed: {each})"


def _needed(read: Sequence[int], curve: NDArray[np.float64], goal: float) -> str:
    """Cells read until a curve first reaches a goal, on straight lines between the rounds.

    >>> _needed([0, 250, 500], np.array([0.0, 0.5, 1.0]), 0.75), _needed([0, 250], np.array([0.0, 0.5]), 0.75)
    ('375', 'more than 250')
    """
    there = np.flatnonzero(curve >= goal)
    if not len(there):
        return f"more than {read[-1]}"
    at = int(there[0])
    return f"{read[0] if at == 0 else np.interp(goal, curve[at - 1 : at + 1], read[at - 1 : at + 1]):.0f}"


def learning_curves(done: Sequence[Reviewed], path: Path) -> None:
    """Draw each of the `FIGURES` over the cells read: a thin line a seed, a thick one their mean."""
    read = [one.read for one in done[0].standings]
    colours = dict(zip(WAYS, (*reversed(ARM_COLOURS), FURTHER_COLOURS[2]), strict=True))
    ways = [way for way in WAYS if any(one.way == way for one in done)]
    with mpl.rc_context(STYLE):
        picture = Picture(figsize=(11.0, 3.4), layout="constrained")
        for axes, (name, title) in zip(picture.subplots(1, len(FIGURES)), FIGURES.items(), strict=True):
            for way in ways:
                values = _values(done, way, name)
                axes.plot(read, values.T, color=colours[way], linewidth=0.6, alpha=0.5)
                axes.plot(
                    read, values.mean(axis=0), color=colours[way], linewidth=2, marker="o", markersize=4, label=way
                )
            axes.set(xlabel="Cells read by both readers", title=title[:1].upper() + title[1:], xticks=read)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        picture.legend(*axes.get_legend_handles_labels(), loc="outside upper right")
        seeds = len({one.seed for one in done})
        told = f"held-out patients; thin lines: {seeds} seed{'s' * (seeds > 1)}, thick: their mean"
        put_head(picture, "What the readers' time brings, chosen by the queue or by chance", [*stamps(True), told])
        save_figure(picture, path)
