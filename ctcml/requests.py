"""What somebody asked for on the dashboard: one signed line each; a flow executes it and writes into the ledger what came of it.

The password never leaves the person's session: it signs the line (HMAC-SHA256), and whoever executes it checks that.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from ctcml.errors import BadInput, BrokenRecord, ProtocolBreach
from ctcml.ledger import Event

ACTIONS = ("accept_class", "reject_class", "promote", "rollback")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One signed wish; `at` is UTC in ISO 8601."""

    request: str
    at: str
    by: str
    action: str
    body: dict[str, Any]
    signature: str


def append_request(path: Path, *, by: str, password: str, action: str, body: dict[str, Any], now: datetime) -> str:
    """Add a signed request and return its id; `BadInput` when name or password is missing or the action is unknown."""
    if action not in ACTIONS or not by.strip() or not password:
        raise BadInput(f"request {action!r} by {by!r}: expected one of {ACTIONS}, a name and a password; fill them in")
    one = Request(
        request=secrets.token_hex(8),
        at=now.astimezone(UTC).isoformat(),
        by=by.strip(),
        action=action,
        body=body,
        signature="",
    )
    line = asdict(one) | {"signature": _signature(one, password)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        torn = path.exists() and path.read_bytes()[-1:] not in (b"\n", b"")
        with path.open("ab") as file:
            file.write((b"\n" if torn else b"") + json.dumps(line, sort_keys=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    return one.request


def read_requests(path: Path) -> list[Request]:
    """All requests in order; a line that a crash left torn was never acknowledged and is passed over."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    found = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            found.append(Request(**json.loads(line)))
        except ValueError:
            continue
        except TypeError:
            raise BrokenRecord(f"{path}: line {number} is not a request of ours; remove the line") from None
    return found


def waiting_requests(path: Path, events: Iterable[Event]) -> list[Request]:
    """Requests that nobody has executed or refused yet."""
    done = {event.body["request"] for event in events if event.kind == "request"}
    return [one for one in read_requests(path) if one.request not in done]


def require_signed_by(one: Request, password: str) -> None:
    """Refuse, with `ProtocolBreach`, a request that the person of that name did not sign with this password."""
    if not password or not hmac.compare_digest(_signature(one, password), one.signature):
        raise ProtocolBreach(
            f"request {one.request}: not signed with the password of {one.by!r}; ask again and sign it"
        )


def _signature(one: Request, password: str) -> str:
    text = json.dumps([one.request, one.at, one.by, one.action, one.body], sort_keys=True, separators=(",", ":"))
    return hmac.new(password.encode(), text.encode(), hashlib.sha256).hexdigest()
