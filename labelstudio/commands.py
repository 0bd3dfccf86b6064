"""The command that `make setup` needs; `ctcml` finds it through its entry point."""

from pathlib import Path

import click

from ctcml.cli import say


@click.command("prepare-labelstudio")
@click.argument("venv", type=click.Path(path_type=Path, exists=True, file_okay=False))
def prepare(venv: Path) -> None:
    """Make the empty, migrated database from which each reader's server starts.

    Example: ctcml prepare-labelstudio .venv-labelstudio
    """
    from labelstudio.server import prepare_template

    prepare_template(venv.absolute() / "bin" / "python", venv.absolute() / "template")
    say(f"the template lies in {venv}/template")


COMMANDS = {"prepare-labelstudio": prepare}
