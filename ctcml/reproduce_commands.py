"""`ctcml reproduce`: reads parameters, runs the paper's experiment, says where its report is."""

from datetime import UTC, datetime
from pathlib import Path

import click

from ctcml.options import workspace_option
from ctcml.telling import say
from ctcml.workspace import Workspace


def _numbers(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """The epochs of each phase, as 2,2,8."""
    if value is None:
        return None
    try:
        epochs = tuple(int(one) for one in value.split(","))
    except ValueError:
        epochs = ()
    if not epochs or min(epochs) < 1:
        raise click.BadParameter(f"{value!r}: expected a whole number of epochs for each phase, such as 2,2,8")
    return epochs


@click.command("reproduce")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), show_default="reports/paper of the workspace")
@click.option("--profile", default="modern", show_default=True, help="One of train.profiles; paper is to the letter.")
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1, 20), help="Trainings of each network.")
@click.option("--epochs", callback=_numbers, metavar="N,N,N", help="Epochs of each phase, instead of the profile's.")
@workspace_option
def reproduce_command(
    out: Path | None, profile: str, seeds: int, epochs: tuple[int, ...] | None, ws: Workspace
) -> None:
    """Run the paper's experiment (Zeune et al. 2020) on the workspace's own data and write a report of it.

    The standard CNN and the AE-CNN are trained for 2, 5 and 6 classes on training patients' labelled cells and judged on
    others; the sealed set stays closed. The report has tables, Figs 2 to 6, and the checklists REMARK, TRIPOD+AI and CLAIM,
    drafted. A run that was killed goes on where it stopped. `--profile paper` trains 75 epochs a phase: hours to days without a GPU.

    Example: ctcml reproduce --workspace my-lab
    """
    from ctcml.dataversions import SOURCE
    from ctcml.deployment import parameters_of
    from ctcml.errors import BadInput
    from ctcml.paper_experiment import reproduce
    from ctcml.paper_results import Plan
    from ctcml.stages import simulated
    from ctcml.versioning import code_commit, data_in_place

    params = parameters_of(ws)
    if profile not in params.train.profiles:
        raise BadInput(f"profile {profile!r} is not in params.yaml; name one of {', '.join(params.train.profiles)}")
    kept = params.train.profiles[profile]
    phases = kept.keep_phase  # later phases change nothing of the network that is kept
    if epochs is not None and len(epochs) != phases:
        raise BadInput(
            f"--epochs has {len(epochs)} numbers, profile {profile!r} keeps the network of phase {phases}; give {phases}"
        )
    image = params.image.model_dump()
    if profile == "paper" and image["recipe"] != "given":
        image["recipe"] = "paper"
    plan = Plan(
        profile=profile,
        numbers=params.train.shortened(profile, epochs or kept.epochs[:phases]),
        image=image,
        seed=params.seed,
        seeds=seeds,
        device=params.train.device,
        bootstrap=params.gate.bootstrap,
        thresholds=params.counts.thresholds,
        map_cells=params.discover.map_cells,
        endpoint=params.survival.endpoint,
        min_events=params.survival.min_events,
        cutoffs=params.survival.cutoffs,
        blocks=(params.splits.train, params.splits.steering, params.splits.sealed),
        settlement=params.settlement.rule,
    )
    if not ws.clinical.exists():
        raise BadInput(f"{ws.root}: no data yet; take in an export with `ctcml intake` first")
    reproduce(
        ws,
        out.resolve() if out else ws.paper,
        plan,
        simulated=simulated(ws),
        data_version=data_in_place(ws.root),
        code_commit=code_commit(SOURCE),
        now=datetime.now(UTC).isoformat(timespec="seconds"),
        say=say,
    )
