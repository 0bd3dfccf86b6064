"""`ctcml ledger …` and `ctcml classes …`: what was said and decided, and deciding about proposed classes."""

from datetime import UTC, datetime
from typing import Any

import click

from ctcml.options import workspace_option
from ctcml.telling import say
from ctcml.workspace import Workspace

FEWEST_CHARACTERS = 6  # of a cell_uid, so that a slip does not name another cell


@click.group()
def ledger() -> None:
    """The record of every reading, settlement, class and promotion.

    Example: ctcml ledger verify
    """


@ledger.command()
@workspace_option
def verify(ws: Workspace) -> None:
    """Check the chain against every signed head that the workspace's git has held, and against the data version.

    Example: ctcml ledger verify --workspace my-lab
    """
    from ctcml.dataversions import verify_ledger

    head, anchors = verify_ledger(ws)
    say(f"{head.length} events, chain whole, {anchors} signed heads are part of it, head {head.hash}")


@ledger.command()
@click.argument("cell")
@workspace_option
def show(cell: str, ws: Workspace) -> None:
    """Tell the whole life of a CELL (its cell_uid, or the beginning of it).

    Example: ctcml ledger show 0123456789abcdef01234567
    """
    from ctcml.errors import BadInput
    from ctcml.ledger import Ledger
    from ctcml.tables import MANIFEST, read_folder

    about = [
        (event, uid)
        for event in Ledger(ws.ledger).events()
        for uid in (event.body.get("cell_uid"), *_named(event.body.get("cells")))
        if uid and len(cell) >= FEWEST_CHARACTERS and uid.startswith(cell)
    ]
    cells = sorted({uid for _, uid in about})
    if len(cells) != 1:
        found = f"{len(cells)} cells begin so" if cells else "the ledger has no event about it"
        raise BadInput(f"cell {cell!r}: {found}; copy the 24 characters of a cell_uid")
    if ws.manifest.exists():
        rows = read_folder(ws.manifest, MANIFEST)
        for row in rows[rows["cell_uid"] == cells[0]].to_dict("records"):
            say(f"cell {cells[0]} of sample {row['sample_uid']}, object {row['object_index']}")
            say(f"pixels {row['content_sha256']} in shard {row['shard_sha256']}")
    for event, _ in about:
        why = f" because {event.why}" if event.why and event.why != event.body.get("reason") else ""
        say(f"{event.seq:6} {event.at[:19]} {event.kind:17} by {event.by:14} {_told(event.body)}{why}")


def _named(cells: Any) -> list[str]:
    return [str(one) for one in cells] if isinstance(cells, list) else []


def _told(body: dict[str, Any]) -> str:
    left_out = ("cell_uid", "cells")
    return " ".join(
        f"{name}={value}" for name, value in body.items() if name not in left_out and value not in (None, [])
    )


@click.group()
def classes() -> None:
    """The class registry, and proposals of new classes that two experts accept or reject.

    Example: ctcml classes list
    """


@classes.command("list")
@workspace_option
def list_classes(ws: Workspace) -> None:
    """Classes with their authors, and proposals with their votes.

    Example: ctcml classes list --workspace my-lab
    """
    from ctcml.class_desk import ballots_of
    from ctcml.ledger import Ledger

    events = list(Ledger(ws.ledger).events())
    for event in events:
        if event.kind == "class_added":
            body = event.body
            say(f"{body['class_id']:14} {body['name']:16} {event.at[:10]} by {event.by}: {body['definition']}")
    for one in ballots_of(events):
        if one.status != "accepted":
            body = one.proposed.body
            votes = ", ".join(f"{vote.by} {vote.body['vote']}s" for vote in one.votes) or "no vote"
            say(f"{one.class_id:14} {body['name']:16} {one.status}: {len(body['cells'])} cells, {votes}")


@classes.command()
@click.argument("class_id")
@workspace_option
def evidence(class_id: str, ws: Workspace) -> None:
    """Show what speaks for a proposal: gallery, nearest class, marker profile, cells, votes.

    Example: ctcml classes evidence cd45ev
    """
    from ctcml.class_evidence import write_evidence
    from ctcml.errors import BadInput

    found = {one["class_id"]: one for one in write_evidence(ws)}
    if class_id not in found:
        raise BadInput(f"class {class_id!r}: nobody proposed it; expected one of {', '.join(found) or 'none so far'}")
    for name, value in found[class_id].items():
        say(f"{name:15} {ws.review / value if name == 'gallery' and value else value}")


@classes.command()
@click.argument("class_id")
@click.option("--signed-by", required=True, help="The expert: a registered reader or adjudicator.")
@click.option("--definition", default="", help="What makes an object one of its kind; needed unless given before.")
@click.option("--reason", required=True, help="Why; it stays in the ledger.")
@workspace_option
def accept(class_id: str, signed_by: str, definition: str, reason: str, ws: Workspace) -> None:
    """Accept a proposed class; with the second expert's word it is one, and look-alikes are read again.

    Example: ctcml classes accept cd45ev --signed-by anna --definition "CD45+, DAPI-, CK-" --reason "seen in 12 patients"
    """
    _decide(ws, class_id, expert=signed_by, accepts=True, definition=definition, why=reason)


@classes.command()
@click.argument("class_id")
@click.option("--signed-by", required=True, help="The expert: a registered reader or adjudicator.")
@click.option("--reason", required=True, help="Why; it stays in the ledger.")
@workspace_option
def reject(class_id: str, signed_by: str, reason: str, ws: Workspace) -> None:
    """Reject a proposed class; with the second expert's word the cells named so are read again.

    Example: ctcml classes reject dust --signed-by anna --reason "debris, which is a class"
    """
    _decide(ws, class_id, expert=signed_by, accepts=False, definition="", why=reason)


def _decide(ws: Workspace, class_id: str, *, expert: str, accepts: bool, definition: str, why: str) -> None:
    from ctcml.class_evidence import decide_class
    from ctcml.dataversions import anchor
    from ctcml.params import load_params

    params = load_params(ws.params)
    said = decide_class(
        ws,
        class_id,
        expert=expert,
        accepts=accepts,
        definition=definition,
        why=why,
        look_alikes=params.review.look_alikes,
        seed=params.seed,
        now=datetime.now(UTC),
    )
    anchor(ws)
    say(said)
