"""The commands that touch readers' own servers: making their template, and a patient's withdrawal; `ctcml` finds them."""

from datetime import UTC, datetime
from pathlib import Path

import click

from ctcml.cli import workspace_option
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
    from labelstudio.panels import panels_of, remove_panels
    from labelstudio.rounds import reads_of

    key, now, ledger = load_key(ws.key), datetime.now(UTC), Ledger(ws.ledger)
    uid = withdrawal.find_patient(ws, patient, key=key)
    require_newest(ws.root)
    with no_intake(ws):
        held = withdrawal.find_held(ws, uid, key=key)
        panels = panels_of(reads_of(ws, held.cells, key=key))
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
        withdrawal.remove(ws, held, key=key)
        version = new_data_version(ws, why="a patient withdrew", by="ctcml withdraw", now=now)
    say(f"{what} and {len(panels)} pictures on readers' servers removed; {version.tag} is without them")
    for line in withdrawal.account(event):
        say(line)


COMMANDS = {"prepare-labelstudio": prepare, "withdraw": withdraw}
