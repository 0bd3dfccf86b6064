"""The commands that need servers: demo, up, down; `ctcml` finds them through their entry point."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ctcml.errors import ServiceDown
from ctcml.options import workspace_option
from ctcml.telling import say
from ctcml.workspace import Workspace

if TYPE_CHECKING:
    from flows.loop import Standing


@click.command()
@click.option(
    "--workspace",
    default="demo-workspace",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The demo's own folder.",
)
@click.option("--human", is_flag=True, help="Stop for people to read, and print addresses and logins.")
@click.option("--resume", is_flag=True, help="Go on where a former run stopped.")
@click.option(
    "--set", "changes", multiple=True, metavar="SECTION.NAME=VALUE", help="Change a parameter, at a clean start."
)
def demo(workspace: Path, human: bool, resume: bool, changes: tuple[str, ...]) -> None:
    """Run the whole loop on a SIMULATED laboratory.

    Example: ctcml demo --workspace /tmp/lab
    """
    from flows.demo import run_demo

    run_demo(Workspace(workspace.resolve()), human=human, resume=resume, changes=changes)


@click.command()
@workspace_option
def up(ws: Workspace) -> None:
    """Serve Label Studio (one server a reader), MLflow, Prefect and the dashboard on loopback.

    Example: ctcml up --workspace demo-workspace
    """
    from ctcml.ledger import Ledger
    from ctcml.params import load_params
    from ctcml.people import people_of
    from ctcml.services import Services
    from flows.serving import start_dashboard, start_engines, start_reading_rooms, start_schedules
    from labelstudio.rounds import queue_of

    params = load_params(ws.params)
    names = [one.name for one in people_of(Ledger(ws.ledger).events("reader_added", "reader_removed"))]
    with Services(ws.services / "running.json", keep=True) as services:
        engines = start_engines(services, ws)
        start_schedules(services, ws, engines)
        start_reading_rooms(services, ws, names)
        dashboard = start_dashboard(services, ws)
    say(f"dashboard  {dashboard.url}\nMLflow     {engines.mlflow}\nPrefect    {engines.prefect}")
    for name in names:
        say(f"{name:10} {queue_of(ws, name)[0].page}")
    if not names:
        say("readers    none yet; add two or more: ctcml readers add NAME")
    say(f"answers    are pulled at {params.review.schedule!r} (UTC); at once: ctcml review")
    say(f"inbox      {ws.inbox} is looked through at {params.intake.schedule!r} (UTC); at once: ctcml inbox")
    say("stop them with: make down")


@click.command()
@workspace_option
def down(ws: Workspace) -> None:
    """Stop what `ctcml up` (or a killed run) left running.

    Example: ctcml down --workspace demo-workspace
    """
    from ctcml.services import stop_recorded

    stopped = stop_recorded(ws.services / "running.json")
    say(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@click.command()
@click.argument("export", type=click.Path(path_type=Path))
@click.option("--clinical", required=True, type=click.Path(path_type=Path), help="The clinical table (CSV).")
@click.option("--historic", type=click.Path(path_type=Path), help="Labels from before ctcml (CSV).")
@click.option("--round", "occasion", default="round-1", show_default=True, help="Name of the round of reading.")
@workspace_option
def loop(export: Path, clinical: Path, historic: Path | None, occasion: str, ws: Workspace) -> None:
    """Go on with a round as far as it goes: take in, train, discover, ask the readers; then retrain, compare, recount.

    Example: ctcml loop inbox/export --clinical inbox/clinical.csv --round round-1
    """
    from flows.serving import use_engines

    engines = use_engines(ws)
    from flows.loop import loop as turn  # after the engines are known: prefect reads its settings when it is imported

    sources = (str(one.resolve()) if one else None for one in (export, clinical, historic))
    say(_told(turn(str(ws.root), engines.mlflow, *sources, occasion), occasion))


@click.command()
@workspace_option
def review(ws: Workspace) -> None:
    """Pull what the readers have answered, now, and take the next step of the open round.

    Example: ctcml review --workspace my-lab
    """
    from ctcml.assignments import open_occasions
    from ctcml.ledger import Ledger
    from flows.serving import use_engines

    engines = use_engines(ws)
    from flows.loop import review as look

    occasions = open_occasions(Ledger(ws.ledger).events())
    standing = look(str(ws.root), engines.mlflow)
    say("no round is open" if standing is None else _told(standing, occasions[0]))


def _told(standing: "Standing", occasion: str) -> str:
    who = " and ".join(standing.waits_for)
    if standing.proposals:
        return f"class {', '.join(standing.proposals)} is proposed: two experts have to accept or reject it"
    return f"{standing.open_cells} cells wait for {who}" if who else f"{occasion} is closed"


@click.command()
@workspace_option
def inbox(ws: Workspace) -> None:
    """Take in every delivery below inbox/ (a folder with a clinical.csv) that has arrived whole, now.

    Names of these folders appear in Prefect's log: name no patient there.

    Example: ctcml inbox --workspace my-lab
    """
    from flows.serving import use_engines

    use_engines(ws)
    from flows.intake import inbox as look_through

    report = look_through(str(ws.root))
    if not (report.taken or report.waiting):
        say(f"nothing in {ws.inbox}: a delivery is a folder with a clinical.csv")


@click.command()
@click.option("--version", required=True, help="The version that the gate judged.")
@click.option("--signed-by", required=True, help="Who answers for it.")
@click.option("--reason", required=True, help="Why.")
@workspace_option
def promote(version: str, signed_by: str, reason: str, ws: Workspace) -> None:
    """Sign a promotion that the gate found fit: the version becomes champion and everything is recounted.

    Example: ctcml promote --version 2 --signed-by "Dr. A. Reader" --reason "knows CD45EV, nothing lost"
    """
    from flows.serving import use_engines

    engines = use_engines(ws)
    from flows.promotion import sign

    sign(str(ws.root), engines.mlflow, version, signed_by, reason)
    say(f"version {version} is champion, signed by {signed_by}")


@click.command()
@click.option("--version", required=True, help="A former champion.")
@click.option("--signed-by", required=True, help="Who answers for it.")
@click.option("--reason", required=True, help="Why.")
@workspace_option
def rollback(version: str, signed_by: str, reason: str, ws: Workspace) -> None:
    """Make a former champion the champion again and recount everything.

    Example: ctcml rollback --version 1 --signed-by "Dr. A. Reader" --reason "misses dim CTCs of site 2"
    """
    from flows.serving import use_engines

    engines = use_engines(ws)
    from flows.promotion import rollback as go_back

    same = go_back(str(ws.root), engines.mlflow, version, signed_by, reason)
    told = "are those from before, to the byte" if same else "were made of data or parameters that changed since"
    say(f"version {version} is champion again, signed by {signed_by}; the counts {told}")


@click.command()
@workspace_option
def retrain(ws: Workspace) -> None:
    """Retrain now if there is reason to (new labels, a new class, drift), judge the model and recount.

    Example: ctcml retrain --workspace my-lab
    """
    from flows.serving import use_engines

    engines = use_engines(ws)
    from flows.retraining import retraining

    done = retraining(str(ws.root), engines.mlflow)
    if done.busy:
        raise ServiceDown(f"{ws.root}: another retraining is running; wait for it, or look at it in Prefect")
    if done.report is None:
        say("nothing new enough to train on; retrain.* in params.yaml say what is enough")
    else:
        say(
            f"version {done.report['version']}: {done.report['verdict'] or 'not judged'}; "
            + "; ".join(done.report["reasons"])
        )


COMMANDS = {
    "review": review,
    "inbox": inbox,
    "demo": demo,
    "up": up,
    "down": down,
    "loop": loop,
    "promote": promote,
    "rollback": rollback,
    "retrain": retrain,
}
