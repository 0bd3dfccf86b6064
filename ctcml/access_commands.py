"""`ctcml access …` and `ctcml audit …`: who may look at the dashboard, and who did."""

import getpass
from datetime import UTC, datetime

import click

from ctcml.options import workspace_option
from ctcml.telling import say
from ctcml.workspace import Workspace


@click.group()
def access() -> None:
    """Who may read, review or sign on the dashboard, once people sign in there.

    Example: ctcml access list
    """


@access.command()
@click.argument("email")
@click.argument("role", type=click.Choice(["read", "review", "sign"]))
@workspace_option
def grant(email: str, role: str, ws: Workspace) -> None:
    """Give the person with this EMAIL a ROLE: read, review (votes on classes) or sign (promotes models, too).

    Example: ctcml access grant anna@lab.org review --workspace my-lab
    """
    from ctcml.access import grant as give
    from ctcml.access import parse_role

    give(ws, email, parse_role(role), by=getpass.getuser(), now=datetime.now(UTC))
    say(f"{email} may {role}; it is in the audit log")


@access.command()
@click.argument("email")
@workspace_option
def revoke(email: str, ws: Workspace) -> None:
    """Take all access from the person with this EMAIL, from the next click on.

    Example: ctcml access revoke anna@lab.org --workspace my-lab
    """
    from ctcml.access import revoke as take

    take(ws, email, by=getpass.getuser(), now=datetime.now(UTC))
    say(f"{email} may nothing; it is in the audit log")


@access.command("list")
@workspace_option
def list_people(ws: Workspace) -> None:
    """People with access and their roles, after a look whether the audit log knows of each.

    Example: ctcml access list --workspace my-lab
    """
    from ctcml.access import members_of, require_told

    require_told(ws)
    members = members_of(ws)
    for email, role in sorted(members.items()):
        say(f"{role!s:6} {email}")
    if not members:
        say("nobody; give somebody access with `ctcml access grant EMAIL ROLE`")


@click.group()
def audit() -> None:
    """The chained record of who viewed, exported or was refused data of patients.

    Example: ctcml audit verify
    """


@audit.command()
@click.option("--who", help="Only this person.")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Only from this day on (UTC).")
@workspace_option
def show(who: str | None, since: datetime | None, ws: Workspace) -> None:
    """List the entries, oldest first, each verified on the way.

    Example: ctcml audit show --who anna@lab.org --since 2026-03-01
    """
    from ctcml.audit import entries

    begin = since.replace(tzinfo=UTC).isoformat() if since else ""
    for one in entries(ws):
        if (who is None or one.who == who) and one.at >= begin:
            about = " ".join(f"{name}={value}" for name, value in one.about.items())
            say(f"{one.seq:6} {one.at[:19]} {one.who:24} {one.role:6} {one.action:8} {one.what} {about}".rstrip())


@audit.command()
@workspace_option
def verify(ws: Workspace) -> None:
    """Check the chain against its signed head, every head that the workspace's git has held, and the list of people.

    Example: ctcml audit verify --workspace my-lab
    """
    from ctcml.access import require_told
    from ctcml.dataversions import verify_audit_log

    head, anchors = verify_audit_log(ws)
    require_told(ws)
    say(f"{head.length} entries, chain whole, {anchors} signed heads in git are part of it, head {head.hash}")
