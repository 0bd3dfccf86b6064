"""The replay: hide a class that the laboratory knows, train without it, and see whether discovery finds it again.

Nobody can know how well a new class would be found before it is there; but each known class was new once. For each one a
network is trained without it on some patients, and the others' cells, with the hidden class among them at several
prevalences, play the archive. That measures every novelty score and every way to cluster on the laboratory's own cells,
and what does best *on other classes* is what is used. Networks of the replay are trained for this alone, on a shortened
schedule, and thrown away; sealed patients have no part in it.
"""

import tempfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ctcml.clusters import NEW, Rule, flag_clusters, place
from ctcml.embed import Scorer, look
from ctcml.errors import BadInput, CannotTrain
from ctcml.grouping import group
from ctcml.malloc import keep_freed_memory
from ctcml.model import Network
from ctcml.novelty import BASELINES, OF_APPEARANCE, Seen, novelty_scores
from ctcml.train import train

APPEARANCE = "appearance"
ARCHIVE_SHARE = 0.4  # of the groups, or of the cells where groups cannot be divided
FEWEST_GROUPS = 5  # of the whole, to divide by group
FEWEST_NOVEL = 30  # in the archive; of a rarer class all cells play the novel ones, none is trained on anyway
FEWEST_OF_CLASS = 10  # cells of a class that can be held out
SMALLEST_SET = 5  # novel cells below which a prevalence says nothing
FALSE_FLAGS = 0.34  # clusters flagged in a control, on average, that a rule may have: one in three
BOOTSTRAP = 200
NATURAL = "natural"
# Without enough classes to choose by: what did best on simulated cells.
USUAL_SCORE, USUAL_REPRESENTATION, USUAL_RATIO = "appearance_density", APPEARANCE, 3.0

Images = NDArray[np.uint8]
Names = NDArray[np.str_]
Yes = NDArray[np.bool_]
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything beside the cells that decides a replay; `numbers` are arguments of `train` without the network."""

    numbers: Mapping[str, Any]
    networks: tuple[Network, ...]
    recipe: str
    cells: int  # that are trained on, and that play the archive, at the most
    prevalences: tuple[float, ...]
    ratios: tuple[float, ...]
    clusters: int
    min_cells: int


@dataclass(frozen=True, kw_only=True)
class Case:
    """One hiding: `hidden` plays the new class; cells of `unknown` are taken out altogether."""

    seed: int
    hidden: str
    unknown: str = ""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a rule flagged: clusters, their cells, the share of hidden ones among them and of all hidden ones found."""

    clusters: int
    size: int
    purity: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of purity and recall; 0 where nothing, or nothing right, was flagged."""
        return 2 * self.purity * self.recall / (self.purity + self.recall) if self.recall else 0.0


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """The archive at one prevalence: AUROC and false alarms at 95 % recall of each score, what each rule flagged.

    `flagged` has, for each representation, a `Found` for each ratio as text.
    """

    prevalence: str
    known: int
    novel: int
    auroc: Mapping[str, float]
    fpr95: Mapping[str, float]
    flagged: Mapping[str, Mapping[str, Found]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """All of one case. The control, without any hidden cell, says how many clusters each rule flags for nothing."""

    case: Case
    mixtures: tuple[Mixture, ...]
    false_flags: Mapping[str, Mapping[str, int]]
    thresholds: Mapping[str, float]  # of each score, exceeded by 5 % of the known cells
    accuracy: Mapping[str, float]  # of each network, on the known cells
    of_cells: pd.DataFrame = field(repr=False)  # of the natural archive: group, novel, and each score
    shown: Mapping[str, NDArray[Any]] = field(repr=False)  # some cells of it for a picture: label, and each space


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The score and rule that the cases support, with their mean AUROC and F1 there; `cases` is 0 for the usual ones.

    `threshold` is what 5 % of known cells exceed. Without cases nothing was measured and three figures are None.
    """

    score: str
    threshold: float | None
    mean_auroc: float | None
    representation: str
    ratio: float
    mean_f1: float | None
    cases: int


def divide(labels: Names, groups: Names, *, seed: int) -> tuple[Yes, bool]:
    """Which cells play the archive, and whether whole groups do: cells of one patient resemble each other.

    Where there are fewer than five groups, or a class would be missing on one side, cells are divided one by one.
    """
    rng = np.random.default_rng([seed, 5])
    there = np.unique(groups)
    if len(there) >= FEWEST_GROUPS:
        chosen = rng.permutation(there)[: round(ARCHIVE_SHARE * len(there))]
        in_archive = np.isin(groups, chosen)
        if set(labels[in_archive]) == set(labels[~in_archive]):
            return in_archive, True
    return rng.random(len(labels)) < ARCHIVE_SHARE, False


def run_cases(
    cases: Sequence[Case],
    images: Images,
    labels: Names,
    groups: Names,
    in_archive: Yes,
    *,
    by_group: bool,
    plan: Plan,
    workers: int,
    say: Say,
) -> list[Outcome]:
    """Play every case, `workers` at a time on one thread each; `images` (N, 80, 80, 3) uint8 and one entry a cell beside.

    Raises `BadInput` when a case would leave fewer than two classes, and the error of a training that fails.
    """
    for case in cases:
        left = sorted(set(labels) - {case.hidden, case.unknown})
        if len(left) < 2:
            raise BadInput(
                f"replay: without {case.hidden!r} {len(left)} class is left, expected 2 or more; add cells of further classes"
            )
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ctcml-replay-") as folder:
        np.save(Path(folder) / "images.npy", images)
        pool = ProcessPoolExecutor(min(workers, len(cases)), mp_context=get_context("spawn"), initializer=_make_ready)
        try:
            futures = {
                pool.submit(play, case, Path(folder), labels, groups, in_archive, by_group, plan): number
                for number, case in enumerate(cases)
            }
            played: dict[int, Outcome] = {}
            for done, future in enumerate(as_completed(futures), start=1):
                one = played[futures[future]] = future.result()
                left_s = (time.monotonic() - begun) / done * (len(cases) - done)
                say(f"{done}/{len(cases)} {_line(one)}; about {left_s:.0f} s left")
        except BrokenProcessPool:
            raise CannotTrain(
                f"a process of the replay was killed, perhaps for want of memory; set fewer than {workers} workers"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
    return [played[number] for number in range(len(cases))]


def _make_ready() -> None:
    """One thread a process: threads of two processes would wait for each other."""
    torch.set_num_threads(1)
    keep_freed_memory()


def play(
    case: Case, folder: Path, labels: Names, groups: Names, in_archive: Yes, by_group: bool, plan: Plan
) -> Outcome:
    """Train without the hidden class and measure, in one process; `folder` holds images.npy."""
    images = np.load(folder / "images.npy", mmap_mode="r")
    order = np.random.default_rng([case.seed, 6]).permutation(len(labels))
    order = order[~np.isin(labels[order], [case.unknown])]
    is_hidden = labels[order] == case.hidden
    reference = order[~in_archive[order] & ~is_hidden][: plan.cells]
    known = order[in_archive[order] & ~is_hidden][: plan.cells]
    hidden = order[in_archive[order] & is_hidden]
    if len(hidden) < FEWEST_NOVEL:
        hidden = order[is_hidden]
    archive = np.concatenate([known, hidden])
    novel = np.arange(len(archive)) >= len(known)
    spaces, accuracy = _seen_by_networks(case, images, labels, reference, archive, novel, plan)
    dice = np.random.default_rng([case.seed, zlib.crc32(case.hidden.encode())])
    samples = groups if by_group else np.arange(len(labels)).astype(str)
    mixtures = []
    for name, rows in _mixtures(len(known), len(hidden), plan.prevalences, dice).items():
        scores = _scores(spaces, labels[reference], rows)
        mixed = novel[rows]
        if name == NATURAL:
            of_cells = pd.DataFrame({"group": samples[archive[rows]], "novel": mixed, **scores})
            thresholds = {one: float(np.quantile(score[~mixed], 0.95)) for one, score in scores.items()}
        mixtures.append(
            Mixture(
                prevalence=name,
                known=int((~mixed).sum()),
                novel=int(mixed.sum()),
                auroc={one: float(roc_auc_score(mixed, score)) for one, score in scores.items()},
                fpr95={one: _false_alarms(mixed, score) for one, score in scores.items()},
                flagged=_flagged(spaces, samples, reference, archive, rows, novel, plan, case.seed),
            )
        )
    control = _flagged(spaces, samples, reference, archive, np.flatnonzero(~novel), novel, plan, case.seed)
    return Outcome(
        case=case,
        mixtures=tuple(mixtures),
        false_flags={space: {r: found.clusters for r, found in by.items()} for space, by in control.items()},
        thresholds=thresholds,
        accuracy=accuracy,
        of_cells=of_cells,
        shown=_shown(spaces, labels[archive], dice),
    )


def _seen_by_networks(
    case: Case, images: Any, labels: Names, reference: NDArray[Any], archive: NDArray[Any], novel: Yes, plan: Plan
) -> tuple[dict[str, tuple[Seen, Seen]], dict[str, float]]:
    """What each network, trained without the hidden class, makes of reference and archive; and its accuracy on known cells."""
    spaces: dict[str, tuple[Seen, Seen]] = {}
    accuracy: dict[str, float] = {}
    for network in plan.networks:
        scorer = train_blind(
            np.asarray(images[reference]), labels[reference].tolist(), network=network, recipe=plan.recipe, seed=case.seed,
            numbers=plan.numbers,
        )  # fmt: skip
        of_reference, of_archive = (look(scorer, np.asarray(images[rows])) for rows in (reference, archive))
        spaces[network] = of_reference, of_archive
        called = np.array(scorer.classes)[of_archive.probabilities[~novel].argmax(axis=1)]
        accuracy[network] = float((called == labels[archive[~novel]]).mean())
    return spaces, accuracy


def train_blind(
    images: Images, labels: Sequence[str], *, network: Network, recipe: str, seed: int, numbers: Mapping[str, Any]
) -> Scorer:
    """Train a network on images (N, 80, 80, 3) and their labels for the moment; `numbers` as in `Plan`."""
    classes = sorted(set(labels))
    with tempfile.TemporaryDirectory() as checkpoints:
        trained = train(
            images, np.array([classes.index(one) for one in labels]), classes=classes, network=network, seed=seed,
            recipe=recipe, start=None, checkpoints=Path(checkpoints), jitter=None, **numbers,
        )  # fmt: skip
    return Scorer(trained.model.eval().requires_grad_(False), classes, recipe, "")


def _mixtures(
    known: int, hidden: int, prevalences: Sequence[float], rng: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """Rows of the archive (the known cells first, then the hidden ones) for the natural mixture and each prevalence."""
    natural = np.arange(known + hidden)
    rows = {NATURAL: natural}
    for prevalence in prevalences:
        wanted = round(prevalence / (1 - prevalence) * known)
        kept = known if wanted <= hidden else round(hidden * (1 - prevalence) / prevalence)
        drawn = known + rng.permutation(hidden)[: min(wanted, hidden)]
        if len(drawn) >= SMALLEST_SET:
            rows[f"{prevalence:g}"] = np.concatenate([np.sort(rng.permutation(known)[:kept]), drawn])
    return rows


def _scores(
    spaces: Mapping[str, tuple[Seen, Seen]], known_labels: Names, rows: NDArray[Any]
) -> dict[str, NDArray[np.float64]]:
    """Every score of these archive cells, named `network.score`; those without a class bear no network's name."""
    found: dict[str, NDArray[np.float64]] = {}
    for number, (network, (reference, archive)) in enumerate(spaces.items()):
        for name, score in novelty_scores(
            reference, known_labels.tolist(), archive.take(rows), without=OF_APPEARANCE if number else ()
        ).items():
            found[name if name in OF_APPEARANCE else f"{network}.{name}"] = score
    return found


def _flagged(
    spaces: Mapping[str, tuple[Seen, Seen]], samples: Names, reference: NDArray[Any], archive: NDArray[Any],
    rows: NDArray[Any], novel: Yes, plan: Plan, seed: int,
) -> dict[str, dict[str, Found]]:  # fmt: skip
    """What each representation and ratio flags of these archive cells."""
    in_reference = np.arange(len(reference) + len(rows)) < len(reference)
    owners = samples[np.concatenate([reference, archive[rows]])]
    cells = pd.DataFrame(
        {"sample_uid": owners, "patient_uid": owners, "instrument": "one", "in_reference": in_reference}
    )
    truly = np.concatenate([np.zeros(len(reference), dtype=bool), novel[rows]])
    found: dict[str, dict[str, Found]] = {}
    for space in (*spaces, APPEARANCE):
        of_reference, of_archive = spaces[space] if space in spaces else next(iter(spaces.values()))
        both = joined(of_reference, of_archive.take(rows))
        placed = place(both, in_reference, representation_of(space))
        made = group(placed, method="kmeans", clusters=plan.clusters, min_cells=plan.min_cells, seed=seed)
        found[space] = {}
        for ratio in plan.ratios:
            rule = Rule(
                representation=representation_of(space), ratio=ratio, clusters=plan.clusters, min_cells=plan.min_cells
            )
            flags = flag_clusters(cells, placed, made, rule)
            flagged = flags.of_cells(in_reference)
            found[space][f"{ratio:g}"] = Found(
                clusters=sum(verdict == NEW for verdict in flags.verdicts),
                size=int(flagged.sum()),
                purity=float(truly[flagged].mean()) if flagged.any() else 0.0,
                recall=float(flagged[truly].mean()) if truly.any() else 0.0,
            )
    return found


def representation_of(space: str) -> Any:
    """`appearance` is a space of its own; a network's name stands for its latents."""
    return APPEARANCE if space == APPEARANCE else "latents"


def joined(one: Seen, other: Seen) -> Seen:
    """Cells of both, one after the other."""
    return Seen(
        **{name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in Seen.__dataclass_fields__}
    )


def _false_alarms(novel: Yes, score: NDArray[np.float64]) -> float:
    """Share of known cells that score as high as the lowest but 5 % of the novel ones: false alarms at 95 % recall."""
    return float((score[~novel] >= np.quantile(score[novel], 0.05)).mean())


def _shown(spaces: Mapping[str, tuple[Seen, Seen]], labels: Names, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    rows = rng.permutation(len(labels))[:800]
    shown: dict[str, NDArray[Any]] = {"labels": labels[rows]}
    for network, (_, archive) in spaces.items():
        shown[network] = archive.latents[rows]
        shown[APPEARANCE] = archive.appearance[rows]
    return shown


def _line(one: Outcome) -> str:
    best = max(one.mixtures[0].auroc, key=lambda name: one.mixtures[0].auroc[name])
    named = one.case.hidden + (f" ({one.case.unknown} unknown too)" if one.case.unknown else "")
    return f"seed {one.case.seed}, {named} hidden: best score {best} with AUROC {one.mixtures[0].auroc[best]:.3f}"


def choose(outcomes: Sequence[Outcome], *, spaces: Sequence[str]) -> Choice:
    """Take the score with the highest mean AUROC and the rule with the highest mean F1, over all mixtures of all cases.

    Only scores and clusters of `spaces` are eligible: a laboratory whose champion is an AE-CNN has no latents of a
    standard CNN. A rule that flags clusters in controls, more than one in three of them, is eligible only where all do.
    Without cases it is what did best on simulated cells.
    """
    if not outcomes:
        return Choice(
            score=USUAL_SCORE, threshold=None, mean_auroc=None, representation=USUAL_REPRESENTATION, ratio=USUAL_RATIO,
            mean_f1=None, cases=0,
        )  # fmt: skip
    mixtures = [mixture for one in outcomes for mixture in one.mixtures]
    eligible = [name for name in mixtures[0].auroc if _space_of(name) in spaces]
    means = {name: float(np.mean([mixture.auroc[name] for mixture in mixtures])) for name in eligible}
    score = max(means, key=lambda name: means[name])
    rules = [(space, ratio) for space in mixtures[0].flagged if space in spaces for ratio in mixtures[0].flagged[space]]
    alarms = {(s, r): float(np.mean([one.false_flags[s][r] for one in outcomes])) for s, r in rules}
    quiet = [rule for rule in rules if alarms[rule] <= max(FALSE_FLAGS, min(alarms.values()))]
    f1 = {(s, r): float(np.mean([mixture.flagged[s][r].f1 for mixture in mixtures])) for s, r in quiet}
    space, ratio = max(f1, key=lambda rule: f1[rule])
    return Choice(
        score=score,
        threshold=float(np.median([one.thresholds[score] for one in outcomes])),
        mean_auroc=means[score],
        representation=space,
        ratio=float(ratio),
        mean_f1=f1[space, ratio],
        cases=len(outcomes),
    )


def _space_of(score: str) -> str:
    return APPEARANCE if score in OF_APPEARANCE else score.split(".")[0]


def interval(outcome: Outcome, score: str, *, rng: np.random.Generator, against: str = "") -> tuple[float, float]:
    """95 % limits of the AUROC of a score on the natural archive, or of its lead over another, over resampled groups."""
    cells = outcome.of_cells
    codes, groups = pd.factorize(cells["group"])
    rows_of = [np.flatnonzero(codes == number) for number in range(len(groups))]
    novel = cells["novel"].to_numpy()
    drawn = []
    for _ in range(BOOTSTRAP):
        rows = np.concatenate([rows_of[number] for number in rng.integers(len(groups), size=len(groups))])
        if 0 < novel[rows].sum() < len(rows):
            value = roc_auc_score(novel[rows], cells[score].to_numpy()[rows])
            drawn.append(value - (roc_auc_score(novel[rows], cells[against].to_numpy()[rows]) if against else 0.0))
    return (float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))) if drawn else (np.nan, np.nan)


def best_baseline(outcome: Outcome) -> str:
    """The best of the plain scores on the hidden class itself: one that nobody could have picked beforehand."""
    auroc = outcome.mixtures[0].auroc
    return max((name for name in auroc if name.split(".")[-1] in BASELINES), key=lambda name: auroc[name])
