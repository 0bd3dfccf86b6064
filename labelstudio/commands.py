"""The commands that touch readers' own servers: their template, who reads, and a patient's withdrawal; `ctcml` finds them."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click

from ctcml.ledger import Draft
from ctcml.options import workspace_option
from ctcml.telling import say
from ctcml.workspace import Workspace


@click.command("prepare-labelstudio")
@click.argument("venv", type=click.Path(path_type=Path, exists=True, file_okay=False))
def prepare(venv: Path) -> None:
    """Make the empty, migrated database from which each reader's server starts.

    Example: ctcml prepare-labelstudio .venv-labelstudio
    """
    from labelstudio.server import prepare_template

    prepare_template(venv.absolute() / "bin" / "python", venv.absolute() / "template")
    say(f"the template lies in {venv}/template")


@click.command()
@click.argument("patient")
@click.option("--reason", required=True, help="Why; it stays in the ledger, so name nobody.")
@click.option("--dry-run", is_flag=True, help="Only list what would go.")
@workspace_option
def withdraw(patient: str, reason: str, dry_run: bool, ws: Workspace) -> None:
    """Remove a PATIENT who withdrew (the laboratory's own id or a patient_uid) from the live data and later versions.

    The ledger keeps the fact, not the person. Stopped in the middle, the same command finishes it.

    Example: ctcml withdraw P-0012 --reason "consent withdrawn by letter of 3 March"
    """
    from ctcml import withdrawal
    from ctcml.dataversions import new_data_version
    from ctcml.identity import load_key
    from ctcml.ledger import Ledger
    from ctcml.packing import no_intake
    from ctcml.versioning import files_of, require_newest, versions
    from labelstudio.desk import forget_pictures
    from labelstudio.panels import panels_of, remove_panels
    from labelstudio.rounds import all_reads

    key, now, ledger = load_key(ws.key), datetime.now(UTC), Ledger(ws.ledger)
    uid = withdrawal.find_patient(ws, patient, key=key)
    require_newest(ws.root)
    with no_intake(ws):
        held = withdrawal.find_held(ws, uid, key=key)
        panels = panels_of(all_reads(ws, held.cells, key=key))
        tags = withdrawal.holding({one.tag: files_of(ws.root, one) for one in versions(ws.root)}, held.samples)
        what = f"{len(held.samples)} samples, {len(held.cells)} cells, {held.clinical_rows} clinical rows"
        if dry_run:
            for file in [*held.files, *held.quarantined, *panels]:
                say(f"would go: {file.relative_to(ws.root)}")
            say(f"would go: {what}; nothing was changed")
            models = withdrawal.trained_with(ledger.events(), uid, held.cells)
            say(
                f"trained with them: {', '.join(models) or 'no model'}; earlier data versions: {', '.join(tags) or 'none'}"
            )
            return
        event = withdrawal.record_withdrawal(ledger, held, key=key, why=reason, data_versions=tags, now=now)
        remove_panels(panels)
        forget_pictures(ws)
        withdrawal.remove(ws, held, key=key)
        version = new_data_version(ws, why="a patient withdrew", by="ctcml withdraw", now=now)
    say(f"{what} and {len(panels)} pictures on readers' servers removed; {version.tag} is without them")
    for line in withdrawal.account(event):
        say(line)


@click.group()
def readers() -> None:
    """Who reads: add, list, remove, and let others take over from who is absent.

    Example: ctcml readers add anna --workspace my-lab
    """


@readers.command("add")
@click.argument("name")
@click.option("--adjudicates", is_flag=True, help="Only as third person; never one of a cell's two readers.")
@click.option("--server", help="The address of a Label Studio of your own for this reader alone (https, or loopback).")
@click.option("--token-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="An API token of it.")
@click.option("--email", help="The reader's account there.")
@click.option("--pictures", type=click.Path(path_type=Path), help="The folder from which it serves local files.")
@workspace_option
def add_reader(
    name: str,
    adjudicates: bool,
    server: str | None,
    token_file: Path | None,
    email: str | None,
    pictures: Path | None,
    ws: Workspace,
) -> None:
    """Register NAME (lower-case letters, digits, hyphens) and print the login, once.

    Each reader has a Label Studio server of their own: the open edition shows everybody on a server everything on it. By
    default we start and supervise it; with --server you name one of yours, which no other reader may have an account on.

    Example: ctcml readers add anna --workspace my-lab
    """
    from ctcml.dataversions import anchor
    from ctcml.errors import BadInput
    from ctcml.ledger import Ledger
    from ctcml.people import OURS, Person, adding, people_of
    from labelstudio.rounds import server_home
    from labelstudio.server import adopt_server, login_for

    own = (server, token_file, email, pictures)
    if any(own) and not all(own):
        raise BadInput("a server of your own needs --server, --token-file, --email and --pictures; give all four")
    ledger, home = Ledger(ws.ledger), server_home(ws, name)
    joining = Person(name=name, adjudicates=adjudicates, server=server or OURS)
    draft = adding(people_of(ledger.events()), joining, by="ctcml readers add")
    if server and token_file and email and pictures:
        token = token_file.read_text().strip()
        login = adopt_server(home, reader=name, base_url=server, token=token, reader_email=email, pictures=pictures)
    else:
        login = login_for(name, home)
    ledger.decide(lambda: [adding(people_of(ledger.events()), joining, by=draft.by)], now=datetime.now(UTC))
    anchor(ws)
    say(f"{name} {'adjudicates' if adjudicates else 'reads'}; this is shown once, give it to {name} alone:")
    where = login.base_url or "starts with `ctcml up`, or within minutes where that runs; see `ctcml readers list`"
    say(f"  server    {where}\n  account   {login.reader_email}")
    if login.external:
        say(
            f"  password  that of the account there; decisions on the dashboard are signed with {login.reader_password}"
        )
    else:
        say(f"  password  {login.reader_password} (name and password also sign decisions on the dashboard)")


@readers.command("list")
@workspace_option
def list_readers(ws: Workspace) -> None:
    """Who reads, who adjudicates, and how much each has still to do.

    Example: ctcml readers list --workspace my-lab
    """
    from ctcml.assignments import open_occasions, unanswered
    from ctcml.ledger import READINGS, Ledger
    from ctcml.people import people_of
    from labelstudio.rounds import server_home
    from labelstudio.server import read_login

    events = list(Ledger(ws.ledger).events())
    people = people_of(events)
    if not people:
        say("nobody reads yet; add two readers or more with: ctcml readers add NAME")
        return
    open_now = set(open_occasions(events))
    left = Counter(one.reader for one in unanswered(events) if one.occasion in open_now)
    done = Counter(event.body["reader"] for event in events if event.kind in READINGS)
    width = max(len(one.name) for one in people)
    for one in people:
        duty = "adjudicates" if one.adjudicates else "reads"
        file = server_home(ws, one.name) / "login.json"
        where = read_login(file).base_url if file.exists() else ""
        say(
            f"{one.name:{width}}  {duty:11}  {done[one.name]:6} read  {left[one.name]:6} open  {where or 'not started yet'}"
        )


@readers.command("remove")
@click.argument("name")
@click.option("--reason", required=True, help="Why; it stays in the ledger.")
@workspace_option
def remove_reader(name: str, reason: str, ws: Workspace) -> None:
    """Let NAME leave: what is unread goes to others, readings and server stay.

    Example: ctcml readers remove anna --reason "left the laboratory"
    """
    from ctcml.ledger import Draft, Ledger
    from ctcml.people import people_of, readers_among, removing

    ledger = Ledger(ws.ledger)

    def leaving() -> list[Draft]:
        people = people_of(ledger.events())
        gone = removing(people, name, by="ctcml readers remove", why=reason)
        readers_among(one for one in people if one.name != name)
        return [gone]

    _hand_over(ws, name, reason, more=leaving)
    say(f"{name} reads no more")


@readers.command("reassign")
@click.argument("name")
@click.option("--reason", required=True, help="Why; it stays in the ledger.")
@workspace_option
def reassign(name: str, reason: str, ws: Workspace) -> None:
    """Give what NAME has not read to others, each cell to somebody who has not read it.

    Example: ctcml readers reassign anna --reason "ill until May"
    """
    _hand_over(ws, name, reason, more=list)


def _hand_over(ws: Workspace, name: str, reason: str, *, more: Callable[[], list[Draft]]) -> None:
    """Write down who takes over (and `more`), then take the tasks off the absent reader's server."""
    from ctcml.assignments import stand_ins
    from ctcml.dataversions import anchor
    from ctcml.errors import BadInput, CtcmlError
    from ctcml.identity import load_key
    from ctcml.ledger import Ledger
    from ctcml.people import people_of
    from labelstudio.rounds import reads_of, take_back

    ledger, key = Ledger(ws.ledger), load_key(ws.key)
    events = list(ledger.events())
    if name not in [one.name for one in people_of(events)]:
        raise BadInput(f"reader {name!r}: not registered; see `ctcml readers list`")
    given: list[Draft] = []

    def make() -> list[Draft]:
        now = list(ledger.events())
        given.extend(stand_ins(now, people_of(now), name, by="ctcml readers", why=reason))
        return [*given, *more()]

    ledger.decide(make, now=datetime.now(UTC))
    anchor(ws)
    cells = {(one.body["cell_uid"], one.body["occasion"]) for one in given}
    heirs = Counter(str(one.body["reader"]) for one in given)
    told = ", ".join(f"{number} to {heir}" for heir, number in sorted(heirs.items()))
    say(f"{len(given)} unread cells of {name} given away{f': {told}' if told else ''}; the next push sends them")
    theirs = [one for one in reads_of(events, key=key) if one.asked.reader == name and one.asked.case in cells]
    if theirs:
        try:
            say(f"{take_back(ws, name, theirs)} tasks taken off {name}'s server")
        except CtcmlError as error:
            say(f"the tasks are still on {name}'s server ({error}); answers to them will be refused")


COMMANDS = {"readers": readers, "prepare-labelstudio": prepare, "withdraw": withdraw}
