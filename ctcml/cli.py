"""`ctcml …`: reads parameters, calls one function, says what happened; the only place that turns errors into exit codes."""

import errno
import inspect
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from ctcml.access_commands import access, audit
from ctcml.bench_commands import bench
from ctcml.errors import CtcmlError
from ctcml.options import Extended, workspace_option
from ctcml.reproduce_commands import reproduce_command
from ctcml.review_commands import classes, ledger
from ctcml.survival_commands import survival_command
from ctcml.telling import estimated, say
from ctcml.trace_commands import trace_command
from ctcml.workspace import Workspace

WORKERS = min(os.cpu_count() or 1, 8)
NOTICE = "Research use only: not for diagnosis or treatment."


@click.group(
    cls=Extended, points="ctcml.commands", epilog=NOTICE, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="ctcml")
def cli() -> None:
    """Grow your own classifier of circulating tumour cells.

    Example: ctcml demo
    """


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Make a workspace in FOLDER: git, DVC, parameters, key and ledger.

    Example: ctcml init my-lab
    """
    from ctcml.dataversions import create_workspace

    create_workspace(Workspace(folder.resolve()), now=datetime.now(UTC))
    say(f"workspace {folder} is ready; keep a copy of {folder}/.ctcml/key where you keep passwords")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--patients", type=int, help="Instead of simulate.patients.")
@click.option("--seed", type=int, help="Instead of seed.")
@workspace_option
def simulate(folder: Path, patients: int | None, seed: int | None, ws: Workspace) -> None:
    """Write a SIMULATED laboratory (ACCEPT export, clinical table, historic labels) to FOLDER.

    Example: ctcml simulate inbox/simulated --patients 20 --workspace my-lab
    """
    from ctcml.params import load_params
    from ctcml.simulate import simulate_laboratory

    params = load_params(ws.params)
    numbers = params.simulate.model_dump(exclude={"reader_error"}) | ({"patients": patients} if patients else {})
    made = simulate_laboratory(folder, **numbers, seed=params.seed if seed is None else seed)
    say(f"SIMULATED: {made.patients} patients, {made.thumbnails} thumbnails in {folder}")


@cli.command()
@click.argument("export", type=click.Path(path_type=Path))
@click.option("--clinical", required=True, type=click.Path(path_type=Path), help="The clinical table (CSV).")
@click.option(
    "--historic",
    type=click.Path(path_type=Path),
    help="Labels from before ctcml (CSV: sample, object_index, label, source).",
)
@click.option("--verify", is_flag=True, help="Read every file and hash every shard again.")
@workspace_option
def intake(export: Path, clinical: Path, historic: Path | None, verify: bool, ws: Workspace) -> None:
    """Take thumbnails or cartridges in: pack what is new, assign patients to sets, make a data version.

    EXPORT is a folder of ACCEPT results, folders with a manifest.csv, labelled arrays (.npz, .npy) or CellTracks
    cartridges; `ctcml doctor EXPORT` says beforehand what is wrong with it. The same export again brings nothing new.

    Example: ctcml intake inbox/export --clinical inbox/clinical.csv
    """
    from ctcml.dataversions import new_data_version
    from ctcml.deployment import parameters_of
    from ctcml.executor import open_executor
    from ctcml.identity import load_key
    from ctcml.intake import take_in, verify_data

    params, now, key = parameters_of(ws), datetime.now(UTC), load_key(ws.key)
    with open_executor(**params.executor.model_dump()) as executor:
        taken = take_in(
            export,
            clinical,
            historic,
            ws,
            key=key,
            block=(params.splits.train, params.splits.steering, params.splits.sealed),
            seed=params.seed,
            now=now,
            page_order=params.intake.page_order,
            verify=verify,
            executor=executor,
            progress=estimated("samples packed"),
        )
    version = new_data_version(ws, why=f"intake of {taken.samples} samples", by="ctcml intake", now=now)
    say(f"{taken}; page order {', '.join(params.intake.page_order)}; data version {version.tag}")
    if verify:
        say(f"{verify_data(ws, progress=estimated('samples hashed'))} cells are what the manifest says, to the byte")


@cli.command("score")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new table: .parquet or .csv.")
@click.option(
    "--model", type=click.Path(path_type=Path), show_default="the workspace's champion", help="A model's folder."
)
@click.option("--engine", default="auto", show_default=True, help="auto, or one by name; a wrong name lists them.")
@click.option(
    "--page-order", help="Pages of a TIFF, such as CD45,DAPI,CK. [default: intake.page_order, or that of ACCEPT]"
)
@workspace_option
def score_command(
    path: Path, out: Path, model: Path | None, engine: str, page_order: str | None, ws: Workspace
) -> None:
    """Say class, probabilities and latents of every thumbnail at or below PATH, in one table.

    PATH is what `ctcml intake` takes, a folder of shards or a workspace. Nothing is taken in. What cannot be scored
    stands with its reason in OUT.refused.csv. The table holds the names of samples as they came: keep it as you keep those.

    Example: ctcml score inbox/export --out scores.parquet --workspace my-lab
    """
    from ctcml.malloc import keep_freed_memory
    from ctcml.scoring import score_path

    keep_freed_memory()
    done = score_path(
        path,
        model or ws.champion,
        out,
        engine=engine,
        page_order=_page_order(page_order, ws),
        progress=estimated("samples begun"),
    )
    say(f"{out}: {done}")


def _page_order(named: str | None, ws: Workspace) -> tuple[str, ...]:
    """The order of pages that was named, else the workspace's, else ACCEPT's."""
    from ctcml.params import load_params
    from ctcml.records import PLANES

    if named is not None:
        return tuple(name.strip() for name in named.split(","))
    return load_params(ws.params).intake.page_order if ws.params.exists() else PLANES


@cli.command("import-keras")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@workspace_option
def import_keras(file: Path, folder: Path, ws: Workspace) -> None:
    """Turn the authors' published Keras weights (FILE, .h5) into the new model FOLDER.

    The model wants inputs of the recipe "paper". As `models/start` of a workspace with `image.recipe: paper` it is what
    the next training goes on from; classes that the laboratory has beyond it get neurons of their own.

    Example: ctcml import-keras aecnn_6class.h5 models/start
    """
    from ctcml.errors import BadInput
    from ctcml.keras_weights import write_keras_model
    from ctcml.model import load_model
    from ctcml.params import load_params

    if folder.exists():
        raise BadInput(f"{folder}: expected a folder that is not there yet; name another or move it away")
    percentile = load_params(ws.params).image.background_percentile if ws.params.exists() else 10.0
    digest = write_keras_model(file, folder, background_percentile=percentile)
    card = load_model(folder)[1]
    say(f"{folder}: {card['architecture']} of {', '.join(card['classes'])}; weights {digest[:12]}")
    say(f"its planes are taken as {', '.join(card['source_planes'])}, which the file itself does not say")


@cli.command("doctor")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--clinical", type=click.Path(path_type=Path), help="The clinical table (CSV), to be checked with it.")
@click.option(
    "--page-order", help="Pages of a TIFF, such as CD45,DAPI,CK. [default: intake.page_order, or that of ACCEPT]"
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@workspace_option
def doctor_command(path: Path, clinical: Path | None, page_order: str | None, as_json: bool, ws: Workspace) -> None:
    """Say what is wrong with an export before it is taken in; nothing is written, and no workspace is needed.

    PATH is what `ctcml intake` takes. Exit code 1 when there is an error among the findings.

    Example: ctcml doctor inbox/export --clinical inbox/clinical.csv
    """
    import json
    import os

    from ctcml.doctor import document_of, examine, table_of

    aside = estimated("samples examined", every_s=2.0, to=lambda line: click.echo(line, err=True))
    report = examine(
        path,
        page_order=_page_order(page_order, ws),
        clinical=clinical,
        workers=os.cpu_count() or 1,
        progress=aside if sys.stderr.isatty() else None,
    )
    say(json.dumps(document_of(report), indent=2, ensure_ascii=False) if as_json else table_of(report))
    if report.number_of("error"):
        sys.exit(1)


def _stage_command(name: str) -> click.Command:
    from ctcml import stages

    function = getattr(stages, name)
    wanted = [one for one in inspect.signature(function).parameters if one not in ("ws", "say")]

    @click.command(
        name=name,
        help=f"{function.__doc__}\n\nA stage of dvc.yaml; `ctcml repro {name}` runs it with what it needs.\n\nExample: ctcml {name} --workspace my-lab",
    )
    @workspace_option
    def command(ws: Workspace) -> None:
        from ctcml.deployment import parameters_of

        params = parameters_of(ws)
        function(ws, **{one: getattr(params, one) for one in wanted}, say=say)

    return command


STAGES = (
    "settle",
    "measure",
    "preselect",
    "train",
    "evaluate",
    "replay",
    "chart",
    "embed",
    "drift",
    "cluster",
    "map",
    "query",
    "calibrate",
    "count",
    "survive",
    "compare",
    "subclass",
)
for _command in (
    access,
    audit,
    bench,
    classes,
    ledger,
    reproduce_command,
    survival_command,
    trace_command,
    *(_stage_command(name) for name in STAGES if name != "replay"),
):
    cli.add_command(_command)


@cli.command()
@workspace_option
def fingerprint(ws: Workspace) -> None:
    """Write the hash of each stage's code to code.yaml, so that DVC reruns what a changed module makes.

    Example: ctcml fingerprint
    """
    from ctcml.fingerprints import write_fingerprints

    write_fingerprints(ws.root)


@cli.command()
@click.argument("stages", nargs=-1)
@workspace_option
def repro(stages: tuple[str, ...], ws: Workspace) -> None:
    """Make every derived file that is out of date (`dvc repro`), all or the STAGES named.

    Example: ctcml repro count survive
    """
    from ctcml.versioning import repro as run

    ran = run(ws.root, list(stages), on_line=say)
    say(f"ran: {', '.join(ran)}" if ran else "everything is up to date")


@cli.command()
@workspace_option
def versions(ws: Workspace) -> None:
    """List the data versions, oldest first: commit, DVC's hash, when (UTC) and why.

    Example: ctcml versions --workspace my-lab
    """
    from ctcml.ledger import Ledger
    from ctcml.versioning import versions as listed

    about = {event.body["tag"]: event for event in Ledger(ws.ledger).events("data_version")}
    for one in listed(ws.root):
        made = f"{about[one.tag].at[:16]}  {about[one.tag].why}" if one.tag in about else "the ledger does not know it"
        say(f"{one.tag:12} {one.commit[:12]} {one.data_md5}  {made}")


@cli.command("replay")
@click.argument("data", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--hold-out", metavar="CLASS", help="The class of DATA to hide.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="How often, with DATA.")
@click.option("--json", "out", type=click.Path(path_type=Path, dir_okay=False), help="Where the report on DATA goes.")
@click.option("--plot", type=click.Path(path_type=Path), help="A picture of the first seed (.svg or .png), with DATA.")
@click.option("--simulated", is_flag=True, help="Stamp the picture: DATA was simulated.")
@click.option("--workers", default=WORKERS, show_default=True, type=click.IntRange(1), help="Processes of one thread.")
@workspace_option
def replay_command(
    data: Path | None,
    hold_out: str | None,
    seeds: int,
    out: Path | None,
    plot: Path | None,
    simulated: bool,
    workers: int,
    ws: Workspace,
) -> None:
    """Hide known classes and measure how well discovery finds them again.

    Without DATA, a stage of dvc.yaml: each class of the workspace in turn, to choose the novelty score and the rule for
    clusters. With DATA, an .npz of images, labels and groups: CLASS is hidden from two networks that are trained on the
    other classes, and the score and rule are chosen on those others alone. Parameters come from the workspace's
    params.yaml, or, where there is none, from the shipped one.

    Example: ctcml replay cells.npz --hold-out Metaphase --seeds 3 --json metaphase.json
    """
    from ctcml.dataversions import SOURCE
    from ctcml.params import load_params

    if data is None:
        if hold_out or out or plot:
            raise click.UsageError("--hold-out, --json and --plot ask for DATA")
        from ctcml import stages

        params = load_params(ws.params)
        names = ("seed", "image", "train", "discover", "replay")
        stages.replay(ws, say=say, **{name: getattr(params, name) for name in names})
        return
    if hold_out is None:
        raise click.UsageError("with DATA name the class to hide: --hold-out CLASS")
    from ctcml.hidden_classes import replay_file, write_report
    from ctcml.replay import Plan

    params = load_params(ws.params if ws.params.exists() else SOURCE / "params.yaml")
    plan = Plan(
        numbers=params.train.shortened(params.replay.profile, params.replay.epochs),
        recipe="given",
        clusters=params.discover.clusters,
        min_cells=params.discover.min_cells,
        **params.replay.model_dump(include={"networks", "cells", "prevalences", "ratios"}),
    )
    report, played = replay_file(data, hold_out=hold_out, seeds=seeds, plan=plan, workers=workers, say=say)
    write_report(report, played, out=out, plot=plot, simulated=simulated)
    for path in (out, plot):
        if path:
            say(f"{path} is written")


@cli.command()
@click.argument("version")
@workspace_option
def checkout(version: str, ws: Workspace) -> None:
    """Bring a data version back bit for bit; the live ledger is not touched.

    Example: ctcml checkout data-v1
    """
    from ctcml.versioning import checkout as bring_back

    bring_back(ws.root, version)
    say(f"data/ is {version} again")


@cli.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@workspace_option
def backup_command(file: Path, ws: Workspace) -> None:
    """Write data, ledger, key, history and registry of the workspace into one new FILE; servers may run meanwhile.

    It holds the key and pixels of patients: keep it as you keep those.

    Example: ctcml backup /media/safe/lab-2026-03-02.tar --workspace my-lab
    """
    from ctcml.backup import backup

    say(f"{file}: {backup(ws, file, now=datetime.now(UTC))}")
    say("not in it: inbox/, what `ctcml repro` makes again, and the readers' servers with their logins and pictures;")
    say("readings that were not pulled yet lie there alone: pull them first with `ctcml loop`")


@cli.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
def restore_command(file: Path, folder: Path) -> None:
    """Make a workspace in the new FOLDER from a backup FILE, and verify every part of it first.

    Example: ctcml restore /media/safe/lab-2026-03-02.tar my-lab-again
    """
    from ctcml.backup import restore

    found = restore(file, folder.resolve())
    say(f"{folder}: the workspace of {found.at}, verified: {found}")
    say("`ctcml repro` makes derived files again; `ctcml up` makes new servers for the readers")


@cli.group()
def splits() -> None:
    """The three sets of patients: train, steering, sealed.

    Example: ctcml splits check
    """


@splits.command("check")
@workspace_option
def check_splits(ws: Workspace) -> None:
    """Prove that no patient, no pixel and no label is in two of the sets; every leak is named.

    Example: ctcml splits check --workspace my-lab
    """
    from ctcml.errors import ProtocolBreach
    from ctcml.leaks import find_leaks

    found, told = find_leaks(ws)
    for line in found:
        say(line)
    if found:
        raise ProtocolBreach(
            f"{ws.root}: {len(found)} leak(s) between the sets, see above; nothing that was judged on them holds"
        )
    say(f"no leak: {told}")


def main() -> None:
    """Entry point: every expected failure is one line on standard error and exit code 1."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as ending:
        sys.exit(ending.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("ctcml: stopped", err=True)
        sys.exit(130)
    except CtcmlError as error:
        click.echo(f"ctcml: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        click.echo(
            f"ctcml: {error.filename or 'disk'}: {error.strerror}; make room or mend the rights and run it again",
            err=True,
        )
        sys.exit(1)
