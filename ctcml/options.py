"""What many commands share: the option that names a workspace, and groups that packages above add commands to."""

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from ctcml.workspace import Workspace


class Extended(click.Group):
    """A group with commands of its own and, loaded when first asked for, those of the packages above."""

    def __init__(self, *arguments: Any, points: str, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.points = points

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *self._above()})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return self.commands.get(name) or self._above().get(name)

    def _above(self) -> dict[str, click.Command]:
        found: dict[str, click.Command] = {}
        for point in entry_points(group=self.points):
            found |= point.load()
        return found


def workspace_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--workspace`, handed on as a `Workspace`."""
    return click.option(
        "--workspace",
        "ws",
        default=".",
        show_default="the current folder",
        type=click.Path(path_type=Path, file_okay=False),
        callback=lambda _ctx, _param, value: Workspace(value.resolve()),
        help="The laboratory's folder.",
    )(command)
