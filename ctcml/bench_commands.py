"""`ctcml bench …`: each command measures one of our ways beside what a user would do instead."""

from pathlib import Path
from typing import Any

import click

from ctcml.telling import say


@click.group()
def bench() -> None:
    """Measure our ways beside what a user would do instead, in one run; on SIMULATED data.

    Example: ctcml bench intake
    """


def _bench_folder(folder: Path | None) -> Any:
    import tempfile
    from contextlib import nullcontext

    if folder is None:
        return tempfile.TemporaryDirectory(prefix="ctcml-bench-")
    folder.mkdir(parents=True)
    return nullcontext(str(folder))


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
    from ctcml.measuring import table_of

    with _bench_folder(folder) as place:
        say(table_of(bench_intake(Path(place), samples=samples, objects=objects, seed=seed, say=say)))


@bench.command("cartridge")
@click.option("--seed", default=12, show_default=True, help="Seed of the simulated cartridge.")
@folder_option
def bench_cartridge_command(seed: int, folder: Path | None) -> None:
    """Detection on a cartridge of 175 frames against what was planted, and against a naive loop over the frames.

    Example: ctcml bench cartridge --seed 13
    """
    from ctcml.bench import bench_cartridge
    from ctcml.measuring import table_of

    with _bench_folder(folder) as place:
        say(table_of(bench_cartridge(Path(place), seed=seed, say=say)))


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
