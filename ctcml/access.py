"""Who may do what on the dashboard: three roles, the list of people, and the judgement of somebody who signed in.

The list (`.ctcml/access.yaml`, mode 0600) names people by the e-mail address that the identity provider vouches for. A
change of it is written into the audit log first, so the log tells at any time who could see what.
"""

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml

from ctcml.audit import Entry, entries, record
from ctcml.errors import BadInput, BrokenRecord
from ctcml.tables import atomic_path
from ctcml.workspace import Workspace


class Role(IntEnum):
    """What a person may do; each role may do what those before it may.

    >>> Role.READ < Role.SIGN, str(Role.REVIEW)
    (True, 'review')
    """

    READ = 1  # look at every page, export
    REVIEW = 2  # and vote on classes
    SIGN = 3  # and sign promotions and rollbacks

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """Somebody who may look."""

    name: str
    role: Role


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Somebody who may not, and the sentence that says why."""

    name: str
    why: str


ASKED_FOR = {  # action of a request: what who signs it must be allowed to
    "accept_class": Role.REVIEW,
    "reject_class": Role.REVIEW,
    "promote": Role.SIGN,
    "rollback": Role.SIGN,
}
LONGEST = 254  # characters of an address, RFC 5321
LOCAL = Visitor(name="local", role=Role.SIGN)  # at this very machine; a reader's password still signs
NOT_LOOPBACK = (
    "This dashboard listens beyond this machine and nobody has to sign in: it shows nothing. "
    "Set up sign-in (deploy/README.md), or start it with --server.address=127.0.0.1."
)


def judge(claims: Mapping[str, Any], members: Mapping[str, Role]) -> Visitor | Refusal:
    """What the provider's `claims` about somebody who signed in amount to.

    An address that the provider does not call verified could be anybody's; not to say it is not to vouch for it.

    >>> judge({"email": "Anna@lab.org", "email_verified": True}, {"anna@lab.org": Role.READ})
    Visitor(name='anna@lab.org', role=<Role.READ: 1>)
    """
    try:
        email = parse_email(str(claims.get("email") or ""))
    except BadInput:
        told = str(claims.get("sub") or "nobody")[:LONGEST]
        return Refusal(name=told, why="The identity provider sent no e-mail address; have it send the scope email.")
    if claims.get("email_verified") is not True and claims.get("email_verified") != "true":
        return Refusal(
            name=email, why=f"The identity provider does not vouch for the address {email}; have it verified there."
        )
    if email not in members:
        return Refusal(
            name=email, why=f"{email} has no access to this workspace; its owner gives it with `ctcml access grant`."
        )
    return Visitor(name=email, role=members[email])


def is_loopback(address: str | None) -> bool:
    """Whether a server with this address is reached from its own machine alone; none means all addresses.

    >>> [is_loopback(one) for one in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "lab.org", None)]
    [True, True, True, False, False, False]
    """
    if address == "localhost":
        return True
    try:
        return address is not None and ip_address(address).is_loopback
    except ValueError:
        return False


def parse_role(text: str) -> Role:
    """The role of that name; `BadInput` names them."""
    try:
        return Role[text.upper()]
    except KeyError:
        raise BadInput(f"role {text!r}: expected one of {', '.join(str(one) for one in Role)}") from None


def parse_email(text: str) -> str:
    """An address as the list keeps it; `BadInput` when it is none.

    >>> parse_email(" Anna@Lab.org ")
    'anna@lab.org'
    """
    email = text.strip().lower()
    name, at, host = email.partition("@")
    sound = name and at and host and "@" not in host and len(email) <= LONGEST
    if not sound or not email.isprintable() or " " in email or not text.isascii():  # letters that only look like others
        raise BadInput(f"e-mail address {text!r}: expected NAME@HOST, as the identity provider knows the person")
    return email


def private_sign_in(ws: Workspace) -> Path | None:
    """The file that names the identity provider, if there is one; `BrokenRecord` when others may read its secrets."""
    if not ws.sign_in.exists():
        return None
    _require_private(ws.sign_in)
    return ws.sign_in


def _require_private(file: Path) -> None:
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        raise BrokenRecord(f"{file}: others may open it (mode {mode:o}); run `chmod 600` on it")


def members_of(ws: Workspace) -> dict[str, Role]:
    """The list of people; `BrokenRecord` when it is damaged or others may write to it."""
    if not ws.access.exists():
        return {}
    _require_private(ws.access)
    try:
        found = yaml.safe_load(ws.access.read_text(encoding="utf-8")) or {}
        return {parse_email(email): parse_role(role) for email, role in found.items()}
    except (yaml.YAMLError, BadInput, ValueError, TypeError, AttributeError):
        raise BrokenRecord(
            f"{ws.access}: not a list of `address: role`; bring it back from a backup, or grant anew with `ctcml access`"
        ) from None


def grant(ws: Workspace, email: str, role: Role, *, by: str, now: datetime) -> None:
    """Let a person in, or give another role; told in the audit log before it holds."""
    email = parse_email(email)
    members = members_of(ws)
    about = {"email": email, "role": str(role)}
    record(ws, who=by, role="owner", action="grant", what=f"{email} may {role}", about=about, now=now)
    _write(ws, members | {email: role})


def revoke(ws: Workspace, email: str, *, by: str, now: datetime) -> None:
    """Shut a person out from the next click on; `BadInput` for somebody who had no access."""
    email = parse_email(email)
    members = members_of(ws)
    if email not in members:
        raise BadInput(f"{email}: has no access; those who have are {', '.join(sorted(members)) or 'none'}")
    record(ws, who=by, role="owner", action="revoke", what=f"{email} may nothing", about={"email": email}, now=now)
    _write(ws, {one: role for one, role in members.items() if one != email})


def _write(ws: Workspace, members: Mapping[str, Role]) -> None:
    text = yaml.safe_dump({email: str(role) for email, role in sorted(members.items())}, allow_unicode=True)
    ws.private.mkdir(mode=0o700, exist_ok=True)
    with atomic_path(ws.access) as unfinished:
        unfinished.write_text(f"# changed by `ctcml access`, which tells the audit log\n{text}", encoding="utf-8")
    ws.access.chmod(0o600)


def granted(log: Iterable[Entry]) -> dict[str, Role]:
    """Who had access in the end, by what the audit log tells."""
    found: dict[str, Role] = {}
    for one in log:
        if one.action == "grant":
            found[one.about["email"]] = parse_role(one.about["role"])
        elif one.action == "revoke":
            found.pop(one.about["email"], None)
    return found


def require_told(ws: Workspace) -> None:
    """Refuse, with `BrokenRecord`, a list that was changed past the audit log."""
    told, members = granted(entries(ws)), members_of(ws)
    differing = sorted(one for one in told.keys() | members.keys() if told.get(one) != members.get(one))
    if differing:
        raise BrokenRecord(
            f"{ws.access}: {differing[0]} is {members.get(differing[0], 'absent')!s} there and "
            f"{told.get(differing[0], 'absent')!s} in the audit log; grant or revoke it with `ctcml access`"
        )
