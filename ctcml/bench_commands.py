"""`ctcml bench …`: each command measures one of our ways beside what a user would do instead."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click

from ctcml.errors import BadInput
from ctcml.measuring import Figure, table_of
from ctcml.options import Extended
from ctcml.telling import say


@click.group(cls=Extended, points="ctcml.benches")
def bench() -> None:
    """Measure our ways beside what a user would do instead, in one run; on SIMULATED data.

    Example: ctcml bench intake
    """


def _tell(run: Callable[..., list[Figure]], folder: Path | None, **numbers: int) -> None:
    """Run a bench in a new folder, a temporary one where none is named, and tell its table."""
    if folder is None:
        place: AbstractContextManager[str | Path] = tempfile.TemporaryDirectory(prefix="ctcml-bench-")
    elif folder.exists():
        raise BadInput(f"{folder}: expected a folder that is not there yet; name another")
    else:
        folder.mkdir(parents=True)
        place = nullcontext(folder)
    with place as where:
        say(table_of(run(Path(where), say=say, **numbers)))


folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    show_default="a temporary one",
    help="A new folder to work in; kept afterwards.",
)


@bench.command("intake")
@click.option("--samples", default=300, show_default=True, type=click.IntRange(2), help="Samples of the export.")
@click.option("--objects", default=208, show_default=True, type=click.IntRange(10), help="Objects a sample, about.")
@click.option("--seed", default=9, show_default=True, help="Seed of the simulated laboratory.")
@folder_option
def bench_intake_command(samples: int, objects: int, seed: int, folder: Path | None) -> None:
    """Intake against a plain loop of imread, one PNG a cell and `dvc add`.

    Example: ctcml bench intake --samples 30
    """
    from ctcml.bench import bench_intake

    _tell(bench_intake, folder, samples=samples, objects=objects, seed=seed)


@bench.command("cartridge")
@click.option("--seed", default=12, show_default=True, help="Seed of the simulated cartridge.")
@folder_option
def bench_cartridge_command(seed: int, folder: Path | None) -> None:
    """Detection on a cartridge of 175 frames against what was planted, and against a naive loop over the frames.

    Example: ctcml bench cartridge --seed 13
    """
    from ctcml.bench import bench_cartridge

    _tell(bench_cartridge, folder, seed=seed)


@bench.command("recipes")
@click.option(
    "--seed", "seeds", multiple=True, default=(0, 1, 2), show_default=True, type=int, help="May be given again."
)
def bench_recipes_command(seeds: tuple[int, ...]) -> None:
    """What each step of the preprocessing is worth: the same cells and trainer, one step changed at a time.

    Example: ctcml bench recipes --seed 0
    """
    from ctcml.ablation import ablate, ablation_table

    say(ablation_table(ablate(seeds, say=say)))


@bench.command("score")
@click.option("--thumbnails", default=23377, show_default=True, type=click.IntRange(100), help="The paper's number.")
@click.option("--seed", default=9, show_default=True, help="Seed of the simulated cells.")
@folder_option
def bench_score_command(thumbnails: int, seed: int, folder: Path | None) -> None:
    """Scoring from TIFF files and from shards against the plain way: tifffile, numpy, eager fp32.

    Example: ctcml bench score --thumbnails 2000
    """
    from ctcml.bench_score import bench_score

    _tell(bench_score, folder, thumbnails=thumbnails, seed=seed)


@bench.command("recount")
@click.option("--thumbnails", default=60_000, show_default=True, type=click.IntRange(400), help="200 a sample.")
@click.option("--seed", default=11, show_default=True, help="Seed of the simulated cells.")
@click.option("--plain/--no-plain", default=True, show_default=True, help="Also the plain way, in one process.")
@folder_option
def bench_recount_command(thumbnails: int, seed: int, plain: bool, folder: Path | None) -> None:
    """A whole archive counted again in processes, then on Dask with two workers beside one, and the plain way.

    Example: ctcml bench recount --thumbnails 4000
    """
    from ctcml.bench_recount import bench_recount

    _tell(bench_recount, folder, thumbnails=thumbnails, seed=seed, plain=plain)


@bench.command("train")
@click.option("--images", default=3000, show_default=True, type=click.IntRange(100), help="Simulated thumbnails.")
@click.option("--seed", default=5, show_default=True, help="Seed of the simulated cells.")
@folder_option
def bench_train_command(images: int, seed: int, folder: Path | None) -> None:
    """Training against the plain way: fp32, NCHW, DataLoader, one image augmented after the other, same network.

    Example: ctcml bench train --images 1000
    """
    from ctcml.bench_train import bench_train

    _tell(bench_train, folder, images=images, seed=seed)


@bench.command("counts")
@click.option("--samples", default=2000, show_default=True, type=click.IntRange(20), help="Simulated tubes a world.")
@click.option("--seed", default=17, show_default=True, help="Seed of the simulated patients.")
def bench_counts_command(samples: int, seed: int) -> None:
    """How often the intervals of counts hold the truth, beside Poisson alone and beside events that err alone.

    Some minutes. Worlds differ in what an interval cannot know: how much was read, how patients err, a network too sure.

    Example: ctcml bench counts --samples 500
    """
    from ctcml.bench_counts import bench_counts

    numbers = _shipped().counts.model_dump()
    say(table_of(bench_counts(samples=samples, seed=seed, numbers=numbers, say=say)))


def cohort_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every bench is asked for that draws a cohort a seed and goes on where it stopped."""
    for option in (
        click.option(
            "--workers", default=2, show_default=True, type=click.IntRange(1), help="Processes of one thread."
        ),
        click.option(
            "--objects", default=40, show_default=True, type=click.IntRange(1), help="Objects a patient, about."
        ),
        click.option("--patients", default=300, show_default=True, type=click.IntRange(10), help="Patients a seed."),
        click.option(
            "--folder",
            type=click.Path(path_type=Path),
            required=True,
            help="Where trials are kept; goes on from there.",
        ),
        click.option(
            "--seed",
            "seeds",
            multiple=True,
            default=(0, 1, 2, 3, 4),
            show_default=True,
            type=int,
            help="May be repeated.",
        ),
    ):
        command = option(command)
    return command


@bench.command("discovery")
@click.option(
    "--seed", "seeds", multiple=True, default=(0, 1, 2), show_default=True, type=int, help="May be given again."
)
@click.option("--patients", default=250, show_default=True, type=click.IntRange(20), help="Patients a seed.")
@click.option("--objects", default=40, show_default=True, type=click.IntRange(10), help="Objects a patient, about.")
@click.option(
    "--cells", default=2000, show_default=True, type=click.IntRange(50), help="Labelled cells that are trained on."
)
@click.option("--ratio", default=3.0, show_default=True, help="From which a cluster is flagged.")
@click.option("--thumbnails", default=50_000, show_default=True, help="Of the timing; 0 leaves it out.")
@folder_option
def bench_discovery_command(
    seeds: tuple[int, ...], patients: int, objects: int, cells: int, ratio: float, thumbnails: int, folder: Path | None
) -> None:
    """New kinds, few and none, a shifted instrument, planted artefacts; then embed and cluster 50,000 thumbnails.

    Example: ctcml bench discovery --seed 0 --thumbnails 0
    """
    from ctcml.bench_discovery import bench_discovery, bench_many

    params = _shipped()
    numbers = params.train.shortened(params.replay.profile, params.replay.epochs)

    def run(where: Path, *, say: Callable[[str], None]) -> list[Figure]:
        found = bench_discovery(
            where, seeds=seeds, numbers=numbers, clusters=params.discover.clusters, min_cells=params.discover.min_cells,
            ratio=ratio, patients=patients, objects=objects, cells=cells, say=say,
        )  # fmt: skip
        return found + (bench_many(where, thumbnails=thumbnails, seed=seeds[0], say=say) if thumbnails else [])

    _tell(run, folder)


def size_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every comparison of trainings is asked for."""
    cells = click.option("--n-train", default=3000, show_default=True, type=click.IntRange(10), help="Training cells.")
    return cohort_options(cells(command))


@bench.command("networks")
@size_options
def bench_networks_command(seeds: tuple[int, ...], **size: Any) -> None:
    """The standard CNN beside the AE-CNN on 2, 5 and 6 classes, with and without 5 % wrong labels, paired by seed.

    Takes an hour and more. With the numbers of the shipped params.yaml; held-out patients are simulated like the others.

    Example: ctcml bench networks --folder trials/networks
    """
    from ctcml.comparisons import compare_networks, comparison_table

    say(comparison_table(compare_networks(seeds, numbers=_shipped().train.numbers(), say=say, **size)))


@bench.command("profiles")
@click.option("--epochs", default="3,3,8,1", show_default=True, help="Of each phase, the same for both profiles.")
@size_options
def bench_profiles_command(seeds: tuple[int, ...], epochs: str, **size: Any) -> None:
    """The profile "paper" beside "modern", each with its recipe and with both reconstruction errors, equally long.

    Example: ctcml bench profiles --folder trials/profiles --seed 0 --epochs 3,3,8,1
    """
    from ctcml.comparisons import compare_profiles, profile_table

    train = _shipped().train
    say(
        profile_table(
            compare_profiles(
                seeds,
                profiles={name: train.numbers(name) for name in ("modern", "paper")},
                recipes={"modern": "asinh", "paper": "paper"},
                epochs=_numbers(epochs),
                say=say,
                **size,
            )
        )
    )


@bench.command("instruments")
@click.option(
    "--share", default=0.7, show_default=True, type=click.FloatRange(0, 1), help="Of images that are jittered."
)
@size_options
def bench_instruments_command(seeds: tuple[int, ...], share: float, **size: Any) -> None:
    """Trained on one simulated instrument, without and with jitter, judged on cells as other instruments see them.

    Example: ctcml bench instruments --folder trials/instruments --seed 0
    """
    from ctcml.augment import Jitter
    from ctcml.comparisons import compare_instruments, instrument_table

    params = _shipped()
    jitter = Jitter(**params.train.jitter.model_dump() | {"share": share}, asinh_scale=params.image.asinh_scale)
    say(instrument_table(compare_instruments(seeds, numbers=params.train.numbers(), jitter=jitter, say=say, **size)))


@bench.command("review")
@click.option("--pool", default=4000, show_default=True, type=click.IntRange(250), help="Unread cells to choose from.")
@click.option(
    "--latents/--no-latents", default=False, show_default=True, help="Beside it, a queue that clusters in latents."
)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Of 250 readings each.")
@click.option(
    "--absent-share",
    default=0.0,
    show_default="as drawn, about 0.2",
    type=click.FloatRange(0, 0.5),
    help="Of the new class in the pool.",
)
@cohort_options
def bench_review_command(
    seeds: tuple[int, ...],
    patients: int,
    objects: int,
    pool: int,
    latents: bool,
    rounds: int,
    absent_share: float,
    folder: Path,
    workers: int,
) -> None:
    """Rounds of review by the discovery queue beside as many cells drawn at random, with a class that was absent before.

    With the queue, clusters and readers' errors of the shipped params.yaml.

    Example: ctcml bench review --folder trials/review --seed 0
    """
    from ctcml.bench_review import QUEUE, QUEUE_ON_LATENTS, RANDOM, bench_review, standard_plan

    plan = standard_plan(
        _shipped(), patients=patients, objects=objects, pool=pool, rounds=rounds, absent_share=absent_share
    )
    ways = (RANDOM, QUEUE, QUEUE_ON_LATENTS) if latents else (RANDOM, QUEUE)
    say(table_of(bench_review(seeds, plan=plan, ways=ways, folder=folder, workers=workers, say=say)))


def _shipped() -> Any:
    from ctcml.dataversions import SOURCE
    from ctcml.params import load_params

    return load_params(SOURCE / "params.yaml")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(one) for one in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r}: expected whole numbers such as 3,3,8,1") from None
