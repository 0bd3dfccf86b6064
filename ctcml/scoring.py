"""`ctcml score`: thumbnails of any source through a model, into one table: class, probabilities and latents of each.

Processes read, prepare and score samples side by side, each on one thread. To choose the engine takes seconds, most of them
for importing torch, so they are started before it and begin with the engine that nearly always wins; where another one is
chosen they begin again. A sample is scored in batches of its own, so neither the number of processes nor their pace changes
a bit of the result.
"""

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow.csv import write_csv

from ctcml import tables
from ctcml.cartridges import Cartridge
from ctcml.engines import Choice, Engine, Floats, choose_engine, load_engine
from ctcml.errors import BadInput, BrokenRecord, CtcmlError, ServiceDown
from ctcml.executor import start_method
from ctcml.images import Picture, to_camera_scale, to_given, to_inputs
from ctcml.malloc import keep_freed_memory
from ctcml.records import PLANES
from ctcml.shards import read_inputs, sample_uids
from ctcml.sources import Source, find_sources, read_source
from ctcml.tables import F32, I32, STR, Schema, atomic_path
from ctcml.thumbnails import RawThumbnail, Refused, checked_page_order, one_line
from ctcml.workspace import Workspace

IMAGE_NUMBERS = ("recipe", "background_percentile", "asinh_scale")
LIKELY = "onnx"

Progress = Callable[[int, int], None]  # samples begun, of how many


@dataclass(frozen=True, kw_only=True)
class StoredSample:
    """One sample of a folder of shards, under its pseudonym."""

    shards: Path
    sample_id: str


Job = Source | StoredSample


@dataclass(frozen=True, kw_only=True)
class Way:
    """How every sample is read and scored; `image` holds the recipe and its numbers from the model's card."""

    model: Path
    image: Mapping[str, Any]
    page_order: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """One sample as the network takes it; `names` are object indices, or `cell_uid`s where it came from a shard."""

    sample: str
    names: Sequence[int] | Sequence[str]
    images: Picture
    refused: Sequence[Refused]


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredSample:
    """What the network says of one sample."""

    sample: str
    names: Sequence[int] | Sequence[str]
    logits: Floats
    latents: Floats
    refused: Sequence[Refused]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What one run did; `refused` files or objects stand in the table `refused_table`, with reasons."""

    thumbnails: int
    samples: int
    refused: int
    refused_table: Path
    engine: Choice

    def __str__(self) -> str:
        """One line for people; names of samples are in the tables only."""
        more = f"; {self.refused} refused (see {self.refused_table.name})" if self.refused else ""
        return f"{self.thumbnails} thumbnails of {self.samples} samples scored by {self.engine}{more}"


def score_path(
    path: Path,
    model: Path,
    out: Path,
    *,
    engine: str = "auto",
    workers: int | None = None,
    page_order: tuple[str, ...] = PLANES,
    progress: Progress = lambda _begun, _all: None,
) -> Scored:
    """Score every thumbnail at or below `path` by the model in the folder `model`, and write the table `out`.

    `path` is what intake takes, a folder of shards, or a workspace. `out` is Parquet, or CSV when it ends so; what could
    not be scored stands with its reason in `<out>.refused.csv`. Both are written whole or not at all. Raises `BadInput`
    when nothing could be scored or the engine is none of this machine's, `BrokenRecord` when the model cannot be read.
    """
    checked_page_order(page_order)
    classes, way = _read_card(model, page_order)
    if out.is_dir():
        raise BadInput(f"{out}: is a folder, expected the name of a new table; add one that ends in .parquet or .csv")
    jobs, refused = _find_jobs(path)
    samples, choice = _score_all(jobs, way, workers=workers or os.cpu_count() or 1, wanted=engine, progress=progress)
    rows = [("", one.file, one.reason) for one in refused]
    rows += [(sample.sample, one.file, one.reason) for sample in samples for one in sample.refused]
    refused_table = out.with_name(f"{out.name}.refused.csv")
    _write_refused(rows, refused_table)
    samples = [one for one in samples if len(one.names)]
    if not samples:
        raise BadInput(f"{path}: none of its thumbnails could be scored; mend what {refused_table} names")
    schema = score_columns(classes, stored=isinstance(jobs[0], StoredSample))
    _write_scores(_table(samples, classes, schema), schema, out)
    return Scored(
        thumbnails=sum(len(one.names) for one in samples),
        samples=len(samples),
        refused=len(rows),
        refused_table=refused_table,
        engine=choice,
    )


def _read_card(model: Path, page_order: tuple[str, ...]) -> tuple[list[str], Way]:
    """The model's classes and the way to score by it; its weights are checked when the engine is chosen."""
    try:
        card = json.loads((model / "model.json").read_text(encoding="utf-8"))
        classes, image = [str(one) for one in card["classes"]], {name: card["image"][name] for name in IMAGE_NUMBERS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenRecord(f"model {model}: not readable ({one_line(error)}); train it again or fetch it") from None
    return classes, Way(model=model, image=image, page_order=page_order)


# What there is to score.


def _find_jobs(path: Path) -> tuple[list[Job], list[Refused]]:
    if not path.exists():
        raise BadInput(f"{path}: no such file or folder; name what holds the thumbnails")
    for folder in (Workspace(path).shards, path):
        if folder.is_dir() and (stored := sample_uids(folder)):
            return [StoredSample(shards=folder, sample_id=one) for one in stored], []
    sources, refused = find_sources(path)
    times = Counter(one.sample_id for one in sources)
    refused += [
        Refused(file=name, reason=f"exported {n} times below this folder; score one of the exports")
        for name, n in times.items()
        if n > 1
    ]
    if not sources and not refused:
        raise BadInput(
            f"{path}: no sample folder with thumbnails (frames/<sample>/Thumbs), no manifest.csv, no labelled array, no"
            " cartridge and no shards found; name the folder that holds one"
        )
    once = [one for one in sources if times[one.sample_id] == 1]
    return sorted(once, key=lambda one: isinstance(one, Cartridge)), refused


def prepare(job: Job, way: Way, *, workers: int = 1) -> Prepared:
    """Read one sample and make its thumbnails the network's input; what does not go is refused, with its reason."""
    try:
        if isinstance(job, StoredSample):
            cell_uids, images = read_inputs(job.shards, [job.sample_id], **way.image)
            return Prepared(sample=job.sample_id, names=cell_uids, images=images, refused=[])
        found, refused = read_source(job, page_order=way.page_order, workers=workers, pixels_only=True)
        given = way.image["recipe"] == "given"
        fitting = [one for one in found if bool(one.recipe) == given]
        refused += [_unfit(one, way.image["recipe"]) for one in found if bool(one.recipe) != given]
        names = [one.object_index for one in fitting]
        return Prepared(sample=job.sample_id, names=names, images=_inputs(fitting, way.image), refused=refused)
    except CtcmlError as error:
        reason = str(error)
    except Exception as error:  # a reader's own fault must not stop the other samples
        reason = f"could not be read ({type(error).__name__}: {one_line(error)}); report it"
    whole = Refused(file=job.sample_id, reason=reason)
    return Prepared(sample=job.sample_id, names=[], images=_no_images(), refused=[whole])


def _unfit(one: RawThumbnail, recipe: str) -> Refused:
    """Nothing is transformed twice, and nothing that should be is left as it is."""
    what = f"came preprocessed ({one.recipe})" if one.recipe else "holds camera counts"
    reason = f"{what}, and the model takes the recipe {recipe!r}; score it by a model of its own kind"
    return Refused(file=f"object {one.object_index}", reason=reason)


def _inputs(thumbnails: Sequence[RawThumbnail], image: Mapping[str, Any]) -> Picture:
    if image["recipe"] == "given":
        given = [to_given(one.pixels, bit_depth=one.source_bit_depth) for one in thumbnails]
        return np.stack(given) if given else _no_images()
    counts = [
        to_camera_scale(one.pixels, bit_depth=one.source_bit_depth, restored=bool(one.restore_low), recipe=one.recipe)
        for one in thumbnails
    ]
    return to_inputs(counts, **image)


def _no_images() -> Picture:
    return to_inputs([], recipe="paper", background_percentile=0.0, asinh_scale=1.0)


# The processes.


def _score_all(
    jobs: Sequence[Job], way: Way, *, workers: int, wanted: str, progress: Progress
) -> tuple[list[ScoredSample], Choice]:
    """Score every sample, in the order of `jobs`: those that go side by side, then cartridges, which share all processes."""
    together = [job for job in jobs if not isinstance(job, Cartridge)] if workers > 1 else []
    scored, choice = _side_by_side(together, way, workers=workers, wanted=wanted, tell=lambda n: progress(n, len(jobs)))
    if len(together) < len(jobs):
        engine = load_engine(choice.chosen.name, way.model)
        for job in jobs[len(together) :]:
            scored.append(_scored(prepare(job, way, workers=workers), engine))
            progress(len(scored), len(jobs))
    return scored, choice


def _scored(prepared: Prepared, engine: Engine) -> ScoredSample:
    logits, latents = engine.score(prepared.images)
    return ScoredSample(
        sample=prepared.sample, names=prepared.names, logits=logits, latents=latents, refused=prepared.refused
    )


def _side_by_side(
    jobs: Sequence[Job], way: Way, *, workers: int, wanted: str, tell: Callable[[int], None]
) -> tuple[list[ScoredSample], Choice]:
    """Start the processes, choose the engine while they begin, tell them its name, and gather what they found."""
    context, likely = start_method(), LIKELY if wanted == "auto" else wanted
    taken: Synchronized[int] = context.Value("i", 0)
    pipes, processes = list[Connection](), []
    try:
        for _ in range(min(workers, len(jobs))):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, taken, jobs, way, likely), daemon=True)  # type: ignore[attr-defined]
            process.start()
            theirs.close()  # the process holds the only other end: when it dies, ours says so
            pipes.append(ours)
            processes.append(process)
        choice = choose_engine(way.model, wanted=wanted)
        scored = _gathered(pipes, choice.chosen.name, tell=lambda: tell(min(taken.value, len(jobs))))
        return [scored[number] for number in range(len(jobs))], choice
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _gathered(pipes: Sequence[Connection], engine: str, *, tell: Callable[[], None]) -> dict[int, ScoredSample]:
    scored: dict[int, ScoredSample] = {}
    try:
        for pipe in pipes:
            pipe.send(engine)
        for pipe in pipes:
            while not pipe.poll(0.5):
                tell()
            scored |= pipe.recv()
    except (EOFError, OSError):
        raise ServiceDown(
            "a process that scores ended before its work was done, perhaps for want of memory; run it with fewer workers"
        ) from None
    return scored


def work(pipe: Connection, taken: "Synchronized[int]", jobs: Sequence[Job], way: Way, likely: str) -> None:
    """Score sample after sample by the likely engine, and what was scored again if the pipe names another one."""
    keep_freed_memory()
    told, engine, scored = False, None, dict[int, ScoredSample]()
    with suppress(Exception):  # what is wrong with the model or this engine, choosing one will say
        engine = load_engine(likely, way.model)
    for number in _next(taken, len(jobs)):
        if engine is None or (not told and pipe.poll()):
            told, engine = True, _chosen(pipe.recv(), engine, scored, jobs, way)
        scored[number] = _scored(prepare(jobs[number], way), engine)
    if not told:
        _chosen(pipe.recv(), engine, scored, jobs, way)
    pipe.send(scored)


def _chosen(name: str, engine: Engine | None, scored: dict[int, ScoredSample], jobs: Sequence[Job], way: Way) -> Engine:
    if engine is None or engine.name != name:
        engine = load_engine(name, way.model)
        for number in scored:
            scored[number] = _scored(prepare(jobs[number], way), engine)
    return engine


def _next(taken: "Synchronized[int]", end: int) -> Iterator[int]:
    """Number after number, each to one process only."""
    while True:
        with taken.get_lock():
            number, taken.value = taken.value, taken.value + 1
        if number >= end:
            return
        yield number


# The tables.


def score_columns(classes: Sequence[str], *, stored: bool) -> Schema:
    """The columns of a table of scores; a thumbnail from a shard is known by its pseudonyms alone.

    >>> list(score_columns(["ctc", "wbc"], stored=False))[:6]
    ['sample', 'object_index', 'predicted', 'p_ctc', 'p_wbc', 'z0']
    """
    names: Schema = {"sample_uid": STR, "cell_uid": STR} if stored else {"sample": STR, "object_index": I32}
    numbers = [*(f"p_{one}" for one in classes), *(f"z{place}" for place in range(50))]
    return {**names, "predicted": STR, **dict.fromkeys(numbers, F32)}


def _table(samples: Sequence[ScoredSample], classes: Sequence[str], schema: Schema) -> pd.DataFrame:
    logits = np.concatenate([one.logits for one in samples])
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    sample, name, predicted, *numbers = schema
    texts = pd.DataFrame(
        {
            sample: [one.sample for one in samples for _ in one.names],
            name: [name for one in samples for name in one.names],
            predicted: [classes[place] for place in logits.argmax(1)],
        }
    )
    latents = np.concatenate([one.latents for one in samples])
    return pd.concat([texts, pd.DataFrame(np.hstack([probabilities, latents]), columns=numbers)], axis=1)


def _write_scores(table: pd.DataFrame, schema: Schema, out: Path) -> None:
    if out.suffix.lower() == ".csv":
        with atomic_path(out) as unfinished:
            write_csv(tables.check(table, schema, out.name), unfinished)
    else:
        tables.write_table(table, schema, out)


def _write_refused(rows: Sequence[tuple[str, str, str]], path: Path) -> None:
    """Write what was refused; without any, a list that an earlier run left must not stand beside the new table."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    with (
        atomic_path(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        csv.writer(file).writerows([("sample", "file", "reason"), *rows])
